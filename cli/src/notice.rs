//! How far something long is, on standard error: nothing within the first two seconds, a line where no
//! terminal rewrites it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// Whoever waits longer wants to know for what.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells how far it is.
pub(crate) struct Notice {
    began: Instant,
    /// The last step that was told.
    told: Option<String>,
    terminal: bool,
}

impl Notice {
    /// Begins to wait.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), told: None, terminal: io::stderr().is_terminal() }
    }

    /// Tells a step: on a terminal each part of it, elsewhere its beginning.
    pub(crate) fn tell(&mut self, what: &str, done: usize, total: usize) {
        let again = self.told.as_deref() == Some(what);
        if self.began.elapsed() < PATIENCE || (again && !self.terminal) {
            return;
        }
        self.told = Some(what.to_owned());
        let parts = if total > 1 { format!(" {done}/{total}") } else { String::new() };
        // Nothing is left to do where standard error is closed.
        let _ = match self.terminal {
            true => write!(io::stderr(), "\r\x1b[K{what}{parts}").and_then(|()| io::stderr().flush()),
            false => writeln!(io::stderr(), "{what}"),
        };
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if self.terminal && self.told.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
