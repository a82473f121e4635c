//! What a step's tokens are to spell, as its caller wrote it. Pure: who has the model compiles it, and may refuse it.

use motorbrain_actors::message::BrainError;
use serde_json::Value;

use crate::{
    fields::Fields,
    values::{self, wrong},
};

const EXPECTED: &str = "an object with one of `json_schema`, `regex`, `lark` and `choice`";

/// A grammar that is not compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// What conforms to a JSON schema.
    JsonSchema(Value),
    /// What a regular expression matches as a whole.
    Regex(String),
    /// What a grammar in the engine's dialect of Lark derives from its `start`.
    Lark(String),
    /// One of these texts.
    Choice(Vec<String>),
}

impl Grammar {
    /// Reads the value of the key `grammar`.
    pub(crate) fn parse(raw: &str) -> Result<Self, BrainError> {
        let none = || wrong("grammar", raw, EXPECTED);
        let mut fields = Fields::parse(raw).map_err(|_| none())?;
        let ways = ["json_schema", "regex", "lark", "choice"].map(|way| fields.take(way));
        let grammar = match ways {
            [Some(raw), None, None, None] => {
                Self::JsonSchema(serde_json::from_str(raw).map_err(|_| wrong("json_schema", raw, "a JSON schema"))?)
            }
            [None, Some(raw), None, None] => Self::Regex(values::text("regex", raw)?),
            [None, None, Some(raw), None] => Self::Lark(values::text("lark", raw)?),
            [None, None, None, Some(raw)] => Self::Choice(values::texts("choice", raw)?),
            _ => return Err(none()),
        };
        match (fields.problem(), fields.left()) {
            (None, None) => Ok(grammar),
            _ => Err(none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_grammar_says_in_one_way_what_it_is() {
        for (raw, grammar) in [
            (r#"{"json_schema":{"type":"object"}}"#, Grammar::JsonSchema(json!({"type": "object"}))),
            (r#"{"json_schema":true}"#, Grammar::JsonSchema(json!(true))),
            (r#"{"regex":"[a-z]+"}"#, Grammar::Regex("[a-z]+".into())),
            (r#"{"lark":"start: \"a\""}"#, Grammar::Lark("start: \"a\"".into())),
            (r#"{"choice":["yes","\u00e4"]}"#, Grammar::Choice(vec!["yes".into(), "ä".into()])),
        ] {
            assert_eq!(Grammar::parse(raw), Ok(grammar), "{raw}");
        }
        let (twice, unknown) = (r#"{"regex":"a","regex":"b"}"#, r#"{"regex":"a","flags":"i"}"#);
        for raw in ["1", "null", r#""[a-z]""#, "{}", r#"{"regex":"a","lark":"b"}"#, r#"{"text":"a"}"#, twice, unknown] {
            let error = Grammar::parse(raw).expect_err(raw).to_string();
            assert!(error.starts_with("grammar is ") && error.ends_with(EXPECTED), "{error}");
        }
        for (raw, what) in [(r#"{"regex":1}"#, "regex is 1"), (r#"{"choice":["a",1]}"#, "choice is 1")] {
            let error = Grammar::parse(raw).expect_err(raw).to_string();
            assert!(error.starts_with(what), "{error}");
        }
    }
}
