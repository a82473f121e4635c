//! Pages of keys and values outlive slots and engines: whoever goes on with them answers as if nothing had happened,
//! and nobody sees what another writes, be it a fork or a run that was abandoned.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::{
    abandoned::Alone,
    choices::Choices,
    common::{fixture, graph_cache, loader_of, model, text_tokens, window},
};
use motorbrain::engine::{Activations, Form, FormOptions, OnnxLoader, WindowOptions};
use motorbrain_actors::{
    engine::{Engine, EngineErrorKind, EngineLoader, Page, Resident, Row, Sampled, Sampling, SlotIndex, Want},
    tokens::TokenId,
};
use motorbrain_kernels::attention::{self, BatchRow, Heads, Layer, PagedKv, Plan, Shape};

/// Keys and values in f32 and in f16, and weights of few bits.
const FORMS: [&str; 4] = ["tiny-plain", "tiny-gqa-fp32", "tiny-plain-f16", "tiny-gqa-int4"];

/// Tokens of a page.
const PAGE: usize = 32;

fn paged(name: &str, window: WindowOptions) -> OnnxLoader {
    let form = FormOptions { activations: Activations::F32, cache: Some(graph_cache()) };
    let loader = loader_of(model(&fixture(name)), window, form);
    drop(loader.load().unwrap());
    assert!(matches!(loader.form(), Some(Form::Paged { .. })), "{name}: {:?}", loader.form());
    loader
}

/// What keeps a conversation where no slot does: its context and its pages.
#[derive(Clone, Default)]
struct Owner {
    context: Vec<TokenId>,
    resident: Resident,
}

impl Owner {
    /// Gives `tokens` to the slot and samples one: what came of it all.
    fn step(&mut self, engine: &mut dyn Engine, slot: SlotIndex, mut tokens: &[TokenId], number: u64) -> Sampled {
        let window = engine.info().window;
        let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number, top: 5, guide: None };
        loop {
            let output = engine.run(&[Row { slot, tokens, want }]).unwrap().next().unwrap();
            self.context.extend(&tokens[..output.taken]);
            self.context.extend(output.sampled.as_ref().map(|sampled| sampled.token));
            let sinks = window.sinks.min(self.context.len());
            self.context.drain(sinks..sinks + output.dropped);
            self.resident.apply(engine.take_held(slot));
            self.check();
            tokens = &tokens[output.taken..];
            if let Some(sampled) = output.sampled {
                return sampled;
            }
        }
    }

    fn check(&self) {
        let Resident { pages, kv_len } = &self.resident;
        assert_eq!(pages.len(), kv_len.div_ceil(PAGE));
        assert!(self.context.len() - kv_len <= 1, "{} tokens, {kv_len} cached", self.context.len());
    }

    /// A fork with the first `len` tokens.
    fn fork(&self, len: usize) -> Self {
        let mut fork = self.clone();
        fork.context.truncate(len);
        fork.resident.truncate(len, PAGE);
        fork
    }

    fn adopted(&self, engine: &mut dyn Engine) -> SlotIndex {
        engine.adopt(&self.context, &self.resident).unwrap()
    }

    /// What a slot that has read the context by itself samples behind `tokens`.
    fn expected(&self, engine: &mut dyn Engine, tokens: &[TokenId], number: u64) -> Sampled {
        let slot = engine.open().unwrap();
        let sampled = Self::default().step(engine, slot, &[&self.context, tokens].concat(), number);
        engine.close(slot);
        sampled
    }
}

