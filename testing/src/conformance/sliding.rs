//! Laws of the window: a slide happens at one place only, and what a context holds is known above.

use super::{
    Tolerance,
    driver::{assert_all_same, assert_same, greedy, open, read, read_and_sample, run_one, score, tokens},
};

use crate::model::mix;
use motorbrain_actors::{
    engine::{Engine, EngineErrorKind, Pooling, Want, Window},
    tokens::TokenId,
};

/// How long a context is after `total` tokens, whatever way they came.
fn context_len_after(total: usize, window: Window) -> usize {
    (0..total).fold(0, |len, _| if len == window.size { len - window.slide + 1 } else { len + 1 })
}

/// Lengths, over many windows of text.
pub(super) fn the_context_is_what_was_taken_less_what_was_dropped(engine: &mut dyn Engine, tolerance: Tolerance) {
    let window = engine.info().window;
    let embeds = engine.info().embeds;
    for seed in 0..4 {
        let slot = open(engine);
        let mut history: Vec<TokenId> = Vec::new();
        let mut context: Vec<TokenId> = Vec::new();
        for turn in 0.. {
            if history.len() > 3 * window.size {
                break;
            }
            let draw = mix(seed, turn);
            let count = 1 + (draw % (window.size as u64 / 2)) as usize;
            let mut rest = &tokens(engine, draw, count)[..];
            let want = match draw >> 32 & 3 {
                1 if embeds => Want::Hidden(Pooling::Sum),
                2 => Want::Scores { first: false, next: None, top: 0 },
                3 => greedy(history.len() as u64),
                _ => Want::Nothing,
            };
            while !rest.is_empty() {
                let output = run_one(engine, slot, rest, want);
                let appended = rest[..output.taken].iter().copied();
                let appended: Vec<_> = appended.chain(output.sampled.iter().map(|sampled| sampled.token)).collect();
                rest = &rest[output.taken..];
                context.extend(&appended);
                history.extend(appended);
                if output.dropped > 0 {
                    context.drain(window.sinks..window.sinks + output.dropped);
                }
                assert_eq!(output.context_len, context.len(), "after {} tokens", history.len());
                assert_eq!(
                    output.context_len,
                    context_len_after(history.len(), window),
                    "after {} tokens",
                    history.len()
                );
            }
        }
        let found = read_and_sample(engine, slot, &history[..1], 1);
        let fresh = open(engine);
        read(engine, fresh, &history, 1);
        let expected = read_and_sample(engine, fresh, &history[..1], 1);
        assert_same(&found, &expected, tolerance, "the same tokens read one by one");
        engine.close(slot);
        engine.close(fresh);
    }
}

/// One long text, cut in many ways.
pub(super) fn chunking_changes_no_score_over_slides(engine: &mut dyn Engine, tolerance: Tolerance) {
    let text = tokens(engine, 11, engine.info().window.size * 5 / 2);
    check_chunking(engine, &text, tolerance);
}

/// Scores and samples on either side of a slide.
pub(super) fn scores_are_what_sampling_says_over_slides(engine: &mut dyn Engine, tolerance: Tolerance) {
    let count = engine.info().window.size * 2;
    check_scores_against_sampling(engine, count, tolerance);
}

/// A slot goes back to where its last slide left it and no further.
pub(super) fn a_slide_cannot_be_rewound(engine: &mut dyn Engine, tolerance: Tolerance) {
    let window = engine.info().window;
    let text = tokens(engine, 12, window.size + 1);
    let slot = open(engine);
    read(engine, slot, &text, window.size);
    let left = window.size - window.slide;
    for behind in 0..left {
        let error = engine.rewind(slot, behind).expect_err("a rewind behind a slide is refused");
        assert_eq!(error.kind, EngineErrorKind::Rejected, "a rewind behind a slide");
    }
    let after = tokens(engine, 13, window.slide.min(2) - 1);
    let twin = open(engine);
    read(engine, twin, &text, window.size);
    if !after.is_empty() {
        read(engine, slot, &after, 1);
        engine.rewind(slot, left + 1).expect("a rewind to behind no slide is granted");
    }
    let found = read_and_sample(engine, slot, &text[..1], 1);
    let expected = read_and_sample(engine, twin, &text[..1], 1);
    assert_same(&found, &expected, tolerance, "after a refused rewind");
}

/// The scores of `text` are the same in whatever chunks it is read.
pub(super) fn check_chunking(engine: &mut dyn Engine, text: &[TokenId], tolerance: Tolerance) {
    let slot = open(engine);
    let whole = score(engine, slot, text, text.len(), true);
    engine.close(slot);
    for chunk in [1, 2, 3, 7] {
        let slot = open(engine);
        let chunked = score(engine, slot, text, chunk, true);
        engine.close(slot);
        assert_all_same(&chunked, &whole, tolerance, &format!("scores in chunks of {chunk}"));
    }
}

/// Samples `count` tokens one by one, then scores them.
pub(super) fn check_scores_against_sampling(engine: &mut dyn Engine, count: usize, tolerance: Tolerance) {
    let mut text = tokens(engine, 14, 3);
    let slot = open(engine);
    let mut all = vec![read_and_sample(engine, slot, &text, 3)];
    text.push(all[0].token);
    for number in 1..count {
        let output = run_one(engine, slot, &[], greedy(number as u64));
        let sampled = output.sampled.expect("a decode row samples");
        text.push(sampled.token);
        all.push(sampled);
    }
    let slot = open(engine);
    let scores = score(engine, slot, &text, text.len(), true);
    assert_all_same(&scores[2..], &all, tolerance, "scores of sampled tokens");
}
