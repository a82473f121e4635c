//! What templates find: the filters, functions and tests of Jinja2 as transformers sets it up.
//!
//! `ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)` with loop controls, `tojson`,
//! `raise_exception`, `strftime_now` (transformers, `utils/chat_template_utils.py`).

use minijinja::{
    Environment, Error, ErrorKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};

use super::{error::Refusal, json, python, strftime};

/// What a template may do: instructions, and memory at 64 bytes a piece. Not a setting: it only keeps what comes with a
/// model from going on for ever; a chat of 4 MiB takes a quarter.
const FUEL: u64 = 2_000_000;

/// How deep a template may nest what it calls.
const DEPTH: usize = 200;

/// The variable with the time, which no template can spell.
pub(super) const NOW: &str = "now ()";

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // Where it happened is told, and no values, which are somebody's words.
    environment.set_debug(false);
    environment.set_unknown_method_callback(python::method);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("trim", python::trim);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment
}

fn raise_exception(reason: &Value) -> Result<Value, Error> {
    let refusal = Refusal(reason.to_string());
    Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(refusal))
}

/// The time in UTC, as Python's `strftime` writes it.
fn strftime_now(state: &State<'_, '_>, format: &str, rest: Kwargs) -> Result<String, Error> {
    rest.assert_all_used()?;
    let now = state.lookup(NOW).and_then(|now| i64::try_from(now).ok()).unwrap_or(0);
    Ok(strftime::strftime(now, format))
}