#[test]
fn any_engine_goes_on_with_the_pages_of_one_that_is_gone() {
    // Without slides; with some; with so many that keys are kept in f32; with contexts that are whole pages.
    for (name, window) in FORMS.iter().flat_map(|name| {
        [window(256, 4, 64), window(50, 3, 11), window(40, 4, 1), window(64, 0, 32)].map(|window| (*name, window))
    }) {
        let loader = paged(name, window);
        let text = text_tokens(&fixture(name), 45);
        let turns = || (0..70).map(|turn| if turn % 9 == 0 { &text[turn % 5..turn % 5 + 8] } else { &text[..0] });
        let mut stays = loader.load().unwrap();
        let (slot, mut owner) = (stays.open().unwrap(), Owner::default());
        let undisturbed: Vec<_> =
            (0..).zip(turns()).map(|(number, tokens)| owner.step(&mut *stays, slot, tokens, number)).collect();

        let mut other = loader.load().unwrap();
        let mut owner = Owner::default();
        let mut found = Vec::new();
        for (number, tokens) in (0..).zip(turns()) {
            // One of three dies, one goes to the other and back without a slot between runs.
            let engine = if number % 2 == 0 { &mut other } else { &mut stays };
            let slot = owner.adopted(&mut **engine);
            found.push(owner.step(&mut **engine, slot, tokens, number));
            if number % 23 == 22 {
                other = loader.load().unwrap();
            } else if number % 3 == 0 {
                engine.close(slot);
            }
        }
        assert!(found == undisturbed, "{name} {window:?}");
    }
}

#[test]
fn forks_of_every_length_never_see_each_others_rows() {
    for name in FORMS {
        let loader = paged(name, window(256, 4, 64));
        let mut engine = loader.load().unwrap();
        let text = text_tokens(&fixture(name), 200);
        let mut parent = Owner::default();
        let slot = engine.open().unwrap();
        parent.step(&mut *engine, slot, &text[..69], 0);
        // All within one run of three tokens, with the parent among them.
        let mut forks: Vec<_> = (31..=70).map(|len| parent.fork(len)).collect();
        let slots: Vec<_> = forks.iter().map(|fork| fork.adopted(&mut *engine)).collect();
        for turn in 0..2 {
            let tokens = |index: usize| &text[2 * index + 7 * turn..][..3];
            let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 9, top: 5, guide: None };
            let expected: Vec<_> =
                forks.iter().enumerate().map(|(index, fork)| fork.expected(&mut *engine, tokens(index), 9)).collect();
            let row = |(index, &slot): (usize, &SlotIndex)| Row { slot, tokens: tokens(index), want };
            let rows: Vec<_> = slots.iter().enumerate().map(row).collect();
            let sampled: Vec<_> = engine.run(&rows).unwrap().map(|output| output.sampled.unwrap()).collect();
            assert!(sampled == expected, "{name}, turn {turn}");
            for ((index, fork), sampled) in forks.iter_mut().enumerate().zip(sampled) {
                fork.context.extend(tokens(index));
                fork.context.push(sampled.token);
                fork.resident.apply(engine.take_held(slots[index]));
                fork.check();
            }
        }
        let expected = parent.expected(&mut *engine, &text[..2], 3);
        assert_eq!(parent.step(&mut *engine, slot, &text[..2], 3), expected, "{name}: the parent");
    }
}

#[test]
fn whatever_is_forked_rewound_moved_and_failed_answers_as_read_alone() {
    for (name, seed) in ["tiny-gqa-fp32", "tiny-plain-f16"].into_iter().zip(1..) {
        let loader = paged(name, window(160, 4, 40));
        let mut engines = [(); 3].map(|()| loader.load().unwrap());
        let text = text_tokens(&fixture(name), 300);
        let mut choices = Choices(seed);
        let mut conversations: Vec<(Owner, usize, SlotIndex)> = Vec::new();
        for event in 0..400 {
            let length = conversations.len();
            if length == 0 {
                conversations.push((Owner::default(), 0, engines[0].open().unwrap()));
                continue;
            }
            let chosen = choices.below(length);
            let (owner, at, slot) = &mut conversations[chosen];
            let len = owner.context.len();
            match choices.below(10) {
                0 if length < 8 => {
                    let fork = owner.fork(choices.below(len + 1));
                    let at = choices.below(2);
                    let slot = fork.adopted(&mut *engines[at]);
                    conversations.push((fork, at, slot));
                }
                1 => {
                    let len = choices.below(len + 1);
                    owner.context.truncate(len);
                    engines[*at].rewind(*slot, len).unwrap();
                    owner.resident.apply(engines[*at].take_held(*slot));
                    owner.check();
                }
                2 => {
                    engines[*at].close(*slot);
                    *at = 1 - *at;
                    *slot = owner.adopted(&mut *engines[*at]);
                }
                3 => {
                    engines[*at].close(*slot);
                    conversations.swap_remove(chosen);
                }
                4 => {
                    // A run that fails.
                    engines[*at].interrupter().interrupt();
                    let row = Row { slot: *slot, tokens: &text[..20], want: Want::Nothing };
                    assert_eq!(engines[*at].run(&[row]).unwrap_err().kind, EngineErrorKind::Interrupted);
                }
                _ => {
                    let start = choices.below(200);
                    let few = [1, 3, 40][choices.below(3)];
                    let count = choices.below(few) + usize::from(len == 0);
                    if len + count >= 160 {
                        continue;
                    }
                    let tokens = &text[start..start + count];
                    let expected = owner.expected(&mut *engines[2], tokens, event);
                    let found = owner.step(&mut *engines[*at], *slot, tokens, event);
                    assert_eq!(found, expected, "{name} {seed}, event {event}: {count} behind {len}");
                }
            }
        }
        drop(conversations);
        drop(engines);
        assert_eq!(loader.kv_bytes(), 0, "nobody has a page any more");
    }
}

