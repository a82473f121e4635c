//! What a decoded token allocates, told apart by whose code does it: the engine nothing, whatever the
//! form, the conversations and their lengths, but for the pages that keys and values grow by.
//!
//! The allocator below counts in the whole process, on the runtime's threads too. Inside the engine's
//! calls of the runtime it counts apart: those are the bindings' own (names, shapes, handles), which are
//! printed. What the runtime allocates in C++ is not seen. See [`Side`].
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crate::common::{fixture, form, graph_cache, in_own_process, loader_of, model, runtime, text_tokens, window};
use motorbrain::{
    Brain, Input, Step, StepItem, TokenId,
    engine::{Activations, EngineOptions, Form, FormOptions, OnnxLoader, SessionOptions, Side, side},
};
use motorbrain_actors::{
    brain::BrainConfig,
    engine::{Engine, EngineLoader, Row, Sampling, SlotIndex, Want},
    tokens::{EncodeError, Spelled, Tokenizer, TokenizerKind},
};
use tokio::{runtime::Runtime, task::JoinSet};

/// The system's allocator with a tally.
struct Tally;

#[global_allocator]
static TALLY: Tally = Tally;

static COUNTING: AtomicBool = AtomicBool::new(false);
/// One for each [`Side`].
static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

impl Tally {
    fn count() {
        if COUNTING.load(Relaxed) {
            COUNTS[side() as usize].fetch_add(1, Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Tally {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Allocations since the counting began.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    elsewhere: u64,
    engine: u64,
    runtime: u64,
}

fn counted() -> Counted {
    let of = |side: Side| COUNTS[side as usize].load(Relaxed);
    Counted { elsewhere: of(Side::Elsewhere), engine: of(Side::Engine), runtime: of(Side::Runtime) }
}

fn begin() {
    COUNTS.iter().for_each(|count| count.store(0, Relaxed));
    COUNTING.store(true, Relaxed);
}

fn end() -> Counted {
    COUNTING.store(false, Relaxed);
    counted()
}

/// Tokens that each conversation decodes while it is counted: over a page's end at least three times.
const TOKENS: usize = 100;

/// Allocations that make a page: its memory, and what is known of it.
const PAGE: u64 = 2;

/// Allocations that make one thread's scratch.
const SCRATCH_MAX: u64 = 24;

/// With all that needs memory beside the row: more candidates than a draw mostly has, penalties and a bias.
fn penalising() -> Sampling {
    let logit_bias = vec![(TokenId(3), 1.0), (TokenId(7), -100.0)].into();
    Sampling {
        temperature: 3.0,
        top_k: 0,
        top_p: 0.99,
        frequency_penalty: 0.1,
        repetition_penalty: 1.1,
        logit_bias,
        ..SAMPLED
    }
}

const SAMPLED: Sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, ..Sampling::GREEDY };

fn load(form: &str, threads: usize) -> Box<dyn Engine> {
    let session = SessionOptions { threads, spinning: false };
    let form_options = FormOptions { activations: Activations::F32, cache: Some(graph_cache()) };
    let options = EngineOptions { session, window: window(2048, 4, 512), form: form_options };
    let loader = OnnxLoader::new(runtime(), model(&fixture(form)), options).unwrap();
    let engine = loader.load().unwrap();
    assert!(matches!(loader.form(), Some(Form::Paged { .. })), "{form}: {:?}", loader.form());
    engine
}

/// One token of every slot; what it allocated and how many pages keys and values grew by.
fn decode(engine: &mut dyn Engine, slots: &[SlotIndex], number: u64, sampling: &Sampling) -> (Counted, usize) {
    let want = Want::Next { sampling, seed: 7, number, top: 0, guide: None };
    let rows: Vec<_> = slots.iter().map(|&slot| Row { slot, tokens: &[], want }).collect();
    let held = engine.kv_bytes();
    begin();
    let outputs = engine.run(&rows).unwrap().len();
    let counted = end();
    assert_eq!(outputs, slots.len());
    (counted, (engine.kv_bytes() - held) / engine.info().pages.unwrap().bytes)
}

fn check(form: &str, contexts: &[usize], threads: usize, sampling: &Sampling) {
    let mut engine = load(form, threads);
    let conversations = contexts.len();
    let text = text_tokens(&fixture(form), contexts.iter().copied().max().unwrap());
    let slots: Vec<_> = contexts
        .iter()
        .map(|&len| {
            let slot = engine.open().unwrap();
            engine.run(&[Row { slot, tokens: &text[..len], want: Want::Nothing }]).unwrap();
            slot
        })
        .collect();
    // The first runs of so many rows make what later ones use again.
    for number in 0..3 {
        decode(&mut *engine, &slots, number, sampling);
    }
    let case = format!("{form}, {conversations} conversations, {threads} threads");
    let (mut bindings, mut growing, mut pages_grown, mut late) = (Vec::new(), 0, 0, 0);
    for number in 0..TOKENS as u64 {
        let (Counted { engine: ours, runtime, .. }, pages) = decode(&mut *engine, &slots, 3 + number, sampling);
        let excess = ours.saturating_sub(PAGE * pages as u64);
        assert!(excess == 0 || threads > 1, "{case}: token {number} made {ours} allocations for {pages} pages");
        late += excess;
        bindings.push(runtime);
        growing += ours;
        pages_grown += pages;
    }
    assert!(pages_grown >= 3 * conversations, "{case}: only {pages_grown} pages");
    // A thread of the runtime's makes its scratch with its first task, whenever it comes to have one.
    assert!(late <= SCRATCH_MAX, "{case}: {late} allocations");
    let most = bindings.iter().max().unwrap();
    assert!(bindings.iter().all(|count| count == most), "{case}: the bindings' grow with the context: {bindings:?}");
    println!(
        "{case}: {} decoded tokens made {growing} for {pages_grown} pages, {late} for scratch; the bindings' {most} a run",
        conversations * TOKENS
    );
}

#[test]
fn a_decoded_token_allocates_nothing_in_the_engine() {
    in_own_process("allocations::a_decoded_token_allocates_nothing_in_the_engine", || {
        for form in ["tiny-plain", "tiny-plain-f16", "tiny-gqa-fp32", "tiny-gqa-int4"] {
            // Of different lengths, so that pages fill at different times; two that are cut into sections.
            for contexts in [&[5][..], &[5, 42, 79, 116, 153, 190, 227, 264], &[1100, 64, 1500]] {
                for threads in [1, 2] {
                    check(form, contexts, threads, &Sampling::GREEDY);
                }
            }
            check(form, &[5], 1, &SAMPLED);
            check(form, &[5, 1500], 1, &penalising());
        }
    });
}

/// A tokenizer that is none, for the model's own is another library and allocates as it likes.
struct Mute;

impl Tokenizer for Mute {
    fn encode_behind(&self, _: Spelled<'_>, _: Option<TokenId>) -> Result<Vec<TokenId>, EncodeError> {
        Ok(Vec::new())
    }

    fn append(&self, _: &[TokenId], _: &[TokenId], _: &mut Vec<u8>) {}

    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Bytes
    }
}

/// Steps of `count` tokens of so many conversations at once, streamed or not: what is allocated outside of
/// the engine, callers included, and how many tokens there were, fewer where a step met its end.
async fn steps(brain: &Brain, conversations: usize, count: usize, streamed: bool) -> (u64, usize) {
    let mut callers = JoinSet::new();
    begin();
    for conversation in 0..conversations {
        let brain = brain.clone();
        let greedy = Step::greedy(conversation.to_string(), Input::Tokens(vec![TokenId(7)]), count);
        let step = Step { sampling: SAMPLED, seed: Some(conversation as u64), ..greedy };
        callers.spawn(async move {
            if !streamed {
                return brain.step(step).await.unwrap().token_ids.len();
            }
            let mut stream = brain.step_stream(step).await.unwrap();
            let mut tokens = 0;
            while let Some(item) = stream.next().await {
                tokens += usize::from(matches!(item, StepItem::Token { .. }));
            }
            tokens
        });
    }
    let mut tokens = 0;
    while let Some(found) = callers.join_next().await {
        tokens += found.unwrap();
    }
    (end().elsewhere, tokens)
}

/// A run costs one: the actor's message to itself, which lets its mailbox in. A streamed token costs two
/// more: the message that tells of it and the list in it of what was appended. The rest is amortised: lists
/// of sampled tokens that double, blocks of tokio's queues. Several conversations share their runs as they
/// happen to meet, so the bound is that of one alone (measured: 1.14, streamed 3.20).
#[test]
fn a_decoded_token_costs_the_actors_its_messages() {
    in_own_process("allocations::a_decoded_token_costs_the_actors_its_messages", || {
        Runtime::new().unwrap().block_on(count_the_actors());
    });
}

async fn count_the_actors() {
    let loader = loader_of(model(&fixture("tiny-gqa-fp32")), window(1024, 4, 256), form());
    let brain = Brain::start(BrainConfig::default(), Arc::new(loader), Arc::new(Mute)).await.unwrap();
    for (conversations, streamed, most) in [(1, false, 1.5), (8, false, 1.5), (1, true, 3.5), (8, true, 3.5)] {
        steps(&brain, conversations, TOKENS, streamed).await;
        let (short, few) = steps(&brain, conversations, 5, streamed).await;
        let (long, many) = steps(&brain, conversations, TOKENS, streamed).await;
        assert!(many > few + TOKENS / 2, "{few} and {many} tokens");
        let found = (long as f64 - short as f64) / (many - few) as f64;
        let case = format!("{conversations} conversations, streamed {streamed}: {found:.2} a token, at most {most}");
        assert!(found <= most, "{case}");
        println!("{case}; {short} for {few} tokens");
    }
    brain.shutdown().await;
}
