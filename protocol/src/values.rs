//! A key's raw JSON text becomes a value of its type, or a refusal that names both. Pure.

use std::fmt;

use motorbrain_actors::{message::BrainError, tokens::TokenId};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The longest piece of a value that a refusal repeats, in characters.
const SHOWN_MAX: usize = 60;

/// A refusal: `what` is `found`, expected `expected`.
pub(crate) fn bad(what: &'static str, found: impl Into<String>, expected: impl Into<String>) -> BrainError {
    BrainError::BadRequest { what, found: found.into(), expected: expected.into() }
}

/// The refusal of a value as it was written.
pub(crate) fn wrong(what: &'static str, raw: &str, expected: impl Into<String>) -> BrainError {
    bad(what, cut(raw), expected)
}

/// The refusal of a request that lacks a key.
pub(crate) fn missing(what: &'static str, expected: impl Into<String>) -> BrainError {
    bad(what, "missing", expected)
}

/// Text short enough to be repeated.
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON string.
pub(crate) fn text(what: &'static str, raw: &str) -> Result<String, BrainError> {
    // A string can still hold half a surrogate pair, which is no text.
    let expected = if is_text(raw) { "a string without half a surrogate pair" } else { "a string" };
    serde_json::from_str(raw).map_err(|_| wrong(what, raw, expected))
}

/// A JSON list, its values as they were written.
pub(crate) fn list<'a>(what: &'static str, raw: &'a str, expected: &str) -> Result<Vec<&'a str>, BrainError> {
    let list: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| wrong(what, raw, expected))?;
    Ok(list.into_iter().map(RawValue::get).collect())
}

/// A JSON list of strings.
pub(crate) fn texts(what: &'static str, raw: &str) -> Result<Vec<String>, BrainError> {
    list(what, raw, "a list of strings")?.into_iter().map(|raw| text(what, raw)).collect()
}

/// A JSON `true` or `false`.
pub(crate) fn flag(what: &'static str, raw: &str) -> Result<bool, BrainError> {
    raw.parse().map_err(|_| wrong(what, raw, "`true` or `false`"))
}

/// A JSON number without sign, point and exponent.
pub(crate) fn whole(what: &'static str, raw: &str) -> Result<u64, BrainError> {
    raw.parse().map_err(|_| wrong(what, raw, "a whole number, 0 or more"))
}

/// The same as a count or an index.
pub(crate) fn count(what: &'static str, raw: &str) -> Result<usize, BrainError> {
    raw.parse().map_err(|_| wrong(what, raw, "a whole number, 0 or more"))
}

/// A JSON number as 32 bits hold it: never infinite, nor, unless it is written so, zero, which would mean something else than
/// the smallest number there is.
pub(crate) fn float(what: &'static str, raw: &str) -> Result<f32, BrainError> {
    // 1e999 is a JSON number and parses as infinity; every string is kept out by its quotes.
    let number = raw.parse().ok().filter(|number: &f32| number.is_finite());
    let digits = raw.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !digits.contains(|digit| matches!(digit, '1'..='9'));
    let smallest = f32::from_bits(1);
    let number = number.map(|number| if number == 0.0 && !is_zero { smallest.copysign(number) } else { number });
    number.ok_or_else(|| wrong(what, raw, "a number of 32 bits"))
}

/// Whether a raw JSON value is a number.
pub(crate) fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// Whether a raw JSON value is a string.
pub(crate) fn is_text(raw: &str) -> bool {
    raw.starts_with('"')
}

/// A JSON array of token ids. An integer that no vocabulary has is `invalid_token`, as it will be
/// for one that only this vocabulary lacks; anything else is no token id at all.
pub(crate) fn token_ids(raw: &str, vocab: usize) -> Result<Vec<TokenId>, BrainError> {
    let expected = "a list of whole numbers";
    let mut refusal = None;
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    let read = deserializer.deserialize_seq(TokenList { vocab, refusal: &mut refusal });
    match (read, refusal) {
        (Ok(tokens), None) => Ok(tokens),
        (_, Some(refusal)) => Err(refusal),
        (Err(_), None) => Err(wrong("token_ids", raw, expected)),
    }
}

/// A JSON array of pairs of a token id, judged as in [`token_ids`], and a number.
pub(crate) fn biases(what: &'static str, raw: &str, vocab: usize) -> Result<Vec<(TokenId, f32)>, BrainError> {
    let no_pairs = || wrong(what, raw, "a list of pairs of a token id and a number");
    let pairs: Vec<(&RawValue, &RawValue)> = serde_json::from_str(raw).map_err(|_| no_pairs())?;
    let pair = |(token, bias): (&RawValue, &RawValue)| {
        let token = Token.deserialize(&mut serde_json::Deserializer::from_str(token.get())).map_err(|_| no_pairs())?;
        let id = u32::try_from(token).map_err(|_| BrainError::InvalidToken { token, vocab })?;
        Ok((TokenId(id), float(what, bias.get())?))
    };
    pairs.into_iter().map(pair).collect()
}

struct TokenList<'a> {
    vocab: usize,
    refusal: &'a mut Option<BrainError>,
}

impl<'de> Visitor<'de> for TokenList<'_> {
    type Value = Vec<TokenId>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut tokens = Vec::new();
        let mut outside = None;
        while let Some(token) = seq.next_element_seed(Token)? {
            match u32::try_from(token) {
                Ok(token) => tokens.push(TokenId(token)),
                Err(_) => {
                    outside.get_or_insert(token);
                }
            }
        }
        *self.refusal = outside.map(|token| BrainError::InvalidToken { token, vocab: self.vocab });
        Ok(tokens)
    }
}

/// One integer; those beyond 64 bits count as the largest of their sign, which no vocabulary has either.
struct Token;

impl<'de> DeserializeSeed<'de> for Token {
    type Value = i64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<i64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Token {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<i64, E> {
        Ok(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<i64, E> {
        // serde_json gives integers beyond 64 bits as floats; a float below that was written as one.
        if number.abs() < i64::MAX as f64 {
            return Err(E::custom("not a whole number"));
        }
        Ok(number as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_for_32_bits_is_the_smallest_and_never_zero() {
        let smallest = f32::from_bits(1);
        for (raw, number) in [
            ("1e-46", smallest),
            ("-1e-999", -smallest),
            ("0", 0.0),
            ("0e-999", 0.0),
            ("1e-45", smallest),
            ("0.5", 0.5),
        ] {
            assert_eq!(float("top_p", raw), Ok(number), "{raw}");
        }
    }
}
