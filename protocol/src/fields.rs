//! A request's keys, each once, with their values still as text.
//!
//! serde_json keeps the last of two equal keys in silence; here the second one is a mistake that is
//! told. Values stay raw: an id is given back exactly as it was written, and a value of the wrong
//! type can be named in the answer.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Every key of the protocol.
const KEYS: [&str; 50] = [
    "id",
    "op",
    "conversation",
    "text",
    "token_ids",
    "parts",
    "literal",
    "count",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "top",
    "stop",
    "stream",
    "n",
    "choice",
    "share",
    "scope",
    "pin",
    "grammar",
    "json_schema",
    "regex",
    "lark",
    "to",
    "at",
    "context_len",
    "actor",
    "ms",
    "client",
    "priority",
    "deadline_ms",
    "request",
    "after",
    "limit",
    "path",
    "tokens_only",
    "kind",
    "dim",
    "format",
    "pieces",
    "piece_tokens",
    "query",
    "documents",
    "mix",
];

/// What is wrong with a request's keys, whatever their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyProblem {
    /// A key that stands twice.
    Twice(String),
    /// A key that the protocol does not have.
    Unknown(String),
}

/// The keys of a JSON object.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    values: [Option<&'a RawValue>; KEYS.len()],
    problem: Option<KeyProblem>,
}

impl<'a> Fields<'a> {
    /// Reads one JSON object and nothing else.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Takes a key's value out; `None` where it was not given, or taken before.
    ///
    /// # Panics
    /// If `key` is not of the protocol.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'a str> {
        self.take_raw(key).map(RawValue::get)
    }

    /// The same, to be given back as it is.
    pub(crate) fn take_raw(&mut self, key: &'static str) -> Option<&'a RawValue> {
        self.values[index_of(key)].take()
    }

    /// Gives a key a value from elsewhere; the one that it had, if it was given.
    ///
    /// # Panics
    /// If `key` is not of the protocol.
    pub(crate) fn put(&mut self, key: &'static str, value: &'a RawValue) -> Option<&'a RawValue> {
        let index = index_of(key);
        self.values[index].replace(value)
    }

    /// The first key that was given and not taken.
    pub(crate) fn left(&self) -> Option<&'static str> {
        let index = self.values.iter().position(Option::is_some)?;
        Some(KEYS[index])
    }

    /// What is wrong with the keys themselves; the first such thing.
    pub(crate) fn problem(&self) -> Option<&KeyProblem> {
        self.problem.as_ref()
    }
}

fn index_of(key: &'static str) -> usize {
    let index = KEYS.iter().position(|known| *known == key);
    index.unwrap_or_else(|| unreachable!("`{key}` is not of the protocol"))
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields { values: [None; KEYS.len()], problem: None };
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value::<&'de RawValue>()?;
                    let index = KEYS.iter().position(|known| *known == key);
                    // Only the first of each known key is kept, so that an object of a million keys
                    // takes no memory, and an id is known even where another key is wrong.
                    match index.map(|index| &mut fields.values[index]) {
                        Some(slot @ None) => *slot = Some(value),
                        Some(Some(_)) => {
                            fields.problem.get_or_insert(KeyProblem::Twice(key));
                        }
                        None => {
                            fields.problem.get_or_insert(KeyProblem::Unknown(key));
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}
