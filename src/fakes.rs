//! Contexts on the fake's pages, for tests of what becomes of them outside of memory.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use motorbrain_actors::{
    engine::{EngineInfo, EngineLoader, Resident, Row, Sampling, Slides, Want, Window},
    job::History,
    keep::Kept,
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, FakeLoader, fake_info, states_in};

/// Tokens of a fake's page.
pub(crate) const PAGE: usize = 4;

pub(crate) fn loader() -> FakeLoader {
    let window = Window { size: 64, sinks: 2, slide: 4, slides: Slides::Shift };
    FakeLoader { info: EngineInfo { window, ..fake_info() }, control: FakeControl::default() }
}

/// Where a conversation stands that read so many tokens and sampled one, which has no keys and values yet.
pub(crate) fn context(loader: &FakeLoader, len: usize) -> Kept {
    let mut engine = loader.load().unwrap();
    let slot = engine.open().unwrap();
    let mut tokens: Vec<TokenId> = (0..len as u32).map(|index| TokenId((7 * index + len as u32) % 64)).collect();
    let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 0, guide: None };
    let output = engine.run(&[Row { slot, tokens: &tokens, want }]).unwrap().next().unwrap();
    tokens.extend(output.sampled.map(|sampled| sampled.token));
    let mut resident = Resident::default();
    resident.apply(engine.take_held(slot));
    let total = tokens.len() as u64;
    Kept { history: History { tokens: Arc::new(tokens), total, ..History::default() }, floor: 0, resident }
}

/// The first tokens of one.
pub(crate) fn fork(of: &Kept, len: usize) -> Kept {
    let mut fork = of.clone();
    fork.history.truncate(len);
    fork.resident.truncate(len, PAGE);
    fork
}

pub(crate) fn histories(states: &[Kept]) -> Vec<History> {
    states.iter().map(|state| state.history.clone()).collect()
}

/// Whether they are the same but for where pages lie: rows that count, and which contexts share them.
pub(crate) fn assert_same(found: &[Kept], expected: &[Kept]) {
    let facts = |states: &[Kept]| {
        let mut known = Vec::new();
        let facts = states.iter().map(|Kept { history, floor, resident }| {
            let pages = resident.pages.iter().map(|page| {
                let place = known.iter().position(|known| known == page);
                place.unwrap_or_else(|| {
                    known.push(page.clone());
                    known.len() - 1
                })
            });
            let pages: Vec<_> = pages.collect();
            (history.clone(), *floor, resident.kv_len, states_in(resident, PAGE), pages)
        });
        facts.collect::<Vec<_>>()
    };
    let (found, expected) = (facts(found), facts(expected));
    assert!(found.iter().all(|(.., states, _)| states.is_some()), "{found:?}");
    assert_eq!(found, expected);
}
