//! Presets: what a well-known model is said to be. A claim, compared with what is on disk.
//!
//! They are the files of `config/presets/`, built in; a path to another such file will do, too.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use motorbrain_actors::tokens::{TokenId, Tokenizer, TokenizerKind};
use serde::Deserialize;

use super::{config_files::Config, contract::Contract, tokenizer::ModelTokenizer};

/// The presets built in, by name.
const BUILT_IN: [(&str, &str); 5] = [
    ("qwen2.5-coder-0.5b", include_str!("../../config/presets/qwen2.5-coder-0.5b.toml")),
    ("qwen2.5-coder-1.5b", include_str!("../../config/presets/qwen2.5-coder-1.5b.toml")),
    ("qwen2.5-coder-3b", include_str!("../../config/presets/qwen2.5-coder-3b.toml")),
    ("qwen2.5-coder-7b", include_str!("../../config/presets/qwen2.5-coder-7b.toml")),
    ("smollm2-135m", include_str!("../../config/presets/smollm2-135m.toml")),
];

/// What a model is said to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Its name, or the path of its file.
    pub name: String,
    /// The claims.
    pub claims: Claims,
}

/// How a model's texts become vectors, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipeName {
    /// By the hidden state of a probe that follows the text.
    Probe,
    /// By the text's own hidden states.
    Pooled,
}

/// The claims of a preset. All of them are compared with graph, tokenizer and config.json, but the
/// rotation base (measured when the model is loaded), the context (the smallest said anywhere holds) and the recipe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Decoder layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of a hidden state.
    pub hidden: usize,
    /// Rows of the vocabulary.
    pub vocab: usize,
    /// Base of the rotary position embedding.
    pub rope_base: f64,
    /// The most tokens the model was trained to read at once.
    pub context: usize,
    /// Tokens that end a reply.
    pub end_tokens: Vec<u32>,
    /// How its texts become vectors, where settings do not say; `None`: nobody has looked what does well.
    pub recipe: Option<RecipeName>,
}

/// One thing that a preset claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// Decoder layers.
    Layers,
    /// Heads of queries.
    Heads,
    /// Heads of keys and values.
    KvHeads,
    /// Width of one head.
    HeadDim,
    /// Width of a hidden state.
    Hidden,
    /// Rows of the vocabulary.
    Vocab,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layers => "layers",
            Self::Heads => "query heads",
            Self::KvHeads => "KV heads",
            Self::HeadDim => "elements a head",
            Self::Hidden => "elements a hidden state",
            Self::Vocab => "rows of the vocabulary",
        })
    }
}

/// Why a preset cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// No preset has that name.
    #[error("there is no preset `{name}`")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// Its file cannot be read.
    #[error("cannot read the preset {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// Its file does not parse.
    #[error("the preset `{name}` does not parse")]
    Parse {
        /// Its name or path.
        name: String,
        /// Where and why.
        #[source]
        cause: toml::de::Error,
    },
    /// The model is another one.
    #[error("preset `{preset}` expects {expected} {fact}, {} has {found}", file.display())]
    Disagrees {
        /// Its name.
        preset: String,
        /// What about.
        fact: Fact,
        /// What the preset says.
        expected: usize,
        /// What the file says.
        found: usize,
        /// The graph or config.json.
        file: PathBuf,
    },
    /// The tokenizer is another one.
    #[error("preset `{preset}` expects the end token {token}, the tokenizer in {} has no such id", dir.display())]
    EndToken {
        /// Its name.
        preset: String,
        /// The id.
        token: TokenId,
        /// The model's folder.
        dir: PathBuf,
    },
}

impl PresetError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => {
                let names: Vec<_> = Preset::names().map(|name| format!("`{name}`")).collect();
                Some(format!("choose one of {}, or give the path of a file", names.join(", ")))
            }
            Self::Read { .. } | Self::Parse { .. } => None,
            Self::Disagrees { fact, found, .. } => {
                Some(format!("choose a preset with {found} {fact}, or remove `model.preset`"))
            }
            Self::EndToken { .. } => {
                Some("put this model's own `tokenizer.json` beside it, or remove `model.preset`".into())
            }
        }
    }
}

