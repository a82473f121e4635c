//! Laws of reading and sampling inside the window: neither chunks nor company change an answer.

use super::{
    HOT, Tolerance,
    driver::{
        assert_all_same, assert_close, assert_parallel, assert_same, greedy, hidden, open, read, read_and_sample,
        run_one, score, tokens,
    },
};
use motorbrain_actors::engine::{Engine, Pooling, Row, Sampling, Want};

/// One text, cut in many ways.
pub(super) fn chunking_changes_no_score(engine: &mut dyn Engine, tolerance: Tolerance) {
    let text = tokens(engine, 1, engine.info().window.size - 1);
    super::sliding::check_chunking(engine, &text, tolerance);
}

/// The log-probability of a token that was scored and of the same one sampled.
pub(super) fn scores_are_what_sampling_says(engine: &mut dyn Engine, tolerance: Tolerance) {
    let count = engine.info().window.size / 2;
    super::sliding::check_scores_against_sampling(engine, count, tolerance);
}

/// A row without new tokens gives the logits of the last one.
pub(super) fn the_last_token_runs_again_for_its_logits(engine: &mut dyn Engine, tolerance: Tolerance) {
    let text = tokens(engine, 2, engine.info().window.size / 2);
    let slot = open(engine);
    let at_once = read_and_sample(engine, slot, &text, text.len());
    let slot = open(engine);
    read(engine, slot, &text, text.len());
    let again = run_one(engine, slot, &[], greedy(0));
    assert_eq!(again.context_len, text.len() + 1, "the last token is not appended twice");
    let again = again.sampled.expect("a token is sampled without new ones");
    assert_same(&again, &at_once, tolerance, "the last token run again");

    let pair = &tokens(engine, 3, 2)[..];
    let slot = open(engine);
    read(engine, slot, &text, text.len());
    let apart = score(engine, slot, pair, 2, false);
    let slot = open(engine);
    let whole = score(engine, slot, &[&text[..], pair].concat(), text.len() + 2, true);
    assert_all_same(&apart, &whole[text.len() - 1..], tolerance, "scores of a later text");
}

/// Rows alone and beside others.
pub(super) fn batching_changes_no_answer(engine: &mut dyn Engine, tolerance: Tolerance) {
    let size = engine.info().window.size;
    let (longer, shorter) = (tokens(engine, 4, size / 2), tokens(engine, 5, 3));
    let embeds = engine.info().embeds;
    let pooled = if embeds { Want::Hidden(Pooling::Sum) } else { Want::Nothing };
    // Wide and narrow rows, of empty contexts and of a longer one, and a decode row.
    let wants = [
        (&longer[..], greedy(0)),
        (&shorter[..], Want::Scores { first: false, next: Some(longer[0]), top: 0 }),
        (&longer[..2], pooled),
        (&[], greedy(0)),
    ];
    let mut prepared = || {
        [&[], &shorter[..], &longer[..3], &longer[..]].map(|context| {
            let slot = open(engine);
            if !context.is_empty() {
                read(engine, slot, context, size);
            }
            slot
        })
    };
    let (together, alone) = (prepared(), prepared());
    let rows: Vec<_> = together.iter().zip(wants).map(|(&slot, (tokens, want))| Row { slot, tokens, want }).collect();
    let outputs: Vec<_> = engine.run(&rows).expect("the batch runs").collect();
    assert_eq!(outputs.len(), rows.len(), "one output a row");
    for ((found, slot), (tokens, want)) in outputs.iter().zip(alone).zip(wants) {
        let expected = run_one(engine, slot, tokens, want);
        assert_eq!((found.taken, found.dropped), (expected.taken, expected.dropped), "in a batch");
        assert_eq!(found.context_len, expected.context_len, "in a batch");
        assert_close(&found.scores, &expected.scores, tolerance, "scores in a batch");
        assert_parallel(&found.hidden, &expected.hidden, tolerance, "hidden states in a batch");
        match (&found.sampled, &expected.sampled) {
            (Some(found), Some(expected)) => assert_same(found, expected, tolerance, "a sample in a batch"),
            (found, expected) => assert_eq!(found, expected, "a sample in a batch"),
        }
    }
}

