//! What a conversation keeps: commits, undoing, restoring, forgetting.

use std::sync::Arc;

use motorbrain_actors::{
    engine::Sampled,
    job::{Commit, History, JobError, Outcome},
    message::BrainError,
    tokens::TokenId,
};
use motorbrain_testing::{Fault, fake_info};

use super::harness::{Bench, Reference, assert_equal, embed, failure, outcome, score, step, stream, tokens};
use motorbrain_actors::job::Work;

/// Fails the job that gives it. No context of these tests has it.
const POISON: TokenId = TokenId(63);

async fn poisoned(chunk: usize, pages: bool) -> Bench {
    let bench = if pages { Bench::held(chunk).await } else { Bench::held_without_pages(chunk).await };
    bench.control.fault_on_token(POISON, Fault::REJECT);
    bench.release();
    bench
}

fn poison_after(count: u32) -> Vec<TokenId> {
    let mut text = tokens(1, count);
    text.push(POISON);
    text
}

fn history(tokens: &[TokenId], total: u64) -> History {
    History { tokens: Arc::new(tokens.to_vec()), total, ..History::default() }
}

#[tokio::test]
async fn a_step_commits_when_it_is_done() {
    let mut bench = Bench::held(2).await;
    bench.release();
    let done = bench.ask("a", step(tokens(1, 3), 2)).await;
    let Outcome::Stepped { sampled, .. } = outcome(&done) else { panic!("a step steps") };
    let appended: Vec<_> = tokens(1, 3).into_iter().chain(sampled.iter().map(|s| s.token)).collect();
    assert_eq!((done.commit.appended, done.commit.dropped), (appended, 0));
    let held = done.commit.held.unwrap();
    assert_eq!((held.keep, held.pages.len(), held.kv_len), (0, 1, 4), "the last token has no keys and values yet");
}

#[tokio::test]
async fn a_failed_job_leaves_its_conversation_as_it_was() {
    for pages in [false, true] {
        let mut bench = poisoned(2, pages).await;
        let mut reference = Reference::new(fake_info());
        let first = step(tokens(1, 3), 2);
        bench.ask("a", first.clone()).await;
        reference.answer(&first);
        for work in [embed(poison_after(5)), score(poison_after(5)), step(poison_after(5), 2)] {
            let done = bench.ask("a", work).await;
            assert_eq!((done.context_len, &done.commit, done.rebuilt), (5, &Commit::default(), false));
            assert!(matches!(failure(done), JobError::Failed(BrainError::Engine { .. })));
        }
        let next = step(vec![], 8);
        let done = bench.ask("a", next.clone()).await;
        assert_equal(outcome(&done), &reference.answer(&next));
        assert!(!done.rebuilt);
    }
}

#[tokio::test]
async fn a_step_that_fails_behind_a_slide_is_undone() {
    for (slid_before, pages) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = poisoned(3, pages).await;
        let mut reference = Reference::new(fake_info());
        let first = step(tokens(1, if slid_before { 30 } else { 10 }), 2);
        bench.ask("a", first.clone()).await;
        reference.answer(&first);
        let failed = bench.ask("a", step(poison_after(25), 1)).await;
        assert_eq!(failed.context_len, reference.context_len);
        assert!(!failed.rebuilt, "only an answer can say so");
        // Pages are those of the last commit still; without them all its tokens are read again.
        for next in [step(vec![], 3), score(tokens(7, 9))] {
            let done = bench.ask("a", next.clone()).await;
            assert_equal(outcome(&done), &reference.answer(&next));
            assert!(!done.rebuilt, "slid before: {slid_before}");
        }
    }
}

#[tokio::test]
async fn a_streamed_step_commits_token_by_token() {
    let mut bench = Bench::held(2).await;
    bench.release();
    let request = bench.send("a", stream(tokens(1, 3), 4));
    let done = bench.done(request).await;
    let Outcome::Stepped { sampled, .. } = outcome(&done) else { panic!("a step steps") };
    let shown: Vec<Sampled> = bench.shown.iter().map(|(_, sampled)| sampled.clone()).collect();
    assert_eq!(shown, *sampled);
    let Commit { appended, dropped, .. } = done.commit;
    assert_eq!((appended, dropped), (vec![], 0), "the last token's report has it all");
    assert_eq!(bench.histories["a"].total, 7);
}

