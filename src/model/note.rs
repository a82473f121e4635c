//! What is worth telling about a model that can be served all the same.

use super::{lm_head::NoLmHead, presets::Fact};
use motorbrain_actors::tokens::TokenId;

/// Something about a model that its user may want to know; its display is one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Note {
    /// There is no `tokenizer.json`.
    #[error("there is no `tokenizer.json`: each byte of a text is a token")]
    ByteFallback,
    /// The graph gives no hidden states.
    #[error("the model steps but cannot embed: {0}")]
    NoLmHead(NoLmHead),
    /// No file and no preset names an end token.
    #[error("no file names an end token: only the count ends a step")]
    NoEndTokens,
    /// An end token that the model cannot produce.
    #[error("the end token {token} is outside the vocabulary of {vocab} rows")]
    EndTokenOutside {
        /// The id.
        token: TokenId,
        /// Rows of the graph's vocabulary.
        vocab: usize,
    },
    /// Tokens of the tokenizer that the graph has no row for.
    #[error(
        "{count} of the tokenizer's tokens, with ids up to {id_max}, are outside the vocabulary of {vocab} rows: \
         a text that has one is refused"
    )]
    TokensOutside {
        /// How many.
        count: usize,
        /// The largest of their ids.
        id_max: u32,
        /// Rows of the graph's vocabulary.
        vocab: usize,
    },
    /// Nothing tells how many tokens the model reads.
    #[error("no file tells the model's context: {tokens} tokens are taken for it")]
    DefaultContext {
        /// The default.
        tokens: usize,
    },
    /// config.json describes another model; the graph is the truth.
    #[error("config.json says {config} {fact}, the graph has {graph}")]
    ConfigDisagrees {
        /// What about.
        fact: Fact,
        /// What config.json says.
        config: usize,
        /// What the graph has.
        graph: usize,
    },
    /// config.json and the preset give different rotation bases; the rotation is measured anyway.
    #[error("config.json gives the rotation base {config}, the preset {preset}; it will be measured")]
    RotationBase {
        /// What config.json says.
        config: f64,
        /// What the preset says.
        preset: f64,
    },
}
