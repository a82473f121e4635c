//! Windows that are read again behind a slide, on real exports and through the whole stack: what a conversation answers is
//! what one answers that was given nothing but the tokens its window holds, to the bit where it runs in the paged form.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::path::Path;

use crate::{
    common::{F32_TOLERANCE, fixture, graph_cache, largest_difference, text_tokens},
    window_reference::without_a_rotation,
};
use motorbrain::{
    Brain, Input, Sampling, Score, Settings, Sharing, Slides, Step, Stepped, Terms, TokenId,
    engine::{Activations, WindowPolicy},
};

const SIZE: usize = 64;

async fn brain(dir: &Path) -> Brain {
    let mut settings = Settings::default();
    settings.model.dir = Some(dir.to_owned());
    settings.runtime.cache = Some(graph_cache());
    settings.runtime.activations = Activations::F32;
    settings.runtime.threads = Some(1);
    settings.brain.actors = 1;
    (settings.window.size, settings.window.sinks, settings.window.slide) = (Some(SIZE), Some(4), Some(16));
    settings.window.policy = WindowPolicy::Recompute;
    let brain = motorbrain::start(&settings).await.unwrap();
    assert_eq!(brain.info().await.unwrap().window.slides, Slides::Recompute);
    brain
}

fn alone(step: Step) -> Step {
    Step { terms: Terms { sharing: Some(Sharing::Nobody), ..Terms::default() }, ..step }
}

fn drawn(name: &str, tokens: &[TokenId], count: usize) -> Step {
    let sampling = Sampling { temperature: 1.0, repetition_penalty: 1.2, ..Sampling::GREEDY };
    Step { sampling, seed: Some(9), top: 3, ..Step::greedy(name, Input::Tokens(tokens.to_vec()), count) }
}

/// What the window holds.
async fn window(brain: &Brain) -> Vec<TokenId> {
    brain.export("a").await.unwrap().remove(0).history.tokens.to_vec()
}

/// The log-probabilities of these tokens behind a context, by a conversation of their own.
async fn fresh(brain: &Brain, context: &[TokenId], tokens: &[TokenId]) -> Vec<f32> {
    brain.step(alone(Step::greedy("fresh", Input::Tokens(context.to_vec()), 0))).await.unwrap();
    let score = Score::of("fresh", tokens.to_vec());
    let found = brain.score(score).await.unwrap().logprobs;
    brain.close("fresh").await.unwrap();
    found.into_iter().map(Option::unwrap).collect()
}

fn check(what: &str, found: &[f32], expected: &[f32], to_the_bit: bool) {
    let difference = largest_difference(found, expected);
    let is_close = if to_the_bit { difference == 0.0 } else { difference < F32_TOLERANCE };
    assert!(is_close, "{what}: {difference:e}");
}

/// Steps, scores and long steps over many slides, each compared with one that was given the window alone.
async fn answers_are_those_of_the_window(dir: &Path, what: &str, to_the_bit: bool) {
    let (brain, text) = (brain(dir).await, text_tokens(dir, 800));
    let mut slid = 0;
    for turn in 0..24 {
        let words = &text[17 * turn..][..1 + 7 * turn % 30];
        let before = if turn == 0 { Vec::new() } else { window(&brain).await };
        let stepped = brain.step(alone(drawn("a", words, 3))).await.unwrap();
        let context = window(&brain).await;
        let held = [&before[..], words].concat();
        // As long as nothing has left meanwhile, what was sampled is what the tokens before it say.
        if held.len() + 3 <= SIZE {
            let expected = fresh(&brain, &held, &stepped.token_ids).await;
            check(&format!("{what}, turn {turn}"), &stepped.logprobs, &expected, to_the_bit);
        } else {
            slid += 1;
            assert!(context.ends_with(&stepped.token_ids) && context[..4] == held[..4]);
        }
        let next = &text[400 + turn..][..1];
        let score = Score::of("a", next.to_vec());
        let found = brain.score(score).await.unwrap().logprobs[0].unwrap();
        let expected = fresh(&brain, &context, next).await;
        check(&format!("{what}, behind turn {turn}"), &[found], &expected, to_the_bit);
    }
    assert!(slid > 5, "{slid} turns slid");
    println!("{what}: {slid} of 24 turns slid");
    // A long step is as its single tokens, over slides as well.
    let Stepped { logprobs, token_ids, .. } = brain.step(alone(drawn("long", &text[..60], 40))).await.unwrap();
    let mut single = vec![brain.step(alone(drawn("single", &text[..60], 1))).await.unwrap()];
    for _ in 1..40 {
        single.push(brain.step(Step { input: None, ..alone(drawn("single", &[], 1)) }).await.unwrap());
    }
    assert_eq!(single.iter().flat_map(|it| it.token_ids.clone()).collect::<Vec<_>>(), token_ids);
    let single: Vec<f32> = single.into_iter().flat_map(|it| it.logprobs).collect();
    check(&format!("{what}, token by token"), &logprobs, &single, to_the_bit);
    brain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_depend_on_nothing_but_the_windows_tokens() {
    for form in ["tiny-plain", "tiny-gqa-fp32", "tiny-plain-f16", "tiny-gqa-int4"] {
        answers_are_those_of_the_window(&fixture(form), form, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_keys_no_rotation_explains_slides_so() {
    let dir = without_a_rotation();
    answers_are_those_of_the_window(dir.path(), "no rotation", false).await;
}
