//! Why a graph cannot be served.

/// Why a graph cannot be served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// Inputs or outputs that every cached language model has are absent.
    #[error("the graph is not a language model with a KV cache: it lacks {}", list(missing))]
    NotALanguageModel {
        /// The names that were looked for.
        missing: Vec<String>,
    },
    /// An input that nobody would fill.
    #[error("the graph takes an input `{input}` that this version does not know")]
    UnknownInput {
        /// Its name.
        input: String,
    },
    /// Layers are numbered from 0 without a gap.
    #[error("the graph has keys for layer {last}, but none for layer {missing}")]
    LayerGap {
        /// The first number without keys.
        missing: usize,
        /// The highest number with keys.
        last: usize,
    },
    /// A cache tensor without its counterpart.
    #[error("the graph has `{present}`, but not `{missing}`")]
    Unpaired {
        /// What it has.
        present: String,
        /// What it lacks.
        missing: String,
    },
    /// A type that the engine does not handle.
    #[error("`{tensor}` has elements of type {found}, expected {expected}")]
    ElementType {
        /// The input or output.
        tensor: String,
        /// What the graph says.
        found: &'static str,
        /// What can be served.
        expected: &'static str,
    },
    /// A size that is fixed where each run has its own.
    #[error("`{tensor}` has the shape [{found}], expected {expected}")]
    FixedSize {
        /// The input or output.
        tensor: String,
        /// Its dimensions, with their names where they have none.
        found: String,
        /// Which of them a run chooses.
        expected: &'static str,
    },
    /// Of the two decoders in a graph, the one with a past sees every token.
    #[error("the decoder behind `{input}` was made for one new token at a time: its mask compares no positions")]
    OneTokenBranch {
        /// The input that chooses it.
        input: &'static str,
    },
    /// A shape that the engine does not handle.
    #[error("`{tensor}` has {found} dimensions, expected {expected}")]
    Rank {
        /// The input or output.
        tensor: String,
        /// What the graph says.
        found: usize,
        /// What the contract asks.
        expected: usize,
    },
    /// Layers that differ from one another.
    #[error("`{tensor}` has {found} {what}, those before it {expected}")]
    Unequal {
        /// The input.
        tensor: String,
        /// KV heads or elements a head.
        what: &'static str,
        /// This tensor's.
        found: usize,
        /// The earlier tensors'.
        expected: usize,
    },
    /// A size that no model has.
    #[error("the model has {found} {what}, expected 1 to {most}")]
    Size {
        /// KV heads, elements or rows.
        what: &'static str,
        /// What the graph or a config file says.
        found: usize,
        /// The most that is served.
        most: usize,
    },
    /// A size that neither the graph nor a config file tells.
    #[error("neither the graph nor a config file tells the {what}")]
    UnknownSize {
        /// KV heads, head size or vocabulary.
        what: &'static str,
    },
}

impl ContractError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotALanguageModel { .. } => {
                "export a decoder with its cache (`text-generation-with-past` in optimum, or the onnxruntime-genai builder)"
            }
            Self::UnknownInput { .. } => "export the model without it, or choose another file with `model.file`",
            Self::LayerGap { .. }
            | Self::Size { .. }
            | Self::Unpaired { .. }
            | Self::Unequal { .. }
            | Self::Rank { .. } => "export the model again; the graph looks damaged or is of a kind not supported",
            Self::ElementType { expected: "i64", .. } => {
                "export the model with `input_ids`, `attention_mask` and `position_ids` of 64 bits"
            }
            Self::ElementType { .. } => "export the model with keys, values and logits in f32 or f16",
            Self::FixedSize { .. } => {
                "export the model again with batch and sequence (past and new tokens) as dynamic axes"
            }
            Self::OneTokenBranch { .. } => {
                "choose a graph with one decoder by `model.file`, or export the model with a newer exporter"
            }
            Self::UnknownSize { .. } => "put the model's config.json beside it",
        };
        Some(hint.into())
    }
}

/// `` `a`, `b` and `c` ``.
fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
