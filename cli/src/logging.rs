//! Logs: to standard error, in the words of `tracing_subscriber::EnvFilter`.

use std::io::{self, IsTerminal as _};

use motorbrain::settings::env;
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Starts logging by `--log`, else by `MOTORBRAIN_LOG`, else warnings and errors.
///
/// # Errors
/// A filter that is none.
pub(crate) fn start(filter: Option<&str>) -> Result<(), ParseError> {
    let variable = std::env::var(env::LOG).ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(filter.or(variable.as_deref()).unwrap_or("warn"))?;
    tracing_subscriber::fmt()
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell that it cannot write by a print that panics: a full disk must not stop an actor.
        .log_internal_errors(false)
        .init();
    Ok(())
}