impl Preset {
    /// The names of the presets built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The preset of that name; a name that ends in `.toml` is the path of a file.
    ///
    /// # Errors
    /// There is none, or it does not parse.
    pub fn find(name: &str) -> Result<Self, PresetError> {
        if name.ends_with(".toml") {
            let file = Path::new(name);
            let text = fs::read_to_string(file).map_err(|cause| PresetError::Read { file: file.to_owned(), cause })?;
            return Self::parse(name, &text);
        }
        match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            Some((_, text)) => Self::parse(name, text),
            None => Err(PresetError::Unknown { name: name.to_owned() }),
        }
    }

    /// The preset that a file's text describes.
    ///
    /// # Errors
    /// The text does not parse.
    pub fn parse(name: &str, text: &str) -> Result<Self, PresetError> {
        match toml::from_str(text) {
            Ok(claims) => Ok(Self { name: name.to_owned(), claims }),
            Err(cause) => Err(PresetError::Parse { name: name.to_owned(), cause }),
        }
    }

    /// The built-in preset whose sizes are those of a graph, all of them.
    pub fn like(contract: &Contract) -> Option<Self> {
        let mut presets = BUILT_IN.iter().filter_map(|(name, text)| Self::parse(name, text).ok());
        let is_like = |preset: &Self| contract.hidden.is_some() && preset.check_graph(contract, Path::new("")).is_ok();
        presets.find(is_like)
    }

    /// Compares the preset with a graph.
    pub(crate) fn check_graph(&self, contract: &Contract, graph: &Path) -> Result<(), PresetError> {
        self.check(
            graph,
            [
                (Fact::Layers, self.claims.layers, Some(contract.layers)),
                (Fact::KvHeads, self.claims.kv_heads, Some(contract.kv_heads)),
                (Fact::HeadDim, self.claims.head_dim, Some(contract.head_dim)),
                (Fact::Hidden, self.claims.hidden, contract.hidden),
                (Fact::Vocab, self.claims.vocab, Some(contract.vocab)),
            ],
        )
    }

    /// Compares the preset with a config.json.
    pub(crate) fn check_config(&self, config: &Config, file: &Path) -> Result<(), PresetError> {
        self.check(
            file,
            [
                (Fact::Layers, self.claims.layers, config.num_hidden_layers),
                (Fact::Heads, self.claims.heads, config.num_attention_heads),
                (Fact::KvHeads, self.claims.kv_heads, config.num_key_value_heads),
                (Fact::HeadDim, self.claims.head_dim, config.head_dim()),
                (Fact::Hidden, self.claims.hidden, config.hidden_size),
                (Fact::Vocab, self.claims.vocab, config.vocab_size),
            ],
        )
    }

    /// Compares the preset with a tokenizer: it knows the end tokens.
    pub(crate) fn check_tokenizer(&self, tokenizer: &ModelTokenizer, dir: &Path) -> Result<(), PresetError> {
        if tokenizer.kind() == TokenizerKind::Bytes {
            return Ok(());
        }
        let unknown = self.end_tokens().find(|&token| tokenizer.token(token).is_none());
        match unknown {
            Some(token) => Err(PresetError::EndToken { preset: self.name.clone(), token, dir: dir.to_owned() }),
            None => Ok(()),
        }
    }

    /// Tokens that end a reply.
    pub(crate) fn end_tokens(&self) -> impl Iterator<Item = TokenId> {
        self.claims.end_tokens.iter().copied().map(TokenId)
    }

    fn check<const N: usize>(&self, file: &Path, facts: [(Fact, usize, Option<usize>); N]) -> Result<(), PresetError> {
        for (fact, expected, found) in facts {
            if let Some(found) = found.filter(|&found| found != expected) {
                let (preset, file) = (self.name.clone(), file.to_owned());
                return Err(PresetError::Disagrees { preset, fact, expected, found, file });
            }
        }
        Ok(())
    }
}
