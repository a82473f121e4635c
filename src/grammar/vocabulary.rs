//! A model's vocabulary as the grammar engine needs it: the bytes of each token, and how a text would be tokenised.

use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenizerEnv};
use motorbrain_actors::tokens::{BEFORE_LEN, Spelled, TokenId, Tokenizer, TokenizerKind};

use super::GrammarError;
use crate::model::{Model, ModelTokenizer};

/// The engine counts in 32 bits, of which a token has 24.
const TOKENS_MAX: usize = 1 << 24;

/// A model's tokens by their bytes.
pub(super) struct Vocabulary {
    tokenizer: Arc<ModelTokenizer>,
    trie: TokTrie,
    /// Tokens that end a text.
    pub(super) ends: Vec<TokenId>,
    /// A token behind which a text goes on: what a word begins with is told by what stands before it.
    behind: TokenId,
}

impl Vocabulary {
    /// That of a model.
    pub(super) fn of(model: &Model) -> Result<Self, GrammarError> {
        let lacks = |reason: &str| Err(GrammarError::Vocabulary { reason: reason.to_owned() });
        let (tokenizer, vocab) = (Arc::clone(&model.tokenizer), model.contract.vocab);
        let Some(&end) = model.end_tokens.first() else {
            return lacks("it has no end token, so no grammar could end");
        };
        if tokenizer.kind() != TokenizerKind::Model {
            return lacks("it has no tokenizer of its own");
        }
        if vocab >= TOKENS_MAX {
            return lacks("its vocabulary is too large");
        }
        let Some(behind) = middle(&tokenizer) else {
            return lacks("its tokenizer cannot write a letter");
        };
        let words = words(&tokenizer, vocab, behind, &model.end_tokens);
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end.0), &words);
        let ends = model.end_tokens.iter().map(|token| token.0).collect::<Vec<_>>();
        Ok(Self { trie: trie.with_eos_tokens(&ends), tokenizer, ends: model.end_tokens.clone(), behind })
    }
}

/// A token that is a letter behind others.
fn middle(tokenizer: &ModelTokenizer) -> Option<TokenId> {
    tokenizer.encode_behind(Spelled::Literal("a"), None).ok()?.last().copied()
}

/// The bytes of each token where a text goes on. Those that a text is not meant to hold have a mark before them, by which
/// the engine knows that only a grammar that names them means them; those that add nothing have none, and are never chosen.
fn words(tokenizer: &ModelTokenizer, vocab: usize, behind: TokenId, ends: &[TokenId]) -> Vec<Vec<u8>> {
    let before = [behind; BEFORE_LEN];
    let word = |id: usize| {
        let (mut bytes, token) = (Vec::new(), TokenId(id as u32));
        tokenizer.append(&before, &[token], &mut bytes);
        bytes
    };
    let mut words: Vec<Vec<u8>> = (0..vocab).map(word).collect();
    for added in tokenizer.added_tokens() {
        let Some(word) = words.get_mut(added.id.0 as usize) else { continue };
        *word = match added.special || ends.contains(&added.id) {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], added.text.as_bytes()].concat(),
            false => added.text.into_bytes(),
        };
    }
    // An end token that is no added one is none of a text's words either.
    for end in ends {
        if let Some(word) =
            words.get_mut(end.0 as usize).filter(|word| word.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER))
        {
            word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
        }
    }
    words
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the tokenizer would, where the bytes are text; what it does not know how to write, greedily.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let written = |text| self.tokenizer.encode_behind(Spelled::Literal(text), Some(self.behind)).ok();
        let tokens = std::str::from_utf8(bytes).ok().and_then(written);
        let known = |tokens: &Vec<TokenId>| tokens.iter().all(|token| (token.0 as usize) < self.trie.vocab_size());
        match tokens.filter(known) {
            Some(tokens) => tokens.into_iter().map(|token| token.0).collect(),
            None => self.trie.greedy_tokenize(bytes),
        }
    }
}
