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

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
    vec::Drain,
};

use motorbrain_actors::{
    brain::{Brain, BrainConfig},
    engine::{
        Engine, EngineError, EngineInfo, EngineLoader, Held, Interrupt, LoadError, Page, PageSize, Resident, Row,
        RowOutput, Sampled, SlotIndex, Want, Window,
    },
    message::{Input, Step},
    policy::{Limits, Supervision},
    tokens::{EncodeError, Spelled, TokenId, Tokenizer, TokenizerKind},
};
use motorbrain_testing::fake_info;
use tokio::task::JoinSet;

const ACTIVE: usize = 16;
const KNOWN: usize = 100_000;
const ROUNDS: usize = 15;
const TURNS: usize = 400;
const PAGE: usize = 32;

struct AtOnce {
    info: EngineInfo,
    slots: BTreeMap<SlotIndex, (usize, Vec<Page>)>,
    next: u32,
    outputs: Vec<RowOutput>,
}

impl Engine for AtOnce {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        self.adopt(&[], &Resident::default())
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        self.next = self.next.wrapping_add(1);
        self.slots.insert(SlotIndex(self.next), (context.len(), held.pages.clone()));
        Ok(SlotIndex(self.next))
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        let (len, pages) = self.slots.get_mut(&slot)?;
        let (keep, needed) = (pages.len(), len.div_ceil(PAGE));
        let new: Vec<Page> = (keep..needed).map(|_| Page::new(Arc::new(()))).collect();
        pages.extend(new.iter().cloned());
        Some(Held { keep, pages: new, kv_len: *len })
    }

    fn close(&mut self, slot: SlotIndex) {
        self.slots.remove(&slot);
    }

    fn rewind(&mut self, _slot: SlotIndex, _context_len: usize) -> Result<(), EngineError> {
        Ok(())
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        for row in rows {
            let sampled = matches!(row.want, Want::Next { .. });
            let (len, _) = self.slots.get_mut(&row.slot).unwrap();
            *len += row.tokens.len() + usize::from(sampled);
            let sampled = sampled.then(|| Sampled { token: TokenId(1), logprob: 0.0, top: Vec::new() });
            self.outputs.push(RowOutput {
                taken: row.tokens.len(),
                context_len: *len,
                sampled,
                ..RowOutput::default()
            });
        }
        Ok(self.outputs.drain(..))
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
        let info = EngineInfo {
            window: Window { size: 1 << 20, sinks: 2, slide: 4, slides: true },
            pages: Some(PageSize { tokens: PAGE, bytes: 64 }),
            ..fake_info()
        };
        Ok(Box::new(AtOnce { info, slots: BTreeMap::new(), next: 0, outputs: Vec::new() }))
    }
}

struct Bytes;

impl Tokenizer for Bytes {
    fn encode_behind(&self, text: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        let (Spelled::Marked(text) | Spelled::Literal(text)) = text;
        Ok(text.bytes().map(|byte| TokenId(u32::from(byte) % 64)).collect())
    }

    fn append(&self, _: &[TokenId], _: &[TokenId], _: &mut Vec<u8>) {}

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Bytes
    }
}

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
    let (mut looks, mut deaths) = (Vec::new(), Vec::new());
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
        "with {KNOWN} known, 95th percentile: stats {:?}, a death {:?}",
        percentile(looks, 95),
        percentile(deaths, 95)
    );
    few.shutdown().await;
    many.shutdown().await;
}
