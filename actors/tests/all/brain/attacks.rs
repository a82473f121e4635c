//! Requests that kill, hang and come again, as a stranger sends them: the brain stays up, and others are served.

use std::{collections::BTreeMap, time::Duration};

use motorbrain_actors::{
    brain::StepItem,
    engine::{EngineInfo, Slides, Window},
    message::ErrorCode,
    policy::{ActorState, Health, WhenDown},
    tokens::TokenId,
};
use motorbrain_testing::{Fault, fake_info};
use tokio::task::JoinSet;

use super::{Bench, config, embed, start, start_with, step, within};

/// The letter whose token kills.
const POISON: &str = "_";
const POISON_TOKEN: TokenId = TokenId(63);

impl Bench {
    fn poison(&self, fault: Fault) {
        self.control.fault_on_token(POISON_TOKEN, fault);
    }

    /// Someone whose requests kill nobody is served.
    async fn serves(&self, turn: usize) {
        within(self.brain.step(step(&format!("innocent {turn}"), "HELLO", 2))).await.unwrap();
    }

    async fn restarts(&self) -> u64 {
        self.brain.stats().await.unwrap().actors.iter().map(|actor| actor.restarts).sum()
    }
}

#[tokio::test]
async fn a_stateless_poison_that_is_asked_again_and_again_kills_twice_and_is_then_refused() {
    for actors in [1, 4] {
        let bench = start(config(actors)).await;
        bench.poison(Fault::Panic);
        let mut codes = BTreeMap::new();
        for turn in 0..100 {
            let error = within(bench.brain.embed(embed(None, POISON))).await.unwrap_err();
            assert!(!error.code().retryable(), "{error:?} asks to be sent again");
            *codes.entry(error.code().as_str()).or_insert(0) += 1;
            bench.serves(turn).await;
        }
        assert_eq!(codes, BTreeMap::from([("restarted", 1), ("quarantined", 99)]));
        assert_eq!((bench.restarts().await, bench.brain.health().await.unwrap()), (2, Health::Ready));
    }
}

#[tokio::test]
async fn a_poison_that_many_send_at_once_kills_few() {
    let bench = start(config(4)).await;
    bench.poison(Fault::Panic);
    let mut asking = JoinSet::new();
    for _ in 0..64 {
        let brain = bench.brain.clone();
        asking.spawn(async move { brain.embed(embed(None, POISON)).await.unwrap_err().code() });
    }
    let codes = within(asking.join_all()).await;
    assert!(codes.iter().all(|code| matches!(code, ErrorCode::Restarted | ErrorCode::Quarantined)), "{codes:?}");
    bench.serves(0).await;
    // Each actor may have it once before anybody knows, and then one has it alone.
    let restarts = bench.restarts().await;
    assert!(restarts <= 5, "{restarts} deaths of one poison");
}

#[tokio::test]
async fn blame_outlives_the_deadline_of_what_killed() {
    for fault in [Fault::Panic, Fault::Hang { limit: None, deaf: true }] {
        let mut config = config(2);
        config.supervision.run_max = Duration::from_millis(300);
        let bench = start(config).await;
        bench.poison(fault);
        let impatient = bench.brain.within(Duration::from_millis(40));
        let mut last = ErrorCode::Timeout;
        for turn in 0..400 {
            last = within(impatient.step(step("bad", POISON, 1))).await.unwrap_err().code();
            if last == ErrorCode::Quarantined {
                break;
            }
            bench.serves(turn).await;
        }
        assert_eq!(last, ErrorCode::Quarantined, "{fault:?}");
        assert!(bench.restarts().await <= 3, "{fault:?}: {} deaths", bench.restarts().await);
        bench.brain.reset("bad").await.unwrap();
        bench.control.heal();
        within(bench.brain.step(step("bad", POISON, 1))).await.unwrap();
        bench.control.release_hangs();
    }
}

#[tokio::test]
async fn threads_that_hang_are_bounded_and_said_and_when_one_ends_all_is_well() {
    let mut config = config(1);
    config.supervision.run_max = Duration::from_millis(50);
    config.supervision.abandoned_max = 3;
    config.supervision.retry_max = Duration::from_secs(3600);
    let bench = start(config).await;
    bench.poison(Fault::Hang { limit: None, deaf: true });
    for turn in 0..400 {
        // Each is another input, so none is known to kill.
        let text = format!("{POISON}{turn}");
        let error = within(bench.brain.embed(embed(None, &text))).await.unwrap_err();
        if error.code() == ErrorCode::Unavailable {
            break;
        }
    }
    let stats = bench.until(|stats| matches!(stats.health, Health::Down { .. })).await;
    assert_eq!(stats.abandoned, 4, "three may hang, and the one that is not replaced");
    assert!(stats.health.reason().unwrap().contains("brain.abandoned_max"), "{:?}", stats.health);
    bench.control.heal();
    bench.control.release_hangs();
    bench.until(|stats| stats.health == Health::Ready && stats.actors[0].state == ActorState::Ready).await;
    bench.serves(0).await;
    bench.until(|stats| stats.abandoned == 0).await;
}

