//! What the project promises of its speed and memory, each as one ratio with the bound it has to keep; and
//! ratios that are worth knowing without a promise, among them those in which we fall behind.
//!
//! A ratio against the peers is one against the best of them at its best setting, at that point.

use super::options::LONG_CONTEXT;
use super::ours::{ACTORS, CONVERSATION_CONTEXT, LAYER_CONTEXT, LAYER_CONVERSATIONS, LONG};
use super::results::{Group, Measure, Point, Results, Series, Team};
use super::scenarios::{EMBED, TURN};
use super::show::{PEERS, count};
use super::statistics::{median, median_interval, ratios};

/// A promise and what became of it.
#[derive(Debug, PartialEq)]
pub(super) struct Claim {
    pub(super) what: String,
    pub(super) bound: Bound,
    /// The ratio of each round; empty where it was not measured.
    pub(super) ratios: Vec<f64>,
    /// Who it was compared with.
    pub(super) against: String,
}

/// What the ratio has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing is promised of it.
    Free,
}

impl Claim {
    /// The median of the rounds' ratios and between which it is with a probability of 95 %; `None` where it was
    /// not measured.
    pub(super) fn found(&self) -> Option<(f64, (f64, f64))> {
        (!self.ratios.is_empty()).then(|| (median(&self.ratios), median_interval(&self.ratios)))
    }

    /// `None` where nothing is promised or was measured.
    pub(super) fn is_kept(&self) -> Option<bool> {
        let (ratio, _) = self.found()?;
        match self.bound {
            Bound::AtLeast(bound) => Some(ratio >= bound),
            Bound::AtMost(bound) => Some(ratio <= bound),
            Bound::Free => None,
        }
    }
}

/// All promises, in the order of the report.
pub(super) fn claims(results: &Results) -> Vec<Claim> {
    let all = [speed(results), limits(results), layer(results), latency(results), memory(results)];
    all.into_iter().flatten().collect()
}

/// The peers of which a prefill and a sampled decode are promised.
const CALLED: &[Team] = &[Team::Genai, Team::LlamaCpp];

/// A ratio of ours to the best of these teams: its words, where it is measured, and what is promised.
type Row = (&'static str, Group, Measure, Point, &'static [Team], Bound);

fn speed(results: &Results) -> Vec<Claim> {
    let again = claim(
        "The second turn's first token, against reading all again ourselves",
        Bound::AtLeast(15.0),
        ours(results, Group::Equal, Measure::Turn, turn()),
        ours(results, Group::Equal, Measure::TurnAgain, turn()),
    );
    let rows = own_best().into_iter().chain(one_file()).map(|(what, group, measure, point, teams, bound)| {
        claim(what, bound, ours(results, group, measure, point), results.best(group, measure, point, teams))
    });
    rows.chain(sampling(results)).chain([again]).collect()
}

/// What sampling costs ours, round by round.
fn sampling(results: &Results) -> impl Iterator<Item = Claim> {
    [1, 16].into_iter().map(|conversations| {
        let at = |measure| ours(results, Group::Equal, measure, Point::decode(conversations, 64));
        let what = format!("Sampled decode of {conversations}, against our own greedy one");
        claim(&what, Bound::AtLeast(0.97), at(Measure::DecodeSampled), at(Measure::DecodeBeside))
    })
}

fn turn() -> Point {
    Point::turn(TURN.0, TURN.1)
}

