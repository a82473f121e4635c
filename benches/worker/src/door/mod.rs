//! Chats that stream and texts that are embedded, mixed, asked of a server or of the library alone: what a door costs.
//!
//! Whoever asks has a connection of his own and asks again when he was answered. What is asked is the same for all that are
//! compared, and so is what counts as a token: what the answer says was sampled, or where it does not say, the pieces that
//! came.

mod gathered;
mod http;
mod library;
mod mix;
mod resident;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::Mutex, task::JoinSet, time::Instant};

use self::{
    gathered::Gathered,
    mix::{Caller, Mix},
};
use crate::{Outcome, request::Load};

/// What is asked of whom.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    target: Target,
    mix: Mix,
    /// How long; answers that are under way then are waited for and not counted.
    seconds: f64,
}

/// Who answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    /// A brain of this process.
    Library(Load),
    /// A server that speaks OpenAI's interface.
    Server {
        address: SocketAddr,
        model: String,
        /// The server's process, whose memory is looked at.
        process: u32,
    },
}

/// What an answer to one caller was.
#[derive(Debug)]
enum Answer {
    /// A chat: when its pieces came, and how many tokens it has.
    Chat { asked: Instant, came: Vec<Instant>, tokens: usize },
    /// A vector.
    Vector { asked: Instant },
    /// Come again.
    Busy(Duration),
}

/// Who is asked, ready to answer.
enum Door {
    Library(Box<library::Library>),
    /// A connection each caller.
    Server {
        connections: Vec<Mutex<http::Connection>>,
        model: String,
    },
}

impl Door {
    async fn answer(&self, caller: &Caller) -> Outcome<Answer> {
        match self {
            Self::Library(library) => library.answer(caller).await,
            Self::Server { connections, model } => connections[caller.index].lock().await.answer(caller, model).await,
        }
    }
}

/// Asks everything, and says what was found.
pub(crate) async fn measure(asked: Asked) -> Outcome<Value> {
    let Asked { target, mix, seconds } = asked;
    let until = Duration::from_secs_f64(seconds);
    match target {
        Target::Library(load) => {
            let library = library::Library::start(&load).await?;
            let found = all(&mix, until, std::process::id(), Door::Library(Box::new(library.clone()))).await;
            library.stop().await;
            found
        }
        Target::Server { address, model, process } => {
            let mut connections = Vec::new();
            for _ in mix.callers() {
                connections.push(Mutex::new(http::Connection::open(address).await?));
            }
            all(&mix, until, process, Door::Server { connections, model }).await
        }
    }
}

/// All callers at once, each asking again when it was answered.
async fn all(mix: &Mix, until: Duration, process: u32, door: Door) -> Outcome<Value> {
    let door = Arc::new(door);
    let began = Instant::now();
    let ends = began + until;
    let looks = tokio::spawn(resident::look(process, began, until));
    let mut callers = JoinSet::new();
    for mut caller in mix.callers() {
        let door = Arc::clone(&door);
        callers.spawn(async move {
            let mut gathered = Gathered::default();
            while Instant::now() < ends {
                match door.answer(&caller).await? {
                    Answer::Busy(pause) => {
                        gathered.busy += 1;
                        tokio::time::sleep_until((Instant::now() + pause).min(ends)).await;
                    }
                    answer => {
                        gathered.take(&answer, ends);
                        caller.turn += 1;
                    }
                }
            }
            Outcome::Ok(gathered)
        });
    }
    let mut gathered = Gathered::default();
    while let Some(done) = callers.join_next().await {
        gathered.join(done??);
    }
    Ok(gathered.report(until, &looks.await??))
}