#[tokio::test]
async fn a_streamed_step_that_fails_keeps_what_it_has_shown() {
    let mut bench = Bench::held(64).await;
    // The tokens of the input and two more are shown; the third run is charged to nobody else.
    bench.control.fault_in_run(3, Fault::REJECT);
    bench.release();
    let request = bench.send("a", stream(tokens(1, 3), 20));
    let done = bench.done(request).await;
    assert_eq!((done.context_len, bench.shown.len()), (5, 2));
    assert!(done.outcome.is_err());
    let mut reference = Reference::after(&bench.histories["a"].tokens, fake_info());
    let next = step(vec![], 3);
    let done = bench.ask("a", next.clone()).await;
    assert_equal(outcome(&done), &reference.answer(&next));
}

#[tokio::test]
async fn a_history_is_read_before_the_work() {
    let past = tokens(1, 14);
    for (total, rebuilt) in [(14, false), (40, true)] {
        let mut bench = Bench::held(4).await;
        bench.histories.insert("a".to_owned(), history(&past, total));
        let work = score(tokens(30, 2));
        let job = bench.job(Some("a"), work.clone());
        bench.control.fault_in_run(1, Fault::HANG);
        let reads_again = bench.send_job(job);
        let second = bench.send("a", step(vec![], 1));
        bench.release();
        bench.hanging().await;
        assert_eq!(bench.pulse.running().unwrap().requests, [reads_again], "it is charged with its restore");
        bench.control.release_hangs();
        let order = bench.order(2).await;
        let mut reference = Reference::after(&past, fake_info());
        reference.total = total;
        let first = bench.done(order[0]).await;
        assert_equal(outcome(&first), &reference.answer(&work));
        assert_eq!((first.rebuilt, first.commit.appended.len()), (rebuilt, 2));
        // The random draw depends on the number of the token since the reset.
        let second = bench.done(second).await;
        assert_equal(outcome(&second), &reference.answer(&step(vec![], 1)));
        assert!(!second.rebuilt, "said once");
    }
}

#[tokio::test]
async fn a_rebuilt_conversation_says_so_with_its_next_answer() {
    let mut bench = poisoned(64, false).await;
    bench.histories.insert("a".to_owned(), history(&tokens(1, 14), 40));
    let job = bench.job(Some("a"), step(vec![POISON], 1));
    let request = bench.send_job(job);
    let failed = bench.done(request).await;
    assert_eq!((failed.outcome.is_err(), failed.rebuilt), (true, false));
    assert!(bench.ask("a", step(vec![], 1)).await.rebuilt);
    assert!(!bench.ask("a", step(vec![], 1)).await.rebuilt);
}

#[tokio::test]
async fn a_history_outlives_the_job_that_brought_it() {
    let past = tokens(1, 10);
    let mut bench = Bench::held(4).await;
    bench.histories.insert("a".to_owned(), history(&past, 10));
    let job = bench.job(Some("a"), step(vec![], 5));
    let cancelled = bench.send_cancelled(job);
    let next = bench.send("a", step(vec![], 2));
    bench.release();
    assert_eq!(failure(bench.done(cancelled).await), JobError::Cancelled);
    let expected = Reference::after(&past, fake_info()).answer(&step(vec![], 2));
    assert_equal(outcome(&bench.done(next).await), &expected);
}

#[tokio::test]
async fn a_forgotten_conversation_begins_anew() {
    let mut bench = Bench::held_without_pages(4).await;
    bench.release();
    let work = step(tokens(1, 20), 3);
    let first = bench.ask("a", work.clone()).await;
    let forgotten = bench.ask("a", Work::Forget).await;
    assert_eq!((outcome(&forgotten), forgotten.context_len), (&Outcome::Forgotten, 0));
    assert_eq!(bench.kv_bytes, 0);
    assert_eq!(bench.ask("a", work).await.outcome, first.outcome);
    assert_eq!(*outcome(&bench.ask("unknown", Work::Forget).await), Outcome::Forgotten);
}
