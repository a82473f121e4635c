//! The model's tokenizer, and the byte fallback where there is none.
//!
//! Only `tokenizer.json` tokenises. No special token is added, nothing is cut off or padded; text that
//! spells a special token becomes that token unless it is literal, and decoding shows it as its text.

use std::{
    error, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use motorbrain_actors::tokens::{EncodeError, Spanned, Spelled, TokenId, Tokenizer, TokenizerKind};

use self::{
    pieces::Pieces,
    spelling::{Spelling, Spelt},
};
use super::files;

mod pieces;
mod spelling;

/// Why a model has no tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// It is there, but cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// It does not load.
    #[error("the tokenizer {} is broken", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// The tokenizer library's own words.
        #[source]
        cause: Box<dyn error::Error + Send + Sync>,
    },
    /// It is another model's: most of its ids are none of this one's.
    #[error(
        "the tokenizer {} has {tokens} tokens with ids up to {id_max}, the vocabulary of the graph has {vocab} rows",
        file.display()
    )]
    LargerThanVocabulary {
        /// The file.
        file: PathBuf,
        /// Its tokens.
        tokens: usize,
        /// The largest id it makes.
        id_max: u32,
        /// Rows of the graph's vocabulary.
        vocab: usize,
    },
    /// There is none, and bytes do not fit either.
    #[error(
        "there is no {} and the vocabulary has {vocab} rows, too few for the 256 bytes to stand in",
        file.display()
    )]
    NoRoomForBytes {
        /// The file that is absent.
        file: PathBuf,
        /// Rows of the graph's vocabulary.
        vocab: usize,
    },
}

impl TokenizerError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Broken { .. } => Some("fetch `tokenizer.json` again, from the same model".into()),
            Self::LargerThanVocabulary { .. } | Self::NoRoomForBytes { .. } => {
                Some("put the `tokenizer.json` of this very model beside it".into())
            }
        }
    }
}

/// The model's own tokenizer, or bytes.
#[derive(Debug)]
pub struct ModelTokenizer(Rule);

#[derive(Debug)]
enum Rule {
    Model(Box<Loaded>),
    Bytes,
}

/// Tokens that a model does not know: in some (Gemma 3 1B), those that stand for images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    /// How many.
    pub(crate) count: usize,
    /// The largest of their ids.
    pub(crate) id_max: u32,
}

impl Outside {
    fn of(tokenizer: &tokenizers::Tokenizer, vocab: usize) -> Option<Self> {
        let ids = tokenizer.get_vocab(true).into_values();
        let outside = ids.filter(|&id| usize::try_from(id).is_ok_and(|id| id >= vocab));
        outside.fold(None, |before, id| {
            let Self { count, id_max } = before.unwrap_or(Self { count: 0, id_max: 0 });
            Some(Self { count: count + 1, id_max: id_max.max(id) })
        })
    }
}

/// A token that was added to a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its number.
    pub id: TokenId,
    /// The text that becomes it.
    pub text: String,
    /// Whether its tokenizer calls it special: a marker of the model's own, which no text is meant to hold.
    pub special: bool,
}

/// A tokenizer with what was found out about it.
#[derive(Debug)]
struct Loaded {
    tokenizer: tokenizers::Tokenizer,
    spelling: Spelling,
    pieces: Pieces,
}

impl Loaded {
    fn new(tokenizer: tokenizers::Tokenizer) -> Self {
        Self { spelling: Spelling::of(&tokenizer), pieces: Pieces::of(&tokenizer), tokenizer }
    }
}

/// Does what the tokenizers library does. It asserts what files and texts ought to hold, and those that somebody else
/// has written may not; what it leaves behind is its own caches.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
}

/// See [`guarded`].
#[derive(Debug, thiserror::Error)]
#[error("the tokenizers library panicked over it")]
struct Panicked;

