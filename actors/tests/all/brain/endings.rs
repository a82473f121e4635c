//! However a brain ends, everything is answered; and somebody hears of it.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{Brain, BrainArguments, BrainConfig, Delivery, MotorBrain},
    clock::Clock,
    embedder::{EmbedderArguments, EmbedderMessage, spawn_on_thread},
    engine::LoadError,
    job::Pulse,
    message::{ErrorCode, Request},
    policy::{Health, WhenDown},
};
use motorbrain_testing::{Fault, LoadFault, fake_info};
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Bench, Letters, config, loader, start, step, within};

/// A brain with a job in a run that hangs and others behind it, in its conversation and beside it.
async fn busy(config: BrainConfig, deaf: bool) -> (Bench, UnboundedReceiver<(u64, Delivery)>) {
    let bench = start(config).await;
    bench.control.fault_in_run(1, Fault::Hang { limit: None, deaf });
    let (replies, done) = unbounded_channel();
    for (tag, name) in ["a", "a", "b", "a", "c"].into_iter().enumerate() {
        bench.brain.request_to(&replies, tag as u64, Request::Step(step(name, "HELLO", 3))).unwrap();
    }
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    bench.until(|stats| stats.waiting + stats.actors[0].queued == 5).await;
    (bench, done)
}

async fn all_done(done: &mut UnboundedReceiver<(u64, Delivery)>) {
    for _ in 0..5 {
        let (tag, end) = within(done.recv()).await.unwrap();
        assert!(matches!(end, Delivery::End(Ok(_))), "{tag}: {end:?}");
    }
}

async fn has_stopped(bench: &Bench) {
    within(bench.brain.actor_ref().wait(None)).await.unwrap();
    assert_eq!(bench.brain.actor_ref().get_status(), ActorStatus::Stopped);
}

#[derive(Clone, Copy, Debug)]
enum How {
    Stop,
    Drain,
    Shutdown,
}

