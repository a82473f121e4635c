//! The grammars as llguidance takes them, over a vocabulary of bytes and markers.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    toktrie::{ApproximateTokEnv, TokRxInfo, TokTrie},
};
use motorbrain_actors::tokens::TokenId;

use super::*;

/// A token a byte, then markers; the last one ends answers.
const MARKERS: [&str; 5] = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<|end|>"];

fn id(marker: &str) -> u32 {
    256 + u32::try_from(MARKERS.iter().position(|it| *it == marker).unwrap()).unwrap()
}

/// Whether markers are tokens, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    No,
    Added,
    Special,
}

const ALL: [Known; 3] = [Known::No, Known::Added, Known::Special];

fn matcher(lark: &str, known: Known) -> Matcher {
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    for marker in MARKERS {
        let special = known == Known::Special || marker == "<|end|>";
        words.push([if special { &[0xFF][..] } else { &[] }, marker.as_bytes()].concat());
    }
    let info = TokRxInfo::new(u32::try_from(words.len()).unwrap(), id("<|end|>"));
    let environment = ApproximateTokEnv::new(TokTrie::from(&info, &words));
    let mut factory = ParserFactory::new_simple(&(Arc::new(environment) as _)).unwrap();
    factory.quiet();
    let parser = factory.create_parser(TopLevelGrammar::from_lark(lark.to_owned()));
    let matcher = Matcher::new(parser);
    assert_eq!(matcher.get_error(), None, "{lark}");
    matcher
}

/// The tokens of an answer: markers as such where they are known.
fn tokens(answer: &str, known: Known) -> Vec<u32> {
    let (mut tokens, mut rest) = (Vec::new(), answer.as_bytes());
    while let Some(&byte) = rest.first() {
        let marker = MARKERS.iter().find(|marker| known != Known::No && rest.starts_with(marker.as_bytes()));
        let (token, len) = marker.map_or((byte.into(), 1), |marker| (id(marker), marker.len()));
        tokens.push(token);
        rest = &rest[len..];
    }
    tokens
}

/// Whether the grammar lets the whole answer through and may end there.
fn accepts(matcher: &Matcher, known: Known, answer: &str) -> bool {
    let mut matcher = matcher.deep_clone();
    let tokens = tokens(answer, known);
    let taken = matcher.try_consume_tokens(&tokens).unwrap();
    taken == tokens.len() && (matcher.is_stopped() || matcher.is_accepting().unwrap())
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool { name: name.to_owned(), description: None, parameters }
}

fn tools() -> [Tool; 2] {
    let city = json!({ "$defs": { "city": { "type": "string", "enum": ["Bonn", "Ulm"] } }, "type": "object",
        "properties": { "city": { "$ref": "#/$defs/city" }, "days": { "type": "integer" } },
        "required": ["city"], "additionalProperties": false });
    [tool("get_weather", city), tool("stop.all/now", Value::Null)]
}

struct Asked {
    dialect: Dialect,
    parallel: bool,
    content: Content<'static>,
}

/// What the grammar lets through and what it does not, whatever is known of markers.
fn check(asked: &Asked, good: &[&str], bad: &[&str]) {
    let tools = tools();
    let tools: Vec<&Tool> = tools.iter().collect();
    for known in ALL {
        let markers = |marker: &str| Some(TokenId(id(marker))).filter(|_| known != Known::No);
        let tokens = Tokens {
            opening: markers(asked.dialect.opening()),
            closing: markers(CLOSING).filter(|_| asked.dialect == Dialect::Hermes),
        };
        let lark = grammar(asked.dialect, tokens, &tools, asked.parallel, asked.content);
        let matcher = matcher(&lark, known);
        for (answers, expected) in [(good, true), (bad, false)] {
            for answer in answers {
                assert_eq!(accepts(&matcher, known, answer), expected, "{answer:?}, markers {known:?}:\n{lark}");
            }
        }
    }
}

const WEATHER: &str = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Ulm\", \"days\": 3}}";
const STOP: &str = "{\"name\": \"stop.all/now\", \"arguments\": {}}";

