//! Signals that end a program or stop what it does, each heard from when it is first asked for.

use crate::{exit::Exit, failure::Failure};

/// What ends a program: Ctrl-C, and SIGTERM where there is such a signal.
pub(crate) struct Ends {
    interrupts: Interrupts,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Ends {
    /// From now on the program does not end by itself when one comes.
    pub(crate) fn heard() -> Result<Self, Failure> {
        Ok(Self {
            interrupts: Interrupts::heard()?,
            #[cfg(unix)]
            terminate: unix(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// Returns with the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            () = self.interrupts.next() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        self.interrupts.next().await;
    }
}

/// Ctrl-C alone.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Interrupts {
    /// From now on the program does not end by itself when one comes.
    pub(crate) fn heard() -> Result<Self, Failure> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: unix(tokio::signal::unix::SignalKind::interrupt())?,
            #[cfg(windows)]
            interrupt: tokio::signal::windows::ctrl_c().map_err(|error| Failure::new(Exit::Unexpected, error, None))?,
        })
    }

    /// Returns with the next one.
    pub(crate) async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}

#[cfg(unix)]
fn unix(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    tokio::signal::unix::signal(kind).map_err(|error| Failure::new(Exit::Unexpected, error, None))
}
