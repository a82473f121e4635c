//! How models write the tools that they call.
//!
//! Three ways, which stand in what models are trained on: [`Dialect`]. For each there is a grammar, so that a call always
//! parses and names a tool that there is (`grammar.rs`), and a parser of the text as it comes (`parser.rs`).

mod grammar;
mod parser;
mod scan;

pub(super) use self::{
    grammar::{Content, grammar},
    parser::{Event, Parser},
};
use motorbrain_actors::tokens::TokenId;

use crate::model::AddedToken;

/// How a model writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `<tool_call>\n{"name": .., "arguments": ..}\n</tool_call>`, one behind the other: Hermes, Qwen2.5, Qwen3.
    Hermes,
    /// `{"name": .., "parameters": ..}` and nothing else, perhaps behind `<|python_tag|>`: Llama 3.1 and 3.2, which call
    /// one at a time.
    Llama,
    /// `[TOOL_CALLS] [{"name": .., "arguments": ..}, ..]`: Mistral since version 3 of its tokenizer.
    Mistral,
}

impl Dialect {
    /// The dialect of a template that speaks of tools; `None`: none of these.
    pub(super) fn of(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        if has("[TOOL_CALLS]") && !has("[ARGS]") {
            Some(Self::Mistral)
        } else if has("<tool_call>") && !has("<function=") && !has("<arg_key>") {
            Some(Self::Hermes)
        } else if has("<|start_header_id|>") && has("\"parameters\": ") {
            Some(Self::Llama)
        } else {
            None
        }
    }

    /// What a call begins with.
    const fn opening(self) -> &'static str {
        match self {
            Self::Hermes => "<tool_call>",
            Self::Llama => "<|python_tag|>",
            Self::Mistral => "[TOOL_CALLS]",
        }
    }

    /// The key of the arguments.
    const fn arguments(self) -> &'static str {
        match self {
            Self::Hermes | Self::Mistral => "arguments",
            Self::Llama => "parameters",
        }
    }

    /// Its markers as tokens.
    pub(super) fn tokens(self, added: &[AddedToken]) -> Tokens {
        let id = |text: &str| added.iter().find(|token| token.text == text).map(|token| token.id);
        Tokens { opening: id(self.opening()), closing: id(CLOSING).filter(|_| self == Self::Hermes) }
    }
}

/// What a call of Hermes' ends with.
const CLOSING: &str = "</tool_call>";

/// The markers of a dialect that are tokens of the model's vocabulary; others are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    opening: Option<TokenId>,
    closing: Option<TokenId>,
}
