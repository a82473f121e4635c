//! What commands print to standard output: a table for a person, or JSON for a program.

use std::{
    borrow::Cow,
    io::{self, ErrorKind, IsTerminal as _, Write},
};

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;

use crate::{exit::Exit, failure::Failure};

/// Wide enough for a path, narrow enough for half a screen.
const TABLE_WIDTH: u16 = 110;

/// A table with a header.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(TABLE_WIDTH)
        .set_header(header);
    table
}

/// Prints text and a line feed. A reader that is gone is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(Exit::Unexpected, error, None)),
        _ => Ok(()),
    }
}

/// Shows text at once; false where nobody reads any more.
pub(crate) fn show(text: &str) -> Result<bool, Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        shown => shown.map(|()| true).map_err(|error| Failure::new(Exit::Unexpected, error, None)),
    }
}

/// The same of what a model says: to a terminal it does nothing but stand there. Files and pipes get it as it is.
pub(crate) fn say(text: &str) -> Result<bool, Failure> {
    show(&if io::stdout().is_terminal() { harmless(text) } else { text.into() })
}

/// A text without characters that do something to a terminal: they are spelt.
fn harmless(text: &str) -> Cow<'_, str> {
    let acts = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.contains(acts) {
        return text.into();
    }
    let mut spelt = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match acts(character) {
            true => spelt.extend(character.escape_default()),
            false => spelt.push(character),
        }
    }
    spelt.into()
}

/// Tells whoever sits there what happens, on standard error. Nothing is left to do where that is closed.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    print(&text.map_err(|error| Failure::new(Exit::Unexpected, error, None))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_something_to_a_terminal_is_spelt() {
        assert_eq!(harmless("a\tb\n\u{e9}\u{2026}"), "a\tb\n\u{e9}\u{2026}");
        assert_eq!(harmless("\u{1b}]52;c;eA==\u{7}a\rb\u{9b}31m"), "\\u{1b}]52;c;eA==\\u{7}a\\rb\\u{9b}31m");
    }
}
