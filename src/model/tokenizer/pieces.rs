//! What tokens add to a text, in bytes.
//!
//! `tokenizers` decodes all tokens of a text at once, and what a token becomes depends on its place. All its
//! decoders, and rows of them, are alike in what that place is. The first token of a text may lose its space
//! (Metaspace, WordPiece, Strip behind Fuse), the last one too (BPEDecoder, Strip); a token may depend on the
//! one before it (CTC drops a repeated one, BPEDecoder adds the space that ends a word), or on nothing at all
//! (ByteLevel, Replace, cleaning up). So a token's piece is the text of `before` and the token, less that of
//! `before`, where `before` is the whole text so far while that is short, and else a token that stands for
//! all that went before, the anchor, and the last one.
//!
//! Bytes of a character are spread over tokens in two ways: a token of letters that stand for bytes
//! (ByteLevel), or a token for each byte (ByteFallback). Which it is shows in the token itself: the one whose
//! bytes give the very text that the decoder gives. `ByteFallback` shows a row of byte tokens as U+FFFD alone
//! where one of them is broken; here what is whole stays, since it may have been shown already.

use motorbrain_actors::tokens::BEFORE_LEN;
use tokenizers::Tokenizer;

use super::guarded;

/// How many of the first tokens are looked at for one that can stand for a text.
const ANCHORS_TRIED: u32 = 4096;

/// Into how many pieces tokens are cut whose text is broken somewhere.
const CUTS: usize = 32;

/// What is known of how a tokenizer decodes.
#[derive(Debug)]
pub(super) struct Pieces {
    /// A token that is text from its first character to its last.
    anchor: Option<u32>,
    marks_each_byte: bool,
}

impl Pieces {
    /// Looks at how the tokenizer decodes.
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let anchor = (0..ANCHORS_TRIED).find(|&id| is_anchor(tokenizer, id));
        // The first two bytes of a character of three.
        let beginning = ["<0xE4>", "<0xBD>"].map(|byte| tokenizer.token_to_id(byte));
        let marks_each_byte = match beginning {
            [Some(one), Some(two)] => text(tokenizer, &[one, two]) == "\u{FFFD}\u{FFFD}",
            _ => false,
        };
        Self { anchor, marks_each_byte }
    }

    /// Whether each byte that is no character is shown as a U+FFFD of its own.
    pub(super) fn marks_each_byte(&self) -> bool {
        self.marks_each_byte
    }

    /// Appends what `ids` add behind `before`: see [`Tokenizer::append`](motorbrain_actors::tokens::Tokenizer::append).
    pub(super) fn append(&self, tokenizer: &Tokenizer, before: &[u32], ids: &[u32], bytes: &mut Vec<u8>) {
        let piece = self.piece(tokenizer, before, ids);
        if !piece.contains(char::REPLACEMENT_CHARACTER) {
            bytes.extend_from_slice(piece.as_bytes());
            return;
        }
        match ids {
            [] => {}
            [id] => bytes.extend(self.bytes_of(tokenizer, *id, &piece)),
            // Some of them are bytes of characters; the others may stay together.
            ids => {
                let mut before = before.to_vec();
                for some in ids.chunks(ids.len().div_ceil(CUTS)) {
                    self.append(tokenizer, &before, some, bytes);
                    before.extend(some.iter().copied().filter(|&id| tokenizer.id_to_token(id).is_some()));
                    before.drain(..before.len().saturating_sub(BEFORE_LEN));
                }
            }
        }
    }

    /// What `ids` add as text, with U+FFFD where it is part of a character.
    fn piece(&self, tokenizer: &Tokenizer, before: &[u32], ids: &[u32]) -> String {
        let anchor = self.anchor.as_slice();
        let prefix = match before.last() {
            Some(&last) if before.len() >= BEFORE_LEN => &[anchor, &[last]].concat(),
            _ => before,
        };
        // Behind a part of a character a text goes on as behind any other.
        added(tokenizer, prefix, ids)
            .or_else(|| added(tokenizer, anchor, ids))
            .unwrap_or_else(|| ids.iter().filter_map(|&id| tokenizer.id_to_token(id)).collect())
    }

    /// The bytes of a token whose text has characters that are not whole.
    fn bytes_of(&self, tokenizer: &Tokenizer, id: u32, piece: &str) -> Vec<u8> {
        let token = tokenizer.id_to_token(id).unwrap_or_default();
        let bytes = match fallback_byte(&token) {
            Some(byte) => Some(vec![byte]),
            None => token.chars().map(level_byte).collect(),
        };
        let explains = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes) == piece;
        bytes.filter(explains).unwrap_or_else(|| piece.as_bytes().to_vec())
    }
}

/// The text that `ids` add to that of `prefix`; `None` where that text ends in a broken character, or changes.
fn added(tokenizer: &Tokenizer, prefix: &[u32], ids: &[u32]) -> Option<String> {
    let before = text(tokenizer, prefix);
    if before.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let whole = text(tokenizer, &[prefix, ids].concat());
    whole.strip_prefix(&before).map(str::to_owned)
}

/// The text of tokens as the tokenizer decodes it; one that refuses or panics (none of the usual ones does) leaves their
/// names.
fn text(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    // Some decoders panic where there is nothing to decode.
    if !ids.iter().any(|&id| tokenizer.id_to_token(id).is_some()) {
        return String::new();
    }
    let decoded = guarded(|| tokenizer.decode(ids, false).ok());
    let names = || ids.iter().filter_map(|&id| tokenizer.id_to_token(id)).collect();
    decoded.ok().flatten().unwrap_or_else(names)
}

/// Whether a token stands for a text: it has no space to lose at either end, and what follows it does not change it.
fn is_anchor(tokenizer: &Tokenizer, id: u32) -> bool {
    let stands_for_text = tokenizer.id_to_token(id).is_some_and(|token| fallback_byte(&token).is_none());
    let alone = text(tokenizer, &[id]);
    let is_solid = !alone.is_empty() && alone.trim() == alone && !alone.contains(char::REPLACEMENT_CHARACTER);
    stands_for_text && is_solid && text(tokenizer, &[id, id]).starts_with(&alone)
}

/// The byte that a token of ByteFallback stands for.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// The byte that a character of ByteLevel stands for: itself where it is visible Latin-1, else one of those from U+0100
/// up in the order of the bytes that are not (`bytes_to_unicode` of GPT-2's `encoder.py`).
fn level_byte(character: char) -> Option<u8> {
    const VISIBLE: [std::ops::RangeInclusive<u32>; 3] = [0x21..=0x7E, 0xA1..=0xAC, 0xAE..=0xFF];
    let is_visible = |code: &u32| VISIBLE.iter().any(|range| range.contains(code));
    let code = u32::from(character);
    let byte = match code.checked_sub(0x100) {
        None => Some(code).filter(is_visible),
        Some(place) => (0..=0xFF).filter(|code| !is_visible(code)).nth(place as usize),
    };
    byte.and_then(|byte| u8::try_from(byte).ok())
}
