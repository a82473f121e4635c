//! Logs: to standard error, in the words of `tracing_subscriber::EnvFilter`; and beside them traces, which that filter leaves
//! alone.

use std::io::{self, IsTerminal as _};

use motorbrain::settings::env;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::ParseError, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::traces::TracesLayer;

/// Starts logging by `--log`, else by `MOTORBRAIN_LOG`, else warnings and errors; and traces, if there are to be any.
///
/// # Errors
/// A filter that is none.
pub(crate) fn start(filter: Option<&str>, traces: Option<TracesLayer>) -> Result<(), ParseError> {
    let variable = std::env::var(env::LOG).ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(filter.or(variable.as_deref()).unwrap_or("warn"))?;
    let log = fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would tell that it cannot write by a print that panics: a full disk must not stop an actor.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(traces).with(log.with_filter(filter)).init();
    Ok(())
}
