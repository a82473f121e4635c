//! Shared prefixes, forks and several answers on real exports, through the whole stack: what is not read gives the same
//! as what is, to the bit. On the fake engine the same is tested case by case (`actors/tests/all/brain/`).
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;

use crate::common::{fixture, graph_cache, text_tokens};
use motorbrain::{
    Brain, Fork, Input, Sampling, Score, Settings, Sharing, Step, Stepped, Terms, TokenId, engine::Activations,
};

/// Keys and values in f32 and in f16, and weights of few bits.
fn forms() -> impl Iterator<Item = PathBuf> {
    ["tiny-plain", "tiny-gqa-fp32", "tiny-plain-f16", "tiny-gqa-int4"].into_iter().map(fixture)
}

async fn brain(dir: PathBuf) -> Brain {
    with_window(dir, None).await
}

async fn with_window(dir: PathBuf, size: Option<usize>) -> Brain {
    let mut settings = Settings::default();
    settings.model.dir = Some(dir);
    settings.runtime.cache = Some(graph_cache());
    settings.runtime.activations = Activations::F32;
    settings.runtime.threads = Some(1);
    settings.window.size = size;
    settings.brain.chaos = true;
    settings.brain.actors = 2;
    settings.brain.restarts_max = usize::MAX;
    settings.brain.backoff_ms_max = settings.brain.backoff_ms_min;
    let brain = motorbrain::start(&settings).await.unwrap();
    assert_eq!(brain.info().await.unwrap().pages.unwrap().tokens, 32);
    brain
}

fn reading(conversation: &str, tokens: &[TokenId]) -> Step {
    Step { count: 0, ..Step::greedy(conversation, Input::Tokens(tokens.to_vec()), 0) }
}

/// A step that is drawn.
fn drawn(conversation: &str, tokens: &[TokenId], seed: u64) -> Step {
    let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    Step { sampling, seed: Some(seed), top: 3, ..Step::greedy(conversation, Input::Tokens(tokens.to_vec()), 9) }
}

/// The same of a conversation that shares with nobody.
fn alone(step: Step) -> Step {
    Step { terms: Terms { sharing: Some(Sharing::Nobody), ..Terms::default() }, ..step }
}

async fn scored(brain: &Brain, conversation: &str, tokens: &[TokenId]) -> Vec<u32> {
    let scored = brain.score(Score::of(conversation, tokens.to_vec())).await.unwrap();
    scored.logprobs.into_iter().map(|logprob| logprob.unwrap().to_bits()).collect()
}

/// What is equal to the bit of two answers.
#[derive(Debug, PartialEq)]
struct Answer {
    tokens: Vec<TokenId>,
    logprobs: Vec<u32>,
    top: Vec<Vec<(TokenId, f32)>>,
    context_len: usize,
}

