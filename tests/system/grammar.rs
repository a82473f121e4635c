//! Steps that spell a grammar, by the default model: what they say is in its language, whatever is sampled, streamed,
//! asked for several times or killed in the middle.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use motorbrain::{
    Brain, Finished, Parts, Sampling, Settings, Step, StepItem, Stepped,
    grammar::{Constraint, GrammarError, Grammars},
};
use motorbrain_actors::{grammar::Guide, tokens::TokenId};
use serde_json::{Value, json};

use crate::common::{copy, model, root};

const HOT: Sampling = Sampling { temperature: 1.5, ..Sampling::GREEDY };

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.model.dir = Some(root().join(".motorbrain/models/smollm2-135m"));
    settings.brain.actors = 1;
    settings.brain.chaos = true;
    settings
}

/// The default model's brain and its grammars.
async fn start() -> (Brain, Grammars) {
    let parts = Parts::find(&settings()).await.unwrap();
    let grammars = Grammars::new(&parts.model).unwrap();
    (parts.start(&settings(), None).await.unwrap(), grammars)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "first_name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "kind": {"enum": ["human", "robot"]},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}
        },
        "required": ["first_name", "age", "kind"],
        "additionalProperties": false
    })
}

fn asked(name: &str, grammar: &Constraint, count: usize, seed: u64) -> Step {
    let (grammar, seed) = (Some(grammar.clone()), Some(seed));
    Step { grammar, sampling: HOT, seed, ..Step::greedy(name, "Somebody, as JSON: ", count) }
}

/// Whether a text is in the language, or the beginning of one that is.
fn is_spelled(grammar: &Constraint, stepped: &Stepped, ends: &[TokenId]) -> bool {
    Guide::behind(grammar, stepped.token_ids.iter().copied().filter(|token| !ends.contains(token))).is_ok()
}

#[tokio::test]
async fn whatever_is_sampled_is_in_the_language() {
    let (brain, grammars) = start().await;
    let schema = grammars.json_schema(&person()).unwrap();
    let ends = model(&root().join(".motorbrain/models/smollm2-135m")).end_tokens.clone();
    for seed in 0..4 {
        let name = format!("json {seed}");
        let whole = brain.step(asked(&name, &schema, 120, seed)).await.unwrap();
        assert_eq!(whole.finished, Finished::Stop, "{}", whole.text);
        let said: Value = serde_json::from_str(&whole.text).unwrap_or_else(|error| panic!("{error}: {}", whole.text));
        assert!(said["age"].as_u64().is_some_and(|age| age <= 120), "{said}");
        assert!(said["kind"] == "human" || said["kind"] == "robot", "{said}");
        assert!(said["first_name"].as_str().is_some_and(|name| name.chars().count() <= 12), "{said}");
        assert!(said.as_object().unwrap().keys().all(|key| person()["properties"].get(key).is_some()), "{said}");
        // The keys leave no choice: nothing was sampled there.
        assert!(whole.logprobs.iter().filter(|logprob| **logprob == 0.0).count() >= 4, "{:?}", whole.logprobs);
        let cut = brain.step(asked(&format!("cut {seed}"), &schema, 9, seed)).await.unwrap();
        assert_eq!((cut.finished, cut.token_ids.len()), (Finished::Count, 9));
        assert_eq!(cut.token_ids, whole.token_ids[..9], "the same draws");
        assert!(is_spelled(&schema, &cut, &ends), "{}", cut.text);
    }
    let age = grammars.regex("[1-9][0-9]? years?, [a-z]{3,8}").unwrap();
    let reply = brain.step(asked("regex", &age, 40, 1)).await.unwrap();
    let (years, word) = reply.text.split_once(" year").expect("the expression says so");
    assert!(years.parse::<u8>().is_ok() && word.len() >= 5, "{}", reply.text);
    let texts = ["<|im_end|> is no word".to_owned(), "\"quoted\"\n".to_owned()];
    let choice = grammars.choice(&texts).unwrap();
    for seed in 0..4 {
        let reply = brain.step(asked(&format!("choice {seed}"), &choice, 40, seed)).await.unwrap();
        assert!(texts.contains(&reply.text), "{:?}", reply.text);
        let marked = reply.token_ids[..reply.token_ids.len() - 1].iter().any(|token| ends.contains(token));
        assert!(!marked, "what spells an end token is text: {:?}", reply.token_ids);
    }
    let lark = grammars.lark("start: \"x\" (\",\" /[a-c]/)* \".\"").unwrap();
    let reply = brain.step(asked("lark", &lark, 60, 3)).await.unwrap();
    assert!(reply.text.starts_with('x'), "{}", reply.text);
    brain.shutdown().await;
}

