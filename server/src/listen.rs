//! A server: an address that it listens at, connections that it answers, and its end.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use motorbrain::settings::ServerSettings;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    app::{App, Served},
    auth::Tokens,
    drain::{Drain, Phase},
    hosts::Hosts,
    metrics,
    routes::router,
    slow::Slow,
};

/// How long the last words of those that were not waited for may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long nobody is let in where the system cannot accept, for want of files say.
const PAUSE: Duration = Duration::from_millis(100);

/// The most headers of a request.
const HEADERS_MAX: usize = 100;

/// Who may ask.
#[derive(Clone, Debug)]
pub enum Access {
    /// Whoever has one of these.
    Tokens(Tokens),
    /// Whoever reaches the address, which is this machine's alone.
    ThisMachine,
    /// Whoever reaches the address.
    Anyone,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is not this machine's alone, and there are no tokens.
    #[error("`server.address` is {address}, which others reach, and there are no tokens")]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not give the address.
    #[error("cannot listen at {address} (`server.address`)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What is no origin.
    #[error("`server.cors_origins` has {origin:?}, which is no origin")]
    Origin {
        /// What it is.
        origin: String,
    },
    /// What can be asked cannot be described.
    #[error("`/openapi.json` cannot be written")]
    Description(#[from] serde_json::Error),
}

impl ServerError {
    /// What to do next, one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "name a file of tokens in `server.token_file`, or listen at 127.0.0.1",
            Self::Listen { .. } => "take another address or port; port 0 takes one that is free",
            Self::Origin { .. } => "an origin is a scheme and a host, such as `https://example.org`",
            Self::Description(_) => "this is a mistake of the server's: please tell its authors",
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    settings: ServerSettings,
    drain: Drain,
}

impl Server {
    /// Takes the address that the settings name, within a tokio runtime. Whoever connects waits until [`Server::serve`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(settings: &ServerSettings, access: Access, served: Served) -> Result<Self, ServerError> {
        let wanted = settings.address;
        let failed = |cause| ServerError::Listen { address: wanted, cause };
        if matches!(access, Access::ThisMachine) && !wanted.ip().is_loopback() {
            return Err(ServerError::Open { address: wanted });
        }
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hosts = Hosts::new(address.ip(), &settings.hosts, &settings.cors_origins);
        let tokens = match access {
            Access::Tokens(tokens) => Some(tokens),
            Access::ThisMachine | Access::Anyone => None,
        };
        let drain = Drain::new();
        let app = App::new(served, hosts, tokens, drain.clone(), metrics::handle());
        Ok(Self { listener, address, router: router(&app)?, settings: settings.clone(), drain })
    }

    /// Where it listens, with the port that it has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is done. Then nothing more is taken, what was taken is answered within
    /// `server.shutdown_ms_max`, and the rest is told so: whether there was no such rest. The brain goes on.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> bool {
        let within = Duration::from_millis(self.settings.shutdown_ms_max);
        let drain = self.drain.clone();
        let mut connections = JoinSet::new();
        let ends = async {
            stop.await;
            let until = Instant::now() + within;
            (drain.drain(within).await, until)
        };
        // Whoever connects while it ends is answered as well: that it does.
        let (finished, until) = tokio::select! {
            ended = ends => ended,
            never = self.accept(&mut connections) => (never, Instant::now()),
        };
        // What was answered may still be on its way to a reader that is slow.
        let left = if finished { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        let all = async { while connections.join_next().await.is_some() {} };
        let written = timeout(left.max(LAST_WORDS), all).await.is_ok();
        finished && written
    }

    /// Lets in whoever connects, as many at once as may be.
    async fn accept(&self, connections: &mut JoinSet<()>) -> bool {
        let room = Arc::new(Semaphore::new(self.settings.connections_max.min(Semaphore::MAX_PERMITS)));
        let mut upkeep = pin!(metrics::keep_up(metrics::handle()));
        loop {
            let come = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (self.listener.accept().await, place)
            };
            tokio::select! {
                () = &mut upkeep => {}
                Some(_) = connections.join_next() => {}
                (come, place) = come => match come {
                    Ok((stream, _)) => {
                        let answered = answer(stream, self.router.clone(), self.settings.clone(), self.drain.clone());
                        connections.spawn(async move {
                            answered.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "nobody can connect for a moment");
                        sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Answers one connection until it ends; while the server ends, no longer than what is being asked takes.
async fn answer(stream: TcpStream, router: Router, settings: ServerSettings, drain: Drain) {
    // Tokens are small and are to be there at once.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Slow::new(stream, Duration::from_millis(settings.write_ms_max)));
    // Who comes while it ends is told so, once.
    let late = drain.phase() != Phase::Serving;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(settings.head_ms_max))
        .max_header_size(settings.head_bytes_max)
        .max_buf_size(settings.head_bytes_max)
        .max_headers(HEADERS_MAX)
        .keep_alive(!late)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.reached(Phase::Draining), if !late => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
