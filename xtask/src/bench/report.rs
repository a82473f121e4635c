//! `benches/RESULTS.md`: what was measured, on what, and which promises it keeps.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::claims::{Bound, Claim, claims};
use super::results::{Group, Machine, Measure, Point, Results, Series, Team};
use super::show::{count, figure, round};

/// The measures that every engine has, in the order of the report, with what their rows say.
const COMPARED: [(Measure, &str); 9] = [
    (Measure::Decode, "Decode, greedy streams, tokens a second of all conversations together"),
    (
        Measure::DecodeSampled,
        "Decode, sampled streams (temperature 1, top-p 0.9, min-p 0.05; onnxruntime-genai has no min-p)",
    ),
    (Measure::DecodeSteps, "Decode, greedy, a request a token"),
    (Measure::Prefill, "Prefill, tokens a second to the first token"),
    (Measure::Embed, "Embeds a second"),
    (Measure::Turn, "Second turn, time to its first token"),
    (Measure::TurnAgain, "The same by reading all again"),
    (Measure::Load, "Load, until the first token of a prompt of 16"),
    (Measure::LoadCold, "The same cold"),
];

/// Those of ours alone.
const OURS: [Measure; 13] = [
    Measure::DecodeBeside,
    Measure::LayerDecode,
    Measure::Messages,
    Measure::GapP50,
    Measure::GapP99,
    Measure::BusyGapP50,
    Measure::BusyGapP99,
    Measure::ReadAlone,
    Measure::ReadAmong,
    Measure::Resident,
    Measure::Conversation,
    Measure::ConversationKv,
    Measure::Bandwidth,
];

/// The whole page.
pub(super) fn markdown(results: &Results, plots: &[String]) -> String {
    let mut page = String::new();
    // Writing into a string cannot fail; `?` keeps the lines short.
    let _ = write_page(&mut page, results, plots);
    page
}

fn write_page(page: &mut String, results: &Results, plots: &[String]) -> std::fmt::Result {
    writeln!(page, "# Benchmark\n\nWritten by `{}` at commit {}; do not edit.\n", results.command, results.commit)?;
    writeln!(page, "{}", method(results))?;
    write_machine(page, results)?;
    writeln!(page, "## Promises and ratios\n\n{}", promises(&claims(results)))?;
    write_engines(page, results)?;
    write_settings(page, results)?;
    for group in Group::ALL {
        write_group(page, results, group)?;
    }
    write_ours(page, results)?;
    if !plots.is_empty() {
        writeln!(page, "## Plots\n")?;
        for plot in plots {
            writeln!(page, "![{plot}](plots/{plot})\n")?;
        }
    }
    Ok(())
}

fn method(results: &Results) -> String {
    let rounds = match results.rounds {
        Some(rounds) => format!("Rounds of every point: {rounds}"),
        None => "Every point has some seconds, and as many rounds as go into them (3 to 24)".into(),
    };
    format!(
        "It took {} minutes, set-up apart. {rounds}. In a round every engine is asked once, and who is first changes; \
         each is a process of its own that is loaded once for all that is asked of a model, the others being blocked \
         on a read meanwhile. (Ours with actors and without share one process and its weights.)\n\n{METHOD}",
        round(results.minutes)
    )
}

