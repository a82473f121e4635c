//! More than can be served: who is refused, who waits, and who is let in all the same.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use motorbrain_actors::{
    brain::{Brain, Delivery, ReplyQueue},
    message::{BrainError, ErrorCode, Request},
};
use motorbrain_testing::Fault;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Bench, config, embed, start, step, within};

/// A brain of 64 permits whose only actor hangs in a run until released, and whose first permit is taken by that.
async fn hanging() -> (Bench, UnboundedReceiver<(u64, Delivery)>) {
    let mut config = config(1);
    config.limits.requests = 64;
    let bench = start(config).await;
    bench.control.fault_in_run(1, Fault::HANG);
    let (replies, done) = unbounded_channel();
    bench.brain.of("hanging").request_to(&replies, 0, Request::Step(step("hanging", "HELLO", 1))).unwrap();
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    (bench, done)
}

/// Sends until refused: how many were let in, and the refusal.
fn flood(brain: &Brain, replies: &ReplyQueue) -> (usize, BrainError) {
    for sent in 0.. {
        let request = Request::Step(step(&format!("flood {sent}"), "HELLO", 1));
        if let Err(error) = brain.request_to(replies, sent as u64, request) {
            return (sent, error);
        }
    }
    unreachable!("a gate without a limit")
}

async fn take(done: &mut UnboundedReceiver<(u64, Delivery)>, count: usize) {
    for _ in 0..count {
        let (tag, end) = within(done.recv()).await.unwrap();
        assert!(matches!(end, Delivery::End(Ok(_))), "{tag}: {end:?}");
    }
}

/// Whether one client alone has all permits but the reserve, again.
async fn all_are_back(bench: &Bench) {
    bench.until(|stats| stats.waiting + stats.actors[0].queued == 0).await;
    bench.control.fault_in_run(1, Fault::HANG);
    let (replies, mut done) = unbounded_channel();
    assert_eq!(flood(&bench.brain, &replies).0, 56);
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    bench.control.release_hangs();
    take(&mut done, 56).await;
}

#[tokio::test]
async fn a_flood_leaves_room_for_others_and_for_its_own_end() {
    let (bench, _waits) = hanging().await;
    let flooding = bench.brain.of("flood");
    let (replies, mut done) = unbounded_channel();
    let (sent, refused) = flood(&flooding, &replies);
    assert_eq!(sent, 55, "seven times what is then free, at most");
    let BrainError::Overloaded { retry_after: Some(after), limit: 64, .. } = refused else { panic!("{refused:?}") };
    assert!((Duration::from_millis(1)..=Duration::from_secs(30)).contains(&after), "{after:?}");
    // Also where somebody else sends, and the brain itself lets in.
    let found = Brain::from(bench.brain.actor_ref().clone());
    assert_eq!(found.of("flood").embed(embed(None, "A")).await.unwrap_err().code(), ErrorCode::Overloaded);

    let (others, mut others_done) = unbounded_channel();
    for (tag, client) in ["one", "two", "three"].into_iter().enumerate() {
        bench.brain.of(client).request_to(&others, tag as u64, Request::Embed(embed(None, "A"))).unwrap();
    }
    bench.brain.request_to(&others, 3, Request::Embed(embed(None, "A"))).unwrap();
    // The flooding client's own: what ends it, and what looks at it.
    for tag in 0..40 {
        flooding.request_to(&others, tag, Request::Reset(format!("flood {tag}").into())).unwrap();
    }
    flooding.stats().await.unwrap();
    flooding.health().await.unwrap();
    assert_eq!(within(flooding.cancel_conversation("flood 50")).await.unwrap(), 1);

    bench.control.release_hangs();
    take(&mut others_done, 44).await;
    for _ in 0..sent {
        within(done.recv()).await.unwrap();
    }
    all_are_back(&bench).await;
}

#[tokio::test]
async fn what_is_still_worked_on_keeps_its_permit_behind_its_deadline() {
    let (bench, _waits) = hanging().await;
    let (replies, mut done) = unbounded_channel();
    let (sent, _) = flood(&bench.brain.within(Duration::from_millis(1)), &replies);
    for _ in 0..sent {
        let (_, end) = within(done.recv()).await.unwrap();
        assert!(matches!(&end, Delivery::End(Err(error)) if error.code() == ErrorCode::Timeout), "{end:?}");
    }
    assert_eq!(flood(&bench.brain, &replies).0, 0, "the actor has them all, as it can end none of them now");
    bench.control.release_hangs();
    // With the end of a job its permit is free.
    within(bench.brain.waiting(Duration::from_secs(60)).embed(embed(None, "A"))).await.unwrap();
    all_are_back(&bench).await;
}

#[tokio::test]
async fn who_waits_is_let_in_when_there_is_room_and_told_when_there_is_none() {
    let (bench, _waits) = hanging().await;
    let (replies, mut done) = unbounded_channel();
    let (sent, _) = flood(&bench.brain, &replies);
    let patient = bench.brain.waiting(Duration::from_millis(10));
    let refused = within(patient.embed(embed(None, "A"))).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    // A deadline passes at the gate as elsewhere.
    let late = bench.brain.waiting(Duration::from_secs(60)).within(Duration::from_millis(10));
    let refused = within(late.embed(embed(None, "A"))).await.unwrap_err();
    assert_eq!(refused, BrainError::Timeout { deadline: Duration::from_millis(10) });

    let patient = bench.brain.waiting(Duration::from_secs(60));
    let mut waiting = pin!(patient.embed(embed(None, "A")));
    let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    assert!(first.is_pending());
    bench.control.release_hangs();
    within(waiting).await.unwrap();
    take(&mut done, sent).await;
}
