//! Traces of `serve --otlp`, where the program was built with them (feature `otlp`).

use tokio::runtime::Handle;
use tracing_subscriber::{Layer, Registry};

use crate::failure::Failure;

/// What a subscriber is given for them.
pub(crate) type TracesLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What sends them.
#[cfg(feature = "otlp")]
pub(crate) struct Traces(motorbrain_server::Traces);

#[cfg(feature = "otlp")]
impl Traces {
    /// Sends them on this runtime, to where the environment says.
    pub(crate) fn start(runtime: &Handle) -> Result<Self, Failure> {
        motorbrain_server::Traces::start(runtime).map(Self).map_err(|error| {
            let hint = error.hint().to_owned();
            Failure::new(crate::exit::Exit::Settings, error, Some(hint))
        })
    }

    pub(crate) fn layer(&self) -> TracesLayer {
        self.0.layer().boxed()
    }

    /// Sends what there is, within a time.
    pub(crate) fn end(self) {
        self.0.end();
    }
}

/// Why there are none.
#[cfg(not(feature = "otlp"))]
#[derive(Debug, thiserror::Error)]
#[error("this program was built without traces")]
struct NotBuilt;

/// There are none.
#[cfg(not(feature = "otlp"))]
pub(crate) enum Traces {}

#[cfg(not(feature = "otlp"))]
impl Traces {
    /// Says so.
    pub(crate) fn start(_: &Handle) -> Result<Self, Failure> {
        let hint = "build it with `--features otlp`, or leave `--otlp` out".to_owned();
        Err(Failure::new(crate::exit::Exit::Settings, NotBuilt, Some(hint)))
    }

    pub(crate) fn layer(&self) -> TracesLayer {
        match *self {}
    }

    pub(crate) fn end(self) {
        match self {}
    }
}
