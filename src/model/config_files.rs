//! The JSON files beside a graph: config.json, generation_config.json, tokenizer_config.json, genai_config.json.
//!
//! Each may be absent; one that does not parse is an error, because guessing what it meant to say is
//! worse. Only what is used is read, in each spelling that model families have for it. None of them is believed
//! over the graph.

use std::{
    io,
    path::{Path, PathBuf},
};

use motorbrain_actors::tokens::TokenId;

use super::{
    contract::Fallback,
    files,
    json::{Document, Section},
    naming::Naming,
};

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
    /// It is no JSON.
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
    /// A value is not what its key asks for.
    #[error("{} has `{key}` = {found}, expected {expected}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key; empty for the whole file.
        key: String,
        /// What stands there.
        found: String,
        /// What is asked for.
        expected: &'static str,
    },
}

impl ConfigFileError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Parse { .. } | Self::Value { .. } => Some("mend the file, or remove it: it may be absent".into()),
        }
    }
}

/// Every key that is asked for.
const KEYS: &[&str] = &[
    "attention_heads",
    "context_length",
    "d_model",
    "decoder",
    "eos_token_id",
    "filename",
    "head_dim",
    "head_size",
    "hidden_size",
    "inputs",
    "max_context_length",
    "max_position_embeddings",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "model",
    "model_max_length",
    "n_ctx",
    "n_embd",
    "n_head",
    "n_heads",
    "n_layer",
    "n_layers",
    "n_positions",
    "num_attention_heads",
    "num_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_kv_heads",
    "num_layers",
    "original_max_position_embeddings",
    "outputs",
    "past_key_names",
    "past_value_names",
    "present_key_names",
    "present_value_names",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rope_type",
    "seq_length",
    "text_config",
    "type",
    "vocab_size",
];

/// How config files spell the layers of a decoder.
const LAYERS: &[&str] = &["num_hidden_layers", "n_layer", "n_layers", "num_layers"];
/// Its query heads.
const HEADS: &[&str] = &["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"];
/// Its heads of keys and values.
const KV_HEADS: &[&str] = &["num_key_value_heads", "num_kv_heads"];
/// The numbers of a hidden state.
const HIDDEN: &[&str] = &["hidden_size", "n_embd", "d_model"];
/// The tokens that it was made for (GPT-2: `n_positions`; MPT and DBRX: `max_seq_len`; BLOOM and ChatGLM:
/// `seq_length`; Baichuan: `model_max_length`; OpenELM: `max_context_length`). A layer's `sliding_window` is no
/// such bound.
const CONTEXT: &[&str] = &[
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "seq_length",
    "model_max_length",
    "max_context_length",
];

/// The files, each empty where absent.
#[derive(Debug, Default)]
pub(crate) struct ConfigFiles {
    /// config.json, as transformers writes it.
    pub(crate) config: Option<Config>,
    /// End tokens of generation_config.json, which count before config.json's.
    generation_end_tokens: Option<Vec<TokenId>>,
    /// `model_max_length` of tokenizer_config.json: often absent, or no limit at all.
    pub(crate) tokenizer_context: Option<usize>,
    /// genai_config.json, as onnxruntime-genai wants it.
    pub(crate) genai: GenaiConfig,
}

/// What is used of config.json.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Decoder layers.
    pub(crate) num_hidden_layers: Option<usize>,
    /// Query heads.
    pub(crate) num_attention_heads: Option<usize>,
    /// Heads of keys and values; as many as query heads where it is not said.
    pub(crate) num_key_value_heads: Option<usize>,
    /// Numbers of a head; a part of the hidden size where it is not said.
    head_dim: Option<usize>,
    /// Numbers of a hidden state.
    pub(crate) hidden_size: Option<usize>,
    /// Tokens of the vocabulary, those included that no text has.
    pub(crate) vocab_size: Option<usize>,
    /// Positions that the model was made for: the smallest number of the spellings that are there.
    pub(crate) context: Option<usize>,
    /// Positions behind which a run rotates all its keys otherwise (Ding et al. 2024, "LongRoPE", as transformers has it:
    /// short factors up to here, long ones in longer runs).
    pub(crate) rotation_changes_at: Option<usize>,
    end_tokens: Option<Vec<TokenId>>,
    rope_theta: Option<f64>,
}

/// What is used of genai_config.json.
#[derive(Debug, Default)]
pub(crate) struct GenaiConfig {
    /// The graph file's name.
    pub(crate) graph: Option<PathBuf>,
    /// Positions that the model was made for.
    pub(crate) context: Option<usize>,
    vocab_size: Option<usize>,
    head_size: Option<usize>,
    num_key_value_heads: Option<usize>,
    end_tokens: Option<Vec<TokenId>>,
    /// How the graph's caches are named, where all four patterns are given.
    naming: Option<Naming>,
}

