//! What of the benchmark is run: everything, or less.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::results::Group;

const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 2;

/// Which parts of the benchmark, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer points, two rounds, SmolLM2 without the lossy form only, and no results written
    #[arg(long)]
    pub(super) quick: bool,
    /// Only these scenarios; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) only: Vec<Scenario>,
    /// Only these models; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) model: Vec<ModelName>,
    /// Of the decodes only those at these contexts; may be given more than once
    #[arg(long, value_name = "TOKENS")]
    pub(super) context: Vec<usize>,
    /// Goes on with a run of the same commit that was broken off, and measures what it did not
    #[arg(long = "continue")]
    pub(super) resume: bool,
    /// How often each point is measured [default: 5, or 2 with --quick]
    #[arg(long, value_name = "N")]
    rounds: Option<std::num::NonZero<usize>>,
}

/// A scenario, as `--only` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scenario {
    /// The machine's own limits
    Limits,
    /// Perplexity of every form
    Quality,
    /// Tokens a second of conversations that decode
    Decode,
    /// Tokens a second of a prompt
    Prefill,
    /// Vectors of texts
    Embed,
    /// First token of a second turn
    Turn,
    /// Time to load a model
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
    /// SmolLM2-135M in lossy 4-bit blocks
    Lossy,
    /// The f32 model of Qwen2.5-Coder-0.5B's shape
    Qwen,
}

impl Options {
    pub(super) fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { ROUNDS_QUICK } else { ROUNDS }, usize::from)
    }

    /// Whether all was asked for, so that the results may replace those of the last whole run.
    pub(super) fn is_whole(&self) -> bool {
        !self.quick && self.only.is_empty() && self.model.is_empty() && self.context.is_empty()
    }

    pub(super) fn wants(&self, scenario: Scenario) -> bool {
        let by_default = !self.quick || scenario.is_quick();
        if self.only.is_empty() { by_default } else { self.only.contains(&scenario) }
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        Group::ALL.into_iter().filter(|group| {
            let name = match group {
                Group::Equal => ModelName::Smollm2,
                Group::Lossy => ModelName::Lossy,
                Group::Qwen => ModelName::Qwen,
            };
            self.model.contains(&name) || self.model.is_empty() && (!self.quick || *group == Group::Equal)
        })
    }

    pub(super) fn decode_conversations(&self, group: Group) -> &'static [usize] {
        match group {
            _ if self.quick => &[1, 8, 16],
            Group::Equal => &[1, 2, 4, 8, 16, 32],
            Group::Lossy | Group::Qwen => &[1, 8, 16],
        }
    }

    /// Tokens that conversations have read before they decode.
    pub(super) fn decode_contexts(&self, group: Group) -> impl Iterator<Item = usize> + '_ {
        let all: &[usize] = match group {
            Group::Equal if !self.quick => &[64, 512, 1536],
            _ => &[64],
        };
        all.iter().copied().filter(|context| self.context.is_empty() || self.context.contains(context))
    }

    pub(super) fn prefill_tokens(&self, group: Group) -> &'static [usize] {
        match group {
            Group::Equal if !self.quick => &[128, 512, 2048],
            _ => &[512],
        }
    }
}

impl Scenario {
    /// Whether it is a part of a quick run.
    fn is_quick(self) -> bool {
        matches!(self, Self::Decode | Self::Prefill | Self::Embed | Self::Turn)
    }
}
