//! Text to tokens, by where the text stands and by whether it may spell added tokens.
//!
//! Some tokenizers write a space before a text's first word (the normalizer Prepend, the pre-tokenizers
//! Metaspace and ByteLevel). Text that goes on behind other text gets none; text behind an added token gets
//! what the tokenizer gives it where it finds that token in a text.
//!
//! Literal text never meets the added vocabulary, but a model may know added tokens as pieces of its own
//! (Unigram does), and the text may only be one once it is normalised (`＜/s＞` by NFKC). So what the model
//! gives is looked at, and a piece that has become an added token is cut inside, where no token spans it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use motorbrain_actors::tokens::Spelled;
use tokenizers::{
    Encoding, Model, NormalizedString, Normalizer, NormalizerWrapper, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper, Result, SplitDelimiterBehavior, Token, Tokenizer,
    normalizers::Sequence,
    pre_tokenizers::metaspace::{Metaspace, PrependScheme},
};

/// What is known of how a tokenizer spells.
#[derive(Debug)]
pub(super) struct Spelling {
    /// The added tokens, each with whether it takes the white space behind it.
    added: BTreeMap<u32, bool>,
    /// Those of white space, longest first.
    spaces: Vec<(String, u32)>,
    /// The normalizer for text that goes on.
    going_on: Option<NormalizerWrapper>,
    /// Whether text is spelled differently at a beginning.
    knows_place: bool,
    /// The tokens that literal text must not become by being spelled, with their pieces.
    reserved: BTreeMap<u32, String>,
}

/// The tokens of a text.
#[derive(Debug, Default)]
pub(super) struct Spelt {
    pub(super) ids: Vec<u32>,
    /// Where each stands in the text, in bytes; empty where that was not asked for.
    pub(super) spans: Vec<Range<usize>>,
}

impl Spelt {
    /// Takes in what was made of the text from `begin` on.
    fn take(&mut self, encoding: &Encoding, begin: usize, spans: bool) {
        self.ids.extend_from_slice(encoding.get_ids());
        if spans {
            self.spans.extend(encoding.get_offsets().iter().map(|(from, to)| begin + from..begin + to));
        }
    }
}

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At a conversation's beginning.
    First,
    /// Behind text.
    GoingOn,
    /// Behind an added token.
    BehindAdded,
}