/// Begins to end a brain, and waits until it takes nothing more.
async fn end(bench: &Bench, how: How) {
    let brain = bench.brain.clone();
    match how {
        How::Stop => brain.actor_ref().stop(None),
        How::Drain => brain.actor_ref().drain().unwrap(),
        How::Shutdown => {
            tokio::spawn(async move { brain.shutdown().await });
            return within(async { while bench.brain.reset("z").await.is_ok() {} }).await;
        }
    }
    // A message that came to the mailbox meanwhile would be answered at the very end.
    within(async {
        while brain.actor_ref().get_status() < ActorStatus::Draining {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

const ALL: [How; 3] = [How::Stop, How::Drain, How::Shutdown];

#[tokio::test]
async fn however_a_brain_is_stopped_what_it_accepted_is_done_first() {
    for how in ALL {
        let (bench, mut done) = busy(config(1), true).await;
        end(&bench, how).await;
        assert_eq!(bench.brain.reset("z").await.unwrap_err().code(), ErrorCode::Unavailable, "{how:?}");
        bench.control.release_hangs();
        all_done(&mut done).await;
        has_stopped(&bench).await;
    }
}

#[tokio::test]
async fn an_actor_that_dies_while_the_brain_stops_is_replaced() {
    for how in ALL {
        let (bench, mut done) = busy(config(1), true).await;
        bench.control.fault_in_run(2, Fault::Panic);
        end(&bench, how).await;
        bench.control.release_hangs();
        all_done(&mut done).await;
        has_stopped(&bench).await;
        assert_eq!(bench.control.tally().loads, 2, "{how:?}");
    }
}

#[tokio::test]
async fn what_is_not_done_in_the_time_of_a_shutdown_is_answered_with_an_error() {
    for how in ALL {
        let (bench, mut done) = busy(BrainConfig { shutdown_max: Duration::from_millis(50), ..config(1) }, true).await;
        end(&bench, how).await;
        for _ in 0..5 {
            let (tag, end) = within(done.recv()).await.unwrap();
            let Delivery::End(Err(error)) = end else { panic!("{how:?} {tag}: {end:?}") };
            assert_eq!(error.code(), ErrorCode::Unavailable, "{how:?} {tag}");
        }
        has_stopped(&bench).await;
        assert_eq!(bench.control.tally().hanging, 1, "nobody waited for the thread");
        bench.control.release_hangs();
    }
}

#[tokio::test]
async fn a_shutdown_can_be_told_how_long_it_may_take() {
    let (bench, mut done) = busy(config(1), true).await;
    within(bench.brain.shutdown_within(Duration::from_millis(50))).await;
    for _ in 0..5 {
        let (_, end) = within(done.recv()).await.unwrap();
        assert!(matches!(&end, Delivery::End(Err(error)) if error.code() == ErrorCode::Unavailable), "{end:?}");
    }
    bench.control.release_hangs();
}

#[tokio::test]
async fn a_brain_that_is_killed_answers_and_interrupts_its_actors() {
    let (bench, mut done) = busy(config(1), false).await;
    bench.brain.actor_ref().kill();
    for _ in 0..5 {
        let (_, end) = within(done.recv()).await.unwrap();
        assert!(matches!(&end, Delivery::End(Err(error)) if error.code() == ErrorCode::Unavailable), "{end:?}");
    }
    within(bench.control.until(|tally| tally.hanging == 0)).await;
}

/// A supervisor that tells how who it supervises ends: why it failed, or `None`.
struct Watch;

type Heard = UnboundedSender<Option<String>>;

impl Actor for Watch {
    type Msg = ();
    type State = Heard;
    type Arguments = Heard;

    async fn pre_start(&self, _: ActorRef<()>, heard: Heard) -> Result<Heard, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        heard: &mut Heard,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => heard.send(Some(error.to_string()))?,
            SupervisionEvent::ActorTerminated(..) => heard.send(None)?,
            _ => {}
        }
        Ok(())
    }
}

/// Why a supervised brain failed; `break_it` sees to it that it does.
async fn failure(config: BrainConfig, load: Option<LoadFault>, break_it: impl AsyncFnOnce(&Brain)) -> String {
    let (heard, mut events) = unbounded_channel();
    let (supervisor, _) = Actor::spawn(None, Watch, heard).await.unwrap();
    let (loader, control) = loader(fake_info());
    load.into_iter().for_each(|fault| control.fault_in_loads(1, fault));
    let arguments = BrainArguments::new(config, loader, Arc::new(Letters));
    let (actor, _) = Actor::spawn_linked(None, MotorBrain, arguments, supervisor.get_cell()).await.unwrap();
    break_it(&Brain::from(actor)).await;
    within(events.recv()).await.unwrap().expect("the brain fails")
}

#[tokio::test]
async fn a_supervisor_hears_why_a_brain_gives_up() {
    let mut down = BrainConfig { when_down: WhenDown::Stop, ..config(1) };
    down.supervision.restarts_max = 0;
    let reason = failure(down, None, async |brain| {
        within(brain.step(step("a", "HELLO", 1))).await.unwrap();
        brain.crash(0).await.unwrap();
    });
    let reason = reason.await;
    assert!(reason.contains("gives up"), "{reason}");
    let load = LoadError { transient: false, message: "no such file".to_owned(), hint: None };
    let reason = failure(config(1), Some(LoadFault::Error(load)), async |_| ()).await;
    assert!(reason.contains("no such file"), "{reason}");
}

#[tokio::test]
async fn a_brain_of_the_same_name_starts_while_a_thread_of_the_first_still_hangs() {
    let mut config = BrainConfig { name: Some("again".to_owned()), ..config(1) };
    config.supervision.run_max = Duration::from_millis(50);
    let bench = start(config.clone()).await;
    bench.control.fault_in_run(1, Fault::Hang { limit: None, deaf: true });
    within(bench.brain.step(step("a", "HELLO", 1))).await.unwrap();
    assert_eq!(bench.brain.stats().await.unwrap().abandoned, 1);
    within(bench.brain.shutdown()).await;
    assert_eq!(bench.control.tally().hanging, 1);
    let second = start(config).await;
    within(second.brain.step(step("a", "HELLO", 1))).await.unwrap();
    assert_eq!(second.brain.stats().await.unwrap().actors[0].restarts, 0);
    bench.control.release_hangs();
}

#[tokio::test]
async fn the_end_of_a_thread_that_was_left_to_itself_is_heard() {
    let mut config = config(1);
    config.supervision.run_max = Duration::from_millis(50);
    let bench = start(config).await;
    bench.control.fault_in_run(1, Fault::Hang { limit: None, deaf: true });
    within(bench.brain.step(step("a", "HELLO", 1))).await.unwrap();
    bench.until(|stats| stats.abandoned == 1).await;
    bench.control.release_hangs();
    bench.until(|stats| stats.abandoned == 0).await;
}

/// Says when it is dropped.
struct Tells(UnboundedSender<()>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// What deaths are told by: ractor drops what an actor has, however it ends.
#[tokio::test]
async fn what_an_actor_reports_to_is_dropped_with_it() {
    for end in ["panic", "stop", "kill", "kill in a hang", "no load"] {
        let (loader, control) = loader(fake_info());
        if end == "no load" {
            control.fault_in_loads(1, LoadFault::Panic);
        }
        let (told, mut dropped) = unbounded_channel();
        let (tells, (heard, mut reports)) = (Tells(told), unbounded_channel());
        let arguments = EmbedderArguments {
            loader,
            report: Arc::new(move |report| {
                let _whole = &tells;
                let _ = heard.send(report);
            }),
            pulse: Pulse::default(),
            clock: Clock::start(),
            straighten: None,
            chunk: 8,
            beside_max: Duration::from_secs(1),
        };
        let actor = spawn_on_thread(None, None, arguments).unwrap();
        if end != "no load" {
            within(reports.recv()).await.unwrap();
            assert!(dropped.try_recv().is_err());
        }
        match end {
            "panic" => actor.cast(EmbedderMessage::Crash).unwrap(),
            "stop" => actor.stop(None),
            "kill" => actor.kill(),
            "kill in a hang" => {
                actor.cast(EmbedderMessage::Hang(Duration::from_millis(20))).unwrap();
                actor.kill();
            }
            _ => {}
        }
        assert_eq!(within(dropped.recv()).await, Some(()), "{end}");
    }
}

#[tokio::test]
async fn faults_are_rehearsed_only_where_settings_allow_it() {
    let bench = start(BrainConfig { chaos: false, ..config(1) }).await;
    for refused in [bench.brain.crash(0).await, bench.brain.hang(0, Duration::from_secs(3600)).await] {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadRequest);
        assert!(error.to_string().contains("brain.chaos"), "{error}");
    }
    assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 0);
}

#[tokio::test]
async fn health_is_told_before_a_model_is_loaded_and_behind() {
    let (loader, control) = loader(fake_info());
    control.hold_loads();
    let arguments = BrainArguments::new(config(1), loader, Arc::new(Letters));
    let (actor, _) = Actor::spawn(None, MotorBrain, arguments).await.unwrap();
    let brain = Brain::from(actor);
    assert_eq!(brain.health().await.unwrap(), Health::Starting);
    control.release_loads();
    within(brain.step(step("a", "HELLO", 1))).await.unwrap();
    assert_eq!(brain.health().await.unwrap(), Health::Ready);
    within(brain.shutdown()).await;
    assert_eq!(brain.health().await.unwrap_err().code(), ErrorCode::Unavailable);
}
