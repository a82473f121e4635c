//! What is kept and comes back, on the fake's pages: on a disk that fails where it is told to, and in a real folder.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod damage;
mod failing;
mod folders;

use motorbrain_actors::engine::EngineInfo;
use motorbrain_testing::{FakeLoader, states_in};

use super::*;
use crate::fakes::{PAGE, assert_same, context, fork, histories, loader};

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