impl ConfigFiles {
    /// Reads those that are in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, ConfigFileError> {
        Ok(Self {
            config: read(&dir.join("config.json"), Config::of)?,
            generation_end_tokens: read(&dir.join("generation_config.json"), end_tokens)?.flatten(),
            tokenizer_context: read(&dir.join("tokenizer_config.json"), |file| file.size("model_max_length"))?
                .flatten(),
            genai: read(&dir.join("genai_config.json"), GenaiConfig::of)?.unwrap_or_default(),
        })
    }

    /// The end tokens and the name of the file that gave them: the first that gives any.
    pub(crate) fn end_tokens(&self) -> Option<(Vec<TokenId>, &'static str)> {
        let config = self.config.as_ref().and_then(|config| config.end_tokens.as_ref());
        let files = [
            (self.generation_end_tokens.as_ref(), "generation_config.json"),
            (config, "config.json"),
            (self.genai.end_tokens.as_ref(), "genai_config.json"),
        ];
        let mut given = files.into_iter().filter_map(|(ids, file)| Some((ids?.clone(), file)));
        given.find(|(ids, _)| !ids.is_empty())
    }

    /// The rotation base as config.json has it.
    pub(crate) fn rotation_base(&self) -> Option<f64> {
        self.config.as_ref()?.rope_theta
    }

    /// What a graph may leave open.
    pub(crate) fn fallback(&self) -> Fallback {
        let (genai, config) = (&self.genai, self.config.as_ref());
        Fallback {
            kv_heads: genai.num_key_value_heads.or_else(|| config?.num_key_value_heads),
            head_dim: genai.head_size.or_else(|| config?.head_dim()),
            vocab: genai.vocab_size.or_else(|| config?.vocab_size),
            naming: genai.naming.clone(),
        }
    }
}

impl Config {
    fn of(file: Section<'_>) -> Result<Self, ConfigFileError> {
        // Of models that read more than text, the language model has a section of its own.
        let sections = [file, file.section("text_config")?];
        let first = |keys: &[&'static str]| first(sections, |section| Ok(sizes(section, keys)?.into_iter().next()));
        Ok(Self {
            num_hidden_layers: first(LAYERS)?,
            num_attention_heads: first(HEADS)?,
            num_key_value_heads: first(KV_HEADS)?,
            head_dim: first(&["head_dim"])?,
            hidden_size: first(HIDDEN)?,
            vocab_size: first(&["vocab_size"])?,
            // A zero says nothing.
            context: self::first(sections, |section| {
                Ok(sizes(section, CONTEXT)?.into_iter().filter(|&tokens| tokens > 0).min())
            })?,
            rotation_changes_at: self::first(sections, rotation_changes_at)?,
            end_tokens: self::first(sections, end_tokens)?,
            rope_theta: self::first(sections, |section| {
                // Newer files keep it in a section of its own.
                self::first([section, section.section("rope_parameters")?], |section| section.number("rope_theta"))
            })?,
        })
    }

    /// The head size, said or implied.
    pub(crate) fn head_dim(&self) -> Option<usize> {
        self.head_dim.or_else(|| self.hidden_size?.checked_div(self.num_attention_heads?))
    }
}

impl GenaiConfig {
    fn of(file: Section<'_>) -> Result<Self, ConfigFileError> {
        let model = file.section("model")?;
        let decoder = model.section("decoder")?;
        let (inputs, outputs) = (decoder.section("inputs")?, decoder.section("outputs")?);
        let names = [
            inputs.text("past_key_names")?,
            inputs.text("past_value_names")?,
            outputs.text("present_key_names")?,
            outputs.text("present_value_names")?,
        ];
        let naming = match names.map(|name| name.map(str::to_owned)) {
            [Some(past_key), Some(past_value), Some(present_key), Some(present_value)] => {
                Some(Naming { past_key, past_value, present_key, present_value })
            }
            _ => None,
        };
        Ok(Self {
            graph: decoder.text("filename")?.map(PathBuf::from),
            context: model.size("context_length")?,
            vocab_size: model.size("vocab_size")?,
            head_size: decoder.size("head_size")?,
            num_key_value_heads: decoder.size("num_key_value_heads")?,
            end_tokens: end_tokens(model)?,
            naming,
        })
    }
}

/// See [`Config::rotation_changes_at`]. Phi-3's first files say `su`.
fn rotation_changes_at(section: Section<'_>) -> Result<Option<usize>, ConfigFileError> {
    let scalings = [section.section("rope_scaling")?, section.section("rope_parameters")?];
    let changes = first(scalings, |scaling| {
        let kind = scaling.text("rope_type")?.or(scaling.text("type")?);
        Ok(kind.filter(|kind| matches!(*kind, "longrope" | "su")).map(|_| scaling))
    });
    match changes? {
        Some(scaling) => first([section, scaling], |section| section.size("original_max_position_embeddings")),
        None => Ok(None),
    }
}

/// The numbers that stand under any of the keys, in the keys' order.
fn sizes(section: Section<'_>, keys: &[&str]) -> Result<Vec<usize>, ConfigFileError> {
    keys.iter().filter_map(|key| section.size(key).transpose()).collect()
}

/// What the first section says that says anything.
fn first<'d, T>(
    sections: [Section<'d>; 2],
    ask: impl Fn(Section<'d>) -> Result<Option<T>, ConfigFileError>,
) -> Result<Option<T>, ConfigFileError> {
    sections.into_iter().find_map(|section| ask(section).transpose()).transpose()
}

fn end_tokens(section: Section<'_>) -> Result<Option<Vec<TokenId>>, ConfigFileError> {
    Ok(section.ids("eos_token_id")?.map(|ids| ids.into_iter().map(TokenId).collect()))
}

/// What is used of a file; `None` where it is absent.
fn read<T>(
    file: &Path,
    used: impl FnOnce(Section<'_>) -> Result<T, ConfigFileError>,
) -> Result<Option<T>, ConfigFileError> {
    let bytes = match files::read(file) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|cause| ConfigFileError::Read { file: file.to_owned(), cause })?,
    };
    used(Document::parse(file, &bytes, KEYS)?.section()?).map(Some)
}
