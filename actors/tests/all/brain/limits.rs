//! Too many, too late, and gone.

use std::time::Duration;

use motorbrain_actors::{
    brain::{BrainMessage, Envelope},
    engine::Sampling,
    message::{BrainError, ErrorCode, Reply, Request, Score, Step},
    policy::{LISTED_MAX, TOP_MAX},
};
use motorbrain_testing::Fault;

use super::{Bench, config, start, step, unshared, within};

/// A brain whose only actor hangs in a run of conversation `a`, until released.
async fn hanging(
    change: impl FnOnce(&mut motorbrain_actors::brain::BrainConfig),
) -> (Bench, tokio::task::JoinHandle<()>) {
    let mut config = config(1);
    change(&mut config);
    let bench = start(config).await;
    bench.control.fault_in_run(1, Fault::HANG);
    let brain = bench.brain.clone();
    let first = tokio::spawn(async move { drop(brain.step(step("a", "HELLO", 2)).await.unwrap()) });
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    (bench, first)
}

#[tokio::test]
async fn more_than_the_limit_is_overloaded() {
    let (bench, first) = hanging(|config| config.limits.requests = 2).await;
    let brain = bench.brain.clone();
    let second = tokio::spawn(async move { brain.step(step("b", "HELLO", 1)).await });
    bench.until(|stats| stats.actors[0].queued == 2).await;
    // By the handle's permits, and by the brain's own count where somebody else sends.
    let found = motorbrain_actors::brain::Brain::from(bench.brain.actor_ref().clone());
    for brain in [&bench.brain, &found] {
        let error = brain.step(step("c", "HELLO", 1)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Overloaded);
    }
    bench.control.release_hangs();
    within(first).await.unwrap();
    within(second).await.unwrap().unwrap();
    bench.brain.step(step("c", "HELLO", 1)).await.unwrap();
}