/// Where each engine runs the form that is its best within 2 % of f32's perplexity.
fn own_best() -> Vec<Row> {
    use Bound::{AtLeast, Free};
    use Group::Equal;
    use Measure::{Decode, DecodeSampled, DecodeSteps, Embed, Load, LoadCold, Prefill, Turn};
    let (one, many) = (Point::decode(1, 64), Point::decode(16, 64));
    let (one_long, many_long) = (Point::decode(1, LONG_CONTEXT), Point::decode(16, LONG_CONTEXT));
    let prompt = Point::tokens(EMBED);
    vec![
        (
            "Decode of 1, both on the weights of one GGUF (ours as ONNX of 114 MB, theirs of 98 MB)",
            Equal,
            Decode,
            one,
            &[Team::LlamaCpp],
            AtLeast(1.0),
        ),
        (
            "Decode of 1, our 4-bit blocks of 114 MB against their 8-bit ones of 154 MB",
            Equal,
            Decode,
            one,
            &[Team::Genai],
            AtLeast(1.3),
        ),
        ("Decode of 1, our 4-bit blocks against their 8-bit ones", Equal, Decode, one, &[Team::OpenVino], Free),
        ("Decode of 16", Equal, Decode, many, &PEERS, AtLeast(1.7)),
        ("Decode of 1 at a context of 1,024", Equal, Decode, one_long, &PEERS, Free),
        ("Decode of 16 at a context of 1,024", Equal, Decode, many_long, &PEERS, Free),
        ("Sampled decode of 1", Equal, DecodeSampled, one, CALLED, AtLeast(1.25)),
        ("Sampled decode of 16", Equal, DecodeSampled, many, CALLED, AtLeast(1.7)),
        ("Sampled decode of 1, of OpenVINO", Equal, DecodeSampled, one, &[Team::OpenVino], Free),
        ("Sampled decode of 16, of OpenVINO", Equal, DecodeSampled, many, &[Team::OpenVino], Free),
        ("Decode of 1, a request a token", Equal, DecodeSteps, one, &PEERS, Free),
        ("Decode of 16, a request a token", Equal, DecodeSteps, many, &PEERS, Free),
        ("Prefill of 512", Equal, Prefill, prompt, CALLED, AtLeast(2.2)),
        ("Prefill of 512, of OpenVINO", Equal, Prefill, prompt, &[Team::OpenVino], Free),
        ("An embed of 512 tokens, against their fastest way to read them", Equal, Embed, prompt, &PEERS, AtLeast(2.4)),
        ("The second turn's first token, against the peers'", Equal, Turn, turn(), &PEERS, AtLeast(1.0)),
        ("Load to a first token, files in memory", Equal, Load, Point::default(), &PEERS, Free),
        ("Load to a first token, cold", Equal, LoadCold, Point::default(), &PEERS, Free),
    ]
}

/// Where ours and onnxruntime-genai run one file, and the lossy forms of the others.
fn one_file() -> Vec<Row> {
    use Bound::{AtLeast, Free};
    use Group::{EightBit, Lossy};
    use Measure::{Decode, Prefill};
    const GENAI: &[Team] = &[Team::Genai];
    const OTHERS: &[Team] = &[Team::LlamaCpp, Team::OpenVino];
    let (one, many, prompt) = (Point::decode(1, 64), Point::decode(16, 64), Point::tokens(EMBED));
    vec![
        ("One 8-bit file, decode of 1", EightBit, Decode, one, GENAI, Free),
        ("One 8-bit file, decode of 16", EightBit, Decode, many, GENAI, Free),
        ("One 8-bit file, prefill of 512", EightBit, Prefill, prompt, GENAI, Free),
        ("One lossy 4-bit file, decode of 1", Lossy, Decode, one, GENAI, AtLeast(1.25)),
        ("One lossy 4-bit file, decode of 16", Lossy, Decode, many, GENAI, Free),
        ("One lossy 4-bit file, prefill of 512", Lossy, Prefill, prompt, GENAI, Free),
        ("Lossy 4-bit against Q4_0, decode of 1", Lossy, Decode, one, OTHERS, Free),
        ("Lossy 4-bit against Q4_0, decode of 16", Lossy, Decode, many, OTHERS, Free),
        ("Lossy 4-bit against Q4_0, prefill of 512", Lossy, Prefill, prompt, OTHERS, Free),
    ]
}

