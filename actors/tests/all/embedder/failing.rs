//! Who is charged with a failed run, and who is not.

use motorbrain_actors::{
    engine::{EngineErrorKind, EngineInfo, Slides, Window},
    job::{JobError, Work},
    message::BrainError,
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, Fault, fake_info};

use super::harness::{Bench, Reference, assert_equal, embed, failure, outcome, score, step, tokens};

#[tokio::test]
async fn a_bad_row_fails_alone() {
    for kind in [EngineErrorKind::Rejected, EngineErrorKind::OutOfMemory] {
        for blamed in [true, false] {
            let mut bench = Bench::held(64).await;
            bench.control.fault_on_token(TokenId(60), Fault::Fail { kind, blamed });
            let good = step(tokens(1, 3), 4);
            let before = bench.send("a", good.clone());
            let bad = bench.send("b", step(tokens(58, 4), 4));
            let after = bench.send("c", good.clone());
            let next = bench.send("b", good.clone());
            bench.release();
            let error = failure(bench.done(bad).await);
            assert!(matches!(error, JobError::Failed(BrainError::Engine { .. })), "{error:?}");
            let expected = Reference::new(fake_info()).answer(&good);
            for request in [before, after, next] {
                assert_equal(outcome(&bench.done(request).await), &expected);
            }
            let widths: Vec<_> = bench.control.recorded().iter().map(Vec::len).collect();
            let alone = widths.iter().skip(1).take(3).filter(|&&width| width == 1).count();
            assert_eq!(alone == 3, !blamed, "one by one where nobody is named: {widths:?}");
        }
    }
}

#[tokio::test]
async fn a_conversation_without_memory_fails_alone() {
    let mut bench = Bench::held(64).await;
    bench.control.set_slots_max(Some(1));
    let fits = bench.send("a", step(tokens(1, 3), 3));
    let not = bench.send("b", step(tokens(1, 3), 3));
    bench.release();
    assert!(matches!(failure(bench.done(not).await), JobError::Failed(BrainError::Engine { .. })));
    assert!(bench.done(fits).await.outcome.is_ok());
    bench.control.set_slots_max(None);
    assert!(bench.ask("b", step(tokens(1, 3), 3)).await.outcome.is_ok());
}

#[tokio::test]
async fn an_interrupted_run_is_tried_again_without_those_nobody_waits_for() {
    let mut bench = Bench::held(64).await;
    bench.control.fault_in_run(3, Fault::HANG);
    let work = step(tokens(1, 3), 8);
    let kept = bench.send("a", work.clone());
    let job = bench.job(Some("b"), work.clone());
    let left = bench.send_job(job);
    bench.release();
    bench.hanging().await;
    assert_eq!(bench.pulse.running().unwrap().requests, [kept, left], "the pulse names who runs");
    bench.cancel(left);
    bench.pulse.interrupter().unwrap().interrupt();
    let cancelled = bench.done(left).await;
    assert_eq!(cancelled.context_len, 0);
    assert_eq!(failure(cancelled), JobError::Cancelled);
    let expected = Reference::new(fake_info()).answer(&work);
    assert_equal(outcome(&bench.done(kept).await), &expected);
    assert_equal(outcome(&bench.ask("b", work).await), &expected);
    // A run's pulse ends when all that it gave is taken in, which is before anything else is done.
    bench.ask("b", Work::Forget).await;
    assert!(bench.pulse.running().is_none(), "nothing runs any more");
}

#[tokio::test]
async fn a_cancelled_job_gives_its_temporary_slot_back() {
    let mut bench = Bench::held(2).await;
    bench.control.fault_in_run(2, Fault::HANG);
    let job = bench.job(None, embed(tokens(1, 9)));
    let request = bench.send_job(job);
    bench.release();
    bench.hanging().await;
    bench.cancel(request);
    bench.control.release_hangs();
    assert_eq!(failure(bench.done(request).await), JobError::Cancelled);
    assert_eq!(bench.kv_bytes, 0);
}

#[tokio::test]
async fn a_context_that_may_not_slide_refuses_what_does_not_fit() {
    let info = EngineInfo { window: Window { slides: Slides::Never, ..fake_info().window }, ..fake_info() };
    let mut bench = Bench::new(info, 4, FakeControl::default()).await;
    let full = |context_len, new| JobError::Failed(BrainError::ContextFull { context_len, new, size: 16 });
    bench.ask("a", score(tokens(1, 10))).await;
    let runs = bench.control.tally().runs;
    assert_eq!(failure(bench.ask("a", score(tokens(1, 7))).await), full(10, 7));
    assert_eq!(bench.control.tally().runs, runs, "refused before anything is read");
    let late = bench.ask("a", step(tokens(1, 4), 5)).await;
    assert_eq!(late.context_len, 10);
    assert_eq!(failure(late), full(10, 7), "four read, two sampled, the third did not fit");
    assert!(bench.ask("a", step(tokens(1, 4), 2)).await.outcome.is_ok());
}

#[tokio::test]
async fn nothing_to_read_is_an_error() {
    let mut bench = Bench::held(4).await;
    bench.release();
    for work in [step(vec![], 3), step(vec![], 0), embed(vec![]), score(vec![])] {
        let error = failure(bench.ask("a", work).await);
        assert!(matches!(error, JobError::Failed(BrainError::EmptyInput { .. })), "{error:?}");
    }
    assert_eq!(bench.control.tally().runs, 0);
}

#[tokio::test]
async fn a_model_without_hidden_states_says_so() {
    let info = EngineInfo { embeds: false, ..fake_info() };
    let mut bench = Bench::new(info, 4, FakeControl::default()).await;
    let request = bench.send_stateless(embed(tokens(1, 3)));
    let error = failure(bench.done(request).await);
    assert!(matches!(error, JobError::Failed(BrainError::Engine { ref message }) if message.contains("hidden states")));
    assert!(bench.ask("a", step(tokens(1, 3), 2)).await.outcome.is_ok());
}
