//! What the tree promises, one sentence a test; `laws` holds it against a model that keeps everything apart.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
mod laws;

use super::*;
use fake::{Talk, ids, means, read};

/// Tokens of a page here.
const PAGE: usize = 4;

/// A conversation of these tokens, seated without looking for what is resident.
fn talk(prefixes: &mut Prefixes, scope: Option<&str>, tokens: &[u32]) -> Talk {
    let mut talk = Talk::new(prefixes, scope.map(Scope::from));
    talk.say(prefixes, tokens);
    talk
}

/// How many of these tokens are found, which must lie in the pages that come with them.
fn found(prefixes: &mut Prefixes, tokens: &[u32]) -> usize {
    let (tokens, before) = (ids(tokens), prefixes.pages());
    let resident = prefixes.find(None, tokens.iter().copied(), usize::MAX);
    means(&resident, &tokens, PAGE).unwrap();
    assert_eq!(prefixes.pages(), before);
    resident.kv_len
}

fn holds(prefixes: &Prefixes, talks: &[&Talk]) {
    let broken = prefixes.check_invariants(talks.iter().filter_map(|talk| talk.seat.as_ref()));
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn what_a_conversation_holds_is_found_to_the_token() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let talk = talk(&mut prefixes, None, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    holds(&prefixes, &[&talk]);
    for (tokens, expected) in [
        (&[1_u32, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] as &[u32], 10),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9], 9),
        (&[1, 2, 3, 4, 5, 6, 0, 8, 9], 6),
        (&[1, 2, 3, 4, 0], 4),
        (&[1, 0], 1),
        (&[0, 2, 3, 4], 0),
        (&[], 0),
    ] {
        assert_eq!(found(&mut prefixes, tokens), expected, "{tokens:?}");
    }
}

#[test]
fn no_more_is_found_than_asked_for() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let _talk = talk(&mut prefixes, None, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for len_max in 0..10 {
        let found = prefixes.find(None, ids(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), len_max);
        assert_eq!((found.kv_len, found.pages.len()), (len_max.min(8), len_max.min(8).div_ceil(PAGE)));
    }
}

#[test]
fn of_pages_that_begin_alike_the_one_with_the_most_in_common_is_found() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let talks = [&[1_u32, 5, 5, 5] as &[u32], &[1, 5, 7, 1], &[1, 5, 7, 9], &[1, 6], &[2]].map(|tokens| {
        let talk = talk(&mut prefixes, None, tokens);
        assert_eq!(found(&mut prefixes, tokens), tokens.len());
        talk
    });
    holds(&prefixes, &talks.each_ref());
    for (tokens, expected) in
        [(&[1_u32, 5, 7, 5] as &[u32], 3), (&[1, 5, 9], 2), (&[1, 4], 1), (&[1, 6, 0], 2), (&[0], 0)]
    {
        assert_eq!(found(&mut prefixes, tokens), expected, "{tokens:?}");
    }
}

#[test]
fn scopes_know_nothing_of_each_other() {
    let mut prefixes = Prefixes::new(PAGE, 10);
    let talks = [None, Some("a"), Some("b")].map(|scope| talk(&mut prefixes, scope, &[1, 2, 3, 4, 5]));
    assert_eq!(prefixes.pages(), 6);
    let mut seen = Vec::new();
    for (talk, scope) in talks.iter().zip([None, Some("a"), Some("b")]) {
        let found = prefixes.find(scope.map(Scope::from).as_ref(), ids(&[1, 2, 3, 4, 5]), usize::MAX);
        assert_eq!(found, talk.resident);
        assert!(found.pages.iter().all(|page| !seen.contains(page)));
        seen.extend(found.pages);
    }
    assert_eq!(prefixes.find(Some(&Scope::from("c")), ids(&[1]), usize::MAX), Resident::default());
}

