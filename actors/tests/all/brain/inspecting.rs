//! What a brain tells of its conversations: one, and pages of all.

use std::collections::BTreeSet;

use motorbrain_actors::{
    engine::Sampling,
    message::{ErrorCode, Fork, Sharing, Step, Terms},
    policy::{Dwelling, Inspected, LIST_MAX, ListAsk, SharingKind},
    tokens::Tokenizer,
};
use motorbrain_testing::{Fault, fake_info_without_pages};

use super::{
    Bench, Letters, config,
    sharing::{roomy, text},
    start, start_with, step, within,
};

/// Bytes of one of the fake's pages, which hold 4 tokens.
const PAGE_BYTES: usize = 64;

fn on_terms(sharing: Sharing, step: Step) -> Step {
    Step { terms: Terms { sharing: Some(sharing), ..Terms::default() }, ..step }
}

fn fork(from: &str, to: &str) -> Fork {
    Fork { from: from.into(), to: to.into(), at: None, choice: None }
}

/// Pages that it holds, and those of them that others hold as well.
fn pages(inspected: &Inspected) -> (usize, usize) {
    (inspected.kv_bytes / PAGE_BYTES, inspected.shared_bytes / PAGE_BYTES)
}

async fn inspect(bench: &Bench, name: &str) -> Inspected {
    bench.brain.inspect(name).await.unwrap()
}