/// A run that nobody waits for any more: from its own thread it writes garbage, to all that it may write to, for as
/// long as it can.
struct Abandoned {
    over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Abandoned {
    /// On what the owner has, with room for 40 tokens more.
    fn on(owner: &Owner, contract: &motorbrain::model::Contract) -> Self {
        let pages: Vec<_> = owner.resident.pages.iter().map(|page| page.memory::<attention::Page>().unwrap()).collect();
        let store = Arc::clone(pages[0].store());
        let (past, tokens, width) = (owner.resident.kv_len, 40, contract.kv_heads * contract.head_dim);
        let mut kv = PagedKv::adopt(&store, pages.into_iter(), past, 256).unwrap();
        kv.make_room(past, tokens).unwrap();
        let rows = [BatchRow { kv: Arc::new(kv), past, cached: past, position: past, tokens }];
        let (layers, kv_heads, head_dim) = (contract.layers, contract.kv_heads, contract.head_dim);
        let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, written, begun) = (Arc::clone(&over), Arc::clone(&rounds), Arc::new(Barrier::new(2)));
        let begins = Arc::clone(&begun);
        let thread = thread::spawn(move || {
            let mut output = vec![0.0; tokens * width];
            while !stop.load(Ordering::Relaxed) {
                for layer in 0..layers {
                    let round = written.fetch_add(1, Ordering::Relaxed);
                    let garbage = vec![if round % 2 == 0 { f32::NAN } else { 1e9 + round as f32 }; tokens * width];
                    let part = Heads { data: &garbage, width, first: 0, head_dim };
                    let (scale, softcap, window) = (1.0, None, None);
                    let shape = Shape { layer, heads: kv_heads, kv_heads, head_dim, scale, softcap, window };
                    let layer = Layer { shape, rows: &rows, queries: part, keys: part, values: part, rotary: None };
                    layer.check(tokens).unwrap();
                    let (mut plan, mut pieces) = (Plan::default(), Vec::new());
                    layer.plan(&mut plan);
                    layer.cut(&mut output, &mut pieces);
                    let Ok(()) = layer.run(&plan, &[], &pieces, &Alone);
                }
                if written.load(Ordering::Relaxed) == layers {
                    begins.wait();
                }
            }
        });
        begun.wait();
        Self { over, rounds, thread: Some(thread) }
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let rounds = self.rounds.load(Ordering::Relaxed);
        println!("garbage was written {rounds} times");
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn an_abandoned_run_that_writes_for_ever_changes_no_answer() {
    for name in FORMS {
        // The second slides while garbage is written to what it slides.
        for (window, len) in [(window(256, 4, 64), 45), (window(50, 4, 12), 45), (window(256, 4, 64), 64)] {
            let loader = paged(name, window);
            let contract = &model(&fixture(name)).contract;
            let text = text_tokens(&fixture(name), 100);
            let mut engine = loader.load().unwrap();
            let (slot, mut owner) = (engine.open().unwrap(), Owner::default());
            owner.step(&mut *engine, slot, &text[..len], 0);
            let shared = owner.clone();
            let undisturbed: Vec<_> = (1..60).map(|number| owner.step(&mut *engine, slot, &[], number)).collect();

            // What was committed when the run began to hang.
            let mut owner = shared.fork(len);
            let abandoned = Abandoned::on(&owner, contract);
            owner.context.clone_from(&shared.context);
            engine = loader.load().unwrap();
            let slot = owner.adopted(&mut *engine);
            let found: Vec<_> = (1..60).map(|number| owner.step(&mut *engine, slot, &[], number)).collect();
            assert!(found == undisturbed, "{name} {window:?} {len}");
            drop(abandoned);
        }
    }
}

#[test]
fn pages_that_are_no_contexts_are_refused() {
    type Spoil = fn(&mut Owner);
    let loader = paged("tiny-plain", window(128, 4, 32));
    let mut engine = loader.load().unwrap();
    let (slot, mut owner) = (engine.open().unwrap(), Owner::default());
    owner.step(&mut *engine, slot, &text_tokens(&fixture("tiny-plain"), 69), 0);
    let held = engine.kv_bytes();
    let stranger = paged("tiny-plain", window(128, 4, 32));
    let cases: [(&str, Spoil); 8] = [
        ("not those of a context", |owner| owner.resident.kv_len -= 1),
        ("not those of a context", |owner| owner.context.truncate(68)),
        ("not those of a context", |owner| owner.context.resize(129, TokenId(1))),
        ("outside the vocabulary", |owner| owner.context[3] = TokenId(576)),
        ("lie in 3 pages, not in 2", |owner| drop(owner.resident.pages.pop())),
        ("page 2 has 5 rows, expected 6", |owner| owner.resident.kv_len += 1),
        ("page 1 has 5 rows, expected 32", |owner| owner.resident.pages.swap(1, 2)),
        ("the pages are another engine's", |owner| owner.resident.pages[0] = Page::new(Arc::new(7))),
    ];
    let check = |engine: &mut dyn Engine, owner: &Owner, expected: &str| {
        let error = engine.adopt(&owner.context, &owner.resident).unwrap_err();
        assert_eq!((error.kind, error.row), (EngineErrorKind::Rejected, None));
        assert!(error.message.contains(expected), "{error}: {expected}");
    };
    for (expected, spoil) in cases {
        let mut spoilt = owner.clone();
        spoil(&mut spoilt);
        check(&mut *engine, &spoilt, expected);
    }
    check(&mut *stranger.load().unwrap(), &owner, "page 0 is another model's");
    check(&mut *loader.load_plain().unwrap(), &owner, "keeps keys and values to itself");
    assert_eq!(engine.kv_bytes(), held);
    owner.adopted(&mut *engine);
}

#[test]
fn conversations_that_begin_alike_hold_their_pages_once() {
    let loader = paged("tiny-plain", window(1200, 4, 300));
    let mut engine = loader.load().unwrap();
    let page = engine.info().pages.unwrap();
    assert_eq!((page.tokens, page.bytes), (PAGE, PAGE * engine.info().kv_bytes_per_token));
    let (slot, mut owner) = (engine.open().unwrap(), Owner::default());
    owner.step(&mut *engine, slot, &text_tokens(&fixture("tiny-plain"), 1000), 0);
    assert_eq!(engine.kv_bytes(), 32 * page.bytes);
    let mut forks: Vec<_> = (0..63).map(|_| owner.clone()).collect();
    let slots: Vec<_> = forks.iter().map(|fork| fork.adopted(&mut *engine)).collect();
    assert_eq!(engine.kv_bytes(), 32 * page.bytes, "a fork costs nothing");
    for (fork, slot) in forks.iter_mut().zip(&slots) {
        fork.step(&mut *engine, *slot, &[], 1);
    }
    // One of them went on in the page that all have; the others have a copy of it.
    assert_eq!(engine.kv_bytes(), (32 + 62) * page.bytes);
    slots.iter().for_each(|slot| engine.close(*slot));
    assert_eq!(loader.kv_bytes(), (32 + 62) * page.bytes, "their owners have them");
    drop(forks);
    assert_eq!(loader.kv_bytes(), 32 * page.bytes);
    drop(owner);
    assert_eq!(loader.kv_bytes(), 32 * page.bytes, "the slot has them");
    drop(engine);
    assert_eq!(loader.kv_bytes(), 0);
}