/// The tokens that a step lists are in the order of their log-probabilities.
pub(super) fn the_most_likely_tokens_come_first(engine: &mut dyn Engine, _: Tolerance) {
    let text = tokens(engine, 6, 3);
    let slot = open(engine);
    let sampled = read_and_sample(engine, slot, &text, 3);
    assert_eq!(sampled.top.len(), 5.min(engine.info().vocab), "as many as asked for");
    assert_eq!(sampled.top[0], (sampled.token, sampled.logprob), "greedy takes the best");
    assert!(sampled.top.is_sorted_by(|a, b| a.1 >= b.1), "best first: {:?}", sampled.top);
    let mass: f32 = sampled.top.iter().map(|(_, logprob)| logprob.exp()).sum();
    assert!(mass > 0.0 && mass < 1.0 + 1e-3, "probabilities sum to {mass}");
}

/// The same seed and number give the same token, others another.
pub(super) fn a_draw_depends_on_seed_and_number(engine: &mut dyn Engine, tolerance: Tolerance) {
    const NARROW: Sampling = Sampling { top_k: 1, ..HOT };
    let text = tokens(engine, 7, 4);
    let mut draw = |seed, number, sampling| {
        let slot = open(engine);
        let output = run_one(engine, slot, &text, Want::Next { sampling, seed, number, top: 1, guide: None });
        engine.close(slot);
        output.sampled.expect("a token is drawn")
    };
    for number in 0..8 {
        let (once, again) = (draw(3, number, &HOT), draw(3, number, &HOT));
        assert_eq!(once.token, again.token, "the same draw");
        let greedy = draw(3, number, &Sampling::GREEDY);
        assert_close(&[draw(3, number, &NARROW).logprob], &[greedy.logprob], tolerance, "a draw from one token");
    }
    let drawn: Vec<_> = (0..32).map(|number| draw(3, number, &HOT).token).collect();
    let other: Vec<_> = (0..32).map(|number| draw(4, number, &HOT).token).collect();
    // A model that is sure of its next token draws it always; then no other is to be expected.
    let sure = draw(3, 0, &Sampling::GREEDY).logprob.exp() > 0.8;
    assert!(sure || drawn.iter().any(|token| *token != drawn[0]), "every number draws {:?}", drawn[0]);
    assert!(sure || drawn != other, "every seed draws the same");
}

/// A sum over chunks is the sum over the whole.
pub(super) fn hidden_states_add_up_over_chunks(engine: &mut dyn Engine, tolerance: Tolerance) {
    if !engine.info().embeds {
        return;
    }
    let text = tokens(engine, 8, engine.info().window.size - 1);
    for pooling in [Pooling::Sum, Pooling::Last] {
        let slot = open(engine);
        let whole = hidden(engine, slot, &text, text.len(), pooling);
        assert_eq!(whole.len(), engine.info().hidden, "the width of a hidden state");
        for chunk in [1, 4] {
            let slot = open(engine);
            let chunked = hidden(engine, slot, &text, chunk, pooling);
            assert_parallel(&chunked, &whole, tolerance, "hidden states in chunks");
        }
    }
}

/// A slot that is opened after another was closed is empty.
pub(super) fn a_closed_slot_leaves_nothing_behind(engine: &mut dyn Engine, tolerance: Tolerance) {
    let text = tokens(engine, 9, 5);
    let before = engine.kv_bytes();
    let slot = open(engine);
    let first = read_and_sample(engine, slot, &text, 5);
    assert!(engine.kv_bytes() > before, "a context takes memory");
    engine.close(slot);
    assert_eq!(engine.kv_bytes(), before, "a closed slot takes none");
    let slot = open(engine);
    let output = run_one(engine, slot, &text, greedy(0));
    assert_eq!(output.context_len, text.len() + 1, "a new slot is empty");
    let second = output.sampled.expect("a token is sampled");
    assert_same(&second, &first, tolerance, "a slot used again");
}
