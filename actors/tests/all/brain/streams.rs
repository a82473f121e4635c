//! Steps that are shown token by token.

use motorbrain_actors::{
    brain::{StepItem, StepStream},
    message::{ErrorCode, Stepped},
    tokens::TokenId,
};
use motorbrain_testing::Fault;

use super::{config, start, step, within};

/// The tokens and the text that were shown, and the last item.
async fn read(mut stream: StepStream) -> (Vec<TokenId>, String, StepItem) {
    let (mut tokens, mut pieces) = (Vec::new(), String::new());
    loop {
        match within(stream.next()).await.unwrap() {
            StepItem::Token { sampled, text } => {
                tokens.push(sampled.token);
                pieces += &text;
            }
            last => {
                assert!(stream.next().await.is_none());
                return (tokens, pieces, last);
            }
        }
    }
}

fn whole(last: StepItem) -> Stepped {
    match last {
        StepItem::Stepped(stepped) => stepped,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_streamed_step_is_the_same_as_one_that_is_not() {
    let brain = start(config(1)).await.brain;
    let plain = brain.step(step("plain", "HELLO", 20)).await.unwrap();
    let (tokens, text, last) = read(brain.step_stream(step("streamed", "HELLO", 20)).await.unwrap()).await;
    assert_eq!(tokens, plain.token_ids);
    assert_eq!(text, plain.text);
    assert_eq!(whole(last), plain);
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_token_shown() {
    let expected = start(config(1)).await.brain.step(step("a", "HELLO", 8)).await.unwrap();
    for (run, fault) in [(1, Fault::Panic), (4, Fault::Panic), (8, Fault::FATAL)] {
        let bench = start(config(1)).await;
        bench.control.fault_in_run(run, fault);
        let stream = bench.brain.step_stream(step("a", "HELLO", 8)).await.unwrap();
        let (tokens, text, last) = read(stream).await;
        assert_eq!(tokens, expected.token_ids);
        assert_eq!(text, expected.text);
        assert_eq!(whole(last), expected);
        assert_eq!(bench.brain.stats().await.unwrap().actors[0].restarts, 1);
    }
}

#[tokio::test]
async fn a_stream_that_fails_says_what_stays() {
    let bench = start(config(1)).await;
    bench.control.fault_in_run(4, Fault::REJECT);
    let (tokens, _, last) = read(bench.brain.step_stream(step("a", "HELLO", 8)).await.unwrap()).await;
    let StepItem::Failed { error, committed } = last else { panic!("{last:?}") };
    assert_eq!(error.code(), ErrorCode::Engine);
    assert_eq!(committed, 3);
    assert_eq!(tokens.len(), 3);
    let more = bench.brain.step(step("a", "B", 1)).await.unwrap();
    assert_eq!(more.context.context_len, 5 + 3 + 2);
}

#[tokio::test]
async fn dropping_a_stream_cancels_the_step() {
    const COUNT: usize = 50_000;
    let bench = start(config(1)).await;
    let mut stream = bench.brain.step_stream(step("a", "HELLO", COUNT)).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(within(stream.next()).await, Some(StepItem::Token { .. })));
    }
    drop(stream);
    let behind = within(bench.brain.step(step("a", "B", 1))).await.unwrap();
    assert!(behind.context.context_len >= 5 + 2 + 2, "what was shown stays: {behind:?}");
    let runs = bench.control.tally().runs;
    assert!(runs < COUNT as u64, "{runs} runs");
}
