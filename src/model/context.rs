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
    /// `max_position_embeddings` of config.json.
    Config,
    /// `context_length` of genai_config.json.
    GenaiConfig,
    /// The preset.
    Preset,
    /// The rows of the graph's rotation tables.
    RotationTables,
    /// Nobody.
    Default,
}

impl fmt::Display for ContextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Config => "config.json",
            Self::GenaiConfig => "genai_config.json",
            Self::Preset => "preset",
            Self::RotationTables => "the graph's rotation tables",
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
    pub(crate) fn smallest(configs: &ConfigFiles, preset: Option<&Preset>, table_positions: Option<usize>) -> Self {
        let config = configs.config.as_ref().and_then(|config| config.max_position_embeddings);
        let genai = configs.genai.as_ref().and_then(|genai| genai.model.context_length);
        let said = [
            (config, ContextSource::Config),
            (genai, ContextSource::GenaiConfig),
            (preset.map(|preset| preset.claims.context), ContextSource::Preset),
            (table_positions, ContextSource::RotationTables),
        ];
        said.into_iter()
            .filter_map(|(tokens, source)| Some(Self { tokens: tokens.filter(|&tokens| tokens > 0)?, source }))
            .min_by_key(|limit| limit.tokens)
            .unwrap_or(Self { tokens: DEFAULT_TOKENS, source: ContextSource::Default })
    }
}
