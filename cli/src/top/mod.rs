//! `motorbrain top`: what a running brain is doing, through the socket that it opens where `observe.socket` says so.
//!
//! It asks, shows, and asks again. On a terminal each look replaces the one before; elsewhere they follow each other.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{args::Common, exit::Exit, failure::Failure, output};

mod client;
mod table;

use client::{Client, Problem};

/// How many conversations are looked at, and how many are shown.
const LOOKED_AT: usize = 1000;

/// What to show, and how often.
pub(crate) struct Request {
    /// Instead of the settings'.
    pub(crate) socket: Option<PathBuf>,
    /// One look and no more.
    pub(crate) once: bool,
    /// A line of JSON a look.
    pub(crate) json: bool,
    /// From one look to the next.
    pub(crate) every: Duration,
    /// The most conversations in the table.
    pub(crate) rows: usize,
}

/// Shows until the brain ends, or nobody reads.
pub(crate) fn run(common: &Common, request: &Request) -> Result<Exit, Failure> {
    let path = request
        .socket
        .clone()
        .map_or_else(|| Ok(common.settings()?.observe.socket), |path| Ok::<_, Failure>(Some(path)))?;
    let Some(path) = path else {
        let hint = "name it: `motorbrain top --socket PATH`, or `--set observe.socket=PATH` for both programs";
        return Err(Failure::new(Exit::Settings, Problem::NoSocket, Some(hint.to_owned())));
    };
    let mut client = Client::connect(&path).map_err(failed)?;
    let clears = !request.json && !request.once && io::stdout().is_terminal();
    loop {
        let look = match look(&mut client) {
            Err(Problem::Ended) if !request.once => return Ok(Exit::Fine),
            look => look.map_err(failed)?,
        };
        let text = match request.json {
            true => look.to_string(),
            false => table::of(&look, request.rows),
        };
        // Home, show, and clear what is left below: nothing flickers.
        let (home, below) = if clears { ("\x1b[H\x1b[2J", "\x1b[J") } else { ("", "") };
        if !output::show(&format!("{home}{text}\n{below}"))? || request.once {
            return Ok(Exit::Fine);
        }
        thread::sleep(request.every);
    }
}

/// What the brain says of itself and of its conversations.
fn look(client: &mut Client) -> Result<Value, Problem> {
    let stats = client.ask(&json!({"id": 1, "op": "stats"}))?;
    let listed = client.ask(&json!({"id": 2, "op": "list", "limit": LOOKED_AT}))?;
    Ok(json!({"stats": stats, "conversations": listed["conversations"]}))
}

fn failed(problem: Problem) -> Failure {
    let hint = problem.hint();
    Failure::new(Exit::Unexpected, problem, hint)
}
