//! Start and end of a brain.

use std::{sync::Arc, time::Duration};

use motorbrain_actors::{
    brain::{Brain, BrainArguments, BrainConfig, BrainMessage, MotorBrain, StartError},
    engine::LoadError,
    message::ErrorCode,
};
use motorbrain_testing::{Fault, LoadFault, fake_info};
use ractor::{Actor, ActorStatus};

use super::{Letters, config, loader, start, step, within};

fn failing(transient: bool) -> LoadFault {
    LoadFault::Error(LoadError { transient, message: "no such model".to_owned(), hint: None })
}

/// How a start ends whose loads have this fault.
async fn start_with(times: u32, fault: LoadFault) -> Result<Brain, StartError> {
    let (loader, control) = loader(fake_info());
    control.fault_in_loads(times, fault);
    let mut config = config(1);
    config.supervision.restarts_max = 3;
    within(Brain::start(config, loader, Arc::new(Letters))).await
}

#[tokio::test]
async fn a_first_load_that_cannot_succeed_ends_the_start_with_its_error() {
    let error = start_with(1, failing(false)).await.unwrap_err();
    assert!(matches!(&error, StartError::Load(error) if error.message == "no such model"), "{error:?}");
}

#[tokio::test]
async fn a_first_load_that_may_succeed_later_is_tried_again_up_to_a_limit() {
    start_with(3, failing(true)).await.unwrap();
    start_with(2, LoadFault::Panic).await.unwrap();
    let error = start_with(4, failing(true)).await.unwrap_err();
    assert!(matches!(error, StartError::Load(_)), "{error:?}");
}

#[tokio::test]
async fn a_first_load_that_does_not_return_ends_the_start() {
    let (loader, control) = loader(fake_info());
    control.hold_loads();
    let mut config = config(2);
    config.supervision.load_max = Duration::from_millis(50);
    let error = within(Brain::start(config, loader, Arc::new(Letters))).await.unwrap_err();
    assert!(matches!(&error, StartError::Load(error) if error.message.contains("within 0.05 s")), "{error:?}");
    control.release_loads();
}

#[tokio::test]
async fn settings_out_of_range_are_named_with_what_they_may_be() {
    const ZERO: Duration = Duration::ZERO;
    type Change = fn(&mut BrainConfig);
    let bad: [(&str, Change); 17] = [
        ("actors", |config| config.actors = 0),
        ("chunk", |config| config.chunk = 0),
        ("limits.text_bytes", |config| config.limits.text_bytes = 0),
        ("limits.count", |config| config.limits.count = 0),
        ("limits.requests", |config| config.limits.requests = 0),
        ("limits.conversation_requests", |config| config.limits.conversation_requests = 0),
        ("limits.conversations", |config| config.limits.conversations = 0),
        ("beside_max", |config| config.beside_max = ZERO),
        ("supervision.run_max", |config| config.supervision.run_max = ZERO),
        ("supervision.load_max", |config| config.supervision.load_max = ZERO),
        ("supervision.restarts_within", |config| config.supervision.restarts_within = ZERO),
        ("supervision.quarantine", |config| config.supervision.quarantine = ZERO),
        ("supervision.backoff_max", |config| config.supervision.backoff_max = ZERO),
        ("supervision.backoff_min", |config| config.supervision.backoff_min = Duration::from_secs(9)),
        ("supervision.retry_min", |config| config.supervision.retry_min = ZERO),
        ("supervision.retry_max", |config| config.supervision.retry_max = ZERO),
        ("supervision.retry_min", |config| config.supervision.retry_min = Duration::from_secs(61)),
    ];
    for (named, change) in bad {
        let mut config = BrainConfig::default();
        change(&mut config);
        let error = Brain::start(config, loader(fake_info()).0, Arc::new(Letters)).await.unwrap_err();
        assert!(matches!(error, StartError::Setting { what, .. } if what == named), "{named}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains(named)), "{error:?}");
    }
    BrainConfig::default().check().unwrap();
}

#[tokio::test]
async fn a_name_that_is_taken_is_an_error_until_it_is_free() {
    let start = |config: BrainConfig| Brain::start(config, loader(fake_info()).0, Arc::new(Letters));
    let named = BrainConfig { name: Some("taken".to_owned()), ..config(1) };
    let first = start(named.clone()).await.unwrap();
    let error = start(named.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::Spawn(_)), "{error:?}");
    within(first.shutdown()).await;
    start(named).await.unwrap();
}

