//! Actors that die, hang, do not load, and are down.

use std::time::Duration;

use motorbrain_actors::{
    engine::LoadError,
    message::{ErrorCode, Stepped},
    policy::ActorState,
    tokens::Tokenizer,
};
use motorbrain_testing::{Fault, LoadFault, fake_info_without_pages};
use tokio::task::JoinSet;

use super::{Bench, Letters, config, start, start_with, step, unshared, within};

/// Some turns of 16 conversations at once; the answers by conversation and turn.
async fn talk(bench: &Bench) -> Vec<Vec<Stepped>> {
    let mut talks = JoinSet::new();
    for name in 0..16 {
        let brain = bench.brain.clone();
        talks.spawn(async move {
            let mut turns = Vec::new();
            for turn in 0..3 {
                let step = step(&format!("{name}"), &format!("TURN {turn} OF {name}"), 4);
                let mut stepped = brain.step(step).await.unwrap();
                stepped.context.rebuilt = false;
                stepped.context.reused = 0;
                turns.push(stepped);
            }
            (name, turns)
        });
    }
    let mut all = within(talks.join_all()).await;
    all.sort_by_key(|&(name, _)| name);
    all.into_iter().map(|(_, turns)| turns).collect()
}

#[tokio::test]
async fn a_death_in_the_middle_changes_no_answer() {
    let expected = talk(&start(config(3)).await).await;
    for (run, fault) in [(1, Fault::Panic), (9, Fault::FATAL), (20, Fault::Panic)] {
        let bench = start(config(3)).await;
        bench.control.fault_in_run(run, fault);
        assert_eq!(talk(&bench).await, expected);
        let stats = bench.brain.stats().await.unwrap();
        let restarts: u64 = stats.actors.iter().map(|actor| actor.restarts).sum();
        assert_eq!(restarts, 1);
    }
}

#[tokio::test]
async fn a_hang_ends_at_the_watchdogs_limit() {
    let expected = talk(&start(config(2)).await).await;
    let mut config = config(2);
    config.supervision.run_max = Duration::from_millis(500);
    let bench = start(config).await;
    bench.control.fault_in_run(5, Fault::Hang { limit: None, deaf: true });
    assert_eq!(talk(&bench).await, expected);
    let stats = bench.brain.stats().await.unwrap();
    assert!(stats.actors.iter().any(|actor| actor.restarts > 0), "{stats:?}");
    // The abandoned thread answers now, much too late, and changes nothing.
    bench.control.release_hangs();
    within(bench.control.until(|tally| tally.hanging == 0)).await;
    assert_eq!(bench.brain.stats().await.unwrap().actors, stats.actors);
}

#[tokio::test]
async fn a_rehearsed_crash_and_a_rehearsed_hang_charge_nobody() {
    let mut config = config(1);
    config.supervision.run_max = Duration::from_millis(500);
    let bench = start(config).await;
    let first = bench.brain.step(step("a", "HELLO", 2)).await.unwrap();
    for restarts in 1..=3 {
        bench.brain.crash(0).await.unwrap();
        bench.until_ready(0, restarts).await;
    }
    bench.brain.hang(0, Duration::from_secs(3600)).await.unwrap();
    let second = within(bench.brain.step(step("a", "MORE", 2))).await.unwrap();
    assert_eq!(second.context.context_len, first.context.context_len + 6);
    assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 4);
    assert_eq!(bench.brain.crash(1).await.unwrap_err().code(), ErrorCode::BadRequest);
}

#[tokio::test]
async fn a_request_that_kills_twice_is_given_up_and_its_conversation_quarantined() {
    let bench = start(config(1)).await;
    let before = bench.brain.step(step("bad", "HELLO", 1)).await.unwrap();
    let poison = Letters.encode("!").unwrap()[0];
    bench.control.fault_on_token(poison, Fault::Panic);
    let (bad, good) = within(async {
        tokio::join!(bench.brain.step(step("bad", "!", 1)), bench.brain.step(step("good", "FINE", 3)))
    })
    .await;
    assert_eq!(bad.unwrap_err().code(), ErrorCode::Restarted);
    assert_eq!(good.unwrap().token_ids.len(), 3);
    let refused = bench.brain.step(step("bad", "HELLO", 1)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Quarantined);
    bench.brain.reset("bad").await.unwrap();
    assert_eq!(unshared(bench.brain.step(step("bad", "HELLO", 1)).await.unwrap()), before);
}