#[tokio::test]
async fn one_conversation_more_than_the_limit_is_overloaded_only_where_all_are_busy() {
    let (bench, first) = hanging(|config| config.limits.conversations = 2).await;
    let second = tokio::spawn({
        let brain = bench.brain.clone();
        async move { brain.step(step("second", "HELLO", 1)).await }
    });
    bench.until(|stats| stats.actors[0].queued == 2).await;
    let BrainError::Overloaded { what, retry_after, .. } = bench.brain.step(step("c", "HELLO", 1)).await.unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!((what, retry_after.is_some()), ("conversations", true));
    bench.control.release_hangs();
    within(first).await.unwrap();
    within(second).await.unwrap().unwrap();
    for name in ["c", "d", "second", "e"] {
        bench.brain.step(step(name, "HELLO", 1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_deadline_is_answered_at_once_and_leaves_the_conversation_as_it_was() {
    let (bench, first) = hanging(|_| ()).await;
    let deadline = Duration::from_millis(20);
    for name in ["a", "b"] {
        // `a` waits behind the hanging one, `b` is with the actor.
        let error = within(bench.brain.within(deadline).step(step(name, "LATE", 1))).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Timeout);
    }
    bench.control.release_hangs();
    within(first).await.unwrap();
    let stepped = bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    assert_eq!(stepped.context.context_len, 13);
    let stepped = bench.brain.step(step("b", "HELLO", 1)).await.unwrap();
    assert_eq!(stepped.context.context_len, 6);
}

#[tokio::test]
async fn a_deadline_in_the_middle_of_a_run_undoes_it() {
    let mut config = config(1);
    config.limits.deadline = Some(Duration::from_millis(20));
    let bench = start(config).await;
    let patient = bench.brain.within(Duration::MAX);
    let before = patient.step(step("a", "HELLO", 2)).await.unwrap();
    bench.control.fault_in_run(1, Fault::HANG);
    let error = within(bench.brain.step(step("a", "LATE", 2))).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Timeout);
    bench.control.release_hangs();
    within(patient.reset("a")).await.unwrap();
    let again = patient.step(step("a", "HELLO", 2)).await.unwrap();
    assert_eq!(unshared(again), before);
}

#[tokio::test]
async fn a_caller_that_went_away_cancels_its_request() {
    let (bench, first) = hanging(|config| config.limits.requests = 3).await;
    let brain = bench.brain.clone();
    let gone: Vec<_> = ["a", "b"]
        .map(|name| {
            let brain = brain.clone();
            tokio::spawn(async move { brain.step(step(name, "GONE", 4)).await })
        })
        .into();
    bench.until(|stats| (stats.waiting, stats.actors[0].queued) == (1, 2)).await;
    for gone in gone {
        gone.abort();
    }
    // The one behind the hanging run is dropped while that still hangs; the actor's is cancelled.
    bench.until(|stats| (stats.waiting, stats.actors[0].queued) == (0, 2)).await;
    bench.control.release_hangs();
    within(first).await.unwrap();
    bench.until(|stats| stats.actors[0].queued == 0 && stats.actors[0].conversations == 1).await;
    let stepped = bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    assert_eq!(stepped.context.context_len, 13);
}

#[tokio::test]
async fn callers_of_messages_that_went_away_are_found_however_many_wait() {
    const CALLERS: usize = 1000;
    let (bench, first) = hanging(|config| {
        config.limits.requests = 2 * CALLERS;
        config.limits.conversation_requests = 2 * CALLERS;
    })
    .await;
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let (port, answer) = tokio::sync::oneshot::channel();
        let request = Envelope::new(Request::Step(step("a", "GONE", 1)));
        bench.brain.actor_ref().cast(BrainMessage::Request(request, port.into())).unwrap();
        callers.push(answer);
    }
    bench.until(|stats| stats.waiting == CALLERS).await;
    // Every second stays: more than are looked at once.
    let stay: Vec<_> = callers.into_iter().enumerate().filter(|(place, _)| place % 2 == 0).collect();
    bench.until(|stats| stats.waiting == stay.len()).await;
    bench.control.release_hangs();
    within(first).await.unwrap();
    for (place, answer) in stay {
        let reply = within(answer).await.unwrap().unwrap();
        assert!(matches!(reply, Reply::Stepped(_)), "{place}: {reply:?}");
    }
}

#[tokio::test]
async fn each_of_several_answers_counts_as_a_request() {
    let mut config = config(1);
    config.limits.requests = 4;
    let bench = start(config).await;
    let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    let several = |n| Step { n, sampling: sampling.clone(), ..step("a", "HELLO", 2) };
    assert_eq!(bench.brain.several(several(5)).await.unwrap_err().code(), ErrorCode::Overloaded);
    assert_eq!(bench.brain.several(several(4)).await.unwrap().choices.len(), 4);
    assert_eq!(bench.brain.several(several(4)).await.unwrap().choices.len(), 4, "and counts no more when it is done");
}

#[tokio::test]
async fn a_score_lists_so_many_tokens_and_no_more() {
    let bench = start(config(1)).await;
    let score = |len: usize, top: usize| Score { top, ..Score::of("a", "X".repeat(len)) };
    let error = bench.brain.score(score(LISTED_MAX / TOP_MAX + 1, TOP_MAX)).await.unwrap_err();
    let BrainError::BadRequest { what, expected, .. } = error else { panic!("{error}") };
    assert_eq!((what, expected.as_str()), ("top", "at most 255 in the places of 4097 tokens"));
    let scored = bench.brain.score(score(LISTED_MAX / TOP_MAX, TOP_MAX)).await.unwrap();
    // Nothing precedes the first, and the vocabulary has no more.
    assert_eq!((scored.top.len(), scored.top[0].len(), scored.top[4095].len()), (4096, 0, 64));
    assert_eq!(bench.brain.score(score(LISTED_MAX / TOP_MAX + 1, 0)).await.unwrap().top, Vec::<Vec<_>>::new());
}
