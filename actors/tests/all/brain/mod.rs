//! The brain as its callers meet it, on the fake engine: real threads, real ractor actors, faults on
//! command. What the policy decides is tested in `simulation`; here, that the shell does it.
//!
//! Tests wait for conditions, never for time to pass; the only times are limits that a fault must run
//! into.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod attacks;
mod cancelling;
mod copies;
mod endings;
mod events;
mod faults;
mod floods;
mod forks;
mod inspecting;
mod life;
mod limits;
mod makers;
mod memory;
mod pieces;
mod pins;
mod recipes;
mod reranking;
mod rereading;
mod serving;
mod sharing;
mod spans;
mod streams;
mod texts;

use std::{future::Future, sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    engine::EngineInfo,
    message::{Embed, Step, Stepped},
    policy::{ActorState, Stats, Supervision},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::{FakeControl, FakeLoader, fake_info};

/// One token a character from space to underscore, which are the fake's 64.
struct Letters;

impl Tokenizer for Letters {
    fn encode_behind(&self, text: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        let (Spelled::Marked(text) | Spelled::Literal(text)) = text;
        assert!(text != "PANIC", "the tokenizer panics as told");
        let token = |byte: u8| match byte.checked_sub(b' ') {
            Some(token) if token < 64 => Ok(TokenId(token.into())),
            _ => Err(EncodeError { reason: format!("byte {byte}") }),
        };
        text.bytes().map(token).collect()
    }

    fn append(&self, _: &[TokenId], tokens: &[TokenId], bytes: &mut Vec<u8>) {
        bytes.extend(tokens.iter().map(|token| u8::try_from(token.0 + 32).unwrap()));
    }

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Model
    }
}

/// A brain on fakes.
struct Bench {
    brain: Brain,
    control: FakeControl,
}

/// Fast restarts, a patient watchdog and no limit that a test meets by chance.
fn config(actors: usize) -> BrainConfig {
    let supervision = Supervision {
        run_max: Duration::from_secs(60),
        restarts_max: 20,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        ..Supervision::default()
    };
    BrainConfig { actors, supervision, chunk: 8, chaos: true, ..BrainConfig::default() }
}

fn loader(info: EngineInfo) -> (Arc<FakeLoader>, FakeControl) {
    let control = FakeControl::default();
    (Arc::new(FakeLoader { info, control: control.clone() }), control)
}

async fn start(config: BrainConfig) -> Bench {
    start_with(config, fake_info()).await
}

async fn start_with(config: BrainConfig, info: EngineInfo) -> Bench {
    let (loader, control) = loader(info);
    let brain = within(Brain::start(config, loader, Arc::new(Letters))).await.unwrap();
    Bench { brain, control }
}

/// What never ends would be a test that never ends.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("done within a minute")
}

impl Bench {
    /// Waits until the brain's figures are as `condition` says.
    async fn until(&self, condition: impl Fn(&Stats) -> bool) -> Stats {
        within(async {
            loop {
                let stats = self.brain.stats().await.unwrap();
                if condition(&stats) {
                    return stats;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// A brain has started when one of its actors is ready, whichever that is.
    async fn all_are_ready(&self) {
        self.until(|stats| stats.actors.iter().all(|actor| actor.state == ActorState::Ready)).await;
    }

    async fn until_ready(&self, actor: usize, restarts: u64) -> Stats {
        self.until(|stats| stats.actors[actor].state == ActorState::Ready && stats.actors[actor].restarts == restarts)
            .await
    }
}

fn step(conversation: &str, text: &str, count: usize) -> Step {
    Step::greedy(conversation, text, count)
}

/// The reply of one that had to read everything itself.
fn unshared(mut stepped: Stepped) -> Stepped {
    stepped.context.reused = 0;
    stepped
}

fn embed(conversation: Option<&str>, text: &str) -> Embed {
    Embed { conversation: conversation.map(Into::into), ..Embed::of(text) }
}
