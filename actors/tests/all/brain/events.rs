//! What happens in a brain, told to those who subscribe: what, in which order, and what a slow reader learns of its losses.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{BrainEvent, Events, Subscribe, Told},
    engine::{EngineInfo, Slides, Window},
    message::ErrorCode,
    policy::Supervision,
    tokens::Tokenizer,
};
use motorbrain_testing::{Fault, fake_info_without_pages};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{runtime::Handle, sync::mpsc};

use super::{Bench, Letters, config, start, start_with, step, within};

async fn next(events: &mut Events) -> BrainEvent {
    within(events.next()).await.expect("the brain goes on")
}

/// The next event that is one of those; others are skipped.
async fn until(events: &mut Events, is_it: impl Fn(&BrainEvent) -> bool) -> BrainEvent {
    loop {
        let event = next(events).await;
        if is_it(&event) {
            return event;
        }
    }
}

/// A request that is refused for what it says.
async fn refused(bench: &Bench) {
    let error = bench.brain.step(step("a", "HELLO", usize::MAX)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRequest);
}

#[tokio::test]
async fn an_actors_lives_are_told_in_their_order() {
    let supervision = Supervision {
        run_max: Duration::from_millis(50),
        restarts_max: 2,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(1),
        ..Supervision::default()
    };
    let bench = start(motorbrain_actors::brain::BrainConfig { supervision, ..config(1) }).await;
    let mut events = bench.brain.subscribe().await.unwrap();
    bench.brain.crash(0).await.unwrap();
    assert_eq!(next(&mut events).await, BrainEvent::ActorDead { actor: 0, life: 0, pause: Duration::ZERO, charged: 0 });
    assert_eq!(next(&mut events).await, BrainEvent::ActorBack { actor: 0, life: 1 });
    bench.control.fault_in_run(1, Fault::HANG);
    let brain = bench.brain.clone();
    let asked = tokio::spawn(async move { brain.step(step("a", "HELLO", 1)).await });
    let hung = next(&mut events).await;
    assert!(matches!(hung, BrainEvent::ActorHung { actor: 0, life: 1, ran } if ran >= Duration::from_millis(50)));
    let dead = next(&mut events).await;
    assert!(matches!(dead, BrainEvent::ActorDead { actor: 0, life: 1, charged: 1, .. }), "{dead:?}");
    assert_eq!(next(&mut events).await, BrainEvent::ActorBack { actor: 0, life: 2 });
    within(asked).await.unwrap().unwrap();
    bench.control.release_hangs();
    for life in 2.. {
        bench.brain.crash(0).await.unwrap();
        match next(&mut events).await {
            BrainEvent::ActorDead { actor: 0, life: found, .. } => assert_eq!(found, life),
            BrainEvent::ActorDown { actor: 0, reason, .. } => {
                assert!(reason.contains("deaths"), "{reason}");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(next(&mut events).await, BrainEvent::ActorBack { actor: 0, life: life + 1 });
    }
    assert!(matches!(next(&mut events).await, BrainEvent::ActorBack { actor: 0, .. }), "it is tried again");
}

#[tokio::test]
async fn what_becomes_of_conversations_is_told() {
    let bench = start(config(2)).await;
    bench.all_are_ready().await;
    let mut events = bench.brain.subscribe().await.unwrap();
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap();
    let from = bench.brain.inspect("a").await.unwrap().actor.unwrap();
    bench.brain.crash(from).await.unwrap();
    until(&mut events, |event| matches!(event, BrainEvent::ActorDead { .. })).await;
    bench.control.fault_on_token(Letters.encode("!").unwrap()[0], Fault::Panic);
    within(bench.brain.step(step("a", "BAD!", 1))).await.unwrap_err();
    let adopted = until(&mut events, |event| matches!(event, BrainEvent::ConversationAdopted { .. })).await;
    assert!(
        matches!(&adopted, BrainEvent::ConversationAdopted { conversation, from, to }
            if conversation.as_str() == "a" && from != to),
        "{adopted:?}"
    );
    let quarantined = until(&mut events, |event| matches!(event, BrainEvent::ConversationQuarantined { .. })).await;
    assert_eq!(quarantined, BrainEvent::ConversationQuarantined { conversation: Some("a".into()) });
    bench.brain.step(step("a", "HELLO", 1)).await.unwrap_err();
    let refused = until(&mut events, |event| matches!(event, BrainEvent::Refused { .. })).await;
    assert_eq!(refused, BrainEvent::Refused { code: ErrorCode::Quarantined, count: 1 });
}

#[tokio::test]
async fn a_conversation_that_is_rebuilt_says_so() {
    let window = Window { size: 16, sinks: 2, slide: 4, slides: Slides::Shift };
    let bench = start_with(config(1), EngineInfo { window, ..fake_info_without_pages() }).await;
    bench.brain.step(step("a", "A TEXT THAT IS LONGER THAN THE WINDOW", 1)).await.unwrap();
    // Behind that no tokens lead to where it stands.
    bench.brain.rewind("a", 12).await.unwrap();
    let mut events = bench.brain.subscribe().await.unwrap();
    bench.brain.crash(0).await.unwrap();
    bench.brain.step(step("a", "MORE", 1)).await.unwrap();
    let rebuilt = until(&mut events, |event| matches!(event, BrainEvent::ConversationRebuilt { .. })).await;
    assert_eq!(rebuilt, BrainEvent::ConversationRebuilt { conversation: "a".into() });
}

#[tokio::test]
async fn those_refused_at_the_gate_are_told_with_the_next_message() {
    let mut config = config(1);
    config.limits.requests = 2;
    let bench = start(config).await;
    bench.control.fault_in_run(1, Fault::HANG);
    let mut events = bench.brain.subscribe().await.unwrap();
    let begin = |name: &'static str| {
        let brain = bench.brain.clone();
        tokio::spawn(async move { brain.step(step(name, "HELLO", 1)).await })
    };
    let asked = [begin("a"), begin("b")];
    bench.until(|stats| stats.actors[0].queued == 2).await;
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    for _ in 0..3 {
        assert_eq!(bench.brain.step(step("c", "HELLO", 1)).await.unwrap_err().code(), ErrorCode::Overloaded);
    }
    bench.brain.stats().await.unwrap();
    assert_eq!(next(&mut events).await, BrainEvent::Refused { code: ErrorCode::Overloaded, count: 3 });
    bench.control.release_hangs();
    for asked in asked {
        within(asked).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_gives_up_or_comes_too_late_is_not_refused() {
    let bench = start(config(1)).await;
    bench.control.fault_in_run(1, Fault::HANG);
    let mut events = bench.brain.subscribe().await.unwrap();
    let brain = bench.brain.clone();
    let asked = tokio::spawn(async move { brain.step(step("a", "HELLO", 1)).await });
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    asked.abort();
    // Behind the first one, no actor has it.
    let brain = bench.brain.within(Duration::from_millis(1));
    assert_eq!(brain.step(step("a", "HELLO", 1)).await.unwrap_err().code(), ErrorCode::Timeout);
    bench.control.release_hangs();
    refused(&bench).await;
    assert_eq!(next(&mut events).await, BrainEvent::Refused { code: ErrorCode::BadRequest, count: 1 });
}

#[tokio::test]
async fn a_slow_reader_learns_how_much_it_has_lost_and_the_others_lose_nothing() {
    const COUNT: u64 = 1000;
    let bench = start(config(1)).await;
    let mut slow = bench.brain.subscribe().await.unwrap();
    let mut quick = bench.brain.subscribe().await.unwrap();
    for _ in 0..COUNT {
        refused(&bench).await;
        assert_eq!(next(&mut quick).await, BrainEvent::Refused { code: ErrorCode::BadRequest, count: 1 });
    }
    bench.brain.shutdown().await;
    assert_eq!(within(quick.next()).await, None);
    let (mut told, mut lost) = (0, 0);
    while let Some(event) = within(slow.next()).await {
        match event {
            BrainEvent::Refused { code: ErrorCode::BadRequest, count: 1 } => told += 1,
            BrainEvent::Lost { count } => lost += count,
            other => panic!("{other:?}"),
        }
    }
    assert!((256..COUNT).contains(&told), "{told}");
    assert_eq!(told + lost, COUNT);
}

#[tokio::test]
async fn a_gap_is_told_where_it_is() {
    let bench = start(config(1)).await;
    let mut slow = bench.brain.subscribe().await.unwrap();
    for _ in 0..500 {
        refused(&bench).await;
        tokio::task::yield_now().await;
    }
    let refusal = BrainEvent::Refused { code: ErrorCode::BadRequest, count: 1 };
    for _ in 0..256 {
        assert_eq!(next(&mut slow).await, refusal);
    }
    assert_eq!(next(&mut slow).await, BrainEvent::Lost { count: 500 - 256 }, "before anything follows");
    refused(&bench).await;
    assert_eq!(next(&mut slow).await, refusal);
    for _ in 0..257 {
        refused(&bench).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(next(&mut slow).await, refusal);
    tokio::task::yield_now().await;
    refused(&bench).await;
    for _ in 1..256 {
        assert_eq!(next(&mut slow).await, refusal);
    }
    assert_eq!(next(&mut slow).await, BrainEvent::Lost { count: 1 });
    assert_eq!(next(&mut slow).await, refusal, "and where something does");
}

#[tokio::test]
async fn who_reads_no_more_is_forgotten() {
    let bench = start(config(1)).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    refused(&bench).await;
    let before = tasks();
    for _ in 0..50 {
        drop(bench.brain.subscribe().await.unwrap());
    }
    assert!(tasks() >= before + 50, "each has a task of its own");
    refused(&bench).await;
    within(async {
        while tasks() > before {
            tokio::task::yield_now().await
        }
    })
    .await;
}

/// An actor that passes on what it is told.
struct Listener;

impl Actor for Listener {
    type Msg = Arc<Told>;
    type State = mpsc::UnboundedSender<Arc<Told>>;
    type Arguments = Self::State;

    async fn pre_start(&self, _: ActorRef<Arc<Told>>, to: Self::State) -> Result<Self::State, ActorProcessingErr> {
        Ok(to)
    }

    async fn handle(
        &self,
        _: ActorRef<Arc<Told>>,
        told: Arc<Told>,
        to: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(to.send(told)?)
    }
}

#[tokio::test]
async fn actors_are_told_with_numbers_that_follow_each_other() {
    let bench = start(config(1)).await;
    let (to, mut told) = mpsc::unbounded_channel();
    let (listener, _) = Actor::spawn(None, Listener, to).await.unwrap();
    let mut number = bench.brain.subscribe_with(Subscribe::actor(listener, Some)).await.unwrap();
    for _ in 0..20 {
        refused(&bench).await;
        let told = within(told.recv()).await.unwrap();
        assert_eq!((told.first, told.events.len()), (number, 1));
        number = told.next();
    }
}