#[tokio::test]
async fn a_history_that_kills_whoever_reads_it_again_is_quarantined() {
    let bench = start_with(config(1), fake_info_without_pages()).await;
    bench.brain.step(step("bad", "!", 1)).await.unwrap();
    bench.brain.step(step("good", "FINE", 1)).await.unwrap();
    let poison = Letters.encode("!").unwrap()[0];
    bench.control.fault_on_token(poison, Fault::Panic);
    bench.brain.crash(0).await.unwrap();
    let (bad, good) = within(async {
        tokio::join!(bench.brain.step(step("bad", "HELLO", 1)), bench.brain.step(step("good", "FINE", 3)))
    })
    .await;
    assert_eq!(bad.unwrap_err().code(), ErrorCode::Restarted);
    assert_eq!(good.unwrap().token_ids.len(), 3);
    assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 3, "the rehearsed death and two more");
    let refused = bench.brain.step(step("bad", "HELLO", 1)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Quarantined);
    bench.brain.reset("bad").await.unwrap();
    bench.brain.step(step("bad", "HELLO", 1)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_read_again_after_a_death() {
    for actors in [1, 2] {
        let bench = start(config(actors)).await;
        let before = bench.brain.step(step("slid", &"AB".repeat(15), 2)).await.unwrap();
        bench.brain.step(step("short", "AB", 2)).await.unwrap();
        bench.all_are_ready().await;
        bench.control.record();
        for actor in 0..actors {
            bench.brain.crash(actor).await.unwrap();
        }
        for name in ["slid", "short"] {
            let after = bench.brain.step(step(name, "C", 1)).await.unwrap();
            assert!(!after.context.rebuilt, "{name} of {actors}");
        }
        let read: Vec<_> = bench.control.recorded().into_iter().flatten().map(|row| row.tokens.len()).collect();
        // A full context may take a run for the token that was sampled last.
        assert!(read.len() <= 3 && read.iter().all(|tokens| *tokens == 1), "each reads its new token: {read:?}");
        assert!(before.context.context_len > 10);
    }
}

#[tokio::test]
async fn what_had_slid_is_read_again_from_the_first_token_on_or_says_once_that_it_was_rebuilt() {
    let info = fake_info_without_pages();
    let least = info.window.size - info.window.slide;
    let bench = start_with(config(1), info).await;
    for name in ["slid", "back", "short"] {
        // 32 tokens in a window of 16.
        let text = "AB".repeat(if name == "short" { 1 } else { 15 });
        assert!(!bench.brain.step(step(name, &text, 2)).await.unwrap().context.rebuilt);
    }
    // It went back to what the last slide left: no tokens lead there that could be read.
    bench.brain.rewind("back", least).await.unwrap();
    bench.brain.crash(0).await.unwrap();
    let rebuilt = |name: &'static str| async { bench.brain.step(step(name, "C", 1)).await.unwrap().context.rebuilt };
    bench.control.record();
    assert!(!rebuilt("slid").await);
    let read: usize = bench.control.recorded().iter().flatten().map(|row| row.tokens.len()).sum();
    assert!(read >= 33, "{read} tokens are read, it has had 32");
    assert!(rebuilt("back").await);
    assert!(!rebuilt("back").await);
    assert!(!rebuilt("short").await);
}

fn load_error(transient: bool) -> LoadFault {
    LoadFault::Error(LoadError { transient, message: "no such model".to_owned(), hint: Some("fetch it".to_owned()) })
}

#[tokio::test]
async fn later_loads_are_tried_again() {
    let bench = start(config(1)).await;
    bench.control.fault_in_loads(1, load_error(false));
    bench.control.fault_in_loads(1, LoadFault::Panic);
    bench.brain.crash(0).await.unwrap();
    within(bench.brain.step(step("a", "HELLO", 1))).await.unwrap();
    assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 3);
}

#[tokio::test]
async fn a_later_load_that_does_not_return_is_given_up_and_tried_again() {
    let mut config = config(1);
    config.supervision.load_max = Duration::from_millis(500);
    let bench = start(config).await;
    bench.control.hold_loads();
    bench.brain.crash(0).await.unwrap();
    within(bench.control.until(|tally| tally.loads == 3)).await;
    // The abandoned load is done now, too late, and counts for nothing.
    bench.control.release_loads();
    bench.until_ready(0, 2).await;
    within(bench.brain.step(step("a", "HELLO", 1))).await.unwrap();
}

#[tokio::test]
async fn conversations_move_from_an_actor_that_is_down() {
    let mut config = config(2);
    config.supervision.restarts_max = 1;
    let bench = start(config).await;
    bench.all_are_ready().await;
    for name in ["a", "b"] {
        bench.brain.step(step(name, "HELLO", 2)).await.unwrap();
    }
    bench.brain.crash(0).await.unwrap();
    bench.until_ready(0, 1).await;
    bench.brain.crash(0).await.unwrap();
    let stats = bench.until(|stats| stats.actors[0].state == ActorState::Down).await;
    assert_eq!(stats.actors[0].conversations, 0);
    for name in ["a", "b"] {
        let stepped = within(bench.brain.step(step(name, "MORE", 2))).await.unwrap();
        assert_eq!(stepped.context.context_len, 13);
    }
    assert_eq!(bench.brain.stats().await.unwrap().actors[1].conversations, 2);

    // The last one takes everything with it.
    bench.brain.crash(1).await.unwrap();
    bench.until_ready(1, 1).await;
    bench.control.hold_loads();
    bench.brain.crash(1).await.unwrap();
    bench.until(|stats| stats.actors[1].state == ActorState::Down).await;
    let error = bench.brain.step(step("b", "HELLO", 1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
}
