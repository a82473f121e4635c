//! MotorBrain as a worker of `cargo xtask bench`: a JSON object a line, one answer to each request.
//!
//! The protocol is that of `tools/bench/protocol.py`, which the peers' workers speak. A worker that
//! waits for its next request is blocked on a read, so that it takes nothing from the one that is
//! being measured.

#![allow(clippy::print_stdout, reason = "standard output is the protocol's")]

mod bare;
mod brain;
mod door;
mod embedding;
mod keeping;
mod latency;
mod limits;
mod memory;
mod request;

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, BufRead as _, Write as _},
    sync::OnceLock,
};

use motorbrain::{Sharing, Terms, TokenId};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use self::{
    brain::Actors,
    request::{Decode, Request},
};

/// What goes wrong here goes to whoever asked, as text.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    // As an application would have it: the brain lives in a runtime of several threads.
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let mut worker = Worker { runtime, model: None };
    for line in io::stdin().lock().lines() {
        let answer = match worker.answer(&line?) {
            Ok(answer) => json!({ "ok": answer }),
            Err(error) => json!({ "error": chain(error.as_ref()) }),
        };
        println!("{answer}");
        io::stdout().flush()?;
    }
    worker.unload();
    Ok(())
}

/// At most one model.
struct Worker {
    runtime: Runtime,
    model: Option<Actors>,
}

impl Worker {
    fn answer(&mut self, line: &str) -> Outcome<Value> {
        let request = serde_json::from_str(line)?;
        let Self { runtime, model } = self;
        match (request, model) {
            (Request::Load(load), _) => {
                self.unload();
                let (model, loaded) = self.runtime.block_on(Actors::load(&load))?;
                self.model = Some(model);
                Ok(loaded)
            }
            (Request::Keeping(load), _) => {
                self.unload();
                self.runtime.block_on(keeping::measure(&load))
            }
            (Request::Embedding { load, rounds }, _) => {
                self.unload();
                self.runtime.block_on(embedding::measure(&load, rounds))
            }
            (Request::Crowd { load, resident }, _) => {
                self.unload();
                self.runtime.block_on(keeping::crowd(&load, &resident))
            }
            (Request::Door(asked), _) => {
                self.unload();
                self.runtime.block_on(door::measure(asked))
            }
            (Request::Memory, model) => memory::report(runtime, model.as_ref()),
            (Request::Bandwidth { threads }, _) => Ok(json!({ "bytes_per_second": limits::bandwidth(threads) })),
            (Request::Matmul { graph, threads }, _) => {
                Ok(json!({ "flop_per_second": limits::matmul(&graph, threads)? }))
            }
            // Outside the runtime: no actor, no mailbox, no tokio.
            (Request::Open { conversations, context, bare: true }, Some(actors)) => {
                actors.bare()?.open(conversations, context)
            }
            (Request::Decode(Decode { conversations, tokens, bare: true, .. }), Some(actors)) => {
                actors.bare()?.decode(conversations, tokens)
            }
            (request, Some(actors)) => runtime.block_on(actors.answer(request)),
            (_, None) => Err("no model is loaded".into()),
        }
    }

    fn unload(&mut self) {
        if let Some(actors) = self.model.take() {
            self.runtime.block_on(actors.stop());
        }
    }
}

/// What is measured reads everything itself, whatever was read before.
fn unshared() -> Terms {
    Terms { sharing: Some(Sharing::Nobody), ..Terms::default() }
}

/// Makes the tokens that conversations read: those of `tools/bench/protocol.py`, where the vocabulary
/// has them.
#[derive(Clone, Copy)]
struct Tokens {
    vocab: usize,
}

impl Tokens {
    /// Of a conversation, from place `start` on: the committed texts, each conversation from a place of its own.
    fn of(self, conversation: usize, start: usize, count: usize) -> Vec<TokenId> {
        let ids = text_ids();
        let token = |place: usize| ids[(conversation * APART + place) % ids.len()] as usize % self.vocab;
        (start..start + count).map(|place| TokenId(token(place) as u32)).collect()
    }
}

/// Places between the beginnings of two conversations in the texts.
const APART: usize = 97;

/// The texts, one behind the other.
fn text_ids() -> &'static [u32] {
    static IDS: OnceLock<Vec<u32>> = OnceLock::new();
    IDS.get_or_init(|| {
        let texts: Result<BTreeMap<String, Vec<u32>>, _> =
            serde_json::from_str(include_str!("../../../tools/texts/token_ids.json"));
        texts.map(|texts| texts.into_values().flatten().collect()).unwrap_or_default()
    })
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("; {error}");
        cause = error.source();
    }
    text
}