impl Spelling {
    /// Looks at how the tokenizer spells.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let decoder = tokenizer.get_added_tokens_decoder();
        let is_space = |text: &str| text.chars().all(|c| c.is_whitespace() || c == '\u{2581}');
        let (spaces, marks): (Vec<_>, Vec<_>) = decoder.iter().partition(|(_, token)| is_space(&token.content));
        let mut spaces: Vec<_> = spaces.into_iter().map(|(&id, token)| (token.content.clone(), id)).collect();
        spaces.sort_by_key(|(text, id)| (std::cmp::Reverse(text.len()), *id));
        let model = tokenizer.get_model();
        let piece = |id: u32| Some((id, model.id_to_token(id)?));
        let bytes = (0..=u8::MAX).filter_map(|byte| model.token_to_id(&format!("<0x{byte:02X}>")));
        Self {
            added: decoder.iter().map(|(&id, token)| (id, token.rstrip)).collect(),
            spaces,
            going_on: tokenizer.get_normalizer().and_then(without_prepend),
            knows_place: tokenizer.get_normalizer().is_some_and(prepends)
                || tokenizer.get_pre_tokenizer().is_some_and(prefixes)
                || decoder.values().any(|token| token.rstrip),
            reserved: marks.into_iter().map(|(&id, _)| id).chain(bytes).filter_map(piece).collect(),
        }
    }

    /// The tokens of a text behind a token. `spans`: with where each of them stands.
    ///
    /// # Errors
    /// The tokenizer's own; literal text that only an added token can spell.
    pub(super) fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: Spelled<'_>,
        behind: Option<u32>,
        spans: bool,
    ) -> Result<Spelt> {
        let mut spelt = Spelt::default();
        let place = match behind {
            None => Place::First,
            Some(token) if self.added.contains_key(&token) => Place::BehindAdded,
            Some(_) => Place::GoingOn,
        };
        match text {
            // What comes behind the model there would move spans.
            Spelled::Marked(text) if !spans && (place == Place::First || !self.knows_place) => {
                spelt.take(&tokenizer.encode_fast(text, false)?, 0, false);
            }
            Spelled::Marked(text) => {
                let takes_space = behind.and_then(|token| self.added.get(&token)).copied().unwrap_or(false);
                let (len, text) = (text.len(), if takes_space { text.trim_start() } else { text });
                let normalizer = Placed { tokenizer, spelling: self, place };
                let split = tokenizer.get_added_vocabulary().extract_and_normalize(Some(&normalizer), text);
                let encoding = finish(tokenizer, split, place, spans, |text| tokenizer.get_model().tokenize(text))?;
                spelt.take(&encoding, len - text.len(), spans);
            }
            Spelled::Literal(text) => self.encode_literal(tokenizer, text, place, spans, &mut spelt)?,
        }
        Ok(spelt)
    }

    /// Only the added tokens of white space are found.
    fn encode_literal(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        mut place: Place,
        spans: bool,
        spelt: &mut Spelt,
    ) -> Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            let space = rest.char_indices().find_map(|(at, _)| Some((at, self.space_at(&rest[at..])?)));
            let (end, space) = space.map_or((rest.len(), None), |(at, space)| (at, Some(space)));
            if end > 0 {
                let mut normalized = NormalizedString::from(&rest[..end]);
                Placed { tokenizer, spelling: self, place }.normalize(&mut normalized)?;
                let model = |text: &str| self.spell(tokenizer.get_model(), text);
                spelt.take(&finish(tokenizer, normalized.into(), place, spans, model)?, text.len() - rest.len(), spans);
            }
            rest = &rest[end..];
            if let Some((space, id)) = space {
                let begin = text.len() - rest.len();
                spelt.ids.push(*id);
                spelt.spans.extend(spans.then(|| begin..begin + space.len()));
                rest = &rest[space.len()..];
            }
            place = Place::BehindAdded;
        }
        Ok(())
    }

    fn space_at(&self, text: &str) -> Option<&(String, u32)> {
        self.spaces.iter().find(|(space, _)| text.starts_with(space.as_str()))
    }

    /// The model's tokens of a pre-token, none of which is a reserved one that the text spells. One that the model gives
    /// because it cannot spell a character otherwise (`<unk>`, a byte) says nothing and stays.
    fn spell(&self, model: &impl Model, text: &str) -> Result<Vec<Token>> {
        let tokens = model.tokenize(text)?;
        // Each once, since the whole text is looked through for it: of strangers' text every token may be a byte.
        let reserved: BTreeSet<&str> =
            tokens.iter().filter_map(|token| self.reserved.get(&token.id)).map(String::as_str).collect();
        let found: BTreeSet<&str> = reserved.into_iter().filter(|piece| text.contains(*piece)).collect();
        if found.is_empty() {
            return Ok(tokens);
        }
        let mut cuts = BTreeSet::from([0, text.len()]);
        for piece in found {
            let inside = piece.char_indices().nth(1).map(|(inside, _)| inside);
            if inside.is_none() && piece == text {
                return spell_bytes(model, piece);
            }
            // One of a single character is cut out.
            let places = text.match_indices(piece).map(|(at, _)| at);
            cuts.extend(places.flat_map(|at| match inside {
                Some(inside) => [at + inside; 2],
                None => [at, at + piece.len()],
            }));
        }
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let mut spelled = Vec::new();
        for cut in cuts.windows(2) {
            let tokens = self.spell(model, &text[cut[0]..cut[1]])?;
            spelled.extend(tokens.into_iter().map(|token| {
                let (from, to) = token.offsets;
                Token { offsets: (cut[0] + from, cut[0] + to), ..token }
            }));
        }
        Ok(spelled)
    }
}

