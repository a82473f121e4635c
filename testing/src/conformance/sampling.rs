//! Laws of choosing: what a token is drawn by is its row's own, and a penalty counts what the context holds.

use super::{
    HOT, Tolerance,
    driver::{assert_same, open, read, run_one, tokens},
};
use motorbrain_actors::engine::{Engine, Row, Sampling, Want};

/// Rows that are drawn in one run draw what each draws alone.
pub(super) fn draws_are_the_same_alone_and_batched(engine: &mut dyn Engine, tolerance: Tolerance) {
    let samplings = [
        HOT,
        Sampling { top_k: 7, top_p: 0.9, ..HOT },
        Sampling { min_p: 0.01, frequency_penalty: 0.5, ..HOT },
        Sampling { logit_bias: vec![(tokens(engine, 12, 1)[0], 5.0)].into(), repetition_penalty: 1.5, ..HOT },
    ];
    let want = |sampling, number| Want::Next { sampling, seed: 5, number, top: 3, guide: None };
    let texts: Vec<_> = (1..=samplings.len()).map(|len| tokens(engine, 20 + len as u64, len)).collect();
    let mut slots = || texts.iter().map(|_| open(engine)).collect::<Vec<_>>();
    let (together, alone) = (slots(), slots());
    for number in 0..6 {
        let given = |row: usize| if number == 0 { &texts[row][..] } else { &[] };
        let rows: Vec<_> = (together.iter().zip(&samplings).enumerate())
            .map(|(row, (&slot, sampling))| Row { slot, tokens: given(row), want: want(sampling, number) })
            .collect();
        let outputs: Vec<_> = engine.run(&rows).expect("the batch runs").collect();
        for (row, output) in outputs.iter().enumerate() {
            let expected = run_one(engine, alone[row], given(row), want(&samplings[row], number));
            let (found, expected) = (output.sampled.as_ref(), expected.sampled);
            assert_same(
                found.expect("a token is drawn"),
                &expected.expect("a token is drawn"),
                tolerance,
                "a draw in a batch",
            );
        }
    }
}

/// The best token is the one that is best once those that the context holds are penalised, over many slides: what left
/// counts no more.
pub(super) fn penalties_count_what_the_context_holds(engine: &mut dyn Engine, tolerance: Tolerance) {
    let (window, vocab) = (engine.info().window, engine.info().vocab);
    let sampling = Sampling { presence_penalty: 0.75, frequency_penalty: 0.5, ..Sampling::GREEDY };
    let slot = open(engine);
    let mut context = tokens(engine, 9, 2 * window.size / 3);
    read(engine, slot, &context, context.len());
    let (mut moved, mut slides) = (0, 0);
    for number in 0..3 * window.size as u64 {
        let want = Want::Next { sampling: &sampling, seed: 0, number, top: vocab, guide: None };
        let output = run_one(engine, slot, &[], want);
        let sampled = output.sampled.expect("a token is sampled");
        let penalised = |token, logprob| {
            let count = context.iter().filter(|held| **held == token).count() as f32;
            logprob - 0.5 * count - if count > 0.0 { 0.75 } else { 0.0 }
        };
        let best = sampled.top.iter().map(|(token, logprob)| penalised(*token, *logprob)).fold(f32::MIN, f32::max);
        let chosen = penalised(sampled.token, sampled.logprob);
        // Log-probabilities are rounded where logits are not.
        assert!(chosen >= best - tolerance.logprob - 1e-4, "token {number}: {chosen}, the best has {best}");
        moved += usize::from(sampled.token != sampled.top[0].0);
        slides += usize::from(output.dropped > 0);
        context.push(sampled.token);
        context.drain(window.sinks..window.sinks + output.dropped);
        assert_eq!(output.context_len, context.len(), "the context");
    }
    assert!(slides > 1, "the context slid {slides} times");
    assert!(moved > 0, "the penalties changed no choice");
}
