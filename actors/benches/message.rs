//! What the actors add to a message: a round trip caller -> brain -> embedder -> engine and back, with
//! an engine that answers at once. `cargo bench -p motorbrain-actors`.

#![expect(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    engine::{
        Engine, EngineError, EngineInfo, EngineLoader, Interrupt, LoadError, Row, RowOutput,
        SlotIndex, Want,
    },
    message::{Embed, Input, Step},
    testing::fake_info,
    tokens::{EncodeError, TokenId, Tokenizer, TokenizerKind},
};
use tokio::{runtime::Runtime, task::JoinSet};

/// An engine that computes nothing: an embed of one token without a conversation is its cheapest row.
struct Instant(EngineInfo);

impl Engine for Instant {
    fn info(&self) -> &EngineInfo {
        &self.0
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        Ok(SlotIndex(0))
    }

    fn close(&mut self, _slot: SlotIndex) {}

    fn rewind(&mut self, _slot: SlotIndex, _context_len: usize) -> Result<(), EngineError> {
        Ok(())
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Vec<RowOutput>, EngineError> {
        let output = |row: &Row<'_>| RowOutput {
            taken: row.tokens.len(),
            context_len: row.tokens.len(),
            hidden: if matches!(row.want, Want::Hidden(_)) {
                vec![1.0; self.0.hidden]
            } else {
                Vec::new()
            },
            ..RowOutput::default()
        };
        Ok(rows.iter().map(output).collect())
    }

    fn kv_bytes(&self) -> usize {
        0
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Deaf)
    }
}

struct Deaf;

impl Interrupt for Deaf {
    fn interrupt(&self) {}
}

struct Loader;

impl EngineLoader for Loader {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        Ok(Box::new(Instant(fake_info())))
    }
}

struct Bytes;

impl Tokenizer for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<TokenId>, EncodeError> {
        Ok(text
            .bytes()
            .map(|byte| TokenId(u32::from(byte) % 64))
            .collect())
    }

    fn decode(&self, _tokens: &[TokenId]) -> String {
        String::new()
    }

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Bytes
    }
}

fn tokens() -> Embed {
    Embed {
        conversation: None,
        input: Input::Tokens(vec![TokenId(1)]),
    }
}

fn text() -> Embed {
    Embed {
        conversation: None,
        input: Input::from("A"),
    }
}

/// As many callers, each asking again as soon as it has its answer, `turns` times.
async fn ask(brain: &Brain, callers: usize, turns: usize, request: fn() -> Embed) {
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

fn message(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let start = Brain::start(BrainConfig::default(), Arc::new(Loader), Arc::new(Bytes));
    let brain = runtime.block_on(start).unwrap();
    let mut group = criterion.benchmark_group("message");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one caller, token ids", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { brain.embed(tokens()).await.unwrap() });
    });
    group.bench_function("one caller, text", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { brain.embed(text()).await.unwrap() });
    });
    group.bench_function("one caller, append to a conversation", |bencher| {
        let append = || Step {
            count: 0,
            ..Step::greedy("a", Input::Tokens(vec![TokenId(1)]), 0)
        };
        bencher.to_async(&runtime).iter(|| async {
            // A conversation of one token each time: this engine does not slide.
            brain.step(append()).await.unwrap();
            brain.reset("a").await.unwrap();
        });
    });
    const TURNS: usize = 200;
    group.throughput(Throughput::Elements(16 * TURNS as u64));
    group.bench_function("16 callers, token ids", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| ask(&brain, 16, TURNS, tokens));
    });
    group.finish();
    runtime.block_on(brain.shutdown());
}

criterion_group!(benches, message);
criterion_main!(benches);
