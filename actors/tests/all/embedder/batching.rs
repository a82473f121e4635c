//! What shares a run: order, company, chunks, and those that ride alone.

use std::sync::Arc;

use motorbrain_actors::{
    job::{Outcome, Work},
    tokens::TokenId,
    vectors::{Pooling, Shape},
};
use motorbrain_testing::{FakeControl, Fault, RowSeen, fake_info};

use super::harness::{Bench, Reference, assert_equal, embed, outcome, score, step, tokens};

#[tokio::test]
async fn jobs_of_a_conversation_are_done_in_the_order_of_their_arrival() {
    let mut bench = Bench::held(8).await;
    let works = [step(tokens(1, 3), 4), embed(tokens(9, 5)), step(vec![], 2), score(tokens(20, 4))];
    let sent: Vec<_> = works.iter().map(|work| bench.send("a", work.clone())).collect();
    bench.release();
    assert_eq!(bench.order(4).await, sent);
    let mut reference = Reference::new(fake_info());
    for (request, work) in sent.into_iter().zip(works) {
        let done = bench.done(request).await;
        assert_equal(outcome(&done), &reference.answer(&work));
        assert_eq!((done.context_len, done.rebuilt), (reference.context_len, false));
    }
}

#[tokio::test]
async fn decode_rows_of_all_conversations_share_every_run() {
    let mut bench = Bench::held(64).await;
    let work = |i: u32| step(tokens(10 * i, 3), 5);
    let sent: Vec<_> = (0..4).map(|i| bench.send(&format!("{i}"), work(i))).collect();
    bench.release();
    for (i, request) in (0..).zip(sent) {
        let expected = Reference::new(fake_info()).answer(&work(i));
        assert_equal(outcome(&bench.done(request).await), &expected);
    }
    let tally = bench.control.tally();
    assert_eq!((tally.runs, tally.rows), (5, 20), "one run a token for all four");
}

#[tokio::test]
async fn who_comes_during_a_run_joins_the_next() {
    let mut bench = Bench::held(64).await;
    bench.control.fault_in_run(2, Fault::HANG);
    let first = bench.send("a", step(tokens(1, 3), 4));
    bench.release();
    bench.hanging().await;
    let second = bench.send("b", step(tokens(2, 3), 1));
    bench.control.release_hangs();
    bench.done(first).await;
    bench.done(second).await;
    let widths: Vec<_> = bench.control.recorded().iter().map(Vec::len).collect();
    assert_eq!(widths, [1, 1, 2, 1]);
}

#[tokio::test]
async fn a_long_prompt_delays_others_by_one_chunk() {
    let mut bench = Bench::held(4).await;
    let long = bench.send("long", step(tokens(1, 60), 1));
    let short = bench.send("short", step(tokens(1, 3), 4));
    bench.release();
    assert_eq!(bench.order(2).await, [short, long]);
    for run in bench.control.recorded() {
        let read: usize = run.iter().map(|row| row.tokens.len()).sum();
        assert!(read <= 4 + 3, "{read} tokens in one run: a chunk, and a decode behind three");
    }
}

#[tokio::test]
async fn chunks_change_no_answer() {
    for pooling in [Pooling::Mean, Pooling::Last] {
        for (chunk, normalize) in [(1, true), (3, false), (7, true), (100, false)] {
            let shape = Shape { pooling, normalize, ..Shape::default() };
            let vector = |tokens: Vec<TokenId>| Work::Embed { tokens: Arc::new(tokens), shape };
            let mut bench = Bench::new(fake_info(), chunk, FakeControl::default()).await;
            let mut reference = Reference::new(fake_info());
            // Five windows, with slides inside of every kind of work.
            for work in [vector(tokens(1, 21)), score(tokens(5, 21)), step(tokens(9, 21), 21), vector(tokens(3, 1))] {
                let done = bench.ask("a", work.clone()).await;
                assert_equal(outcome(&done), &reference.answer(&work));
                assert_eq!(done.context_len, reference.context_len, "in chunks of {chunk}");
            }
        }
    }
}

#[tokio::test]
async fn a_job_that_runs_alone_shares_no_run() {
    let mut bench = Bench::held(64).await;
    let before = bench.send("a", step(tokens(1, 3), 6));
    let mut job = bench.job(Some("b"), step(tokens(40, 3), 6));
    job.alone = 6;
    let alone = bench.send_job(job);
    let after = bench.send("c", step(tokens(2, 3), 6));
    bench.release();
    for request in [before, alone, after] {
        assert!(bench.done(request).await.outcome.is_ok());
    }
    let recorded = bench.control.recorded();
    let begins = |row: &&RowSeen| row.tokens == tokens(40, 3);
    let slot = recorded.iter().flatten().find(begins).unwrap().slot;
    let runs: Vec<Vec<_>> = recorded.iter().map(|run| run.iter().map(|row| row.slot).collect()).collect();
    assert!(runs.iter().all(|run| !run.contains(&slot) || run.len() == 1), "{runs:?}");
    assert_eq!(runs.iter().filter(|run| run.contains(&slot)).count(), 6, "{runs:?}");
    assert!(bench.cleared.is_empty(), "it ended before");
    assert!(runs.chunks(2).take(6).all(|two| two.iter().filter(|run| run.contains(&slot)).count() == 1), "by turns");
    assert!(runs.iter().any(|run| run.len() == 2), "the others still share theirs: {runs:?}");
}

#[tokio::test]
async fn a_job_without_a_conversation_leaves_nothing() {
    let mut bench = Bench::held_without_pages(64).await;
    let kept = bench.send("a", step(tokens(1, 3), 1));
    let passing = bench.send_stateless(embed(tokens(1, 5)));
    bench.release();
    let (kept, passing) = (bench.done(kept).await, bench.done(passing).await);
    let expected = Reference::new(fake_info()).answer(&embed(tokens(1, 5)));
    assert_equal(outcome(&passing), &expected);
    assert_eq!(passing.context_len, 5);
    assert_eq!(kept.context_len, 4);
    bench.ask("a", step(vec![], 1)).await;
    assert_eq!(bench.kv_bytes, 4 * fake_info().kv_bytes_per_token, "only the conversation's tokens are held");
}

#[tokio::test]
async fn a_step_stops_at_an_end_token_and_goes_on_after_it() {
    let mut plain = Reference::new(fake_info());
    let Outcome::Stepped { sampled, .. } = plain.answer(&step(tokens(1, 3), 6)) else {
        panic!("a step steps");
    };
    let mut info = fake_info();
    info.end_tokens = vec![sampled[2].token];
    let first = sampled.iter().position(|sampled| sampled.token == info.end_tokens[0]).unwrap();
    let mut bench = Bench::new(info.clone(), 8, FakeControl::default()).await;
    let done = bench.ask("a", step(tokens(1, 3), 6)).await;
    let expected = Outcome::Stepped { sampled: sampled[..=first].to_vec(), stopped: true };
    assert_eq!(*outcome(&done), expected);
    let mut reference = Reference::new(info);
    reference.answer(&step(tokens(1, 3), 6));
    let done = bench.ask("a", step(vec![], 2)).await;
    assert_equal(outcome(&done), &reference.answer(&step(vec![], 2)));
}
