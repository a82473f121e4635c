//! The laws of the engine on tiny real exports: cutting a prompt changes no answer, slides are where
//! they should be, a failed run leaves no trace.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use crate::common::{
    F32_FORMS, F32_TOLERANCE, engine, fixture, largest_difference, loader, run, scores, text_tokens, window,
};
use motorbrain::{
    engine::{Overflow, WindowOptions, WindowPolicy},
    model::onnx::{GraphProto, ModelProto, NodeProto, TensorProto},
};
use motorbrain_actors::{
    engine::{Engine, EngineErrorKind, EngineLoader, Pooling, Row, Sampling, Want},
    tokens::TokenId,
};
use motorbrain_testing::conformance::{self, Tolerance};
use proptest::prelude::*;
use prost::Message;

const NEXT: Want<'static> = Want::Next { sampling: &Sampling::GREEDY, seed: 0, number: 0, top: 5, guide: None };

/// The most likely next tokens with their log-probabilities, after `tokens` cut as `cuts` say.
fn next_after(form: &str, size: usize, tokens: &[TokenId], cuts: &[usize]) -> Vec<(TokenId, f32)> {
    thread_local! {
        static ENGINES: std::cell::RefCell<std::collections::HashMap<(String, usize), Box<dyn Engine>>> =
            std::cell::RefCell::default();
    }
    ENGINES.with_borrow_mut(|engines| {
        let engine =
            engines.entry((form.to_owned(), size)).or_insert_with(|| engine(&fixture(form), window(size, 4, size / 4)));
        let slot = engine.open().unwrap();
        let mut rest = tokens;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
            run(&mut **engine, slot, piece, Want::Nothing);
            rest = after;
        }
        let sampled = run(&mut **engine, slot, &[], NEXT).pop().unwrap().sampled.unwrap();
        engine.close(slot);
        sampled.top
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cutting_a_prompt_changes_no_answer(
        len in 1usize..150,
        start in 0usize..300,
        cuts in proptest::collection::vec(1usize..40, 1..6),
        slides in any::<bool>(),
    ) {
        // A window of 48 slides up to nine times in 150 tokens, one of 256 never.
        let size = if slides { 48 } else { 256 };
        for form in F32_FORMS {
            let tokens = &text_tokens(&fixture(form), 450)[start..start + len];
            let whole = next_after(form, size, tokens, &[len]);
            let cut = next_after(form, size, tokens, &cuts);
            for ((_, a), (_, b)) in whole.iter().zip(&cut) {
                prop_assert!((a - b).abs() < F32_TOLERANCE, "{form} {size}: {whole:?} {cut:?}");
            }
        }
    }
}

#[test]
fn scores_are_those_of_the_steps() {
    for form in F32_FORMS {
        let mut engine = engine(&fixture(form), window(48, 4, 12));
        let prompt = text_tokens(&fixture(form), 20);
        let (stepped, scored) = (engine.open().unwrap(), engine.open().unwrap());
        run(&mut *engine, stepped, &prompt, Want::Nothing);
        run(&mut *engine, scored, &prompt, Want::Nothing);
        // 100 tokens slide the window seven times.
        let sampled: Vec<_> =
            (0..100).map(|_| run(&mut *engine, stepped, &[], NEXT).pop().unwrap().sampled.unwrap()).collect();
        let tokens: Vec<_> = sampled.iter().map(|s| s.token).collect();
        let logprobs: Vec<_> = sampled.iter().map(|s| s.logprob).collect();
        for cuts in [&[7usize][..], &[100], &[1]] {
            let slot = engine.open().unwrap();
            run(&mut *engine, slot, &prompt, Want::Nothing);
            let found = scores(&mut *engine, slot, &tokens, cuts);
            assert!(largest_difference(&found, &logprobs) < F32_TOLERANCE, "{form} {cuts:?}");
        }
    }
}

#[test]
fn hidden_states_sum_over_new_tokens_only() {
    for form in F32_FORMS {
        let mut engine = engine(&fixture(form), window(256, 4, 64));
        let tokens = text_tokens(&fixture(form), 12);
        let hidden = |pooling| Want::Hidden(pooling);
        let a = engine.open().unwrap();
        let each: Vec<_> =
            tokens.iter().map(|t| run(&mut *engine, a, &[*t], hidden(Pooling::Last)).remove(0).hidden).collect();
        let b = engine.open().unwrap();
        run(&mut *engine, b, &tokens[..5], Want::Nothing);
        let sum = run(&mut *engine, b, &tokens[5..], hidden(Pooling::Sum)).remove(0).hidden;
        let expected: Vec<f32> = (0..sum.len()).map(|i| each[5..].iter().map(|h| h[i]).sum()).collect();
        assert!(largest_difference(&sum, &expected) < 1e-3, "{form}: of numbers up to 20");
    }
}

#[test]
fn a_failed_run_leaves_no_trace() {
    let mut engine = engine(&fixture("tiny-plain"), window(48, 4, 12));
    let tokens = text_tokens(&fixture("tiny-plain"), 48);
    let (a, b) = (engine.open().unwrap(), engine.open().unwrap());
    run(&mut *engine, a, &tokens, Want::Nothing);
    let good = Row { slot: a, tokens: &tokens[..3], want: NEXT };
    for (bad, kind) in [
        (Row { slot: b, tokens: &[TokenId(576)], want: Want::Nothing }, EngineErrorKind::Rejected),
        (Row { slot: b, tokens: &[], want: NEXT }, EngineErrorKind::Rejected),
        (Row { slot: a, tokens: &tokens[..1], want: Want::Nothing }, EngineErrorKind::Rejected),
    ] {
        let error = engine.run(&[good, bad]).unwrap_err();
        assert_eq!((error.kind, error.row), (kind, Some(1)), "{error}");
    }
    // The full window has not slid: the same row still slides it, and only now.
    let output = engine.run(&[good]).unwrap().next().unwrap();
    assert_eq!((output.taken, output.dropped, output.context_len), (3, 12, 40));
}

#[test]
fn an_interrupt_stops_the_next_run_once() {
    let mut engine = engine(&fixture("tiny-plain"), window(48, 4, 12));
    let slot = engine.open().unwrap();
    engine.interrupter().interrupt();
    let row = Row { slot, tokens: &[TokenId(5)], want: NEXT };
    assert_eq!(engine.run(&[row]).unwrap_err().kind, EngineErrorKind::Interrupted);
    assert!(engine.run(&[row]).is_ok());
}

#[test]
fn memory_is_as_large_as_the_context() {
    for form in F32_FORMS {
        let mut engine = engine(&fixture(form), window(1024, 4, 256));
        let slot = engine.open().unwrap();
        assert_eq!(engine.kv_bytes(), 0);
        run(&mut *engine, slot, &text_tokens(&fixture(form), 100), Want::Nothing);
        let bytes = engine.info().kv_bytes_per_token;
        assert_eq!(bytes, 24 * 2 * 2 * 16 * 4);
        assert!((100 * bytes..=128 * bytes).contains(&engine.kv_bytes()), "{form}");
        engine.close(slot);
        assert_eq!(engine.kv_bytes(), 0);
    }
}

/// Each law wants a fresh engine; the graph that loads fastest is checked with both kinds of window.
fn obeys(form: &str, overflow: Overflow, tolerance: f32) {
    let loader = loader(&fixture(form), WindowOptions { overflow, ..window(32, 4, 8) });
    conformance::check(|| loader.load().unwrap(), Tolerance { logprob: tolerance, hidden: tolerance });
}

#[test]
fn engines_whose_owner_slides_obey_the_contract() {
    let loader =
        loader(&fixture("tiny-gqa-fp32"), WindowOptions { policy: WindowPolicy::Recompute, ..window(32, 4, 8) });
    let tolerance = Tolerance { logprob: F32_TOLERANCE, hidden: F32_TOLERANCE };
    conformance::check(|| loader.load().unwrap(), tolerance);
    conformance::check(|| loader.load_plain().unwrap(), tolerance);
}

#[test]
fn a_gqa_engine_obeys_the_contract() {
    obeys("tiny-gqa-fp32", Overflow::Slide, F32_TOLERANCE);
    obeys("tiny-gqa-fp32", Overflow::Error, F32_TOLERANCE);
}

#[test]
fn a_plain_engine_obeys_the_contract() {
    obeys("tiny-plain", Overflow::Slide, F32_TOLERANCE);
}

#[test]
fn an_f16_engine_obeys_the_contract() {
    // f16 keys and values carry 11 bits.
    obeys("tiny-plain-f16", Overflow::Slide, 1e-2);
}

/// A plain model with its graph changed.
fn changed(change: impl FnOnce(&mut GraphProto)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(fixture("tiny-plain").join(file), dir.path().join(file)).unwrap();
    }
    let mut model = ModelProto::decode(fs::read(fixture("tiny-plain").join("model.onnx")).unwrap().as_slice()).unwrap();
    change(model.graph.as_mut().unwrap());
    fs::write(dir.path().join("model.onnx"), model.encode_to_vec()).unwrap();
    dir
}

