//! What the actors add to a message: a round trip caller -> brain -> embedder -> engine and back, with
//! an engine that answers at once. `cargo xtask bench actors`.
//!
//! A caller is a task on the brain's runtime, as an orchestrator's are, or a thread that blocks on the
//! runtime from outside: that one pays for two more wake-ups of a thread, there and back.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark may panic and measures time")]

mod at_once;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use metrics_util::debugging::DebuggingRecorder;
use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    message::Embed,
    tokens::TokenId,
};
use tokio::{runtime::Runtime, task::JoinSet};

use self::at_once::{Bytes, Loader};

/// Makes a request.
type Ask = fn() -> Embed;

fn tokens() -> Embed {
    Embed::of(vec![TokenId(1)])
}

fn text() -> Embed {
    Embed::of("A")
}

/// Long enough to be tokenised on a thread of its own.
fn long_text() -> Embed {
    Embed::of("A".repeat(100))
}

/// As many callers, each asking again as soon as it has its answer, `turns` times.
async fn ask(brain: &Brain, callers: usize, turns: usize, request: Ask) {
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let brain = brain.clone();
        asking.spawn(async move {
            for _ in 0..turns {
                brain.embed(request()).await.unwrap();
            }
        });
    }
    asking.join_all().await;
}

/// How long a task on the brain's runtime takes to ask `turns` times, one after the other.
fn time_task(runtime: &Runtime, brain: &Brain, turns: u64, request: Ask) -> Duration {
    let brain = brain.clone();
    let task = runtime.spawn(async move {
        let began = Instant::now();
        for _ in 0..turns {
            brain.embed(request()).await.unwrap();
        }
        began.elapsed()
    });
    runtime.block_on(task).unwrap()
}

fn message(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let start = Brain::start(BrainConfig::default(), Arc::new(Loader), Arc::new(Bytes));
    let brain = runtime.block_on(start).unwrap();
    let mut group = criterion.benchmark_group("message");
    group.throughput(Throughput::Elements(1));
    let requests: [(&str, Ask); 3] = [("token ids", tokens), ("text", text), ("long text", long_text)];
    for (name, request) in requests {
        group.bench_function(format!("one caller, a task, {name}"), |bencher| {
            bencher.iter_custom(|turns| time_task(&runtime, &brain, turns, request));
        });
        group.bench_function(format!("one caller, a thread, {name}"), |bencher| {
            bencher.to_async(&runtime).iter(|| async { brain.embed(request()).await.unwrap() });
        });
    }
    const TURNS: usize = 200;
    group.throughput(Throughput::Elements(16 * TURNS as u64));
    for name in ["16 callers, token ids", "16 callers, token ids, with a recorder"] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| ask(&brain, 16, TURNS, tokens));
        });
        // From the second one on: a brain looks for it each time that it publishes.
        let _ = DebuggingRecorder::new().install();
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("one caller, a task, token ids, with a recorder", |bencher| {
        bencher.iter_custom(|turns| time_task(&runtime, &brain, turns, tokens));
    });
    group.finish();
    runtime.block_on(brain.shutdown());
}

criterion_group!(benches, message);
criterion_main!(benches);
