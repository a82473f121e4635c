//! JSON as Python reads it, which is what writes and reads a model's config files: `NaN`, `Infinity` and
//! `-Infinity` are numbers, of keys that come twice the last one counts, whole numbers may be written `4096.0`, and
//! the file may begin with a byte order mark.
//!
//! Only keys that somebody asks for are kept, so that a file of many megabytes takes a few times its size at most.

use std::{borrow::Cow, collections::HashMap, fmt, path::Path};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::config_files::ConfigFileError;

/// What a file says under the keys that are asked for.
#[derive(Debug, PartialEq)]
enum Json {
    Null,
    Number(f64),
    Text(String),
    /// A list of numbers, and what else stands in it, the first such thing.
    List(Vec<f64>, Option<&'static str>),
    Section(HashMap<&'static str, Json>),
    /// Something that is never asked for.
    Other(&'static str),
}

/// A file that was read: its sections and values are asked for by key.
#[derive(Debug)]
pub(crate) struct Document<'f> {
    file: &'f Path,
    root: Json,
}

/// A section of a file, or none, which has nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'d> {
    file: &'d Path,
    values: Option<&'d HashMap<&'static str, Json>>,
}

impl<'f> Document<'f> {
    /// Reads a file's bytes and keeps what stands under `keys`, in whatever section.
    ///
    /// # Errors
    /// It is no JSON, not even Python's.
    pub(crate) fn parse(file: &'f Path, bytes: &[u8], keys: &'static [&'static str]) -> Result<Self, ConfigFileError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = without_infinities(bytes);
        let mut reader = serde_json::Deserializer::from_slice(&text);
        let root = Keep(keys).deserialize(&mut reader).and_then(|root| reader.end().map(|()| root));
        let root = root.map_err(|cause| {
            let reason = cause.to_string();
            ConfigFileError::Parse {
                file: file.to_owned(),
                line: cause.line(),
                column: cause.column(),
                // The place stands in the message already.
                reason: reason.split(" at line ").next().unwrap_or_default().to_owned(),
            }
        })?;
        Ok(Self { file, root })
    }

    /// The whole file.
    ///
    /// # Errors
    /// It holds something else than names with values.
    pub(crate) fn section(&self) -> Result<Section<'_>, ConfigFileError> {
        section_of(self.file, "", Some(&self.root))
    }
}

impl<'d> Section<'d> {
    fn get(&self, key: &str) -> Option<&'d Json> {
        self.values?.get(key).filter(|value| **value != Json::Null)
    }

    /// A section in this one; empty where there is none.
    pub(crate) fn section(&self, key: &str) -> Result<Self, ConfigFileError> {
        section_of(self.file, key, self.get(key))
    }

    /// A whole number. One that is below zero, or that no memory could hold as many of, says that there is none.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ConfigFileError> {
        match self.get(key) {
            None => Ok(None),
            // 2^53: up to here every whole number is one of 64-bit floats.
            Some(Json::Number(number)) if number.fract() == 0.0 => {
                Ok((0.0..=9_007_199_254_740_992.0).contains(number).then_some(*number as usize))
            }
            Some(other) => Err(self.unexpected(key, other, "a whole number")),
        }
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ConfigFileError> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(Some(*number)),
            Some(other) => Err(self.unexpected(key, other, "a number")),
        }
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'d str>, ConfigFileError> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.unexpected(key, other, "a text")),
        }
    }

    /// A token id or several; those that are no id (-1) are left out.
    pub(crate) fn ids(&self, key: &str) -> Result<Option<Vec<u32>>, ConfigFileError> {
        let ids = match self.get(key) {
            None => return Ok(None),
            Some(Json::Number(id)) => std::slice::from_ref(id),
            Some(Json::List(ids, None)) => ids,
            Some(other) => return Err(self.unexpected(key, other, "a token id or a list of token ids")),
        };
        if let Some(fraction) = ids.iter().find(|id| id.fract() != 0.0) {
            return Err(self.unexpected(key, &Json::Number(*fraction), "a token id or a list of token ids"));
        }
        Ok(Some(ids.iter().filter(|id| (0.0..=f64::from(u32::MAX)).contains(*id)).map(|id| *id as u32).collect()))
    }

    fn unexpected(&self, key: &str, found: &Json, expected: &'static str) -> ConfigFileError {
        ConfigFileError::Value { file: self.file.to_owned(), key: key.to_owned(), found: found.to_string(), expected }
    }
}