#[test]
fn infinite_logits_are_an_error_and_change_nothing() {
    // All masked; and so large that one is infinite.
    for (operator, number) in [("Add", f32::NEG_INFINITY), ("Mul", 3e38)] {
        let dir = changed(|graph| {
            let logits = graph.node.iter_mut().flat_map(|node| &mut node.output).find(|name| *name == "logits");
            *logits.unwrap() = "raw".to_owned();
            graph.node.push(NodeProto {
                input: vec!["raw".to_owned(), "constant".to_owned()],
                output: vec!["logits".to_owned()],
                op_type: Some(operator.to_owned()),
                ..NodeProto::default()
            });
            graph.initializer.push(TensorProto {
                data_type: Some(1),
                name: Some("constant".to_owned()),
                raw_data: Some(number.to_le_bytes().to_vec().into()),
                ..TensorProto::default()
            });
        });
        let mut engine = engine(dir.path(), window(64, 4, 16));
        let slot = engine.open().unwrap();
        run(&mut *engine, slot, &[TokenId(1)], Want::Nothing);
        let bias = Sampling { logit_bias: vec![(TokenId(3), 9.0)].into(), ..Sampling::GREEDY };
        let hot = Sampling { temperature: 1.0, top_p: 0.9, min_p: 0.05, ..Sampling::GREEDY };
        let next = |sampling| Want::Next { sampling, seed: 0, number: 0, top: 0, guide: None };
        for want in [NEXT, next(&bias), next(&hot), Want::Scores { first: true, next: None, top: 0 }] {
            let error = engine.run(&[Row { slot, tokens: &[TokenId(2)], want }]).err().unwrap();
            assert_eq!((error.kind, error.row), (EngineErrorKind::Rejected, Some(0)), "{operator} {want:?}");
            assert!(error.message.contains("logits are not finite numbers"), "{error}");
        }
        let kept = run(&mut *engine, slot, &[TokenId(2)], Want::Nothing).pop().unwrap();
        assert_eq!(kept.context_len, 2, "the conversation is as it was");
    }
}

