//! `motorbrain serve`: a brain behind HTTP until a signal ends it.

use std::{io, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc};

use motorbrain::{
    Brain, Parts,
    settings::{Settings, env},
};
use motorbrain_server::{Access, Served, Server, ServerError, Tokens, TokensError, install_metrics};

use crate::{args::Common, exit::Exit, failure::Failure, output, signals::Ends, starting::started};

/// Only `brain.when_down` makes a brain stop that was not told to.
const STOPPED: &str = "the brain has stopped by itself: the log says why";

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// Where to listen; port 0 takes one that is free [default: server.address, 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,

    /// A file of bearer tokens, one a line [default: server.token_file, or the tokens in MOTORBRAIN_TOKENS]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Also serve /brain/chaos/kill and /brain/chaos/hang, which break actors on purpose (brain.chaos=true)
    #[arg(long)]
    chaos: bool,

    /// Answer whoever reaches the address, without tokens, also where that is beyond this machine
    #[arg(long, conflicts_with = "token_file")]
    insecure_allow_anyone: bool,

    /// Send traces to an OTLP collector: OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318
    #[arg(long)]
    pub(crate) otlp: bool,
}

/// Serves until a signal comes; a second one does not wait for what was accepted.
pub(crate) async fn run(common: &Common, request: Request) -> Result<Exit, Failure> {
    let mut settings = common.settings()?;
    settings.brain.chaos |= request.chaos;
    settings.server.address = request.address.unwrap_or(settings.server.address);
    settings.server.token_file = request.token_file.or(settings.server.token_file);
    let access = access(&settings, request.insecure_allow_anyone)?;
    // What a brain counts it says when it starts.
    install_metrics();
    let parts = Parts::find(&settings).await?;
    let model = Arc::clone(&parts.model);
    let brain = started(parts, &settings).await?;
    let served = Served::of(brain.clone(), model, &settings).await;
    let ended = serve(&settings, access, served, &brain).await;
    brain.shutdown().await;
    ended
}

async fn serve(settings: &Settings, access: Access, served: Served, brain: &Brain) -> Result<Exit, Failure> {
    let (mut first, mut second) = (Ends::heard()?, Ends::heard()?);
    let server = Server::bind(&settings.server, access, served).await?;
    output::print(&format!("listening at http://{}", server.address()))?;
    let mut by_itself = false;
    let mut stopped = pin!(brain.actor_ref().wait(None));
    let ends = async {
        tokio::select! {
            () = first.next() => {}
            _ = &mut stopped => by_itself = true,
        }
    };
    let twice = async {
        second.next().await;
        second.next().await;
    };
    tokio::select! {
        _ = server.serve(ends) => {}
        () = twice => {}
    }
    match by_itself {
        false => Ok(Exit::Fine),
        true => Err(Failure::new(Exit::Unexpected, io::Error::other(STOPPED), None)),
    }
}

/// Who may ask.
fn access(settings: &Settings, anyone: bool) -> Result<Access, Failure> {
    let variable = std::env::var(env::TOKENS).ok().filter(|tokens| !tokens.trim().is_empty());
    match (&settings.server.token_file, variable) {
        _ if anyone => Ok(Access::Anyone),
        (Some(path), _) => Ok(Access::Tokens(Tokens::of_file(path)?)),
        (None, Some(tokens)) => Ok(Access::Tokens(Tokens::of_text(&tokens, env::TOKENS)?)),
        (None, None) => Ok(Access::ThisMachine),
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let hint = error.hint().to_owned();
        Self::new(Exit::Settings, error, Some(hint))
    }
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Self {
        let hint = error.hint().to_owned();
        Self::new(Exit::Settings, error, Some(hint))
    }
}
