//! What is kept and comes back, on the fake's pages: on a disk that fails where it is told to, and in a real folder.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod damage;
mod failing;
mod folders;

use motorbrain_actors::{
    engine::{EngineInfo, Row, Sampling, Want, Window},
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, FakeLoader, fake_info, states_in};

use super::*;

/// Tokens of a fake's page.
const PAGE: usize = 4;

fn loader() -> FakeLoader {
    let window = Window { size: 64, sinks: 2, slide: 4, slides: true };
    FakeLoader { info: EngineInfo { window, ..fake_info() }, control: FakeControl::default() }
}

/// Where a conversation stands that read so many tokens and sampled one, which has no keys and values yet.
fn context(loader: &FakeLoader, len: usize) -> Kept {
    let mut engine = loader.load().unwrap();
    let slot = engine.open().unwrap();
    let mut tokens: Vec<TokenId> = (0..len as u32).map(|index| TokenId((7 * index + len as u32) % 64)).collect();
    let want = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 0 };
    let output = engine.run(&[Row { slot, tokens: &tokens, want }]).unwrap().next().unwrap();
    tokens.extend(output.sampled.map(|sampled| sampled.token));
    let mut resident = motorbrain_actors::engine::Resident::default();
    resident.apply(engine.take_held(slot));
    let total = tokens.len() as u64;
    Kept { history: History { tokens: Arc::new(tokens), total, ..History::default() }, floor: 0, resident }
}

/// The first tokens of one.
fn fork(of: &Kept, len: usize) -> Kept {
    let mut fork = of.clone();
    fork.history.truncate(len);
    fork.resident.truncate(len, PAGE);
    fork
}

fn histories(states: &[Kept]) -> Vec<History> {
    states.iter().map(|state| state.history.clone()).collect()
}

/// Whether they are the same but for where pages lie: rows that count, and which contexts share them.
fn assert_same(found: &[Kept], expected: &[Kept]) {
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

fn name(name: &str) -> ConversationId {
    name.into()
}

#[test]
fn contexts_come_back_with_what_they_share() {
    let loader = loader();
    let long = context(&loader, 31);
    for states in [
        vec![long.clone(), fork(&long, 22), fork(&long, 20), context(&loader, 9)],
        vec![Kept::default()],
        vec![context(&loader, 1)],
        vec![Kept { floor: 3, resident: Default::default(), ..context(&loader, 8) }],
        vec![],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let keep = open(folder.path(), None, Arc::new(loader.clone())).unwrap();
        let before = loader.control.page_numbers();
        keep.put(KeptId(3), &name("a"), &states).unwrap();
        let found = keep.take(KeptId(3), &name("a"), &histories(&states)).unwrap();
        assert_same(&found, &states);
        let pages = found.iter().flat_map(|state| &state.resident.pages);
        let numbers = pages.map(|page| motorbrain_testing::page_number(page).unwrap());
        assert!(numbers.into_iter().all(|number| !before.contains(&number)), "the memory is new");
        // It stays until it is forgotten, and forgotten it is gone.
        keep.take(KeptId(3), &name("a"), &histories(&states)).unwrap();
        keep.forget(KeptId(3));
        let gone = keep.take(KeptId(3), &name("a"), &histories(&states)).unwrap_err();
        assert_eq!(gone, KeepError::Unknown(KeptId(3)));
        keep.forget(KeptId(3));
    }
}

#[test]
fn pages_that_several_have_are_written_once() {
    let (loader, folder) = (loader(), tempfile::tempdir().unwrap());
    let keep = open(folder.path(), None, Arc::new(loader.clone())).unwrap();
    let long = context(&loader, 60);
    let one = keep.put(KeptId(0), &name("a"), std::slice::from_ref(&long)).unwrap();
    let two = keep.put(KeptId(1), &name("a"), &[long.clone(), long.clone()]).unwrap();
    let apart = keep.put(KeptId(2), &name("a"), &[long.clone(), context(&loader, 59)]).unwrap();
    let page = PAGE as u64 * 8;
    assert!(two - one < 4 * page && apart - one > 14 * page, "{one} {two} {apart}");
}

#[test]
fn an_engine_without_pages_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut loader = loader();
    loader.info.pages = None;
    let keep = open(folder.path(), None, Arc::new(loader)).unwrap();
    let refused = keep.put(KeptId(0), &name("a"), &[Kept::default()]);
    assert_eq!(refused, Err(KeepError::Page(motorbrain_actors::engine::PageError::NoPages)));
}