#[tokio::test]
async fn requests_wait_for_the_first_load_and_are_checked_after_it() {
    let (loader, control) = loader(fake_info());
    control.hold_loads();
    let arguments = BrainArguments::new(config(1), loader, Arc::new(Letters));
    let (actor, _) = Actor::spawn(None, MotorBrain, arguments).await.unwrap();
    let brain = Brain::from(actor);
    within(control.until(|tally| tally.loads == 1)).await;
    // The brain itself waits for nothing.
    assert_eq!(brain.stats().await.unwrap_err().code(), ErrorCode::Unavailable);
    let (good, bad, ()) = within(async {
        tokio::join!(
            brain.step(step("a", "HELLO", 2)),
            brain.step(motorbrain_actors::message::Step {
                input: Some(vec![motorbrain_actors::tokens::TokenId(1000)].into()),
                ..step("b", "", 1)
            }),
            async { control.release_loads() },
        )
    })
    .await;
    assert_eq!(good.unwrap().token_ids.len(), 2);
    assert_eq!(bad.unwrap_err().code(), ErrorCode::InvalidToken);
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_accepted() {
    let bench = start(config(2)).await;
    // One that came later would find the other alone, and busy, whichever of the two that is.
    bench.all_are_ready().await;
    bench.control.fault_in_run(1, Fault::HANG);
    let brain = bench.brain.clone();
    let accepted = tokio::spawn(async move { brain.step(step("a", "HELLO", 5)).await });
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    let brain = bench.brain.clone();
    let shutdown = tokio::spawn(async move { brain.shutdown().await });
    // Refused from the moment on at which the shutdown is known.
    within(async { while bench.brain.step(step("b", "HELLO", 0)).await.is_ok() {} }).await;
    let refused = bench.brain.step(step("b", "HELLO", 1)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable);
    bench.control.release_hangs();
    assert_eq!(within(accepted).await.unwrap().unwrap().token_ids.len(), 5);
    within(shutdown).await.unwrap();
    assert_eq!(bench.brain.actor_ref().get_status(), ActorStatus::Stopped);
    assert_eq!(bench.brain.step(step("a", "HELLO", 1)).await.unwrap_err().code(), ErrorCode::Unavailable);
    within(bench.brain.shutdown()).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_a_load_under_way() {
    let (loader, control) = loader(fake_info());
    control.hold_loads();
    let arguments = BrainArguments::new(config(2), loader, Arc::new(Letters));
    let (actor, _) = Actor::spawn(None, MotorBrain, arguments).await.unwrap();
    let brain = Brain::from(actor);
    within(control.until(|tally| tally.loads == 2)).await;
    let (port, told) = tokio::sync::oneshot::channel();
    brain.actor_ref().cast(BrainMessage::Shutdown(None, port.into())).unwrap();
    // Behind the shutdown: the brain is still there.
    let unavailable = brain.stats().await.unwrap_err().to_string();
    assert!(unavailable.contains("no actor has loaded the model yet"), "{unavailable}");
    control.release_loads();
    within(told).await.unwrap();
    within(brain.shutdown()).await;
    assert_eq!(brain.actor_ref().get_status(), ActorStatus::Stopped);
}

#[tokio::test]
async fn a_hang_does_not_keep_a_shutdown_for_ever() {
    let mut config = config(1);
    config.supervision.run_max = Duration::from_millis(50);
    let bench = start(config).await;
    for run in 1..=2 {
        bench.control.fault_in_run(run, Fault::Hang { limit: None, deaf: true });
    }
    let brain = bench.brain.clone();
    let doomed = tokio::spawn(async move { brain.step(step("a", "HELLO", 5)).await });
    within(bench.control.until(|tally| tally.hanging == 1)).await;
    within(bench.brain.shutdown()).await;
    assert_eq!(within(doomed).await.unwrap().unwrap_err().code(), ErrorCode::Restarted);
    bench.control.release_hangs();
}