/// A character that is an added token, by the tokens of its bytes.
fn spell_bytes(model: &impl Model, character: &str) -> Result<Vec<Token>> {
    let byte = |byte: u8| {
        let name = format!("<0x{byte:02X}>");
        let id = model.token_to_id(&name).ok_or("only the added token of that name spells it")?;
        Ok(Token::new(id, name, (0, character.len())))
    };
    character.bytes().map(byte).collect::<Result<_>>().map_err(|cause| format!("`{character}`: {cause}").into())
}

/// Pre-tokenises by place and has the model spell what is left.
fn finish(
    tokenizer: &Tokenizer,
    mut split: PreTokenizedString,
    place: Place,
    spans: bool,
    model: impl Fn(&str) -> Result<Vec<Token>>,
) -> Result<Encoding> {
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenize(pre_tokenizer, &mut split, place)?;
    }
    split.tokenize(|text| model(text.get()))?;
    split.into_encoding(None, 0, if spans { OffsetType::Byte } else { OffsetType::None })
}

/// The normalizer by place: of a text that goes on the first stretch is without the space before a first word.
struct Placed<'a> {
    tokenizer: &'a Tokenizer,
    spelling: &'a Spelling,
    place: Place,
}

impl Normalizer for Placed<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        let goes_on = self.place == Place::GoingOn && text.offsets_original().0 == 0;
        let normalizer = if goes_on { self.spelling.going_on.as_ref() } else { self.tokenizer.get_normalizer() };
        normalizer.map_or(Ok(()), |normalizer| normalizer.normalize(text))
    }
}

/// A normalizer without what it writes before a text.
fn without_prepend(normalizer: &NormalizerWrapper) -> Option<NormalizerWrapper> {
    match normalizer {
        NormalizerWrapper::Prepend(_) => None,
        NormalizerWrapper::Sequence(sequence) => {
            let rest = sequence.as_ref().iter().filter_map(without_prepend).collect();
            Some(NormalizerWrapper::Sequence(Sequence::new(rest)))
        }
        other => Some(other.clone()),
    }
}

fn prepends(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Prepend(_) => true,
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(prepends),
        _ => false,
    }
}

fn prefixes(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(metaspace) => metaspace.prepend_scheme != PrependScheme::Never,
        PreTokenizerWrapper::ByteLevel(level) => level.add_prefix_space,
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(prefixes),
        _ => false,
    }
}

/// What the pre-tokenizer does at this place.
fn pre_tokenize(pre_tokenizer: &PreTokenizerWrapper, text: &mut PreTokenizedString, place: Place) -> Result<()> {
    match pre_tokenizer {
        _ if place == Place::First => pre_tokenizer.pre_tokenize(text),
        PreTokenizerWrapper::Sequence(sequence) => {
            sequence.as_ref().iter().try_for_each(|pre_tokenizer| pre_tokenize(pre_tokenizer, text, place))
        }
        PreTokenizerWrapper::Metaspace(metaspace) => split_words(metaspace, text, place),
        PreTokenizerWrapper::ByteLevel(level) if place == Place::GoingOn => {
            level.add_prefix_space(false).pre_tokenize(text)
        }
        other => other.pre_tokenize(text),
    }
}

/// `Metaspace` as it is behind a text's beginning: `first` writes no space, `always` writes one before every stretch
/// but the one that goes on with a word.
fn split_words(metaspace: &Metaspace, text: &mut PreTokenizedString, place: Place) -> Result<()> {
    let space = metaspace.get_replacement();
    text.split(|_, mut stretch| {
        stretch.replace(' ', &space.to_string())?;
        let goes_on = place == Place::GoingOn && stretch.offsets_original().0 == 0;
        let prefix = metaspace.prepend_scheme == PrependScheme::Always && !goes_on;
        if prefix && !stretch.get().starts_with(space) {
            stretch.prepend(&space.to_string());
        }
        match metaspace.get_split() {
            true => stretch.split(space, SplitDelimiterBehavior::MergedWithNext),
            false => Ok(vec![stretch]),
        }
    })
}