#[tokio::test]
async fn streams_several_answers_and_crashes_change_nothing_of_it() {
    let (brain, grammars) = start().await;
    let schema = grammars.json_schema(&person()).unwrap();
    let expected = brain.step(asked("whole", &schema, 60, 7)).await.unwrap();
    let mut stream = brain.step_stream(asked("streamed", &schema, 60, 7)).await.unwrap();
    let (mut tokens, mut text, mut killed) = (Vec::new(), String::new(), false);
    let streamed = loop {
        match stream.next().await.unwrap() {
            StepItem::Token { sampled, text: shown } => {
                tokens.push(sampled.token);
                text += &shown;
                if tokens.len() >= 5 && !killed {
                    killed = true;
                    brain.crash(0).await.unwrap();
                }
            }
            StepItem::Stepped(stepped) => break stepped,
            StepItem::Failed { error, .. } => panic!("{error}"),
        }
    };
    assert_eq!(streamed.token_ids, tokens);
    assert_eq!((streamed.text.clone(), streamed.text), (text, expected.text.clone()));
    assert_eq!(tokens, expected.token_ids);
    let several = brain.several(Step { n: 3, ..asked("several", &schema, 60, 7) }).await.unwrap().choices;
    assert_eq!(several[0].token_ids, expected.token_ids);
    for choice in several.iter().filter(|choice| choice.finished == Finished::Stop) {
        assert!(serde_json::from_str::<Value>(&choice.text).is_ok(), "{}", choice.text);
    }
    // Rewound and asked again it begins anew.
    brain.rewind("whole", expected.context.context_len - expected.token_ids.len()).await.unwrap();
    let again = Step { input: None, ..asked("whole", &schema, 60, 7) };
    assert_eq!(brain.step(again).await.unwrap().token_ids, expected.token_ids);
    brain.shutdown().await;
}

#[test]
fn what_is_no_grammar_or_cannot_be_held_to_is_refused() {
    let grammars = Grammars::new(&model(&root().join(".motorbrain/models/smollm2-135m"))).unwrap();
    let refused = |made: Result<Constraint, GrammarError>| match made {
        Err(GrammarError::Refused { reason, .. }) => reason,
        other => panic!("{:?}", other.map(drop)),
    };
    refused(grammars.regex("(unclosed"));
    refused(grammars.lark("start: nowhere"));
    refused(grammars.choice(&[]));
    let reason = refused(grammars.json_schema(&json!({"type": "string", "format": "no such format"})));
    assert!(reason.contains("format"), "{reason}");
    refused(grammars.json_schema(&json!({"not": {"type": "string"}, "x-guidance": {"lenient": true}})));
    let long = "a".repeat(2 << 20);
    assert!(matches!(grammars.regex(&long), Err(GrammarError::TooLong { .. })));
    let bytes = copy("tiny-plain");
    std::fs::remove_file(bytes.path().join("tokenizer.json")).unwrap();
    let made = Grammars::new(&model(bytes.path())).map(drop);
    assert!(matches!(made, Err(GrammarError::Vocabulary { .. })), "{made:?}");
}