fn section_of<'d>(file: &'d Path, key: &str, value: Option<&'d Json>) -> Result<Section<'d>, ConfigFileError> {
    match value {
        None => Ok(Section { file, values: None }),
        Some(Json::Section(values)) => Ok(Section { file, values: Some(values) }),
        Some(other) => Err(Section { file, values: None }.unexpected(key, other, "names with values")),
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) if text.chars().count() > TEXT_SHOWN_MAX => f.write_str("a long text"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_, None) => f.write_str("a list"),
            Self::List(_, Some(other)) => write!(f, "a list that holds {other}"),
            Self::Section(_) => f.write_str("names with values"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A value that is no text of people's is not repeated to them.
const TEXT_SHOWN_MAX: usize = 64;

/// Python's numbers that are none in JSON become `null`, outside of texts: a limit that is infinite is no limit.
fn without_infinities(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (mut text, mut copied, mut at) = (Vec::new(), 0, 0);
    let mut in_text = false;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'N' | b'I' | b'-' if !in_text => {
                let names = [&b"NaN"[..], b"Infinity", b"-Infinity"];
                if let Some(name) = names.into_iter().find(|name| bytes[at..].starts_with(name)) {
                    text.extend_from_slice(&bytes[copied..at]);
                    text.extend_from_slice(b"null");
                    at += name.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    text.extend_from_slice(&bytes[copied..]);
    Cow::Owned(text)
}

/// Reads a value, keeping in it what stands under these keys.
#[derive(Clone, Copy)]
struct Keep(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other("a truth value"))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let (mut numbers, mut other) = (Vec::new(), None);
        while let Some(element) = list.next_element_seed(self)? {
            match element {
                Json::Number(number) => numbers.push(number),
                Json::Text(_) => other = other.or(Some("a text")),
                _ => other = other.or(Some("something that is no number")),
            }
        }
        Ok(Json::List(numbers, other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut section = HashMap::new();
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            match self.0.iter().find(|kept| **kept == key) {
                // The last one counts.
                Some(kept) => drop(section.insert(*kept, entries.next_value_seed(self)?)),
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Json::Section(section))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// What a file says of `a`, which may be a section with `b`.
    fn check(text: &str, expected: impl Fn(Section<'_>) -> bool) {
        let file = Path::new("config.json");
        let document = Document::parse(file, text.as_bytes(), &["a", "b"]).unwrap();
        assert!(expected(document.section().unwrap()), "{text}: {document:?}");
    }

    #[test]
    fn what_python_writes_is_read_as_python_reads_it() {
        check(r#"{"a": 1, "a": 2}"#, |all| all.size("a").unwrap() == Some(2));
        check(r#"{"a": {"b": 1}, "a": {}}"#, |all| all.section("a").unwrap().size("b").unwrap().is_none());
        check(r#"{"a": 4096.0, "b": 1e3}"#, |all| {
            (all.size("a").unwrap(), all.size("b").unwrap()) == (Some(4096), Some(1000))
        });
        check(r#"{"x": [0.0, Infinity, NaN], "a": 7}"#, |all| all.size("a").unwrap() == Some(7));
        check(r#"{"a": -Infinity, "b": NaN}"#, |all| {
            all.number("a").unwrap().is_none() && all.number("b").unwrap().is_none()
        });
        check(r#"{"a": "Infinity \" NaN -Infinity"}"#, |all| {
            all.text("a").unwrap() == Some("Infinity \" NaN -Infinity")
        });
        check("\u{FEFF}{\"a\": 1}", |all| all.size("a").unwrap() == Some(1));
        check(r#"{"\u0061": 1}"#, |all| all.size("a").unwrap() == Some(1));
    }

    #[test]
    fn numbers_that_are_no_sizes_say_nothing() {
        for number in ["-1", "null", "Infinity", "1000000000000000019884624838656", "1e300"] {
            check(&format!(r#"{{"a": {number}}}"#), |all| all.size("a").unwrap().is_none());
        }
        check(r#"{"a": [1, -1, 4294967296, 2.0]}"#, |all| all.ids("a").unwrap() == Some(vec![1, 2]));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_key() {
        let told = |text: &str| {
            let document = Document::parse(Path::new("c.json"), text.as_bytes(), &["a", "b"]).unwrap();
            let all = document.section().unwrap();
            let size = all.size("a").map(drop).and_then(|()| all.section("b").map(drop));
            size.unwrap_err().to_string()
        };
        assert_eq!(told(r#"{"a": 4096.5}"#), "c.json has `a` = 4096.5, expected a whole number");
        assert_eq!(told(r#"{"a": "many"}"#), "c.json has `a` = \"many\", expected a whole number");
        assert_eq!(told(r#"{"a": true}"#), "c.json has `a` = a truth value, expected a whole number");
        assert_eq!(told(r#"{"b": 3}"#), "c.json has `b` = 3, expected names with values");
    }

    #[test]
    fn what_no_reader_takes_is_refused_at_its_place() {
        for text in ["", "{", "{\"a\": }", "{\"a\": 1,}", "{\"a\": Infinit}", "{} {}", "{\"a\": \"\u{1}\"}"] {
            let parsed = Document::parse(Path::new("c.json"), text.as_bytes(), &["a"]);
            assert!(matches!(parsed, Err(ConfigFileError::Parse { .. })), "{text}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(Document::parse(Path::new("c.json"), deep.as_bytes(), &["a"]).is_err());
    }
}
