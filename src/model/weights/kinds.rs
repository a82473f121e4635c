//! What weights may become, and what that means for a matrix.

use std::{fmt, str::FromStr};

use motorbrain_kernels::blocks::Format;
use serde::Serialize;

use crate::model::Activations;

/// What weights are to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// 8 bits, activations as good as f32: the fastest within 2 % of the original's
    /// perplexity.
    Fast,
    /// f32 throughout, so that a token decoded alone and the same one read in a prefill agree.
    Faithful,
    /// 4 bits, the output projection 8: the smallest, at a loss.
    Small,
}

impl Weights {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Faithful, Self::Small];

    /// Its name, as the command line has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Faithful => "faithful",
            Self::Small => "small",
        }
    }

    /// What activations are to become.
    pub(crate) const fn activations(self) -> Activations {
        match self {
            Self::Fast | Self::Faithful => Activations::F32,
            Self::Small => Activations::Int8,
        }
    }

    /// How many inputs may share a scale, the fastest first. Larger blocks have fewer scales to read and
    /// predict a little worse; where that is too much, the next size is tried.
    pub(crate) const fn block_sizes(self) -> &'static [usize] {
        match self {
            Self::Fast => &[64, 32],
            Self::Faithful | Self::Small => &[32],
        }
    }

    /// How a matrix of `k` inputs is quantised in blocks of at most `block_size`; `lm_head`: it gives
    /// the logits. `None`: it stays.
    pub(crate) fn format(self, block_size: usize, k: usize, lm_head: bool) -> Option<Format> {
        let bits = match self {
            Self::Fast => 8,
            Self::Small if lm_head => 8,
            Self::Small => 4,
            Self::Faithful => return None,
        };
        let mut sizes = self.block_sizes().iter().copied();
        let block_size = sizes.find(|&size| size <= block_size && k.is_multiple_of(size))?;
        Some(Format { bits, block_size })
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No weights have that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no weights, expected `fast`, `faithful` or `small`")]
pub struct UnknownWeights(String);

impl FromStr for Weights {
    type Err = UnknownWeights;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|weights| weights.as_str() == name).ok_or_else(|| UnknownWeights(name.to_owned()))
    }
}