#[test]
fn a_scope_without_seats_and_pages_is_forgotten() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let mut talk = talk(&mut prefixes, Some("a"), &[1, 2, 3, 4, 5]);
    let seat = prefixes.sit(Some(&Scope::from("b")), &ids(&[1, 2]));
    assert_eq!(prefixes.roots.len(), 2);
    prefixes.leave(seat);
    talk.leave(&mut prefixes);
    assert_eq!((prefixes.roots.len(), prefixes.nodes.len()), (0, 0));
    holds(&prefixes, &[]);
}

#[test]
fn those_who_read_the_same_hold_it_once() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let prompt: Vec<u32> = (0..4 * PAGE as u32 + 2).collect();
    let talks: Vec<_> = (0..64).map(|_| talk(&mut prefixes, None, &prompt)).collect();
    assert_eq!(prefixes.pages(), 5);
    assert!(talks.iter().all(|talk| talk.resident == talks[0].resident));
    let others = talks.iter().skip(1).flat_map(|talk| &talk.read);
    assert!(others.clone().count() > 64 && others.clone().all(|page| page.strong_count() == 0));
    holds(&prefixes, &talks.iter().collect::<Vec<_>>());
}

#[test]
fn a_page_that_grew_takes_the_place_of_what_it_was() {
    let mut prefixes = Prefixes::new(PAGE, 100);
    let mut talk = talk(&mut prefixes, None, &[1]);
    for (token, pages) in [(2, 1), (3, 1), (4, 1), (5, 2), (6, 2)] {
        talk.say(&mut prefixes, &[token]);
        assert_eq!((prefixes.pages(), prefixes.idle_pages()), (pages, 0));
    }
    holds(&prefixes, &[&talk]);
}

#[test]
fn a_page_stays_what_it_was_where_another_sits_until_that_one_leaves() {
    let mut prefixes = Prefixes::new(PAGE, 100);
    let mut parent = talk(&mut prefixes, None, &[1, 2]);
    let mut child = parent.fork(&mut prefixes, 2);
    parent.say(&mut prefixes, &[3]);
    assert_eq!((prefixes.pages(), prefixes.idle_pages()), (2, 0));
    holds(&prefixes, &[&parent, &child]);
    child.leave(&mut prefixes);
    // Nobody misses it: the longer one holds the same tokens.
    assert_eq!((prefixes.pages(), prefixes.idle_pages()), (1, 0));
    assert_eq!(found(&mut prefixes, &[1, 2, 3]), 3);
    holds(&prefixes, &[&parent]);
}

#[test]
fn what_nobody_uses_goes_in_the_order_of_its_last_use_and_last_page_first() {
    let mut prefixes = Prefixes::new(PAGE, 5);
    let [mut old, mut new] =
        [[1, 1, 1, 1, 1, 1, 1, 1, 1], [2; 9]].map(|tokens: [u32; 9]| talk(&mut prefixes, None, &tokens));
    old.leave(&mut prefixes);
    new.leave(&mut prefixes);
    assert_eq!((prefixes.pages(), prefixes.idle_pages()), (5, 5));
    assert_eq!((found(&mut prefixes, &[2; 9]), found(&mut prefixes, &[1; 9])), (9, 8));
    // What was found last is the newest now.
    for (limit, expected) in [(4, (8, 8)), (3, (4, 8)), (2, (0, 8)), (1, (0, 4)), (0, (0, 0))] {
        prefixes.limit_idle(limit);
        assert_eq!(prefixes.idle_pages(), limit);
        let lens = (found(&mut prefixes, &[2; 9]), found(&mut prefixes, &[1; 9]));
        assert_eq!(lens, expected);
        holds(&prefixes, &[]);
    }
    assert!(old.read.iter().chain(&new.read).all(|page| page.strong_count() == 0));
}

#[test]
fn what_somebody_uses_never_goes() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let mut first = talk(&mut prefixes, None, &[1; 9]);
    let mut second = talk(&mut prefixes, None, &[1, 1, 1, 1, 2, 2, 2, 2, 2]);
    first.leave(&mut prefixes);
    assert_eq!((prefixes.pages(), found(&mut prefixes, &[1; 9])), (3, 4));
    holds(&prefixes, &[&second]);
    second.leave(&mut prefixes);
    assert_eq!(prefixes.pages(), 0);
}

