//! How many tokens of context a model is made for.

use std::fmt;

use super::{config_files::ConfigFiles, note::Note, presets::Preset};

/// Taken where no file tells.
const DEFAULT_TOKENS: usize = 2048;

/// The most tokens of context a model is made for, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLimit {
    /// How many.
    pub tokens: usize,
    /// Who gave the smallest number.
    pub source: ContextSource,
}

/// Who tells a model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// config.json: `max_position_embeddings`, or what older families call it.
    Config,
    /// config.json: `original_max_position_embeddings` of a rotation that changes behind it.
    RotationChanges,
    /// `context_length` of genai_config.json.
    GenaiConfig,
    /// The preset.
    Preset,
    /// The rows of the graph's rotation tables.
    RotationTables,
    /// The rows of another table that the graph looks positions up in.
    PositionTable,
    /// `model_max_length` of tokenizer_config.json, which is asked only where nobody else tells.
    TokenizerConfig,
    /// Nobody.
    Default,
}

/// How many positions the tables in a graph have rows for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Cosines and sines of attention operators.
    pub(crate) rotation: Option<usize>,
    /// What else is looked up by position.
    pub(crate) positions: Option<usize>,
}

impl fmt::Display for ContextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config.json",
            Self::RotationChanges => "config.json: in longer runs all keys turn otherwise",
            Self::GenaiConfig => "genai_config.json",
            Self::Preset => "preset",
            Self::RotationTables => "the graph's rotation tables",
            Self::PositionTable => "the graph's table of positions",
            Self::TokenizerConfig => "tokenizer_config.json",
            Self::Default => "default",
        })
    }
}

impl ContextLimit {
    /// That nobody tells, where nobody does.
    pub(crate) fn note(&self) -> Option<Note> {
        (self.source == ContextSource::Default).then_some(Note::DefaultContext { tokens: self.tokens })
    }

    /// The smallest number that anybody gives; a zero says nothing.
    pub(crate) fn smallest(configs: &ConfigFiles, preset: Option<&Preset>, tables: Tables) -> Self {
        let limit =
            |(tokens, source): (Option<usize>, _)| Some(Self { tokens: tokens.filter(|&tokens| tokens > 0)?, source });
        let said = [
            (configs.config.as_ref().and_then(|config| config.context), ContextSource::Config),
            (configs.config.as_ref().and_then(|config| config.rotation_changes_at), ContextSource::RotationChanges),
            (configs.genai.context, ContextSource::GenaiConfig),
            (preset.map(|preset| preset.claims.context), ContextSource::Preset),
            (tables.rotation, ContextSource::RotationTables),
            (tables.positions, ContextSource::PositionTable),
        ];
        said.into_iter()
            .filter_map(limit)
            .min_by_key(|limit| limit.tokens)
            .or_else(|| limit((configs.tokenizer_context, ContextSource::TokenizerConfig)))
            .unwrap_or(Self { tokens: DEFAULT_TOKENS, source: ContextSource::Default })
    }
}