/// The f32 model against what the machine allows.
fn limits(results: &Results) -> Vec<Claim> {
    let shape = results.shapes.get("qwen");
    let machine = |measure| results.of(Group::Qwen, measure).next().map(Series::median);
    let (prompt, one) = (Point::tokens(512), Point::decode(1, 64));
    let prefill = shape.zip(machine(Measure::Matmul)).map(|(shape, limit)| shape.prefill_limit(limit, 512));
    let decode = shape.zip(machine(Measure::Bandwidth));
    let decode = decode.map(|(shape, limit)| shape.decode_limit(limit, shape.weight_bytes(), 1, 64));
    let share = |what: &str, bound, measure, point, limit: Option<f64>| {
        let shares = ours(results, Group::Qwen, measure, point).zip(limit);
        let ratios = shares.map(|(series, limit)| series.samples.iter().map(|sample| sample / limit).collect());
        Claim {
            what: what.to_owned(),
            bound: Bound::AtLeast(bound),
            ratios: ratios.unwrap_or_default(),
            against: "the machine".into(),
        }
    };
    vec![
        share("f32, Qwen's shape: prefill of 512, share of the matrix limit", 0.9, Measure::Prefill, prompt, prefill),
        share("f32, Qwen's shape: decode of 1, share of the bandwidth limit", 0.75, Measure::Decode, one, decode),
    ]
}

/// What the actors cost.
fn layer(results: &Results) -> Vec<Claim> {
    let decodes = LAYER_CONVERSATIONS.into_iter().map(|conversations| {
        let point = Point::decode(conversations, LAYER_CONTEXT);
        let with = |team| results.best(Group::Equal, Measure::LayerDecode, point, &[team]);
        let what = format!("Actors, decode of {conversations}, against the engine alone");
        claim(&what, Bound::AtLeast(0.97), with(Team::MotorBrain), with(Team::BareEngine))
    });
    let messages = results.of(Group::Equal, Measure::Messages).next();
    let messages = Claim {
        what: "Messages a second of 16 callers, in units of 100,000".into(),
        bound: Bound::AtLeast(1.0),
        ratios: messages.map_or_else(Vec::new, |series| series.samples.iter().map(|sample| sample / 1e5).collect()),
        against: "100,000".into(),
    };
    decodes.chain([messages]).collect()
}

/// What a long prompt does to streamed conversations, and they to it.
fn latency(results: &Results) -> Vec<Claim> {
    let series = |measure| results.of(Group::Equal, measure).next();
    let compare = |what: &str, bound, busy, quiet| {
        let (busy, quiet) = (series(busy), series(quiet));
        let ratios = busy.zip(quiet).map(|(busy, quiet)| ratios(&busy.samples, &quiet.samples));
        Claim {
            what: what.to_owned(),
            bound: Bound::AtMost(bound),
            ratios: ratios.unwrap_or_default(),
            against: "undisturbed".into(),
        }
    };
    vec![
        compare(
            &format!("99th percentile gap while {} tokens are read", count(LONG)),
            4.0,
            Measure::BusyGapP99,
            Measure::GapP99,
        ),
        compare(
            &format!("Reading {} tokens beside 8 conversations", count(LONG)),
            1.5,
            Measure::ReadAmong,
            Measure::ReadAlone,
        ),
    ]
}

fn memory(results: &Results) -> Vec<Claim> {
    let resident = |actors| ours(results, Group::Equal, Measure::Resident, Point::actors(actors));
    let (first, last) = (resident(ACTORS[0]), resident(ACTORS[3]));
    let further = first.zip(last).map(|(first, last)| {
        let further = |(first, last): (&f64, &f64)| (last - first) / (ACTORS[3] - ACTORS[0]) as f64 / first;
        first.samples.iter().zip(&last.samples).map(further).collect()
    });
    let conversation = Point::turn(CONVERSATION_CONTEXT, 0);
    let bytes = |measure| ours(results, Group::Equal, measure, conversation);
    let fewer = |what: &str, bound, ratios: Option<Vec<f64>>, against: &str| Claim {
        what: what.to_owned(),
        bound: Bound::AtMost(bound),
        ratios: ratios.unwrap_or_default(),
        against: against.to_owned(),
    };
    let over = |one: Option<&Series>, other: Option<&Series>| {
        one.zip(other).map(|(one, other)| ratios(&one.samples, &other.samples))
    };
    vec![
        fewer("Resident memory with 4 actors", 2.0, over(last, first), "1 actor"),
        fewer("Each further actor", 0.35, further, "1 actor"),
        fewer(
            "A conversation's resident memory",
            1.1,
            over(bytes(Measure::Conversation), bytes(Measure::ConversationKv)),
            "its KV rows",
        ),
    ]
}

