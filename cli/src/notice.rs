//! How far a preparation is, on standard error: nothing within the first two seconds, a line where no
//! terminal rewrites it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use motorbrain::prepare::Progress;

/// Whoever waits longer wants to know for what.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells how far it is.
pub(super) struct Notice {
    began: Instant,
    /// The last step that was told.
    told: Option<&'static str>,
    terminal: bool,
}

impl Notice {
    /// Begins to wait.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), told: None, terminal: io::stderr().is_terminal() }
    }

    /// Tells a step: on a terminal each part of it, elsewhere its beginning.
    pub(super) fn tell(&mut self, progress: Progress) {
        let Progress { what, done, total } = progress;
        let again = self.told == Some(what);
        if self.began.elapsed() < PATIENCE || (again && !self.terminal) {
            return;
        }
        self.told = Some(what);
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
