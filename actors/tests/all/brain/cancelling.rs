//! Requests that are taken back, wherever they are.

use motorbrain_actors::{
    brain::{BrainMessage, Delivery, Envelope, ReplyQueue, Ticket},
    message::{ErrorCode, Request},
};
use motorbrain_testing::Fault;
use ractor::call;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Bench, config, makers, start, step, within};

/// A brain whose only actor hangs in a run of conversation `a`, until released, and the ticket of that.
async fn hanging(replies: &ReplyQueue) -> (Bench, Ticket) {
    let bench = start(config(1)).await;
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    bench.control.fault_in_run(1, Fault::HANG);
    let ticket = bench.brain.request_to(replies, 0, Request::Step(step("a", "GONE", 2))).unwrap();
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    (bench, ticket)
}

async fn cancelled(done: &mut UnboundedReceiver<(u64, Delivery)>) -> u64 {
    let (tag, end) = within(done.recv()).await.unwrap();
    let Delivery::End(Err(error)) = end else { panic!("{tag}: {end:?}") };
    assert_eq!(error.code(), ErrorCode::Cancelled, "{tag}");
    tag
}

#[tokio::test]
async fn a_request_is_taken_back_in_a_run_behind_one_and_at_its_actor() {
    let (replies, mut done) = unbounded_channel();
    let (bench, running) = hanging(&replies).await;
    let behind = bench.brain.request_to(&replies, 1, Request::Step(step("a", "GONE", 2))).unwrap();
    let beside = bench.brain.step_stream_to(&replies, 2, step("b", "GONE", 2)).unwrap();
    for (tag, ticket) in [(1, behind), (2, beside), (0, running)] {
        assert!(bench.brain.cancel(ticket).await.unwrap(), "{tag}");
        assert_eq!(cancelled(&mut done).await, tag);
        assert!(!bench.brain.cancel(ticket).await.unwrap(), "{tag} twice");
    }
    bench.control.release_hangs();
    // As if none of it had been asked.
    let after = within(bench.brain.step(step("a", "MORE", 1))).await.unwrap();
    assert_eq!(after.context.context_len, 6 + 5);
    assert_eq!(within(bench.brain.step(step("b", "HELLO", 1))).await.unwrap().context.context_len, 6);
}

#[tokio::test]
async fn a_request_is_taken_back_while_its_text_becomes_tokens() {
    let (bench, tokenizer) = makers::start(config(1)).await;
    tokenizer.hold();
    let (replies, mut done) = unbounded_channel();
    let ticket = bench.brain.request_to(&replies, 7, makers::long("A")).unwrap();
    assert!(bench.brain.cancel(ticket).await.unwrap());
    assert_eq!(cancelled(&mut done).await, 7);
    let actor = bench.brain.actor_ref();
    let ask = Envelope::new("A".repeat(100).into());
    let (ticket, (port, answer)) = (ask.ticket(), tokio::sync::oneshot::channel());
    actor.cast(BrainMessage::Tokenize(ask, port.into())).unwrap();
    assert!(call!(actor, BrainMessage::Cancel, ticket).unwrap());
    assert_eq!(within(answer).await.unwrap().unwrap_err().code(), ErrorCode::Cancelled);
    tokenizer.release();
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
}

#[tokio::test]
async fn a_conversations_requests_are_taken_back_together() {
    let (replies, mut done) = unbounded_channel();
    let (bench, _) = hanging(&replies).await;
    for tag in 1..=3 {
        bench.brain.request_to(&replies, tag, Request::Step(step("a", "GONE", 2))).unwrap();
    }
    let other = bench.brain.clone();
    let other = tokio::spawn(async move { other.step(step("b", "HELLO", 1)).await });
    bench.until(|stats| stats.waiting + stats.actors[0].queued == 5).await;
    assert_eq!(bench.brain.cancel_conversation("a").await.unwrap(), 4);
    assert_eq!(bench.brain.cancel_conversation("a").await.unwrap(), 0);
    assert_eq!(bench.brain.cancel_conversation("unknown").await.unwrap(), 0);
    let mut tags = Vec::new();
    for _ in 0..4 {
        tags.push(cancelled(&mut done).await);
    }
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2, 3]);
    bench.control.release_hangs();
    within(other).await.unwrap().unwrap();
    let after = within(bench.brain.step(step("a", "MORE", 1))).await.unwrap();
    assert_eq!(after.context.context_len, 6 + 5);
}

#[tokio::test]
async fn what_is_done_is_not_taken_back() {
    let bench = start(config(1)).await;
    let (replies, mut done) = unbounded_channel();
    let ticket = bench.brain.request_to(&replies, 0, Request::Step(step("a", "HELLO", 1))).unwrap();
    assert!(matches!(within(done.recv()).await, Some((0, Delivery::End(Ok(_))))));
    assert!(!bench.brain.cancel(ticket).await.unwrap());
    assert!(!bench.brain.cancel(Ticket::draw()).await.unwrap());
}
