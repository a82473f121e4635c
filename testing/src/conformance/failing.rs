//! Laws of failing: a run that fails has not happened, and a rewound slot is as it was.

use super::{
    Tolerance,
    driver::{assert_same, greedy, open, read, read_and_sample, run_one, tokens},
};
use motorbrain_actors::{
    engine::{Engine, EngineErrorKind, Row, Sampling, SlotIndex, Want},
    tokens::TokenId,
};

/// A run with a bad row leaves all its slots as they were.
pub(super) fn a_refused_row_changes_no_slot(engine: &mut dyn Engine, tolerance: Tolerance) {
    let (slots, twins, text) = twins(engine);
    let outside = [text[0], TokenId(engine.info().vocab as u32)];
    let empty = open(engine);
    let next = Some(outside[1]);
    let biased = Sampling { logit_bias: vec![(outside[0], 1.0), (outside[1], 1.0)].into(), ..Sampling::GREEDY };
    let refused = [
        (slots[1], &outside[..], Want::Nothing),
        (slots[1], &text[..1], Want::Scores { first: true, next, top: 0 }),
        (empty, &[], greedy(0)),
        (slots[1], &text[..1], Want::Next { sampling: &biased, seed: 0, number: 0, top: 0, guide: None }),
    ];
    for (slot, tokens, want) in refused {
        let good = Row { slot: slots[0], tokens: &text, want: greedy(0) };
        let error = engine.run(&[good, Row { slot, tokens, want }]).expect_err("a bad row is refused");
        assert_eq!((error.kind, error.row), (EngineErrorKind::Rejected, Some(1)), "{error}");
    }
    check_equal(engine, slots, twins, &text, tolerance);
}

/// Likewise one that is stopped.
pub(super) fn an_interrupted_run_changes_no_slot(engine: &mut dyn Engine, tolerance: Tolerance) {
    let (slots, twins, text) = twins(engine);
    engine.interrupter().interrupt();
    let rows = slots.map(|slot| Row { slot, tokens: &text, want: greedy(0) });
    let error = engine.run(&rows).expect_err("an interrupted run ends");
    assert_eq!(error.kind, EngineErrorKind::Interrupted, "{error}");
    check_equal(engine, slots, twins, &text, tolerance);
}

/// What comes after a rewind is what came before what was taken back.
pub(super) fn a_rewound_slot_is_as_it_was(engine: &mut dyn Engine, tolerance: Tolerance) {
    let (slots, twins, text) = twins(engine);
    for (slot, len) in slots.into_iter().zip([3, 5]) {
        let error = engine.rewind(slot, len + 1).expect_err("there is no such length");
        assert_eq!(error.kind, EngineErrorKind::Rejected, "{error}");
        // Off a sampled token that has no keys and values, then off tokens that have.
        for count in [1, 2] {
            let sampled = run_one(engine, slot, &text[..count], greedy(0));
            assert_eq!(sampled.context_len, len + count + 1, "read and sampled");
            engine.rewind(slot, len + count).expect("a sampled token can be taken back");
            engine.rewind(slot, len).expect("tokens that were read can be taken back");
        }
    }
    check_equal(engine, slots, twins, &text, tolerance);
    for slot in slots {
        engine.rewind(slot, 0).expect("all of a context that never slid can be taken back");
        assert_eq!(run_one(engine, slot, &text, Want::Nothing).context_len, text.len(), "an empty context");
    }
}

/// Where the window does not slide, what does not fit is refused and changes nothing.
pub(super) fn a_full_context_is_refused(engine: &mut dyn Engine, tolerance: Tolerance) {
    let size = engine.info().window.size;
    let (slots, twins, text) = twins(engine);
    let full = open(engine);
    let fits = tokens(engine, 22, size);
    read(engine, full, &fits, size);
    for (tokens, want) in [(&text[..1], Want::Nothing), (&[], greedy(0))] {
        let good = Row { slot: slots[0], tokens: &text, want: greedy(0) };
        let error = engine.run(&[good, Row { slot: full, tokens, want }]).expect_err("it does not fit");
        assert_eq!((error.kind, error.row), (EngineErrorKind::ContextFull, Some(1)), "{error}");
    }
    engine.rewind(full, size - 1).expect("the last token can be taken back");
    assert_eq!(run_one(engine, full, &[], greedy(0)).context_len, size, "one more fits again");
    check_equal(engine, slots, twins, &text, tolerance);
}

/// Where the owner slides, a full context still says what comes next, and takes that as its last token; then nothing more
/// before it was taken back, to wherever that may be.
pub(super) fn a_full_context_samples_one_more_and_is_taken_back(engine: &mut dyn Engine, tolerance: Tolerance) {
    let size = engine.info().window.size;
    let fits = tokens(engine, 22, size);
    let full = open(engine);
    read(engine, full, &fits, size);
    let scored = run_one(engine, full, &fits[..1], Want::Scores { first: true, next: None, top: 0 });
    assert_eq!((scored.taken, scored.scores.len(), scored.context_len), (0, 1, size), "what comes next is scored");
    let refused = |engine: &mut dyn Engine, tokens, want| {
        let error = engine.run(&[Row { slot: full, tokens, want }]).expect_err("it does not fit");
        assert_eq!((error.kind, error.row), (EngineErrorKind::ContextFull, Some(0)), "{error}");
    };
    refused(engine, &fits[..1], Want::Nothing);
    let found = run_one(engine, full, &[], greedy(0));
    assert_eq!((found.context_len, found.dropped), (size + 1, 0), "one more is sampled");
    refused(engine, &fits[..1], Want::Nothing);
    refused(engine, &[], greedy(0));
    for left in [size, size / 2, 1, 0] {
        engine.rewind(full, left).expect("nothing has left");
        let twin = open(engine);
        if left > 0 {
            read(engine, twin, &fits[..left], left);
        }
        let (rest, next) = (&fits[left..size - usize::from(left < size)], &fits[..usize::from(left < size)]);
        for slot in [full, twin].into_iter().filter(|_| !rest.is_empty()) {
            read(engine, slot, rest, 3);
        }
        let [found, expected] = [full, twin].map(|slot| run_one(engine, slot, next, greedy(0)).sampled);
        let (Some(found), Some(expected)) = (found, expected) else { panic!("both sample") };
        assert_same(&found, &expected, tolerance, "the slot was taken back");
        engine.close(twin);
    }
}

/// Two slots with contexts of 3 and 5 tokens, two more with the same, and a text to go on with. The
/// second context of each pair ends in a token that was sampled.
fn twins(engine: &mut dyn Engine) -> ([SlotIndex; 2], [SlotIndex; 2], Vec<TokenId>) {
    let text = tokens(engine, 21, 4);
    let mut pair = || {
        let (read_only, sampled) = (open(engine), open(engine));
        read(engine, read_only, &text[..3], 3);
        read_and_sample(engine, sampled, &text, 4);
        [read_only, sampled]
    };
    (pair(), pair(), text)
}

fn check_equal(
    engine: &mut dyn Engine,
    found: [SlotIndex; 2],
    expected: [SlotIndex; 2],
    text: &[TokenId],
    tolerance: Tolerance,
) {
    for (found, expected) in found.into_iter().zip(expected) {
        let found = run_one(engine, found, text, greedy(0));
        let expected = run_one(engine, expected, text, greedy(0));
        assert_eq!(found.context_len, expected.context_len, "the context is as it was");
        let (Some(found), Some(expected)) = (found.sampled, expected.sampled) else {
            panic!("both sample");
        };
        assert_same(&found, &expected, tolerance, "the slot is as it was");
    }
}
