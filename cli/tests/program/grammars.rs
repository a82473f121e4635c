//! Steps whose tokens spell a grammar, asked through the pipe.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use crate::pipe::{Pipe, code};

/// A step long enough for every grammar here, of tokens by chance.
fn step(id: u64, grammar: &Value) -> Value {
    json!({"id": id, "op": "step", "conversation": format!("c{id}"), "text": "Say: ", "count": 64,
           "temperature": 1.0, "seed": id, "grammar": grammar})
}

/// The text of the answer, which ends where the grammar does.
fn text(reply: &Value) -> &str {
    assert_eq!(reply["ok"]["finished"], "stop", "{reply}");
    reply["ok"]["text"].as_str().unwrap()
}

#[test]
fn what_a_step_says_is_what_its_grammar_allows() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &[]);
    let choice = json!({"choice": ["yes", "no", "I cannot tell"]});
    let age = json!({"type": "integer", "minimum": 0, "maximum": 120});
    let schema = json!({"json_schema": {"type": "object", "properties": {"age": age, "well": {"type": "boolean"}},
                                        "required": ["age", "well"], "additionalProperties": false}});
    for seed in 0..4 {
        let said = pipe.ask(&step(10 + seed, &choice));
        assert!(["yes", "no", "I cannot tell"].contains(&text(&said)), "{said}");
        let said = pipe.ask(&step(20 + seed, &schema));
        let parsed: Value = serde_json::from_str(text(&said)).unwrap();
        assert!(parsed["age"].as_u64() <= Some(120) && parsed["well"].is_boolean(), "{said}");
        let said = pipe.ask(&step(30 + seed, &json!({"regex": "[0-9]{3}-[a-c]"})));
        let (digits, letter) = text(&said).split_once('-').unwrap();
        assert!(digits.len() == 3 && digits.parse::<u32>().is_ok() && ["a", "b", "c"].contains(&letter), "{said}");
        let said = pipe.ask(&step(40 + seed, &json!({"lark": "start: \"(\" number \")\"\nnumber: /[0-9]/"})));
        assert!(text(&said).strip_prefix('(').is_some_and(|rest| rest.len() == 2 && rest.ends_with(')')), "{said}");
    }
}

#[test]
fn a_streamed_step_is_held_to_its_grammar_as_well() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &[]);
    let mut asked = step(1, &json!({"choice": ["one", "two"]}));
    asked["stream"] = json!(true);
    pipe.send(asked.to_string());
    let mut shown = String::new();
    let last = loop {
        let next = pipe.next();
        match next.get("part") {
            Some(part) => shown += part["text"].as_str().unwrap(),
            None => break next,
        }
    };
    assert!(["one", "two"].contains(&&*shown) && text(&last) == shown, "{shown}: {last}");
}

#[test]
fn a_grammar_that_cannot_be_held_to_is_refused_by_name_and_the_next_request_served() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &[]);
    for (grammar, told) in [
        (json!({"regex": "["}), "grammar is no regular expression that can be held to"),
        (json!({"lark": "begin: \"a\""}), "grammar is no Lark grammar that can be held to"),
        (json!({"choice": []}), "grammar is no choice that can be held to"),
        (json!({"json_schema": {"type": "poem"}}), "grammar is no JSON schema that can be held to"),
        (json!({"regex": "a", "choice": ["a"]}), "an object with one of `json_schema`, `regex`, `lark` and `choice`"),
        (json!("[a-z]"), "an object with one of"),
    ] {
        let refused = pipe.ask(&step(1, &grammar));
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(code(&refused) == "bad_request" && message.contains(told), "{refused}");
    }
    let inspected = pipe.ask(&json!({"id": 2, "op": "inspect", "conversation": "c1"}));
    assert_eq!(code(&inspected), "unknown_conversation", "what is refused leaves nothing");
    assert_eq!(text(&pipe.ask(&step(3, &json!({"choice": ["fine"]})))), "fine");
}
