//! Another ractor actor finds the brain by its name and sends it messages.
//!
//! ```text
//! cargo xtask setup
//! cargo run --example send_from_subsystem
//! ```
//!
//! The subsystem, an actor that keeps a story going, was never given a handle. It looks the brain up
//! in ractor's registry and sends it the same messages that a handle sends. It does not wait for the
//! reply inside its handler: the reply comes back to it as a message.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::{error::Error, process::ExitCode};

use motorbrain::{BrainError, BrainMessage, Envelope, Reply, Request, Settings, Step};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, registry};
use tokio::sync::oneshot;

/// The name under which the brain is registered.
const BRAIN: &str = "brain";

/// What the storyteller is told.
enum Story {
    /// Go on from these words; the port gets what was told.
    Tell(&'static str, RpcReplyPort<String>),
    /// The brain's reply, and who waits for it.
    Told(Result<Reply, BrainError>, RpcReplyPort<String>),
}

struct Storyteller;

impl Actor for Storyteller {
    type Msg = Story;
    type State = ActorRef<BrainMessage>;
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<Story>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        let brain = registry::where_is(BRAIN).ok_or("there is no actor called `brain`")?;
        Ok(brain.into())
    }

    async fn handle(
        &self,
        myself: ActorRef<Story>,
        message: Story,
        brain: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Story::Tell(words, listener) => {
                let step = Request::Step(Step::greedy("story", words, 16));
                let (port, reply) = oneshot::channel();
                brain.cast(BrainMessage::Request(Envelope::new(step), port.into()))?;
                tokio::spawn(async move {
                    let reply = reply
                        .await
                        .unwrap_or_else(|_| Err(BrainError::Unavailable { reason: "the brain has stopped".into() }));
                    // A storyteller that has stopped needs no reply.
                    let _ = myself.cast(Story::Told(reply, listener));
                });
            }
            Story::Told(Ok(Reply::Stepped(stepped)), listener) => listener.send(stepped.text)?,
            Story::Told(Ok(_), _) => return Err("a step was answered by something else".into()),
            // Errors tell whether trying again can help; this storyteller just says so.
            Story::Told(Err(error), listener) => {
                let again = if error.code().retryable() { "later, perhaps" } else { "never" };
                listener.send(format!("({error}; {again})"))?;
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let brain = motorbrain::start_named(BRAIN, &Settings::default()).await.map_err(|error| match error.hint() {
        Some(hint) => format!("{error}\n{hint}"),
        None => error.to_string(),
    })?;

    let (storyteller, stopped) = Actor::spawn(None, Storyteller, ()).await?;
    for words in ["Once upon a time, a small robot", " One day it met", " In the end,"] {
        let told = ractor::call!(storyteller, Story::Tell, words)?;
        println!("{words}{told}");
    }
    storyteller.stop(None);
    stopped.await?;

    let stats = brain.stats().await?;
    println!("\nThe brain keeps {} conversation.", stats.actors.iter().map(|actor| actor.conversations).sum::<usize>());
    brain.shutdown().await;
    Ok(())
}