#[test]
fn a_conversation_that_went_back_sits_where_its_tokens_end() {
    let mut prefixes = Prefixes::new(PAGE, 100);
    let mut talk = talk(&mut prefixes, None, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    talk.rewind(6);
    talk.settle(&mut prefixes);
    holds(&prefixes, &[&talk]);
    // What was said is still to be found, and what is said now as well.
    assert_eq!(found(&mut prefixes, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), 9);
    talk.say(&mut prefixes, &[0, 0, 0]);
    assert_eq!(found(&mut prefixes, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), 9);
    assert_eq!(found(&mut prefixes, &[1, 2, 3, 4, 5, 6, 0, 0, 0]), 9);
    holds(&prefixes, &[&talk]);
    // Said again from the beginning, after going back unseen.
    talk.rewind(0);
    talk.say(&mut prefixes, &[1, 2, 9]);
    assert_eq!(found(&mut prefixes, &[1, 2, 9]), 3);
    holds(&prefixes, &[&talk]);
}

#[test]
fn a_fork_keeps_what_it_begins_with() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let mut parent = talk(&mut prefixes, None, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let [mut deep, mut flat] = [10, 5].map(|at| parent.fork(&mut prefixes, at));
    parent.leave(&mut prefixes);
    assert_eq!(found(&mut prefixes, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 10);
    deep.leave(&mut prefixes);
    assert_eq!(found(&mut prefixes, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 4);
    flat.settle(&mut prefixes);
    assert_eq!(found(&mut prefixes, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 5);
    holds(&prefixes, &[&flat]);
}

#[test]
fn pages_that_were_read_again_are_exchanged_for_those_that_are_known() {
    let mut prefixes = Prefixes::new(PAGE, 0);
    let mut talk = talk(&mut prefixes, None, &[1, 2, 3, 4, 5, 6]);
    let known = talk.resident.clone();
    talk.resident = Resident::default();
    read(&talk.tokens, &mut talk.resident, 6, PAGE, &mut talk.read);
    assert_ne!(talk.resident, known);
    talk.settle(&mut prefixes);
    assert_eq!(talk.resident, known);
    holds(&prefixes, &[&talk]);
}

#[test]
fn a_token_costs_the_same_whoever_else_is_there_and_however_much_was_said() {
    let visits = |others: u32, tokens: u32| {
        let mut prefixes = Prefixes::new(PAGE, 0);
        let mut talks: Vec<_> = (1..=others).map(|it| talk(&mut prefixes, None, &[it, 0, it])).collect();
        let mut long = talk(&mut prefixes, None, &(0..tokens).collect::<Vec<_>>());
        prefixes.nodes.visits.set(0);
        talks[others as usize / 2].say(&mut prefixes, &[7]);
        talks[others as usize / 2].say(&mut prefixes, &[7]);
        long.say(&mut prefixes, &[7]);
        long.say(&mut prefixes, &[7]);
        prefixes.nodes.visits.get()
    };
    let (few, many, long) = (visits(16, 1), visits(10_000, 1), visits(16, 100 * PAGE as u32 + 1));
    assert!(few == many && few == long && few < 100, "{few}, {many} and {long} visits");
}

#[test]
fn no_depth_is_too_deep() {
    let mut prefixes = Prefixes::new(1, 0);
    let tokens = ids(&(0..100_000).collect::<Vec<_>>());
    let pages = (0..tokens.len()).map(|_| Page::new(Arc::new(()))).collect();
    let mut resident = Resident { pages, kv_len: tokens.len() };
    let mut seat = prefixes.sit(None, &[]);
    prefixes.settle(&mut seat, &tokens[..], &mut resident);
    assert_eq!(prefixes.find(None, tokens.iter().copied(), usize::MAX), resident);
    prefixes.leave(seat);
    assert_eq!(prefixes.pages(), 0);
}
