//! What of the benchmark is run: everything, or less.

use std::num::NonZero;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::results::{Group, Measure, Point};

/// Which parts of the benchmark, and how often.
#[derive(Args)]
pub(super) struct Options {
    /// The ratios that change most, at fewer points and in fewer rounds, into `.motorbrain/bench/last/`
    #[arg(long)]
    pub(super) quick: bool,
    /// Only these scenarios; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) only: Vec<Scenario>,
    /// Only these models; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) model: Vec<ModelName>,
    /// Goes on with a run of the same commit that was broken off, and measures what it did not
    #[arg(long = "continue")]
    pub(super) resume: bool,
    /// Measures each point so often, however long it takes [default: as often as its seconds allow]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZero<usize>>,
}

/// A scenario, as `--only` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scenario {
    /// The machine's own limits
    Limits,
    /// Perplexity of every form
    Quality,
    /// Tokens a second of conversations that decode greedily, as streams
    Decode,
    /// The same with temperature 1, top-p 0.9 and min-p 0.05
    Sampled,
    /// The same as requests of one token
    Steps,
    /// Tokens a second of a prompt
    Prefill,
    /// Vectors of texts
    Embed,
    /// First token of a second turn
    Turn,
    /// Time to load a model, with its files in memory and not
    Load,
    /// What the actors cost
    Layer,
    /// Gaps between streamed tokens
    Latency,
    /// Resident memory
    Memory,
}

/// A model, as `--model` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModelName {
    /// SmolLM2-135M within 2 % of f32's perplexity
    Smollm2,
    /// SmolLM2-135M in one 8-bit file
    EightBit,
    /// SmolLM2-135M in lossy 4-bit blocks
    Lossy,
    /// The f32 model of Qwen2.5-Coder-0.5B's shape
    Qwen,
}

/// How conversations decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Greedily, a request for many tokens.
    Stream,
    /// Such a request with temperature 1, top-p 0.9 and min-p 0.05.
    Sampled,
    /// Greedily, a request for each token.
    Steps,
}

impl Way {
    pub(super) fn measure(self) -> Measure {
        match self {
            Self::Stream => Measure::Decode,
            Self::Sampled => Measure::DecodeSampled,
            Self::Steps => Measure::DecodeSteps,
        }
    }
}

impl Options {
    /// The rounds that were asked for.
    pub(super) fn rounds(&self) -> Option<usize> {
        self.rounds.map(usize::from)
    }

    /// What a point may take that has so many seconds in a whole run.
    pub(super) fn budget(&self, seconds: f64) -> Budget {
        match self.rounds() {
            Some(rounds) => Budget::exactly(rounds),
            None if self.quick => Budget::of(seconds).quick(),
            None => Budget::of(seconds),
        }
    }

    /// Whether all was asked for, so that the results may replace those of the last whole run.
    pub(super) fn is_whole(&self) -> bool {
        !self.quick && self.rounds.is_none() && self.only.is_empty() && self.model.is_empty()
    }

    pub(super) fn wants(&self, scenario: Scenario) -> bool {
        let by_default = !self.quick || scenario.is_quick();
        if self.only.is_empty() { by_default } else { self.only.contains(&scenario) }
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        Group::ALL.into_iter().filter(|group| {
            let name = match group {
                Group::Equal => ModelName::Smollm2,
                Group::EightBit => ModelName::EightBit,
                Group::Lossy => ModelName::Lossy,
                Group::Qwen => ModelName::Qwen,
            };
            self.model.contains(&name) || self.model.is_empty() && (!self.quick || *group == Group::Equal)
        })
    }

    /// Where conversations decode in a group: the contexts that they have read and their numbers, large ones
    /// first.
    pub(super) fn decodes(&self, group: Group, way: Way) -> Vec<Point> {
        let (contexts, conversations): (&[usize], &[usize]) = match (group, way) {
            (Group::Qwen, Way::Stream) => (&[64], &[16, 1]),
            (Group::Qwen, _) | (Group::EightBit, Way::Sampled | Way::Steps) => (&[], &[]),
            (_, Way::Stream | Way::Sampled) if self.quick => (&[64], &[16, 1]),
            (Group::Equal, Way::Stream) => (&[64, LONG_CONTEXT], &[16, 4, 1]),
            (Group::Equal, Way::Sampled) | (_, Way::Stream) => (&[64], &[16, 4, 1]),
            (_, Way::Sampled | Way::Steps) => (&[64], &[16, 1]),
        };
        let points = |&context| conversations.iter().map(move |&conversations| Point::decode(conversations, context));
        contexts.iter().flat_map(points).collect()
    }

    pub(super) fn prefill_tokens(&self, group: Group) -> &'static [usize] {
        match group {
            Group::Equal if !self.quick => &[128, 512, 2048],
            _ => &[512],
        }
    }
}

/// The longer of the contexts at which conversations decode.
pub(super) const LONG_CONTEXT: usize = 1024;

impl Scenario {
    /// Whether it is a part of a quick run.
    fn is_quick(self) -> bool {
        matches!(self, Self::Quality | Self::Decode | Self::Sampled | Self::Prefill | Self::Embed | Self::Turn)
    }

    /// Whether there is something to learn from it in a group. Random weights have no perplexity worth
    /// knowing, and what a form costs a turn or a vector is what it costs a prefill.
    pub(super) fn is_of(self, group: Group) -> bool {
        match self {
            Self::Quality => group != Group::Qwen,
            Self::Turn => matches!(group, Group::Equal | Group::Lossy),
            Self::Load => group != Group::EightBit,
            Self::Embed | Self::Layer | Self::Latency | Self::Memory => group == Group::Equal,
            Self::Sampled | Self::Steps => matches!(group, Group::Equal | Group::Lossy),
            Self::Limits | Self::Decode | Self::Prefill => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(quick: bool) -> Options {
        Options { quick, only: Vec::new(), model: Vec::new(), resume: false, rounds: None }
    }

    #[test]
    fn large_points_come_first_and_a_quick_run_has_fewer() {
        let whole = options(false).decodes(Group::Equal, Way::Stream);
        let sizes: Vec<_> = whole.iter().filter_map(|point| Some((point.context?, point.conversations?))).collect();
        assert_eq!(sizes, [(64, 16), (64, 4), (64, 1), (1024, 16), (1024, 4), (1024, 1)]);
        assert_eq!(options(true).decodes(Group::Equal, Way::Stream).len(), 2);
        assert!(options(true).groups().eq([Group::Equal]));
    }

    #[test]
    fn only_all_of_it_is_a_whole_run() {
        assert!(options(false).is_whole() && !options(true).is_whole());
        assert!(!Options { only: vec![Scenario::Turn], ..options(false) }.is_whole());
        assert!(!Options { rounds: NonZero::new(1), ..options(false) }.is_whole());
        let only = Options { only: vec![Scenario::Memory], ..options(true) };
        assert!(only.wants(Scenario::Memory) && !only.wants(Scenario::Decode));
    }
}
