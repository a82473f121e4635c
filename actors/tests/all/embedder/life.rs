//! An actor's life: loading, dying, draining, and what its owner is told of it.

use std::time::Duration;

use motorbrain_actors::{embedder::EmbedderMessage, engine::LoadError};
use motorbrain_testing::{FakeControl, Fault, LoadFault, fake_info};

use super::harness::{Bench, Ended, outcome, soon, step, tokens};

async fn failing_load(fault: LoadFault) -> Bench {
    let control = FakeControl::default();
    control.fault_in_loads(1, fault);
    Bench::new(fake_info(), 4, control).await
}

#[tokio::test]
async fn jobs_wait_for_the_load() {
    let mut bench = Bench::held(4).await;
    let request = bench.send("a", step(tokens(1, 3), 2));
    assert!(bench.pulse.interrupter().is_none());
    soon(bench.control.until(|tally| tally.loads > 0)).await;
    assert_eq!(bench.pulse.running().unwrap().requests, [], "a load is for nobody, and is seen");
    bench.release();
    assert_eq!(bench.ready().await, fake_info());
    assert!(bench.pulse.interrupter().is_some());
    assert!(bench.done(request).await.outcome.is_ok());
}

#[tokio::test]
async fn a_failed_load_is_reported_and_the_actor_stops() {
    let error = LoadError { transient: true, message: "no memory".to_owned(), hint: None };
    let mut bench = failing_load(LoadFault::Error(error)).await;
    let reported = bench.load_failed().await;
    assert_eq!((reported.transient, reported.message.as_str()), (true, "no memory"));
    assert_eq!(bench.end().await, Ended::Stopped);
}

#[tokio::test]
async fn a_loader_that_panics_is_a_supervision_event() {
    let mut bench = failing_load(LoadFault::Panic).await;
    assert!(matches!(bench.end().await, Ended::Failed(reason) if reason.contains("the loader panics")));
}

#[tokio::test]
async fn a_death_in_a_run_leaves_its_requests_in_the_pulse() {
    for (fault, reason) in [(Fault::Panic, "the engine panics"), (Fault::FATAL, "the engine fails")] {
        let mut bench = Bench::held(64).await;
        bench.control.fault_in_run(2, fault);
        let running = [bench.send("a", step(tokens(1, 3), 4)), bench.send("b", step(tokens(1, 3), 4))];
        bench.send("a", step(tokens(1, 3), 4));
        bench.release();
        assert!(matches!(bench.end().await, Ended::Failed(found) if found.contains(reason)));
        assert_eq!(bench.pulse.running().unwrap().requests, running, "not the one that only waited");
    }
}

#[tokio::test]
async fn a_crash_on_request_charges_nobody() {
    let mut bench = Bench::held(4).await;
    bench.release();
    bench.ask("a", step(tokens(1, 3), 2)).await;
    bench.actor.cast(EmbedderMessage::Crash).unwrap();
    assert!(matches!(bench.end().await, Ended::Failed(reason) if reason.contains("on request")));
    assert!(bench.pulse.running().is_none());
}

#[tokio::test]
async fn a_hang_on_request_ends() {
    let mut bench = Bench::held(4).await;
    bench.actor.cast(EmbedderMessage::Hang(Duration::from_millis(1))).unwrap();
    bench.release();
    assert!(bench.ask("a", step(tokens(1, 3), 2)).await.outcome.is_ok());
}

#[tokio::test]
async fn a_draining_actor_finishes_what_it_was_given() {
    let mut bench = Bench::held(4).await;
    let sent = [bench.send("a", step(tokens(1, 9), 5)), bench.send("b", step(tokens(2, 9), 5))];
    bench.control.fault_in_run(1, Fault::HANG);
    bench.release();
    bench.hanging().await;
    bench.actor.drain().unwrap();
    bench.control.release_hangs();
    for request in sent {
        outcome(&bench.done(request).await);
    }
    assert_eq!(bench.end().await, Ended::Stopped);
}
