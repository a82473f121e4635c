//! Traces over OTLP (feature `otlp`): the spans of a server and its brain, sent to a collector.
//!
//! Where to and how is said by the environment, by OpenTelemetry's own variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and their like. What is sent are the spans of `spans.rs` here and in the
//! actors, and nothing else that the process logs. They wait in a bounded queue for a thread of their own; what does not
//! fit is lost, and whatever a collector does, nobody who is answered notices.

mod collector;
mod endpoint;
mod parent;

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use self::collector::Collector;
pub(crate) use self::parent::{go_on, record_list};

/// The name of the service, where the environment has none.
const SERVICE: &str = "motorbrain";

/// How long the last spans may take at the end.
const END_MAX: Duration = Duration::from_secs(2);

/// What sends traces, as long as it lives.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// Where to is no address.
    #[error("{from} is {found:?}, expected an address such as `http://localhost:4318`")]
    Endpoint {
        /// Which variable says so.
        from: &'static str,
        /// What it says.
        found: String,
    },
    /// A protocol that is not spoken.
    #[error("{from} is {found:?}, expected `http/protobuf`")]
    Protocol {
        /// Which variable says so.
        from: &'static str,
        /// What it says.
        found: String,
    },
    /// Something else that the environment says cannot be.
    #[error("the environment asks for what cannot be")]
    Exporter(#[source] ExporterBuildError),
}

impl TracesError {
    /// What to do next, one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => {
                "traces are sent over plain HTTP, with what `OTEL_EXPORTER_OTLP_HEADERS` says and no user; a collector beside this program may send them on by TLS"
            }
            Self::Protocol { .. } => "leave the variable out: collectors take protobuf over HTTP at port 4318",
            Self::Exporter(_) => "look at the variables whose names begin with `OTEL_EXPORTER_OTLP_`",
        }
    }
}

impl Traces {
    /// To where the environment says, else to `http://localhost:4318/v1/traces`. They are sent on this runtime, which must
    /// have threads of its own; it is not looked whether anybody is there.
    ///
    /// # Errors
    /// See [`TracesError`].
    pub fn start(runtime: &Handle) -> Result<Self, TracesError> {
        let said = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
        Self::to(&endpoint::of(said)?, runtime)
    }

    /// The same to this address, whole with its path, whatever the environment says of that.
    ///
    /// # Errors
    /// See [`TracesError`].
    pub fn to(address: &str, runtime: &Handle) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(runtime))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint::checked("the address", address)?)
            .build()
            .map_err(TracesError::Exporter)?;
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
        Ok(Self { provider })
    }

    /// For a program's subscriber: what it sees of these spans is sent. It takes no others, and no events but theirs.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let spans = ["motorbrain_actors::spans", "motorbrain_server::spans"];
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            // Neither how long a span was busy nor a context of OpenTelemetry's own, which each entry would pay for.
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(spans.into_iter().map(|target| (target, LevelFilter::DEBUG)).collect::<Targets>())
    }

    /// Sends what there is, in no more than two seconds, and then no more. Call it where blocking is allowed, while the
    /// runtime lives.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(END_MAX) {
            tracing::warn!(%error, "the last traces are lost: the collector did not take them in time");
        }
    }
}

/// Who sends them: as the environment says, else by the project's name.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&"service.name".into()).map(|name| name.to_string()).unwrap_or_default();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty().with_attribute(version);
    // So the SDK calls those that nobody has named.
    let named = !name.starts_with("unknown_service");
    let resource = if named { resource } else { resource.with_service_name(SERVICE) };
    let said = found.iter().filter(|(key, _)| named || key.as_str() != "service.name");
    resource.with_attributes(said.map(|(key, value)| KeyValue::new(key.clone(), value.clone()))).build()
}
