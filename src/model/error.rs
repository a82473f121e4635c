//! Why a model on disk cannot be served: one error over those of the parts.

use super::{
    config_files::ConfigFileError, contract_error::ContractError, external::ExternalError, graph::GraphError,
    layout::LayoutError, manifest::ManifestError, presets::PresetError, tokenizer::TokenizerError,
    weights::WeightsError,
};

/// Why a model on disk cannot be served. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Its folder.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file that is not what the manifest says.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its graph file.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Its weights.
    #[error(transparent)]
    External(#[from] ExternalError),
    /// What its graph takes and gives.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// A config file beside it.
    #[error(transparent)]
    ConfigFile(#[from] ConfigFileError),
    /// What it is said to be.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Its weights cannot be rewritten.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl ModelError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Layout(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Graph(error) => error.hint(),
            Self::External(error) => error.hint(),
            Self::Contract(error) => error.hint(),
            Self::ConfigFile(error) => error.hint(),
            Self::Preset(error) => error.hint(),
            Self::Tokenizer(error) => error.hint(),
            Self::Weights(error) => error.hint(),
        }
    }
}