/// Waits until a conversation shares so many of so many pages: an actor lets go of its own a moment after its report.
async fn until_pages(bench: &Bench, name: &str, expected: (usize, usize)) {
    within(async {
        while pages(&inspect(bench, name).await) != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_conversation_is_told_as_it_stands() {
    let bench = start_with(config(1), roomy(64)).await;
    assert_eq!(bench.brain.inspect("a").await.unwrap_err().code(), ErrorCode::UnknownConversation);
    bench.brain.step(step("a", &text(10), 3)).await.unwrap();
    let found = inspect(&bench, "a").await;
    assert_eq!(found.conversation.as_str(), "a");
    assert_eq!((found.context_len, found.total, found.slid), (13, 13, false));
    // The token that was sampled last has no keys yet.
    assert_eq!((pages(&found), found.dwelling), ((3, 0), Dwelling::Resident));
    assert_eq!((found.actor, found.requests, found.choices), (Some(0), 0, 0));
    assert_eq!((found.sharing, found.quarantined), (SharingKind::All, false));
    assert!(found.idle.is_some());
    bench.brain.reset("a").await.unwrap();
    let empty = inspect(&bench, "a").await;
    assert_eq!((empty.context_len, empty.total, pages(&empty), empty.dwelling), (0, 0, (0, 0), Dwelling::Tokens));
    bench.brain.close("a").await.unwrap();
    assert_eq!(bench.brain.inspect("a").await.unwrap_err().code(), ErrorCode::UnknownConversation);
}

#[tokio::test]
async fn what_a_slide_has_left_counts_in_the_total_alone() {
    let bench = start_with(config(1), roomy(16)).await;
    bench.brain.step(step("a", &text(30), 3)).await.unwrap();
    let found = inspect(&bench, "a").await;
    assert!(found.slid && found.total == 33 && found.context_len <= 16, "{found:?}");
    assert_eq!(pages(&found).0, (found.context_len - 1).div_ceil(4));
}

#[tokio::test]
async fn pages_that_others_hold_as_well_are_shared() {
    let bench = start_with(config(1), roomy(64)).await;
    bench.brain.step(step("a", &text(20), 1)).await.unwrap();
    bench.brain.step(step("b", &text(20), 1)).await.unwrap();
    bench.brain.step(step("b", "AND MORE", 1)).await.unwrap();
    assert_eq!(pages(&inspect(&bench, "a").await), (5, 5));
    assert_eq!(pages(&inspect(&bench, "b").await), (8, 5));
    bench.brain.close("a").await.unwrap();
    assert_eq!(pages(&inspect(&bench, "b").await), (8, 0), "who is gone shares nothing");
}

#[tokio::test]
async fn forks_share_also_where_nobody_else_may() {
    let bench = start_with(config(1), roomy(16)).await;
    for (name, text, terms) in [("slid", text(30), Sharing::default()), ("private", text(10), Sharing::Nobody)] {
        bench.brain.step(on_terms(terms, step(name, &text, 1))).await.unwrap();
        let held = pages(&inspect(&bench, name).await).0;
        until_pages(&bench, name, (held, 0)).await;
        bench.brain.fork(fork(name, "fork")).await.unwrap();
        for name in [name, "fork"] {
            until_pages(&bench, name, (held, held)).await;
        }
        bench.brain.close("fork").await.unwrap();
        until_pages(&bench, name, (held, 0)).await;
    }
}

#[tokio::test]
async fn answers_that_wait_hold_pages_of_their_own_and_share_none_with_themselves() {
    let bench = start_with(config(1), roomy(64)).await;
    for (name, terms) in [("a", Sharing::default()), ("b", Sharing::Nobody)] {
        let sampling = Sampling { temperature: 3.0, ..Sampling::GREEDY };
        let asked = Step { n: 3, sampling, seed: Some(1), ..on_terms(terms, step(name, &text(10), 9)) };
        bench.brain.several(asked).await.unwrap();
        let found = inspect(&bench, name).await;
        assert_eq!((found.context_len, found.choices), (10, 3), "{name}");
        // Two full pages of the input are everybody's; each answer ends three pages later.
        assert!(pages(&found).0 >= 3 + 3 * 2, "{name}: {found:?}");
        let held = pages(&found).0;
        until_pages(&bench, name, (held, 0)).await;
    }
}

#[tokio::test]
async fn engines_without_pages_hold_what_their_slots_hold() {
    let bench = start_with(config(1), fake_info_without_pages()).await;
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    let found = inspect(&bench, "a").await;
    assert_eq!(found.kv_bytes, found.context_len * fake_info_without_pages().kv_bytes_per_token);
    assert_eq!((found.shared_bytes, found.dwelling), (0, Dwelling::Resident));
    bench.brain.crash(0).await.unwrap();
    bench.until_ready(0, 1).await;
    let found = inspect(&bench, "a").await;
    assert_eq!((found.kv_bytes, found.dwelling), (0, Dwelling::Tokens), "they died with its engine");
}

#[tokio::test]
async fn who_waits_is_not_idle_and_has_a_place_with_its_first_request() {
    let bench = start(config(1)).await;
    bench.control.fault_in_run(1, Fault::HANG);
    let (brain, sharing) = (bench.brain.clone(), Sharing::With(Some("s".into())));
    let first = tokio::spawn(async move { brain.step(on_terms(sharing, step("a", "HELLO", 1))).await });
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    let brain = bench.brain.clone();
    let second = tokio::spawn(async move { brain.step(step("a", "HELLO", 1)).await });
    within(async {
        while inspect(&bench, "a").await.requests < 2 {
            tokio::task::yield_now().await
        }
    })
    .await;
    let found = inspect(&bench, "a").await;
    assert_eq!((found.context_len, found.idle, found.dwelling), (0, None, Dwelling::Tokens));
    bench.control.release_hangs();
    within(first).await.unwrap().unwrap();
    within(second).await.unwrap().unwrap();
    let found = inspect(&bench, "a").await;
    assert_eq!((found.requests, found.sharing), (0, SharingKind::Scope));
    assert!(found.idle.is_some());
}

#[tokio::test]
async fn who_is_quarantined_is_told_to_be() {
    let bench = start(config(1)).await;
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    bench.control.fault_on_token(Letters.encode("!").unwrap()[0], Fault::Panic);
    within(bench.brain.step(step("a", "BAD!", 1))).await.unwrap_err();
    assert!(inspect(&bench, "a").await.quarantined);
    bench.brain.step(step("b", "HELLO", 1)).await.unwrap();
    assert!(!inspect(&bench, "b").await.quarantined);
    bench.brain.reset("a").await.unwrap();
    assert!(!inspect(&bench, "a").await.quarantined);
}

#[tokio::test]
async fn pages_hold_everybody_who_stays_exactly_once_whoever_comes_and_goes() {
    let bench = start(config(1)).await;
    let mut stay: BTreeSet<String> = (0..100).map(|number| format!("{number}")).collect();
    for name in &stay {
        bench.brain.step(step(name, "HELLO", 1)).await.unwrap();
    }
    for limit in [1, 7, 50, 99, 100, 101] {
        let (mut seen, mut ask) = (Vec::new(), ListAsk { after: None, limit });
        loop {
            let page = bench.brain.list(ask.clone()).await.unwrap();
            assert!(page.conversations.len() == limit || page.next.is_none(), "{limit}");
            seen.extend(page.conversations.into_iter().map(|it| it.conversation.to_string()));
            let Some(next) = page.next else { break };
            // The one that the next page begins behind goes, and another comes.
            if limit == 7 {
                bench.brain.close(next.clone()).await.unwrap();
                stay.remove(next.as_str());
                bench.brain.step(step(&format!("new {next}"), "HELLO", 1)).await.unwrap();
            }
            ask.after = Some(next);
        }
        let all: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(all.len(), seen.len(), "nobody stands on two pages of {limit}");
        assert!(all.is_superset(&stay), "{limit}: {:?} are missing", stay.difference(&all));
    }
    assert!(stay.len() < 90, "some went");
}

#[tokio::test]
async fn a_page_of_none_or_of_too_many_is_a_bad_request() {
    let bench = start(config(1)).await;
    assert_eq!(bench.brain.list(ListAsk::default()).await.unwrap().conversations, []);
    for limit in [0, LIST_MAX + 1, usize::MAX] {
        let error = bench.brain.list(ListAsk { after: None, limit }).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadRequest);
    }
}
