//! Logs: to standard error, in the words of `tracing_subscriber::EnvFilter`.

use motorbrain::settings::env;
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Starts logging by `--log`, else by `MOTORBRAIN_LOG`, else warnings and errors.
///
/// # Errors
/// A filter that is none.
pub(crate) fn start(filter: Option<&str>) -> Result<(), ParseError> {
    let variable = std::env::var(env::LOG).ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(filter.or(variable.as_deref()).unwrap_or("warn"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}