fn hermes(json: &str) -> String {
    format!("<tool_call>\n{json}\n</tool_call>")
}

#[test]
fn hermes_calls_what_there_is_as_it_may_be_called() {
    let (weather, stop) = (hermes(WEATHER), hermes(STOP));
    let two = format!("{weather}\n{stop}");
    let asked = Asked { dialect: Dialect::Hermes, parallel: true, content: Content::Text };
    let [other, wrong, missing] = [
        hermes("{\"name\": \"get_news\", \"arguments\": {}}"),
        hermes(&WEATHER.replace("Ulm", "Rom")),
        hermes("{\"name\": \"get_weather\", \"arguments\": {}}"),
    ];
    let before = format!("I look <b>\n{weather}");
    check(
        &asked,
        &["", "Hello <tool", "é <", &weather, &stop, &two, &before],
        &[&other, &wrong, &missing, "a <tool_call>", "<tool_call>\n", &format!("{weather}Done.")],
    );
}

#[test]
fn one_call_or_none_is_one_or_none() {
    let (weather, stop) = (hermes(WEATHER), hermes(STOP));
    let two = format!("{weather}\n{stop}");
    let asked = Asked { dialect: Dialect::Hermes, parallel: false, content: Content::Text };
    check(&asked, &["", "No.", &weather], &[&two]);
    let asked = Asked { dialect: Dialect::Hermes, parallel: true, content: Content::Nothing };
    check(&asked, &[&weather, &two], &["", "No.", &format!("\n{weather}")]);
}

#[test]
fn beside_calls_there_may_be_json() {
    static SCHEMA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| {
        json!({ "type": "object", "properties": { "a": { "const": 1 } }, "required": ["a"],
            "additionalProperties": false })
    });
    let weather = hermes(WEATHER);
    let asked = Asked { dialect: Dialect::Hermes, parallel: true, content: Content::Json(&SCHEMA) };
    check(&asked, &["{\"a\": 1}", &weather], &["", "a", "{\"a\": 2}"]);
    let call = WEATHER.replace("arguments", "parameters");
    let asked = Asked { dialect: Dialect::Llama, ..asked };
    check(&asked, &["{\"a\": 1}", &call], &["", "a", "{\"a\": 2}", WEATHER]);
}

#[test]
fn llama_calls_one_at_a_time() {
    let call = WEATHER.replace("arguments", "parameters");
    let tagged = format!("<|python_tag|>{call}");
    let asked = Asked { dialect: Dialect::Llama, parallel: true, content: Content::Text };
    check(&asked, &["", "Hello {}", "\n é", &call], &["{", " {\"a\": 1}", &format!("{call}{call}"), WEATHER]);
    let asked = Asked { content: Content::Nothing, ..asked };
    check(&asked, &[&call], &["", "Hello", &format!("{call}; {call}")]);
    let tools = tools();
    let tokens = Tokens { opening: Some(TokenId(id("<|python_tag|>"))), closing: None };
    let lark = grammar(Dialect::Llama, tokens, &[&tools[0]], true, Content::Text);
    let matcher = matcher(&lark, Known::Special);
    assert!(accepts(&matcher, Known::Special, &tagged));
    assert!(!accepts(&matcher, Known::Special, "<|python_tag|>print(1)"));
}

#[test]
fn mistral_calls_in_a_list() {
    let [one, two] = [format!("[TOOL_CALLS] [{WEATHER}]"), format!("[TOOL_CALLS][{WEATHER}, {STOP}]")];
    let asked = Asked { dialect: Dialect::Mistral, parallel: true, content: Content::Text };
    let before = format!("I look.{one}");
    check(&asked, &["", "[1]", &one, &two, &before], &["[TOOL_CALLS]", "[TOOL_CALLS] []", &format!("{one}!")]);
    let asked = Asked { parallel: false, content: Content::Nothing, ..asked };
    check(&asked, &[&one], &["", &two]);
}
