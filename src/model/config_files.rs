//! The JSON files beside a graph: config.json, generation_config.json, genai_config.json.
//!
//! Each may be absent; one that does not parse is an error, because guessing what it meant to say is
//! worse. Only what is used is read. None of them is believed over the graph.

use std::{
    io,
    path::{Path, PathBuf},
};

use motorbrain_actors::tokens::TokenId;
use serde::{Deserialize, de::DeserializeOwned};

use super::{contract::Fallback, files, naming::Naming};

/// Why a config file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// It is there, but cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// It is no JSON, or a value has the wrong type.
    #[error("{} does not parse at line {line}, column {column}: {reason}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What was found, what was expected.
        reason: String,
    },
}

impl ConfigFileError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Parse { .. } => Some("mend the file, or remove it: it may be absent".into()),
        }
    }
}

/// The three files, each empty where absent.
#[derive(Debug, Default)]
pub(crate) struct ConfigFiles {
    /// config.json, as transformers writes it.
    pub(crate) config: Option<Config>,
    /// generation_config.json, whose end tokens count before config.json's.
    pub(crate) generation: Option<GenerationConfig>,
    /// genai_config.json, as onnxruntime-genai wants it.
    pub(crate) genai: Option<GenaiConfig>,
}

/// What is used of config.json.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Config {
    /// Decoder layers.
    pub(crate) num_hidden_layers: Option<usize>,
    /// Query heads.
    pub(crate) num_attention_heads: Option<usize>,
    /// Heads of keys and values; as many as query heads where it is not said.
    pub(crate) num_key_value_heads: Option<usize>,
    /// Numbers of a head; a part of the hidden size where it is not said.
    pub(crate) head_dim: Option<usize>,
    /// Numbers of a hidden state.
    pub(crate) hidden_size: Option<usize>,
    /// Tokens of the vocabulary, those included that no text has.
    pub(crate) vocab_size: Option<usize>,
    /// Positions that the model was made for.
    pub(crate) max_position_embeddings: Option<usize>,
    eos_token_id: Option<EndTokens>,
    rope_theta: Option<f64>,
    /// Where newer files keep the rotation base.
    rope_parameters: Option<RopeParameters>,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
}

/// What is used of generation_config.json.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct GenerationConfig {
    eos_token_id: Option<EndTokens>,
}

/// What is used of genai_config.json.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct GenaiConfig {
    /// What it says of the model; the rest is of sessions and sampling.
    pub(crate) model: GenaiModel,
}

/// The part of it that describes the model.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct GenaiModel {
    /// Positions that the model was made for.
    pub(crate) context_length: Option<usize>,
    vocab_size: Option<usize>,
    eos_token_id: Option<EndTokens>,
    #[serde(default)]
    decoder: GenaiDecoder,
}

#[derive(Debug, Default, Deserialize)]
struct GenaiDecoder {
    head_size: Option<usize>,
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    inputs: GenaiInputs,
    #[serde(default)]
    outputs: GenaiOutputs,
}

#[derive(Debug, Default, Deserialize)]
struct GenaiInputs {
    past_key_names: Option<String>,
    past_value_names: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct GenaiOutputs {
    present_key_names: Option<String>,
    present_value_names: Option<String>,
}

/// One id or several; negative ones say "none".
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a token id or a list of token ids")]
enum EndTokens {
    One(i64),
    Several(Vec<i64>),
}

impl EndTokens {
    fn ids(&self) -> Vec<TokenId> {
        let ids = match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        };
        ids.iter().filter_map(|&id| u32::try_from(id).ok()).map(TokenId).collect()
    }
}

impl ConfigFiles {
    /// Reads those of the three that are in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, ConfigFileError> {
        Ok(Self {
            config: read(&dir.join("config.json"))?,
            generation: read(&dir.join("generation_config.json"))?,
            genai: read(&dir.join("genai_config.json"))?,
        })
    }

    /// The end tokens and the name of the file that gave them: the first that gives any.
    pub(crate) fn end_tokens(&self) -> Option<(Vec<TokenId>, &'static str)> {
        let generation = self.generation.as_ref().and_then(|file| file.eos_token_id.as_ref());
        let config = self.config.as_ref().and_then(|file| file.eos_token_id.as_ref());
        let genai = self.genai.as_ref().and_then(|file| file.model.eos_token_id.as_ref());
        let files = [(generation, "generation_config.json"), (config, "config.json"), (genai, "genai_config.json")];
        let mut given = files.into_iter().filter_map(|(ids, file)| Some((ids?.ids(), file)));
        given.find(|(ids, _)| !ids.is_empty())
    }

    /// The rotation base as config.json has it.
    pub(crate) fn rotation_base(&self) -> Option<f64> {
        let config = self.config.as_ref()?;
        config.rope_theta.or_else(|| config.rope_parameters.as_ref()?.rope_theta)
    }

    /// What a graph may leave open.
    pub(crate) fn fallback(&self) -> Fallback {
        let decoder = self.genai.as_ref().map(|genai| &genai.model.decoder);
        let config = self.config.as_ref();
        Fallback {
            kv_heads: decoder
                .and_then(|decoder| decoder.num_key_value_heads)
                .or_else(|| config.and_then(|config| config.num_key_value_heads)),
            head_dim: decoder.and_then(|decoder| decoder.head_size).or_else(|| config.and_then(Config::head_dim)),
            vocab: (self.genai.as_ref().and_then(|genai| genai.model.vocab_size))
                .or_else(|| config.and_then(|config| config.vocab_size)),
            naming: decoder.and_then(GenaiDecoder::naming),
        }
    }
}

impl Config {
    /// The head size, said or implied.
    pub(crate) fn head_dim(&self) -> Option<usize> {
        self.head_dim.or_else(|| self.hidden_size?.checked_div(self.num_attention_heads?))
    }
}

impl GenaiDecoder {
    /// How the graph's caches are named, where all four patterns are given.
    fn naming(&self) -> Option<Naming> {
        Some(Naming {
            past_key: self.inputs.past_key_names.clone()?,
            past_value: self.inputs.past_value_names.clone()?,
            present_key: self.outputs.present_key_names.clone()?,
            present_value: self.outputs.present_value_names.clone()?,
        })
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, ConfigFileError> {
    let bytes = match files::read(file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|cause| ConfigFileError::Read { file: file.to_owned(), cause })?,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| {
        let reason = cause.to_string();
        ConfigFileError::Parse {
            file: file.to_owned(),
            line: cause.line(),
            column: cause.column(),
            // The place stands in the message already.
            reason: reason.split(" at line ").next().unwrap_or_default().to_owned(),
        }
    })
}
