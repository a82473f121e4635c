//! What a message costs beside many conversations that are known and idle, and how long a death and a look at the figures
//! take then: with an engine that answers at once, on pages. `cargo xtask bench actors` runs it, too.
//!
//! Two brains, one that knows 16 conversations and one that knows 100,000, are asked in turn; the shortest of several
//! rounds counts.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark may panic, measures time and prints it"
)]

mod at_once;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    message::{Input, Step},
    policy::{Limits, ListAsk, Supervision},
    tokens::TokenId,
};
use tokio::task::JoinSet;

use self::at_once::{Bytes, Loader};

const ACTIVE: usize = 16;
const KNOWN: usize = 100_000;
const ROUNDS: usize = 15;
const TURNS: usize = 400;

async fn brain_that_knows(known: usize) -> Brain {
    let limits = Limits { conversations: 2 * KNOWN, ..Limits::default() };
    let supervision =
        Supervision { restarts_max: usize::MAX, backoff_max: Duration::from_millis(50), ..Supervision::default() };
    let config = BrainConfig { limits, supervision, chaos: true, ..BrainConfig::default() };
    let brain = Brain::start(config, Arc::new(Loader), Arc::new(Bytes)).await.unwrap();
    for number in 0..known as u32 {
        let tokens = (0..20).map(|place| TokenId((number >> place) % 64)).collect();
        brain.step(step(number as usize, tokens)).await.unwrap();
    }
    brain
}

fn step(conversation: usize, tokens: Vec<TokenId>) -> Step {
    Step { input: Some(Input::Tokens(tokens)), ..Step::greedy(format!("conversation-{conversation}"), "", 1) }
}

/// A step's share of a round in which every active conversation asks `TURNS` times, one after the other.
async fn round(brain: &Brain, known: usize) -> Duration {
    let mut asking = JoinSet::new();
    let began = Instant::now();
    for caller in 0..ACTIVE {
        let (brain, conversation) = (brain.clone(), caller * (known / ACTIVE));
        asking.spawn(async move {
            for _ in 0..TURNS {
                brain.step(step(conversation, vec![TokenId(1)])).await.unwrap();
            }
        });
    }
    asking.join_all().await;
    let took = began.elapsed() / (ACTIVE * TURNS) as u32;
    // So that every round finds contexts of one length.
    for caller in 0..ACTIVE {
        brain.rewind(format!("conversation-{}", caller * (known / ACTIVE)), 20).await.unwrap();
    }
    took
}

fn percentile(mut times: Vec<Duration>, hundredths: usize) -> Duration {
    times.sort();
    times[(times.len() * hundredths).div_ceil(100) - 1]
}

#[tokio::main]
async fn main() {
    let (few, many) = (brain_that_knows(ACTIVE).await, brain_that_knows(KNOWN).await);
    let (mut of_few, mut of_many, mut ratios) = (Duration::MAX, Duration::MAX, Vec::new());
    for _ in 0..ROUNDS {
        let (one, other) = (round(&few, ACTIVE).await, round(&many, KNOWN).await);
        (of_few, of_many) = (of_few.min(one), of_many.min(other));
        ratios.push(other.as_secs_f64() / one.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = of_many.as_secs_f64() / of_few.as_secs_f64();
    println!("a step of one token, {ACTIVE} active: {of_few:?} with {ACTIVE} known, {of_many:?} with {KNOWN}");
    println!("ratio of the shortest rounds {ratio:.3}, median of pairs {:.3}", ratios[ROUNDS / 2]);
    let (mut looks, mut pages, mut deaths) = (Vec::new(), Vec::new(), Vec::new());
    let mut ask = ListAsk::default();
    loop {
        let began = Instant::now();
        let listed = many.list(ask.clone()).await.unwrap();
        pages.push(began.elapsed());
        match listed.next {
            Some(next) => ask.after = Some(next),
            None => break,
        }
    }
    for _ in 0..200 {
        let began = Instant::now();
        many.stats().await.unwrap();
        looks.push(began.elapsed());
    }
    for _ in 0..20 {
        many.crash(0).await.unwrap();
        // The longest that the brain did not answer while the actor died and came back.
        let (mut longest, until) = (Duration::ZERO, Instant::now() + Duration::from_millis(30));
        while Instant::now() < until {
            let began = Instant::now();
            many.stats().await.unwrap();
            longest = longest.max(began.elapsed());
        }
        deaths.push(longest);
        many.step(step(0, vec![TokenId(1)])).await.unwrap();
    }
    println!(
        "with {KNOWN} known, 95th percentile: stats {:?}, a page of {} {:?} (longest of {}: {:?}), a death {:?}",
        percentile(looks, 95),
        ask.limit,
        percentile(pages.clone(), 95),
        pages.len(),
        percentile(pages.clone(), 100),
        percentile(deaths, 95)
    );
    few.shutdown().await;
    many.shutdown().await;
}
