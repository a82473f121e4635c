//! What an answer may be that may, or must, call tools: as a grammar in llguidance's form of Lark.
//!
//! A call is written as templates write one, to the space, so that what is rendered of it in the next turn are the same
//! tokens. Its name is one of the tools', its arguments fit that tool's schema. Free text ends where a call begins.
//!
//! A marker may be a token of the model's vocabulary, which a grammar names by its number, or be spelled by others. What
//! is a token may be spelled, too, where its tokenizer does not call it special.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{CLOSING, Dialect, Tokens};
use crate::chat::Tool;

/// What an answer is that calls nothing.
#[derive(Clone, Copy, Debug)]
pub(in crate::chat) enum Content<'a> {
    /// There is none: it calls.
    Nothing,
    /// Any text.
    Text,
    /// JSON that fits a schema.
    Json(&'a Value),
}

/// The grammar of an answer that is such a content or calls these tools, `parallel`: perhaps several of them.
pub(in crate::chat) fn grammar(
    dialect: Dialect,
    tokens: Tokens,
    tools: &[&Tool],
    parallel: bool,
    content: Content<'_>,
) -> String {
    let mut rules = Rules { dialect, tokens, lark: String::new() };
    match content {
        Content::Nothing => rules.rule("start", "calls"),
        Content::Text => {
            rules.rule("start", "TEXT | calls");
            rules.rule("TEXT", rules.text());
        }
        Content::Json(schema) => {
            rules.rule("start", "content | calls");
            rules.rule("content", &format!("%json {}", written(schema)));
            if dialect == Dialect::Llama {
                // Both begin with a brace, and one of them has to be chosen there unless both are JSON.
                let calls: Vec<String> = tools.iter().map(|tool| format!("%json {}", whole(tool))).collect();
                rules.rule("calls", &calls.join(" | "));
                return rules.lark;
            }
        }
    }
    rules.calls(parallel, matches!(content, Content::Text));
    let names: Vec<String> = (0..tools.len()).map(|index| format!("call{index}")).collect();
    rules.rule("call", &names.join(" | "));
    for (index, tool) in tools.iter().enumerate() {
        let opens = format!("{}, \"{}\": ", json!(tool.name), dialect.arguments());
        rules.rule(&format!("call{index}"), &format!("{} arguments{index}", quoted(&opens)));
        rules.rule(&format!("arguments{index}"), &format!("%json {}", arguments(&tool.parameters)));
    }
    rules.lark
}

/// A schema of arguments, which are an object.
fn arguments(parameters: &Value) -> Value {
    let mut schema = match parameters {
        Value::Object(schema) => schema.clone(),
        _ => Map::new(),
    };
    schema.entry("type").or_insert_with(|| json!("object"));
    written(&Value::Object(schema))
}

/// The schema, to be written as Python writes JSON.
fn written(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        // A truth value is a schema, too.
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    let written = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    schema.insert("x-guidance".to_owned(), written);
    Value::Object(schema)
}

/// The schema of a call as an object of Llama's.
fn whole(tool: &Tool) -> Value {
    let mut parameters = arguments(&tool.parameters);
    if let Some(schema) = parameters.as_object_mut() {
        schema.remove("x-guidance");
    }
    let key = Dialect::Llama.arguments();
    refer(&mut parameters, &format!("#/properties/{key}"));
    let properties = Map::from_iter([("name".to_owned(), json!({ "const": tool.name })), (key.to_owned(), parameters)]);
    written(&json!({
        "type": "object",
        "properties": properties,
        "required": ["name", key],
        "additionalProperties": false,
    }))
}

/// Keywords whose values are schemas by names.
const NAMED: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Makes references to the schema's own root lead to its new place.
fn refer(schema: &mut Value, root: &str) {
    match schema {
        Value::Object(pairs) => {
            for (key, value) in pairs {
                match value {
                    Value::String(pointer) if key == "$ref" && pointer.starts_with('#') => {
                        pointer.replace_range(..1, root);
                    }
                    // Of these the keys are names.
                    Value::Object(named) if NAMED.contains(&key.as_str()) => {
                        named.values_mut().for_each(|schema| refer(schema, root));
                    }
                    // These hold values, and no schemas.
                    _ if matches!(key.as_str(), "const" | "enum" | "default" | "examples") => {}
                    _ => refer(value, root),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, root)),
        _ => {}
    }
}

/// A text as Lark writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Rules {
    dialect: Dialect,
    tokens: Tokens,
    lark: String,
}

impl Rules {
    fn rule(&mut self, name: &str, body: &str) {
        // Writing into a text does not fail.
        let _ = writeln!(self.lark, "{name}: {body}");
    }

    /// Any text that does not begin a call.
    fn text(&self) -> &'static str {
        match self.dialect {
            // A call has no marker of its own, so what begins as one is one.
            Dialect::Llama => r"/(\s*[^{\s](.|\n)*)?/",
            Dialect::Hermes | Dialect::Mistral => r"/(.|\n)*/",
        }
    }

    /// The calls; `behind_text`: what stands before the first one is any text.
    fn calls(&mut self, parallel: bool, behind_text: bool) {
        let (opening, dialect) = (self.dialect.opening(), self.dialect);
        let open = match self.tokens.opening {
            Some(id) => format!("{} | <[{id}]>", quoted(opening)),
            None => quoted(opening),
        };
        if dialect == Dialect::Llama {
            let tag = self.tokens.opening.map_or(String::new(), |id| format!("<[{id}]>? "));
            self.rule("calls", &format!("{tag}{} call \"}}\"", quoted("{\"name\": ")));
            return;
        }
        if behind_text {
            // It ends at the first marker.
            self.rule("spelled[lazy]", &format!("/(.|\\n)*{}/", escaped(opening)));
            match self.tokens.opening {
                Some(id) => self.rule("first", &format!("spelled | TEXT? <[{id}]>")),
                None => self.rule("first", "spelled"),
            }
        } else {
            self.rule("first", &open);
        }
        if dialect == Dialect::Mistral {
            let more = if parallel { format!("({} call)* ", quoted("}, {\"name\": ")) } else { String::new() };
            let begin = format!("\" \"? {}", quoted("[{\"name\": "));
            self.rule("calls", &format!("first {begin} call {more}{}", quoted("}]")));
            return;
        }
        let close = match self.tokens.closing {
            Some(id) => format!("{} | <[{id}]>", quoted(CLOSING)),
            None => quoted(CLOSING),
        };
        self.rule("body", &format!("{} call {} ({close})", quoted("\n{\"name\": "), quoted("}\n")));
        if parallel {
            self.rule("calls", &format!("first body ({} ({open}) body)*", quoted("\n")));
        } else {
            self.rule("calls", "first body");
        }
    }
}

/// A text as a regular expression between slashes.
fn escaped(text: &str) -> String {
    let mut expression = String::new();
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() && character != '_' && character != '<' && character != '>' {
            expression.push('\\');
        }
        expression.push(character);
    }
    expression
}

#[cfg(test)]
mod tests;