#[test]
fn what_is_no_number_is_an_error_and_changes_nothing() {
    // Token 300 stands for infinity.
    let dir = changed(|graph| {
        let embedding = graph.initializer.iter_mut().find(|tensor| tensor.name().contains("embed_tokens")).unwrap();
        let mut weights = embedding.raw_data.as_ref().unwrap().to_vec();
        let at = 300 * embedding.dims[1] as usize * 4;
        weights[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        embedding.raw_data = Some(weights.into());
    });
    let mut engine = engine(dir.path(), window(64, 4, 16));
    let slot = engine.open().unwrap();
    let ids = |ids: &[u32]| ids.iter().copied().map(TokenId).collect::<Vec<_>>();
    run(&mut *engine, slot, &ids(&[1, 2, 3]), Want::Nothing);
    for want in [Want::Hidden(Pooling::Sum), Want::Hidden(Pooling::Last), NEXT] {
        let error = engine.run(&[Row { slot, tokens: &ids(&[7, 300]), want }]).err().unwrap();
        assert_eq!((error.kind, error.row), (EngineErrorKind::Rejected, Some(0)), "{want:?}");
        assert!(error.message.contains("not finite numbers"), "{error}");
    }
    let kept = run(&mut *engine, slot, &[], NEXT).pop().unwrap();
    let fresh = engine.open().unwrap();
    let alone = run(&mut *engine, fresh, &ids(&[1, 2, 3]), NEXT).pop().unwrap();
    assert_eq!(kept.sampled, alone.sampled, "the conversation is as it was");
}