/// How to read the page: the same for every run.
const METHOD: &str = "\
- A figure is the median of the rounds, in brackets the quartiles. A ratio is the median of the rounds' ratios, in \
brackets the two of them between which the true median lies with a probability of 95 % (by the sign test; of fewer \
than six rounds the lowest and the highest). Where ours is compared with \
others it is better above 1, and the other is the best of the peers named, at its best setting there.
- Ours goes through the public asynchronous API with its actors; a stream is a request for many tokens.
- onnxruntime-genai decodes in its own loop with its own sampling; llama.cpp by `llama_decode` and its own sampler chain, \
the filling of a batch from Python not being timed; OpenVINO GenAI by steps of its ContinuousBatchingPipeline, from \
GGUF files, with its own defaults (keys and values in 8 bits); from the GGUF's own 4-bit blocks it predicts a fifth \
worse (15.4 and 17.4), so that its best form has 8 bits. To the first two a call a token is the only way, \
so that streams and requests of one token are the same; to OpenVINO such a request is a prompt, and it has none.
- An embed is a text's mean hidden state of ours and of llama.cpp where that is its faster way; of the others, which have \
no call for it, it is the reading of the text.
- A second turn is a request of 20 tokens on a conversation of 1,000 and more; OpenVINO keeps it by prefix caching.
- A load ends with the first token of a prompt of 16. It is in a fresh process, whose start (and Python's) does not count. \
Cold: the system was told to drop the model's files from its memory (`posix_fadvise`), and the forms that ours \
keeps of models were removed; libraries stay in memory.
- Conversations read pieces of `tools/texts`, the same for every engine. They have read their context when they \
begin to decode and grow by half of it, or by 128 tokens, before they are opened anew.
";

fn write_machine(page: &mut String, results: &Results) -> std::fmt::Result {
    let Machine { processor, cores, features, memory_bytes, system, load_average } = &results.machine;
    writeln!(page, "## Machine\n")?;
    writeln!(page, "- {processor}, {cores} cores, {}", features.join(" "))?;
    writeln!(page, "- {} GB of memory, {system}", round(*memory_bytes as f64 / 1e9))?;
    writeln!(page, "- load average before the run: {load_average:.2}")?;
    for measure in [Measure::Bandwidth, Measure::Matmul] {
        if let Some(series) = results.of(Group::Qwen, measure).next() {
            let what =
                if measure == Measure::Bandwidth { "memory read by all threads" } else { "f32 MatMul in ONNX Runtime" };
            writeln!(page, "- {what}: {}", figure(measure, &series.samples))?;
        }
    }
    let versions: BTreeSet<&str> = results.engines.iter().map(|engine| engine.version.as_str()).collect();
    writeln!(page, "- {}\n", versions.into_iter().collect::<Vec<_>>().join(", "))
}

/// The promises as a table, and the ratios without one.
fn promises(claims: &[Claim]) -> String {
    let mut table = String::from("| ratio | against | promised | found | kept |\n|---|---|---|---|---|\n");
    // What nothing is promised of is worth a row only where it was measured.
    for claim in claims.iter().filter(|claim| claim.bound != Bound::Free || claim.found().is_some()) {
        let bound = match claim.bound {
            Bound::AtLeast(bound) => format!("at least {}", round(bound)),
            Bound::AtMost(bound) => format!("at most {}", round(bound)),
            Bound::Free => "-".into(),
        };
        let found = claim.found().map_or("not measured".into(), |(ratio, (low, high))| {
            format!("{} ({}-{})", round(ratio), round(low), round(high))
        });
        let kept = claim.is_kept().map_or("", |kept| if kept { "yes" } else { "**no**" });
        table += &format!("| {} | {} | {bound} | {found} | {kept} |\n", claim.what, claim.against);
    }
    table
}

fn write_engines(page: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(
        page,
        "## Forms\n\nPerplexity is measured through each engine on the texts of `tools/texts/`; the f32 model has 12.63 and 14.30.\n"
    )?;
    writeln!(page, "| model | engine | weights | MB | perplexity, code | English |\n|---|---|---|---|---|---|")?;
    for engine in &results.engines {
        let perplexity = |text| engine.perplexity.get(text).map_or("-".into(), |value| format!("{value:.2}"));
        let (code, english) = (perplexity("code"), perplexity("english"));
        let megabytes = round(engine.weight_bytes as f64 / 1e6);
        let (title, name, form) = (engine.group.title(), &engine.name, &engine.form);
        writeln!(page, "| {title} | {name} | {form} | {megabytes} | {code} | {english} |")?;
    }
    writeln!(page)
}

/// What was found to be fastest of the engines that were tried in several ways.
fn write_settings(page: &mut String, results: &Results) -> std::fmt::Result {
    if results.tuned.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Settings of llama.cpp\n\nTried at the start of the run; it was measured with the fastest.\n")?;
    writeln!(page, "| model | engine | for | fastest |\n|---|---|---|---|")?;
    for tuned in &results.tuned {
        let (title, engine, purpose) = (tuned.group.title(), &tuned.engine, tuned.purpose.title());
        writeln!(page, "| {title} | {engine} | {purpose} | {} |", tuned.settings.describe())?;
    }
    writeln!(page)
}

/// A table for each measure: a row a point, a column an engine.
fn write_group(page: &mut String, results: &Results, group: Group) -> std::fmt::Result {
    if COMPARED.iter().all(|(measure, _)| results.of(group, *measure).next().is_none()) {
        return Ok(());
    }
    writeln!(page, "## {}\n", group.title())?;
    for (measure, title) in COMPARED {
        let series: Vec<&Series> = results.of(group, measure).collect();
        let points: BTreeSet<Point> = series.iter().map(|series| series.point).collect();
        let mut engines: Vec<&str> = Vec::new();
        for series in &series {
            if !engines.contains(&series.engine.as_str()) {
                engines.push(&series.engine);
            }
        }
        if engines.is_empty() {
            continue;
        }
        writeln!(page, "### {title}\n\n| | {} | machine's limit |", engines.join(" | "))?;
        writeln!(page, "|---|{}---|", "---|".repeat(engines.len()))?;
        for point in points {
            let cell = |engine: &&str| {
                let found = series.iter().find(|series| series.engine == **engine && series.point == point);
                found.map_or("-".into(), |series| figure(measure, &series.samples))
            };
            let cells: Vec<String> = engines.iter().map(cell).collect();
            let limit = limit(results, group, measure, point).map_or("-".into(), |limit| figure(measure, &[limit]));
            writeln!(page, "| {} | {} | {limit} |", row_title(measure, point), cells.join(" | "))?;
        }
        writeln!(page)?;
    }
    Ok(())
}

/// What the machine allows at a point: the bandwidth over the bytes of the weights of ours and of the
/// keys and values, or the f32 throughput over the operations (integer products have another).
pub(super) fn limit(results: &Results, group: Group, measure: Measure, point: Point) -> Option<f64> {
    let shape = results.shapes.get(if group == Group::Qwen { "qwen" } else { "smollm2" })?;
    let machine = |measure| results.of(Group::Qwen, measure).next().map(Series::median);
    match (measure, point) {
        (
            Measure::Decode | Measure::DecodeSampled | Measure::DecodeSteps,
            Point { conversations: Some(conversations), context: Some(context), .. },
        ) => {
            let ours =
                results.engines.iter().find(|engine| engine.group == group && engine.team == Team::MotorBrain)?;
            let weights = ours.weight_bytes as f64;
            Some(shape.decode_limit(machine(Measure::Bandwidth)?, weights, conversations, context))
        }
        (Measure::Prefill, Point { tokens: Some(tokens), .. }) if group == Group::Qwen => {
            Some(shape.prefill_limit(machine(Measure::Matmul)?, tokens))
        }
        _ => None,
    }
}

fn write_ours(page: &mut String, results: &Results) -> std::fmt::Result {
    if OURS.iter().all(|measure| results.of(Group::Equal, *measure).next().is_none()) {
        return Ok(());
    }
    writeln!(page, "## MotorBrain alone\n")?;
    writeln!(page, "Resident memory is the system's Rss of the whole process, mapped files included.\n")?;
    writeln!(page, "| measure | where | engine | found |\n|---|---|---|---|")?;
    for measure in OURS {
        for series in results.of(Group::Equal, measure) {
            let (title, row) = (measure.title(), row_title(measure, series.point));
            writeln!(page, "| {title} | {row} | {} | {} |", series.engine, figure(measure, &series.samples))?;
        }
    }
    writeln!(page)
}

/// A point in words.
fn row_title(measure: Measure, point: Point) -> String {
    let Point { conversations, context, tokens, actors } = point;
    let parts = [
        actors.map(|count| if count == 1 { "1 actor".into() } else { format!("{count} actors") }),
        conversations.map(|count| if count == 1 { "1 conversation".into() } else { format!("{count} conversations") }),
        context.map(|length| format!("context {}", count(length))),
        tokens.filter(|&tokens| tokens > 0).map(|tokens| match measure {
            Measure::Turn | Measure::TurnAgain => format!("{tokens} new tokens"),
            _ => format!("{} tokens", count(tokens)),
        }),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl Measure {
    fn title(self) -> &'static str {
        match self {
            Self::LayerDecode => "decode, with actors and without",
            Self::Messages => "messages, engine that answers at once",
            Self::GapP50 => "gap between streamed tokens, median",
            Self::GapP99 => "gap, 99th percentile",
            Self::BusyGapP50 => "gap while a prompt is read, median",
            Self::BusyGapP99 => "gap while a prompt is read, 99th percentile",
            Self::ReadAlone => "reading that prompt alone",
            Self::ReadAmong => "reading it among the streams",
            Self::Resident => "resident memory",
            Self::Conversation => "resident memory of a conversation",
            Self::ConversationKv => "of this, its KV rows",
            other => other.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::{EngineRecord, Shape};
    use super::super::tune::{Purpose, Settings, Tuned};
    use super::*;

    fn series(team: Team, engine: &str, measure: Measure, point: Point, samples: &[f64]) -> Series {
        let (engine, samples) = (engine.to_owned(), samples.to_vec());
        Series { measure, group: Group::Equal, engine, team, point, samples }
    }

    #[test]
    fn the_page_has_every_figure_ratio_and_version() {
        let at = Point::decode(16, 64);
        let results = Results {
            command: "cargo xtask bench".into(),
            commit: "abc1234".into(),
            rounds: Some(3),
            engines: vec![EngineRecord {
                name: "motorbrain".into(),
                group: Group::Equal,
                team: Team::MotorBrain,
                form: "8-bit".into(),
                weight_bytes: 153_000_000,
                version: "motorbrain 1.2.3".into(),
                perplexity: [("code".to_owned(), 12.74), ("english".to_owned(), 14.45)].into(),
            }],
            series: vec![
                series(Team::MotorBrain, "motorbrain", Measure::Decode, at, &[290.0, 300.0, 310.0]),
                series(Team::LlamaCpp, "llama.cpp", Measure::Decode, at, &[145.0, 150.0, 155.0]),
                series(Team::MotorBrain, "motorbrain", Measure::DecodeSampled, at, &[200.0]),
                series(Team::LlamaCpp, "llama.cpp", Measure::DecodeSampled, at, &[100.0]),
                series(Team::MotorBrain, "motorbrain", Measure::Resident, Point::actors(4), &[400e6]),
            ],
            tuned: vec![Tuned {
                group: Group::Equal,
                engine: "llama.cpp".into(),
                purpose: Purpose::DecodeMany,
                settings: Settings { threads: 2, flash: true, ubatch: 512, pooled: false },
            }],
            ..Results::default()
        };
        let page = markdown(&results, &["decode.svg".into()]);
        for part in [
            "`cargo xtask bench` at commit abc1234",
            "motorbrain 1.2.3",
            "| 16 conversations, context 64 | 300 tok/s (290-310) | 150 tok/s (145-155) | - |",
            "| Decode of 16 | llama.cpp | at least 1.70 | 2.00 (2.00-2.00) | yes |",
            "| Sampled decode of 16 | llama.cpp | at least 1.70 | 2.00 (2.00-2.00) | yes |",
            "Rounds of every point: 3",
            "| decode of many | 2 threads, flash attention, passes of 512 |",
            "| 8-bit | 153 | 12.74 | 14.45 |",
            "| resident memory | 4 actors | motorbrain | 400 MB |",
            "(plots/decode.svg)",
        ] {
            assert!(page.contains(part), "no `{part}` in\n{page}");
        }
        assert!(!page.contains(Group::Qwen.title()), "nothing of it was measured");
    }

    #[test]
    fn limits_come_from_sizes_and_the_machine() {
        let shape = Shape { layers: 1, hidden: 64, inner: 64, heads: 1, kv_heads: 1, head_dim: 64, vocab: 1000 };
        let machine = |measure, value: f64| Series {
            group: Group::Qwen,
            ..series(Team::MotorBrain, "machine", measure, Point::default(), &[value])
        };
        let results = Results {
            shapes: [("qwen".to_owned(), shape)].into(),
            series: vec![machine(Measure::Bandwidth, 1e9), machine(Measure::Matmul, 1e9)],
            ..Results::default()
        };
        let found = limit(&results, Group::Qwen, Measure::Prefill, Point::tokens(100));
        assert_eq!(found, Some(100.0 * 1e9 / shape.prefill_flop(100)));
        assert_eq!(limit(&results, Group::Equal, Measure::Prefill, Point::tokens(100)), None);
    }
}
