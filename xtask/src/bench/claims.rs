//! What the project promises of its speed and memory, each as one ratio with the bound it has to keep.
//!
//! A ratio against the peers is one against the better of them at its best setting, at that point.

use super::ours::{ACTORS, CONVERSATION_CONTEXT};
use super::results::{Group, Measure, Point, Results, Series, Team};
use super::scenarios::{EMBED, LAYER_CONTEXT, LAYER_CONVERSATIONS, TURN};
use super::show::PEERS;
use super::statistics::{median, range, ratios};

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
}

impl Claim {
    /// The ratio and how far its rounds lie apart; `None` where it was not measured.
    pub(super) fn found(&self) -> Option<(f64, (f64, f64))> {
        (!self.ratios.is_empty()).then(|| (median(&self.ratios), range(&self.ratios)))
    }

    pub(super) fn is_kept(&self) -> Option<bool> {
        let (ratio, _) = self.found()?;
        Some(match self.bound {
            Bound::AtLeast(bound) => ratio >= bound,
            Bound::AtMost(bound) => ratio <= bound,
        })
    }
}

/// All promises, in the order of the report.
pub(super) fn claims(results: &Results) -> Vec<Claim> {
    let all = [speed(results), limits(results), layer(results), latency(results), memory(results)];
    all.into_iter().flatten().collect()
}

fn speed(results: &Results) -> Vec<Claim> {
    use Bound::AtLeast;
    use Group::{Equal, Lossy};
    let decode = |conversations| Point::decode(conversations, 64);
    let prompt = Point::tokens(EMBED);
    let turn = Point::turn(TURN.0, TURN.1);
    let compare = |what: &str, group, measure, point, teams: &[Team], bound| {
        claim(what, bound, ours(results, group, measure, point), results.best(group, measure, point, teams))
    };
    let embed = claim(
        "An embed of 512 tokens, against their fastest way to read them",
        AtLeast(2.4),
        ours(results, Equal, Measure::Embed, prompt),
        fastest_reading(results).as_ref(),
    );
    let again = claim(
        "The second turn's first token, against reading all again ourselves",
        AtLeast(15.0),
        ours(results, Equal, Measure::Turn, turn),
        ours(results, Equal, Measure::TurnAgain, turn),
    );
    vec![
        compare("Decode of 1, against llama.cpp", Equal, Measure::Decode, decode(1), &[Team::LlamaCpp], AtLeast(1.0)),
        compare(
            "Decode of 1, against genai on the same file",
            Equal,
            Measure::Decode,
            decode(1),
            &[Team::Genai],
            AtLeast(1.3),
        ),
        compare("Decode of 16", Equal, Measure::Decode, decode(16), &PEERS, AtLeast(1.7)),
        compare(
            "Lossy 4-bit, decode of 1, against genai on the same file",
            Lossy,
            Measure::Decode,
            decode(1),
            &PEERS,
            AtLeast(1.25),
        ),
        compare("Prefill of 512", Equal, Measure::Prefill, prompt, &PEERS, AtLeast(2.2)),
        embed,
        again,
        compare("The second turn's first token, against the peers'", Equal, Measure::Turn, turn, &PEERS, AtLeast(1.0)),
    ]
}

/// The peers' embeds and prefills of the same length, whichever is faster, as texts a second.
fn fastest_reading(results: &Results) -> Option<Series> {
    let prompt = Point::tokens(EMBED);
    let embed = results.best(Group::Equal, Measure::Embed, prompt, &PEERS).cloned();
    let prefill = results.best(Group::Equal, Measure::Prefill, prompt, &PEERS).map(|series| {
        let samples = series.samples.iter().map(|tokens| tokens / EMBED as f64).collect();
        Series { measure: Measure::Embed, engine: format!("{} (prefill)", series.engine), samples, ..series.clone() }
    });
    embed.into_iter().chain(prefill).max_by(|one, other| one.median().total_cmp(&other.median()))
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
        compare("99th percentile gap while 8,000 tokens are read", 4.0, Measure::BusyGapP99, Measure::GapP99),
        compare("Reading 8,000 tokens beside 8 conversations", 1.5, Measure::ReadAmong, Measure::ReadAlone),
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
    fn an_embed_is_compared_with_a_prefill_where_that_is_faster() {
        let at = Point::tokens(512);
        let claim = find(
            vec![
                series(Team::MotorBrain, Measure::Embed, at, &[3.0]),
                series(Team::LlamaCpp, Measure::Embed, at, &[0.5]),
                series(Team::Genai, Measure::Prefill, at, &[512.0]),
            ],
            "An embed",
        );
        assert_eq!((claim.found(), claim.is_kept()), (Some((3.0, (3.0, 3.0))), Some(true)));
        assert_eq!(claim.against, "Genai (prefill)");
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
    fn what_was_not_measured_is_neither_kept_nor_broken() {
        assert!(claims(&Results::default()).iter().all(|claim| claim.found().is_none() && claim.is_kept().is_none()));
    }
}
