//! The brain's start: whoever waits for it long is told for what, on standard error.

use std::{
    io::{self, Write as _},
    pin::pin,
    time::Duration,
};

use motorbrain::{Brain, Parts, StartError, settings::Settings};
use tokio::time::timeout;

/// Only a first load takes longer, or a large model's.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it waits for.
const WAITS: &str = "the model is being loaded; its first load makes a fast form of it and compares that with the graph, which \
                     takes some 10 s for the default model, and longer for a larger one";

/// Starts the brain.
///
/// # Errors
/// As [`Parts::start`] says.
pub(crate) async fn started(parts: Parts, settings: &Settings) -> Result<Brain, StartError> {
    let mut brain = pin!(parts.start(settings, None));
    if let Ok(started) = timeout(PATIENCE, &mut brain).await {
        return started;
    }
    // Nothing is left to do where standard error is closed.
    let _ = writeln!(io::stderr(), "{WAITS}");
    brain.await
}
