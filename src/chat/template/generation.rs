//! `{% generation %}`: what the assistant says, for who trains on it.
//!
//! It changes no text. Jinja2 knows it by an extension of transformers', which makes its body a scope of its own; here
//! it is rewritten to `{% with %}`, which is one, too.

/// The template with other tags in place of these.
pub(super) fn without_tags(template: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(template.len()), template);
    while let Some(at) = rest.find("{%") {
        let (before, behind) = rest.split_at(at);
        text.push_str(before);
        match tag(behind) {
            Some((tag, len)) => {
                text.push_str(&tag);
                rest = &behind[len..];
            }
            None => {
                text.push_str(&behind[..2]);
                rest = &behind[2..];
            }
        }
    }
    text + rest
}

/// What stands for the tag that a text begins with, if it is one of them, and how long that was.
fn tag(text: &str) -> Option<(String, usize)> {
    let end = text.find("%}")?;
    let inner = text.get(2..end)?;
    let trims = |character: char| matches!(character, '-' | '+');
    let (opens, inner) = match inner.strip_prefix(trims) {
        Some(rest) => (&inner[..1], rest),
        None => ("", inner),
    };
    let (closes, inner) = match inner.strip_suffix(trims) {
        Some(rest) => (&inner[inner.len() - 1..], rest),
        None => ("", inner),
    };
    let name = match inner.trim() {
        "generation" => "with",
        "endgeneration" => "endwith",
        _ => return None,
    };
    Some((format!("{{%{opens} {name} {closes}%}}"), end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_those_of_a_scope_and_keep_how_they_trim() {
        let template = "a{%- generation -%} b {% if x %}{%endgeneration%}{% set generation = 1 %}";
        assert_eq!(without_tags(template), "a{%- with -%} b {% if x %}{% endwith %}{% set generation = 1 %}");
        assert_eq!(without_tags("{% generation"), "{% generation");
        assert_eq!(without_tags("{%%}é{%-%}"), "{%%}é{%-%}");
    }
}
