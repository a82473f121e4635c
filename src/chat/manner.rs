//! How a template is given messages: found out once, by looking at it and by trying.

use std::time::UNIX_EPOCH;

use super::{
    ChatRequest, Message, Role, ToolCall,
    dialect::Dialect,
    prompt::{Manner, variables},
    template::Template,
};

impl Manner {
    /// The manner of a template: that for requests with tools, or for those without.
    pub(super) fn of(template: &Template, tools: bool) -> Self {
        let dialect = Dialect::of(template.text(tools)).filter(|_| template.asks_for("tools", tools));
        let mut manner = Self {
            dialect: dialect.unwrap_or(Dialect::Hermes),
            knows_tools: dialect.is_some(),
            arguments_are_values: true,
            takes_system: true,
        };
        let renders = |manner: Self, messages: Vec<Message>| {
            let variables = variables(&ChatRequest::new(messages), manner, &mut |text, _| text.to_owned());
            template.render(variables, tools, UNIX_EPOCH).is_ok()
        };
        manner.takes_system = renders(manner, vec![Message::system("a"), Message::user("b")]);
        let call = ToolCall { id: "123456789".into(), name: "f".into(), arguments: "{\"a\": 1}".into() };
        let called = vec![
            Message::user("a"),
            Message { content: None, tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
        ];
        // Where neither works the template refuses calls anyway.
        let texts = Self { arguments_are_values: false, ..manner };
        manner.arguments_are_values = renders(manner, called.clone()) || !renders(texts, called);
        manner
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::{fs, path::Path};

    use super::*;

    fn of(text: &str) -> Manner {
        let template = Template::new(vec![("default".to_owned(), text.to_owned())], Vec::new()).unwrap();
        Manner::of(&template, true)
    }

    fn of_file(name: &str) -> Manner {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates");
        of(&fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap())
    }

    #[test]
    fn real_templates_are_known_for_what_they_are() {
        let known = |dialect| Manner { dialect, knows_tools: true, arguments_are_values: true, takes_system: true };
        assert_eq!(of_file("qwen2.5-coder"), known(Dialect::Hermes));
        assert_eq!(of_file("qwen3"), known(Dialect::Hermes));
        assert_eq!(of_file("hermes3-tool-use"), known(Dialect::Hermes));
        assert_eq!(of_file("llama3.2"), known(Dialect::Llama));
        assert_eq!(of_file("mistral-v3"), known(Dialect::Mistral));
        let told = Manner { knows_tools: false, ..known(Dialect::Hermes) };
        assert_eq!(of_file("smollm2"), told);
        assert_eq!(of_file("gemma2"), Manner { takes_system: false, ..told });
    }

    #[test]
    fn arguments_are_given_as_the_template_takes_them() {
        let texts = "{{ tools }}<tool_call>{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'a' + \
                     c.function.arguments }}{% endfor %}{% endfor %}";
        assert!(!of(texts).arguments_are_values);
        assert!(of("{{ tools }}<tool_call>{{ messages[1].tool_calls | tojson }}").arguments_are_values);
    }
}
