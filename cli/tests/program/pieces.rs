//! A vector for each piece of a text, asked through the pipe.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use crate::pipe::{Pipe, code};

const TEXT: &str = "the man had up other words.\nStraße 😀👩‍🚀 你好，世界。 and so on";

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn each_piece_says_where_it_stands_and_a_short_text_is_one() {
    for set in ["embedding.recipe=probe", "embedding.recipe=pooled"] {
        let mut pipe = Pipe::start("tiny-plain", &["--set", set]);
        let embed = json!({"id": 1, "op": "embed", "text": TEXT, "pieces": "each", "piece_tokens": 16});
        let found = pipe.ask(&embed)["ok"].clone();
        let mut at = 0;
        for piece in list(&found["vectors"]) {
            let [start, end] = ["start", "end"].map(|key| piece[key].as_u64().unwrap() as usize);
            assert!(start == at && TEXT.get(start..end).is_some_and(|text| !text.is_empty()), "{piece}");
            assert_eq!(list(&piece["embedding"]).len(), list(&found["vectors"][0]["embedding"]).len());
            at = end;
        }
        assert_eq!(at, TEXT.len());
        let tokens: u64 = list(&found["vectors"]).iter().map(|piece| piece["tokens"].as_u64().unwrap()).sum();
        assert_eq!(Some(tokens), found["tokens"].as_u64());
        assert!(list(&found["vectors"]).len() > 2 && found["recipe"].is_string(), "{found}");

        let whole = pipe.ask(&json!({"id": 2, "op": "embed", "text": "the man", "pieces": "whole"}))["ok"].clone();
        let each = pipe.ask(&json!({"id": 3, "op": "embed", "text": "the man", "pieces": "each"}))["ok"].clone();
        assert_eq!(
            each["vectors"],
            json!([{"embedding": whole["embedding"], "start": 0, "end": 7, "tokens": whole["tokens"]}])
        );

        for (key, value) in [
            ("conversation", json!("a")),
            ("piece_tokens", json!(0)),
            ("pieces", json!("some")),
            ("pieces", json!("whole")),
        ] {
            let mut asked = embed.clone();
            asked[key] = value;
            assert_eq!(code(&pipe.ask(&asked)), "bad_request", "{asked}");
        }
        let ids = json!({"id": 4, "op": "embed", "token_ids": [1, 2], "pieces": "each"});
        assert_eq!(code(&pipe.ask(&ids)), "bad_request");
    }
}
