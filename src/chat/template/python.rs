//! Methods of Python's strings and maps that templates call, where they are to do exactly the same.
//!
//! Most are minijinja's own compatibility layer; here stands white space as Python sees it, which counts the separators
//! U+001C to U+001F, too.

use minijinja::{Error, State, Value, value::from_args};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Calls a method that values do not have by themselves.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, args);
    };
    let strips = match name {
        "strip" => (true, true),
        "lstrip" => (true, false),
        "rstrip" => (false, true),
        _ => return unknown_method_callback(state, value, name, args),
    };
    let (characters,): (Option<&str>,) = from_args(args)?;
    Ok(Value::from(stripped(text, characters, strips)))
}

/// The filter `trim`, which is `str.strip`.
pub(super) fn trim(text: &str, characters: Option<&str>) -> String {
    stripped(text, characters, (true, true)).to_owned()
}

fn stripped<'t>(text: &'t str, characters: Option<&str>, (left, right): (bool, bool)) -> &'t str {
    let goes = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => character.is_whitespace() || matches!(character, '\u{1C}'..='\u{1F}'),
    };
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}