fn ours(results: &Results, group: Group, measure: Measure, point: Point) -> Option<&Series> {
    results.best(group, measure, point, &[Team::MotorBrain])
}

/// How many times better the first is than the second, round by round.
fn claim(what: &str, bound: Bound, one: Option<&Series>, other: Option<&Series>) -> Claim {
    let found = one.zip(other).map(|(one, other)| {
        let better = if one.measure.fewer_is_better() { (other, one) } else { (one, other) };
        ratios(&better.0.samples, &better.1.samples)
    });
    let against = other.map_or_else(String::new, |series| series.engine.clone());
    Claim { what: what.to_owned(), bound, ratios: found.unwrap_or_default(), against }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn series(team: Team, measure: Measure, point: Point, samples: &[f64]) -> Series {
        let engine = format!("{team:?}");
        Series { measure, group: Group::Equal, engine, team, point, samples: samples.to_vec() }
    }

    fn find(series: Vec<Series>, what: &str) -> Claim {
        let results = Results { series, ..Results::default() };
        claims(&results).into_iter().find(|claim| claim.what.starts_with(what)).unwrap()
    }

    #[test]
    fn many_conversations_are_compared_with_the_better_peer_round_by_round() {
        let at = Point::decode(16, 64);
        let claim = find(
            vec![
                series(Team::MotorBrain, Measure::Decode, at, &[300.0, 150.0, 310.0]),
                series(Team::Genai, Measure::Decode, at, &[100.0, 100.0, 100.0]),
                series(Team::LlamaCpp, Measure::Decode, at, &[150.0, 75.0, 160.0]),
            ],
            "Decode of 16",
        );
        assert_eq!((claim.found(), claim.is_kept()), (Some((2.0, (1.9375, 2.0))), Some(true)));
        assert_eq!(claim.against, "LlamaCpp");
    }

    #[test]
    fn a_comparison_of_which_nothing_is_promised_stands_there_as_it_is() {
        let at = Point::decode(1, 64);
        let series = |team, sample| Series { group: Group::EightBit, ..series(team, Measure::Decode, at, &[sample]) };
        let claim =
            find(vec![series(Team::MotorBrain, 90.0), series(Team::Genai, 100.0)], "One 8-bit file, decode of 1");
        assert_eq!((claim.found().unwrap().0, claim.is_kept()), (0.9, None));
    }

    #[test]
    fn seconds_are_better_when_few_and_a_bound_above_is_one() {
        let turn = Point::turn(1000, 20);
        let again = find(
            vec![
                series(Team::MotorBrain, Measure::Turn, turn, &[0.1]),
                series(Team::MotorBrain, Measure::TurnAgain, turn, &[1.0]),
            ],
            "The second turn's first token, against reading",
        );
        assert_eq!((again.found().unwrap().0, again.is_kept()), (10.0, Some(false)));
        let memory = find(
            vec![
                series(Team::MotorBrain, Measure::Resident, Point::actors(1), &[200.0]),
                series(Team::MotorBrain, Measure::Resident, Point::actors(4), &[350.0]),
            ],
            "Each further actor",
        );
        assert_eq!((memory.found().unwrap().0, memory.is_kept()), (0.25, Some(true)));
    }

    #[test]
    fn what_sampling_costs_is_a_ratio_of_ours_in_the_same_rounds() {
        let at = Point::decode(16, 64);
        let claim = find(
            vec![
                series(Team::MotorBrain, Measure::DecodeSampled, at, &[99.0, 49.0]),
                series(Team::MotorBrain, Measure::DecodeBeside, at, &[100.0, 50.0]),
                series(Team::MotorBrain, Measure::Decode, at, &[200.0, 200.0]),
            ],
            "Sampled decode of 16, against our own",
        );
        assert_eq!((claim.found().unwrap().0, claim.is_kept()), (0.985, Some(true)));
    }

    #[test]
    fn what_was_not_measured_is_neither_kept_nor_broken() {
        assert!(claims(&Results::default()).iter().all(|claim| claim.found().is_none() && claim.is_kept().is_none()));
    }
}