fn answer(stepped: Stepped) -> Answer {
    let Stepped { token_ids: tokens, logprobs, top, context, .. } = stepped;
    Answer { tokens, logprobs: logprobs.into_iter().map(f32::to_bits).collect(), top, context_len: context.context_len }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_under_another_name_answers_to_the_bit_and_is_not_read() {
    for dir in forms() {
        let text = text_tokens(&dir, 420);
        let brain = brain(dir).await;
        brain.step(reading("first", &text[..300])).await.unwrap();
        // The whole of it, to a page's end, and to somewhere in the midst of one.
        for common in [300, 288, 171] {
            let history = [&text[..common], &text[350..410]].concat();
            let name = format!("shares {common}");
            let shared = brain.step(drawn(&name, &history, 3)).await.unwrap();
            assert_eq!(shared.context.reused, common, "{name}");
            let read = brain.step(alone(drawn("alone", &history, 3))).await.unwrap();
            assert_eq!(read.context.reused, 0);
            assert_eq!(answer(shared), answer(read), "{name}");
            assert_eq!(scored(&brain, &name, &text[..50]).await, scored(&brain, "alone", &text[..50]).await, "{name}");
            brain.close("alone").await.unwrap();
        }
        let again = brain.step(drawn("again", &text[..300], 4)).await.unwrap();
        assert_eq!(again.context.reused, 299, "all but the last token, which is run for its answer");
        let read = brain.step(alone(drawn("alone", &text[..300], 4))).await.unwrap();
        assert_eq!(answer(again), answer(read));
        brain.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slide_has_left_is_taken_over_by_nobody_who_reads_the_same() {
    for dir in forms() {
        let text = text_tokens(&dir, 200);
        let brain = with_window(dir, Some(96)).await;
        // A window of 96 keeps 4 sinks and slides by 24.
        let len = brain.step(reading("slid", &text[..130])).await.unwrap().context.context_len;
        let window = [&text[..4], &text[130 - (len - 4)..130]].concat();
        let found = brain.step(drawn("reads the window", &window, 7)).await.unwrap();
        let expected = brain.step(alone(drawn("alone", &window, 7))).await.unwrap();
        assert_eq!(answer(found), answer(expected));
        // Nor by one that begins as it began.
        let found = brain.step(drawn("reads the text", &text[..130], 7)).await.unwrap();
        let expected = brain.step(alone(drawn("reads it alone", &text[..130], 7))).await.unwrap();
        assert_eq!(answer(found), answer(expected));
        brain.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_in_the_midst_of_a_page_answers_as_one_that_read_the_same() {
    for dir in forms() {
        let text = text_tokens(&dir, 300);
        let brain = brain(dir).await;
        brain.step(reading("parent", &text[..200])).await.unwrap();
        for at in [1, 32, 77, 199] {
            let child = format!("{at}");
            let fork = Fork { from: "parent".into(), to: child.as_str().into(), at: Some(at), choice: None };
            assert_eq!(brain.fork(fork).await.unwrap().context_len, at);
            brain.step(alone(reading("alone", &text[..at]))).await.unwrap();
            for turn in 0..3 {
                let words = &text[210 + 11 * turn..][..11];
                let found = brain.step(drawn(&child, words, 7)).await.unwrap();
                let expected = brain.step(drawn("alone", words, 7)).await.unwrap();
                assert_eq!(answer(found), answer(expected), "{at}, turn {turn}");
                crash(&brain, turn % 2).await;
            }
            brain.close("alone").await.unwrap();
        }
        brain.step(alone(reading("alone", &text[..200]))).await.unwrap();
        let (found, expected) = (drawn("parent", &text[..1], 8), drawn("alone", &text[..1], 8));
        assert_eq!(answer(brain.step(found).await.unwrap()), answer(brain.step(expected).await.unwrap()), "the parent");
        brain.shutdown().await;
    }
}

/// Kills an actor that is ready; the other one goes on meanwhile.
async fn crash(brain: &Brain, actor: usize) {
    while brain.crash(actor).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_are_those_of_forks() {
    for dir in forms() {
        let text = text_tokens(&dir, 300);
        let brain = brain(dir).await;
        brain.step(reading("one", &text[..90])).await.unwrap();
        let several = brain.several(Step { n: 3, ..drawn("one", &text[90..143], 5) }).await.unwrap();
        let first = brain.step(alone(drawn("alone", &text[..143], 5))).await.unwrap();
        assert_eq!(answer(several.choices[0].clone()), answer(first));
        for (index, choice) in several.choices.iter().enumerate() {
            let kept = format!("kept {index}");
            let fork = Fork { from: "one".into(), to: kept.as_str().into(), at: None, choice: Some(index) };
            brain.fork(fork).await.unwrap();
            // The same tokens, read by one that shares with nobody, have the same log-probabilities.
            let read = format!("read {index}");
            brain.step(alone(reading(&read, &text[..143]))).await.unwrap();
            let logprobs: Vec<_> = choice.logprobs.iter().map(|logprob| logprob.to_bits()).collect();
            assert_eq!(scored(&brain, &read, &choice.token_ids).await, logprobs, "{index}");
            let found = brain.step(drawn(&kept, &text[200..220], 6)).await.unwrap();
            let expected = brain.step(drawn(&read, &text[200..220], 6)).await.unwrap();
            assert_eq!(answer(found), answer(expected), "{index}");
        }
        let terms = Terms { choice: Some(2), ..Terms::default() };
        let chosen = brain.step(Step { terms, ..drawn("one", &text[200..220], 6) }).await.unwrap();
        brain.close("kept 2").await.unwrap();
        let tokens = [&text[..143], &several.choices[2].token_ids[..], &text[200..220]].concat();
        let read = brain.step(alone(drawn("kept 2", &tokens, 6))).await.unwrap();
        assert_eq!(answer(chosen), answer(read));
        brain.shutdown().await;
    }
}
