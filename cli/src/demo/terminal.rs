//! Pieces of lines on standard output, as they come.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use crate::{exit::Exit, failure::Failure, output};

/// Writes text and shows it at once. A reader that is gone is no failure.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(Exit::Unexpected, error, None)),
        _ => Ok(()),
    }
}

/// A line with space around it, in bold on a terminal.
pub(super) fn title(text: &str) -> Result<(), Failure> {
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    output::print(&format!("\n{bold}{text}{plain}\n"))
}
