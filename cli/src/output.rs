//! What commands print to standard output: a table for a person, or JSON for a program.

use std::io::{self, ErrorKind, Write};

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

/// Tells whoever sits there what happens, on standard error. Nothing is left to do where that is closed.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    print(&text.map_err(|error| Failure::new(Exit::Unexpected, error, None))?)
}
