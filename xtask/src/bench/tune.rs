//! Which settings of llama.cpp are its fastest here: tried once at the start of a run, for each purpose.
//!
//! Its own defaults are not always its best on a machine, and what is best for one conversation is not for
//! many. So the threads, the size of a pass and flash attention are varied, and the fastest is what it is
//! measured with; the page names it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::budget::Budget;
use super::options::LONG_CONTEXT;
use super::results::{Group, Measure, Point};
use super::scenarios::{Runner, Timed};
use crate::error::Error;

/// What settings are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purpose {
    DecodeOne,
    DecodeMany,
    /// At the longer context, where attention costs more.
    DecodeOneLong,
    DecodeManyLong,
    Prefill,
    Embed,
}

/// How a context of llama.cpp is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) threads: usize,
    pub(super) flash: bool,
    /// The most tokens of one pass through the graph.
    pub(super) ubatch: usize,
    /// Whether a vector is asked for where one is wanted, instead of only reading the text.
    pub(super) pooled: bool,
}

/// What was found for an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tuned {
    pub(super) group: Group,
    pub(super) engine: String,
    pub(super) purpose: Purpose,
    pub(super) settings: Settings,
}

/// llama.cpp's own default, and the least and the middle that are tried beside it.
const UBATCHES: [usize; 3] = [512, 256, 128];

/// Conversations of the purposes with many.
const MANY: usize = 16;

/// Seconds of trying for a purpose; every candidate is tried once at least.
const SECONDS: f64 = 6.0;

impl Purpose {
    /// What is to be known for a group, in an order in which each may build on those before it.
    fn of_group(group: Group) -> &'static [Self] {
        use Purpose::{DecodeMany, DecodeManyLong, DecodeOne, DecodeOneLong, Embed, Prefill};
        match group {
            Group::Equal => &[DecodeOne, DecodeMany, DecodeOneLong, DecodeManyLong, Prefill, Embed],
            _ => &[DecodeOne, DecodeMany, Prefill],
        }
    }

    /// For what is measured at a point; `None` where settings make no difference.
    pub(super) fn of(measure: Measure, point: Point) -> Option<Self> {
        let long = point.context.is_some_and(|context| context >= LONG_CONTEXT);
        match measure {
            Measure::Decode | Measure::DecodeSampled | Measure::DecodeSteps => {
                Some(match (point.conversations == Some(1), long) {
                    (true, false) => Self::DecodeOne,
                    (false, false) => Self::DecodeMany,
                    (true, true) => Self::DecodeOneLong,
                    (false, true) => Self::DecodeManyLong,
                })
            }
            Measure::Prefill | Measure::Turn | Measure::TurnAgain => Some(Self::Prefill),
            Measure::Embed => Some(Self::Embed),
            _ => None,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::DecodeOne => "decode of one",
            Self::DecodeMany => "decode of many",
            Self::DecodeOneLong => "decode of one, long context",
            Self::DecodeManyLong => "decode of many, long context",
            Self::Prefill => "prefill, turn",
            Self::Embed => "embed",
        }
    }

    /// What is tried, on so many cores; `known` are the settings found before.
    fn candidates(self, group: Group, cores: usize, known: impl Fn(Self) -> Settings) -> Vec<Settings> {
        let default = default(cores);
        let both = |settings: Settings| [true, false].map(|flash| Settings { flash, ..settings });
        match self {
            // A single token may not be worth a second thread.
            Self::DecodeOne => {
                let threads = if cores > 1 { vec![cores, cores / 2] } else { vec![1] };
                threads.into_iter().flat_map(|threads| both(Settings { threads, ..default })).collect()
            }
            Self::DecodeMany | Self::DecodeManyLong => both(default).to_vec(),
            Self::DecodeOneLong => both(Settings { threads: known(Self::DecodeOne).threads, ..default }).to_vec(),
            // Of f32 weights reading is the multiplication of large matrices, however it is cut.
            Self::Prefill if group == Group::Qwen => both(default).to_vec(),
            Self::Prefill => UBATCHES.into_iter().flat_map(|ubatch| both(Settings { ubatch, ..default })).collect(),
            // It pools what one pass has read: a pass has to hold the text.
            Self::Embed => {
                let read = known(Self::Prefill);
                [true, false]
                    .map(|pooled| Settings { pooled, ubatch: if pooled { UBATCHES[0] } else { read.ubatch }, ..read })
                    .to_vec()
            }
        }
    }

    /// Requests that show how fast it is, of which the last is timed.
    fn requests(self, settings: Settings) -> Vec<Value> {
        let decode = |conversations: usize, context: usize, tokens: usize| {
            let (room, settings) = (2 * tokens, json!(settings));
            vec![
                json!({ "op": "open", "conversations": conversations, "context": context, "room": room, "settings": settings }),
                json!({ "op": "decode", "conversations": conversations, "tokens": tokens, "settings": settings }),
            ]
        };
        match self {
            Self::DecodeOne => decode(1, 64, 16),
            Self::DecodeMany => decode(MANY, 64, 4),
            Self::DecodeOneLong => decode(1, LONG_CONTEXT, 8),
            Self::DecodeManyLong => decode(MANY, LONG_CONTEXT, 2),
            Self::Prefill => vec![json!({ "op": "prefill", "tokens": 512, "settings": settings })],
            Self::Embed => vec![json!({ "op": "embed", "tokens": 512, "settings": settings })],
        }
    }
}