impl ModelTokenizer {
    /// Loads `tokenizer.json` of a model folder; where there is none, bytes stand in.
    ///
    /// # Errors
    /// It does not load, or most of it does not fit a vocabulary of `vocab` rows.
    pub fn open(dir: &Path, vocab: usize) -> Result<Self, TokenizerError> {
        let file = dir.join("tokenizer.json");
        let bytes = match files::read(&file) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return if vocab < 256 {
                    Err(TokenizerError::NoRoomForBytes { file, vocab })
                } else {
                    Ok(Self(Rule::Bytes))
                };
            }
            Err(cause) => return Err(TokenizerError::Read { file, cause }),
        };
        let read = || {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes)?;
            tokenizer.with_truncation(None)?;
            tokenizer.with_padding(None);
            Ok(Loaded::new(tokenizer))
        };
        let read = guarded(read).unwrap_or_else(|panicked| Err(panicked.into()));
        let loaded = read.map_err(|cause| TokenizerError::Broken { file: file.clone(), cause })?;
        let tokenizer = &loaded.tokenizer;
        match Outside::of(tokenizer, vocab) {
            Some(Outside { count, id_max }) if count > tokenizer.get_vocab_size(true) / 2 => {
                let tokens = tokenizer.get_vocab_size(true);
                Err(TokenizerError::LargerThanVocabulary { file, tokens, id_max, vocab })
            }
            _ => Ok(Self(Rule::Model(Box::new(loaded)))),
        }
    }

    /// The tokens that a graph with a vocabulary of `vocab` rows does not know; `None` where it knows all. A text
    /// with one of them is refused when it comes.
    pub(crate) fn outside(&self, vocab: usize) -> Option<Outside> {
        match &self.0 {
            Rule::Model(loaded) => Outside::of(&loaded.tokenizer, vocab),
            Rule::Bytes => None,
        }
    }

    /// The text of one token as the vocabulary has it; `None` for ids it does not know.
    pub fn token(&self, id: TokenId) -> Option<String> {
        match &self.0 {
            Rule::Model(loaded) => loaded.tokenizer.id_to_token(id.0),
            Rule::Bytes => u8::try_from(id.0).ok().map(|byte| byte.escape_ascii().to_string()),
        }
    }

    /// The tokens that a text begins with as the model was trained: what its tokenizer puts before one if asked to add
    /// special tokens, a token that begins texts or nothing.
    pub fn opening(&self) -> Vec<TokenId> {
        let Rule::Model(loaded) = &self.0 else { return Vec::new() };
        // Any text will do, since nothing in it is special.
        let Ok(Ok(encoding)) = guarded(|| loaded.tokenizer.encode("a", true)) else { return Vec::new() };
        let special = encoding.get_special_tokens_mask().iter().map(|mask| *mask == 1);
        encoding.get_ids().iter().zip(special).take_while(|(_, special)| *special).map(|(id, _)| TokenId(*id)).collect()
    }

    /// The tokens that were added to its vocabulary, in the order of their ids: a text that spells one becomes it.
    pub fn added_tokens(&self) -> Vec<AddedToken> {
        let Rule::Model(loaded) = &self.0 else { return Vec::new() };
        let decoder = loaded.tokenizer.get_added_tokens_decoder();
        let token = |(id, token): (u32, tokenizers::AddedToken)| AddedToken {
            id: TokenId(id),
            text: token.content,
            special: token.special,
        };
        let mut tokens: Vec<AddedToken> = decoder.into_iter().map(token).collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    /// How many tokens it knows.
    pub fn tokens(&self) -> usize {
        match &self.0 {
            Rule::Model(loaded) => loaded.tokenizer.get_vocab_size(true),
            Rule::Bytes => 256,
        }
    }
}

impl Loaded {
    fn encode(&self, text: Spelled<'_>, behind: Option<TokenId>, spans: bool) -> Result<Spelt, EncodeError> {
        let encode = || self.spelling.encode(&self.tokenizer, text, behind.map(|token| token.0), spans);
        let spelt = guarded(encode).unwrap_or_else(|panicked| Err(panicked.into()));
        spelt.map_err(|cause| EncodeError { reason: cause.to_string() })
    }
}

impl Tokenizer for ModelTokenizer {
    fn encode_behind(&self, text: Spelled<'_>, behind: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        match &self.0 {
            Rule::Model(loaded) => Ok(loaded.encode(text, behind, false)?.ids.into_iter().map(TokenId).collect()),
            Rule::Bytes => Ok(text.as_str().bytes().map(|byte| TokenId(byte.into())).collect()),
        }
    }

    fn encode_spans(&self, text: Spelled<'_>, behind: Option<TokenId>) -> Result<Vec<Spanned>, EncodeError> {
        match &self.0 {
            Rule::Model(loaded) => {
                let Spelt { ids, spans } = loaded.encode(text, behind, true)?;
                Ok(ids.into_iter().map(TokenId).zip(spans).collect())
            }
            Rule::Bytes => {
                let token = |(at, byte): (usize, u8)| (TokenId(byte.into()), at..at + 1);
                Ok(text.as_str().bytes().enumerate().map(token).collect())
            }
        }
    }

    fn append(&self, before: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
        let ids = |tokens: &[TokenId]| tokens.iter().map(|token| token.0).collect::<Vec<u32>>();
        match &self.0 {
            Rule::Model(loaded) => loaded.pieces.append(&loaded.tokenizer, &ids(before), &ids(tokens), bytes),
            Rule::Bytes => {
                for token in tokens {
                    match u8::try_from(token.0) {
                        Ok(byte) => bytes.push(byte),
                        Err(_) => bytes.extend_from_slice(REPLACEMENT),
                    }
                }
            }
        }
    }

    fn knows(&self, token: TokenId) -> bool {
        match &self.0 {
            Rule::Model(loaded) => loaded.tokenizer.id_to_token(token.0).is_some(),
            Rule::Bytes => true,
        }
    }

    fn marks_each_byte(&self) -> bool {
        matches!(&self.0, Rule::Model(loaded) if loaded.pieces.marks_each_byte())
    }

    fn kind(&self) -> TokenizerKind {
        match self.0 {
            Rule::Model(_) => TokenizerKind::Model,
            Rule::Bytes => TokenizerKind::Bytes,
        }
    }
}

/// U+FFFD: what an id that is no byte is shown as.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();
