//! Templates of real models, and one that does what Python does in its own way, rendered as transformers renders them:
//! `tools/chat_templates.py` has written what is expected.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::Value as Json;

use super::*;
use crate::chat::{
    ChatRequest, Message, Role, Tool, ToolCall,
    dialect::Dialect,
    prompt::{Manner, variables},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates")
}

fn json(name: &str) -> Json {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn text(value: &Json, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn message(json: &Json) -> Message {
    let call = |call: &Json| ToolCall {
        id: text(call, "id").unwrap(),
        name: text(&call["function"], "name").unwrap(),
        arguments: call["function"]["arguments"].to_string(),
    };
    Message {
        role: Role::named(&text(json, "role").unwrap()).unwrap(),
        content: text(json, "content"),
        name: text(json, "name"),
        tool_calls: json["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tool_call_id: text(json, "tool_call_id"),
    }
}

fn tool(json: &Json) -> Tool {
    let function = &json["function"];
    Tool {
        name: text(function, "name").unwrap(),
        description: text(function, "description"),
        parameters: function["parameters"].clone(),
    }
}

fn template(name: &str) -> Template {
    let text = fs::read_to_string(folder().join(format!("{name}.jinja"))).unwrap();
    let specials = json("cases.json")["specials"][name].as_object().unwrap().clone();
    let specials = specials.into_iter().map(|(name, text)| (name, text.as_str().unwrap().to_owned()));
    Template::new(vec![(DEFAULT.to_owned(), text)], specials.collect()).unwrap()
}

const NATIVE: Manner =
    Manner { dialect: Dialect::Hermes, knows_tools: true, arguments_are_values: true, takes_system: true };

fn rendered(template: &Template, request: &ChatRequest) -> Result<String, TemplateError> {
    let variables = variables(request, NATIVE, &mut |text, _| text.to_owned());
    template.render(variables, !request.tools.is_empty(), UNIX_EPOCH + Duration::from_secs(86_400))
}

#[test]
fn templates_are_rendered_as_transformers_renders_them() {
    let (cases, expected) = (json("cases.json"), json("expected.json"));
    let mut wrong: Vec<String> = Vec::new();
    for case in expected.as_array().unwrap() {
        let template = template(case["template"].as_str().unwrap());
        let chat = &cases["chats"][case["chat"].as_str().unwrap()];
        let mut request = ChatRequest::new(chat.as_array().unwrap().iter().map(message).collect());
        if case["tools"] == true {
            request.tools = cases["tools"].as_array().unwrap().iter().map(tool).collect();
        }
        request.generation_prompt = case["prompt"] == true;
        request.variables = case["variables"].as_object().unwrap().clone();
        let found = match rendered(&template, &request) {
            Ok(text) => text,
            Err(TemplateError::Refused { reason }) => reason,
            Err(error) => error.to_string(),
        };
        let expected = case["text"].as_str().or(case["refused"].as_str()).unwrap();
        if found != expected {
            let at = found.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
            let from = (0..=at.saturating_sub(60)).rev().find(|&at| found.is_char_boundary(at)).unwrap_or(0);
            let (found, expected) = (&found[from..], &expected[from.min(expected.len())..]);
            let (template, chat, tools) = (&case["template"], &case["chat"], &case["tools"]);
            wrong.push(format!("{template} {chat} tools {tools}: {found:?}, expected {expected:?}"));
        }
    }
    assert_eq!((wrong, expected.as_array().unwrap().len()), (Vec::new(), 104));
}

fn of(text: &str) -> Result<String, TemplateError> {
    let template = Template::new(vec![("x".to_owned(), text.to_owned())], Vec::new())?;
    rendered(&template, &ChatRequest::new(vec![Message::user("hi")]))
}

#[test]
fn a_template_that_goes_on_for_ever_is_stopped() {
    let nested = |levels: usize| {
        let (open, close) = ("{% for i in range(10000) %}".repeat(levels), "{% endfor %}".repeat(levels));
        of(&format!("{open}x{close}"))
    };
    assert!(nested(1).is_ok());
    assert!(matches!(nested(3), Err(TemplateError::Exhausted)));
    let doubling =
        "{% set ns = namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}";
    assert!(matches!(of(doubling), Err(TemplateError::Exhausted)));
    assert!(matches!(of("{{ 'a' * 100000000000 }}"), Err(TemplateError::Exhausted | TemplateError::Failed { .. })));
    assert!(of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").is_err());
    let nested = "{% set ns = namespace(v=[1]) %}{% for i in range(40) %}{% set ns.v = [ns.v, ns.v] %}{% endfor %}";
    assert!(matches!(of(&format!("{nested}{{{{ ns.v | tojson }}}}")), Err(TemplateError::Exhausted)));
}

#[test]
fn a_long_chat_is_none_that_goes_on_for_ever() {
    for name in ["qwen3", "llama3.2", "mistral-v3"] {
        let turn = |index: usize| match index % 2 {
            0 => Message::user("a".repeat(2000)),
            _ => Message::assistant(" b ".repeat(700)),
        };
        let request = ChatRequest::new((0..2001).map(turn).collect());
        let text = rendered(&template(name), &request).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.len() > 4_000_000);
    }
}

#[test]
fn what_is_wrong_with_a_template_is_told() {
    let wrong = |text: &str| of(text).unwrap_err().to_string();
    assert_eq!(wrong("a\n{% if %}"), "line 2 of the chat template `default`: syntax error: unexpected end of block");
    assert_eq!(wrong("{{ raise_exception('No: ' ~ 1) }}"), "the model's chat template refuses the messages: No: 1");
    assert_eq!(
        wrong("\n{{ 'a' + 1 }}"),
        "line 2 of the model's chat template fails on the messages: invalid operation: tried to use + operator on \
         unsupported types string and number"
    );
}

#[test]
fn templates_know_the_date() {
    assert_eq!(of("{{ strftime_now('%d %b %Y') }}").unwrap(), "02 Jan 1970");
}

#[test]
fn a_template_for_tools_is_used_where_there_are_some() {
    let named = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let texts = vec![named("default", "plain{{ bos_token }}"), named("tool_use", "tools {{ tools[0].function.name }}")];
    let template = Template::new(texts, vec![named("bos_token", "<s>")]).unwrap();
    let mut request = ChatRequest::new(vec![Message::user("hi")]);
    assert_eq!(rendered(&template, &request).unwrap(), "plain<s>");
    request.tools.push(Tool { name: "f".into(), description: None, parameters: Json::Null });
    assert_eq!(rendered(&template, &request).unwrap(), "tools f");
    assert!(template.asks_for("tools", true) && !template.asks_for("tools", false));
    assert_eq!(
        (template.text(true), template.text(false)),
        ("tools {{ tools[0].function.name }}", "plain{{ bos_token }}")
    );
}