/// Tries what there is to try for an engine.
pub(super) fn tune(runner: &mut Runner, cores: usize) -> Result<Vec<Tuned>, Error> {
    let group = runner.engine.group;
    let mut found: Vec<Tuned> = Vec::new();
    for &purpose in Purpose::of_group(group) {
        let known = |purpose| of_purpose(&found, purpose).unwrap_or_else(|| default(cores));
        let candidates = purpose.candidates(group, cores, known);
        let settings = candidates[fastest(runner, purpose, &candidates)?];
        println!("{:<12} {}: {}", "settings", purpose.title(), settings.describe());
        found.push(Tuned { group, engine: runner.engine.name.clone(), purpose, settings });
    }
    Ok(found)
}

/// llama.cpp's own, with all cores.
fn default(cores: usize) -> Settings {
    Settings { threads: cores, flash: true, ubatch: UBATCHES[0], pooled: false }
}

fn of_purpose(found: &[Tuned], purpose: Purpose) -> Option<Settings> {
    found.iter().find(|tuned| tuned.purpose == purpose).map(|tuned| tuned.settings)
}

/// The place of the one that took the least, each by its best try.
fn fastest(runner: &mut Runner, purpose: Purpose, candidates: &[Settings]) -> Result<usize, Error> {
    let mut best = vec![f64::INFINITY; candidates.len()];
    let budget = Budget::of(SECONDS).at_least(1);
    let began = std::time::Instant::now();
    let mut rounds = 0;
    while budget.goes_on(rounds, began.elapsed().as_secs_f64()) {
        for (&settings, best) in candidates.iter().zip(&mut best) {
            let mut timed = Timed { seconds: f64::INFINITY };
            for request in purpose.requests(settings) {
                timed = runner.worker.ask(request)?;
            }
            *best = best.min(timed.seconds);
        }
        rounds += 1;
    }
    Ok(least(&best))
}

fn least(seconds: &[f64]) -> usize {
    let places = seconds.iter().enumerate();
    places.min_by(|(_, one), (_, other)| one.total_cmp(other)).map_or(0, |(place, _)| place)
}

impl Settings {
    pub(super) fn describe(self) -> String {
        let Self { threads, flash, ubatch, pooled } = self;
        let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        let flash = if flash { "flash attention" } else { "no flash attention" };
        let pooled = if pooled { ", pooled" } else { "" };
        format!("{threads}, {flash}, passes of {ubatch}{pooled}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_that_settings_change_has_a_purpose_that_is_tuned() {
        let points = [Point::decode(1, 64), Point::decode(16, 64), Point::decode(1, 1024), Point::decode(4, 1024)];
        let decodes = points.map(|point| Purpose::of(Measure::Decode, point));
        let others =
            [Measure::Prefill, Measure::Turn, Measure::Embed].map(|measure| Purpose::of(measure, Point::tokens(512)));
        for purpose in decodes.into_iter().chain(others) {
            assert!(purpose.is_some_and(|purpose| Purpose::of_group(Group::Equal).contains(&purpose)), "{purpose:?}");
        }
        assert_eq!(Purpose::of(Measure::Load, Point::default()), None);
    }

    #[test]
    fn candidates_build_on_what_was_found() {
        let one_thread = Settings { threads: 1, ..default(2) };
        let long = Purpose::DecodeOneLong.candidates(Group::Equal, 2, |_| one_thread);
        assert_eq!(long, [one_thread, Settings { flash: false, ..one_thread }]);
        let embed =
            Purpose::Embed.candidates(Group::Equal, 2, |_| Settings { ubatch: 128, flash: false, ..default(2) });
        let sizes: Vec<_> = embed.iter().map(|settings| (settings.pooled, settings.ubatch)).collect();
        assert_eq!(sizes, [(true, 512), (false, 128)]);
        assert_eq!(Purpose::DecodeOne.candidates(Group::Equal, 1, |_| one_thread).len(), 2);
    }

    #[test]
    fn the_least_is_chosen() {
        assert_eq!(least(&[0.3, 0.1, 0.2]), 1);
        assert_eq!(default(2).describe(), "2 threads, flash attention, passes of 512");
    }
}