#[tokio::test]
async fn after_a_crash_streams_run_together_again_after_one_run_each() {
    let bench = start(config(1)).await;
    bench.control.fault_in_run(20, Fault::Panic);
    let mut streams = JoinSet::new();
    for number in 0..16 {
        let brain = bench.brain.clone();
        streams.spawn(async move { brain.step(step(&format!("{number}"), "HELLO", 200)).await.map(drop) });
    }
    let ended = within(streams.join_all()).await;
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    let tally = bench.control.tally();
    // 16 alone, and as many together as a stream has tokens, read and waited for; all alone would be 3,200.
    assert!(tally.runs < 320, "{} runs for {} rows", tally.runs, tally.rows);
}

#[tokio::test]
async fn who_survived_alone_is_condemned_for_no_later_death_in_company() {
    let bench = start(config(1)).await;
    let mut stream = bench.brain.step_stream(step("long", "A", 3000)).await.unwrap();
    for deaths in 1..=4 {
        for _ in 0..300 {
            stream.next().await.unwrap();
        }
        bench.control.fault_in_run(1, Fault::Panic);
        bench.until_ready(0, deaths).await;
    }
    let mut last = None;
    while let Some(item) = within(stream.next()).await {
        last = Some(item);
    }
    let last = last.unwrap();
    assert!(matches!(last, StepItem::Stepped(_)), "{last:?}");
}

#[tokio::test]
async fn an_actor_that_is_down_is_tried_again_and_health_says_so() {
    let mut config = config(1);
    config.supervision.restarts_max = 0;
    config.supervision.retry_min = Duration::from_millis(20);
    config.supervision.retry_max = Duration::from_millis(100);
    let bench = start(config).await;
    bench.serves(0).await;
    bench.control.hold_loads();
    bench.brain.crash(0).await.unwrap();
    bench.until(|stats| matches!(stats.health, Health::Down { .. })).await;
    bench.control.release_loads();
    bench.until(|stats| stats.health == Health::Ready).await;
    bench.serves(0).await;
}

#[tokio::test]
async fn a_brain_that_is_to_stop_when_all_are_down_tells_its_callers_and_ends() {
    let mut config = config(2);
    config.supervision.restarts_max = 0;
    config.when_down = WhenDown::Stop;
    let bench = start(config).await;
    bench.all_are_ready().await;
    bench.control.hold_loads();
    for actor in 0..2 {
        bench.brain.crash(actor).await.unwrap();
    }
    within(bench.brain.actor_ref().wait(None)).await.unwrap();
    assert_eq!(bench.brain.health().await.unwrap_err().code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn what_was_read_before_its_caller_lost_patience_stays_read() {
    let window = Window { size: 1024, sinks: 2, slide: 4, slides: Slides::Shift };
    let bench = start_with(config(1), EngineInfo { window, ..fake_info() }).await;
    let text = "A".repeat(390);
    let mut attempts = 0;
    loop {
        attempts += 1;
        // Runs of eight tokens, of which the tenth lasts longer than the caller waits.
        bench.control.fault_in_run(10, Fault::HANG);
        let (brain, step) = (bench.brain.clone(), step("a", &text, 1));
        let mut request = tokio::spawn(async move { brain.step(step).await });
        tokio::select! {
            _ = bench.control.until(|tally| tally.hanging == 1) => request.abort(),
            stepped = &mut request => {
                let reused = stepped.unwrap().unwrap().context.reused;
                assert!(reused >= 320, "{reused} of 390 tokens were there, attempt {attempts}");
                break;
            }
        }
        let _ = within(request).await;
        bench.control.release_hangs();
        bench.control.until(|tally| tally.hanging == 0).await;
        assert!(
            attempts < 6,
            "ten runs of eight tokens each time are 400 in five, and then there is nothing left to wait for"
        );
    }
}

#[tokio::test]
async fn a_poison_under_ever_new_names_costs_its_sender_and_nobody_else() {
    let bench = start(config(1)).await;
    bench.poison(Fault::Panic);
    for name in 0..40 {
        let bad = within(bench.brain.step(step(&format!("bad {name}"), POISON, 1))).await.unwrap_err();
        assert_eq!(bad.code(), ErrorCode::Restarted);
        bench.serves(name).await;
    }
    assert_eq!((bench.restarts().await, bench.brain.health().await.unwrap()), (80, Health::Ready));
}

#[tokio::test]
async fn what_kills_only_now_and_then_is_found_and_who_is_beside_it_goes_on() {
    let bench = start(config(1)).await;
    let brain = bench.brain.clone();
    let innocent = tokio::spawn(async move { brain.step(step("innocent", "HELLO", 400)).await });
    let mut codes = Vec::new();
    for _ in 0..200 {
        // Every tenth of its single steps kills.
        for _ in 0..9 {
            codes.extend(within(bench.brain.step(step("bad", "A", 1))).await.err().map(|error| error.code()));
        }
        bench.poison(Fault::Panic);
        codes.extend(within(bench.brain.step(step("bad", POISON, 1))).await.err().map(|error| error.code()));
        bench.control.heal();
        if codes.last() == Some(&ErrorCode::Quarantined) {
            break;
        }
    }
    assert_eq!(codes.first(), Some(&ErrorCode::Restarted), "{codes:?}");
    within(innocent).await.unwrap().unwrap();
}
