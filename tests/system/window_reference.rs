//! The window against a second implementation that shares nothing with the engine: the exporter's
//! own graph run by ONNX Runtime token by token, its cache held in plain vectors, cut and shifted
//! with the textbook rotation at the base the model was made with.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use crate::common::{
    F32_FORMS, F32_TOLERANCE, engine, fixture, largest_difference, runtime, scores, text_tokens, window,
};
use motorbrain_actors::tokens::TokenId;
use ort::{session::Session, value::Tensor};

const LAYERS: usize = 24;
const HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const BASE: f64 = 1e6;
const VOCAB: usize = 576;

/// Keys and values of one layer: a row a token, `[kv_heads, head_dim]`.
#[derive(Clone, Default)]
struct Layer {
    keys: Vec<[f32; HEADS * HEAD_DIM]>,
    values: Vec<[f32; HEADS * HEAD_DIM]>,
}

/// Rotates a key back by so many positions, pairs being halves.
fn rotate_back(row: &mut [f32; HEADS * HEAD_DIM], positions: usize) {
    for head in row.chunks_exact_mut(HEAD_DIM) {
        for i in 0..HEAD_DIM / 2 {
            let angle = -(positions as f64) * BASE.powf(-2.0 * i as f64 / HEAD_DIM as f64);
            let (x, y) = (f64::from(head[i]), f64::from(head[i + HEAD_DIM / 2]));
            head[i] = (x * angle.cos() - y * angle.sin()) as f32;
            head[i + HEAD_DIM / 2] = (y * angle.cos() + x * angle.sin()) as f32;
        }
    }
}

fn heads_first(rows: &[[f32; HEADS * HEAD_DIM]]) -> Tensor<f32> {
    let data: Vec<f32> = (0..HEADS)
        .flat_map(|h| rows.iter().flat_map(move |row| row[h * HEAD_DIM..(h + 1) * HEAD_DIM].to_vec()))
        .collect();
    Tensor::from_array(([1, HEADS, rows.len(), HEAD_DIM], data)).unwrap()
}

/// Log-probabilities of all tokens but the first, token by token.
fn reference(tokens: &[TokenId], size: usize, sinks: usize, slide: usize) -> Vec<f32> {
    let mut builder = Session::builder(runtime().environment()).unwrap().with_intra_threads(1).unwrap();
    let mut session = builder.commit_from_file(fixture("tiny-plain").join("model.onnx")).unwrap();
    let mut layers = vec![Layer::default(); LAYERS];
    let mut scores = Vec::new();
    for (token, following) in tokens.iter().zip(&tokens[1..]) {
        if layers[0].keys.len() == size {
            for layer in &mut layers {
                layer.keys.drain(sinks..sinks + slide);
                layer.values.drain(sinks..sinks + slide);
                layer.keys[sinks..].iter_mut().for_each(|key| rotate_back(key, slide));
            }
        }
        let past = layers[0].keys.len();
        let mut inputs = ort::inputs! {
            "input_ids" => Tensor::from_array(([1, 1], vec![i64::from(token.0)])).unwrap(),
            "attention_mask" => Tensor::from_array(([1, past + 1], vec![1i64; past + 1])).unwrap(),
            "position_ids" => Tensor::from_array(([1, 1], vec![past as i64])).unwrap(),
        };
        for (i, layer) in layers.iter().enumerate() {
            inputs.push((format!("past_key_values.{i}.key").into(), heads_first(&layer.keys).into()));
            inputs.push((format!("past_key_values.{i}.value").into(), heads_first(&layer.values).into()));
        }
        let outputs = session.run(inputs).unwrap();
        for (i, layer) in layers.iter_mut().enumerate() {
            let append = |name: &str, rows: &mut Vec<[f32; HEADS * HEAD_DIM]>| {
                let (_, all) = outputs[format!("present.{i}.{name}").as_str()].try_extract_tensor::<f32>().unwrap();
                let mut row = [0f32; HEADS * HEAD_DIM];
                for (h, head) in all.chunks_exact((past + 1) * HEAD_DIM).enumerate() {
                    row[h * HEAD_DIM..(h + 1) * HEAD_DIM].copy_from_slice(&head[past * HEAD_DIM..]);
                }
                rows.push(row);
            };
            append("key", &mut layer.keys);
            append("value", &mut layer.values);
        }
        let (_, logits) = outputs["logits"].try_extract_tensor::<f32>().unwrap();
        assert_eq!(logits.len(), VOCAB);
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        scores.push((f64::from(logits[following.0 as usize]) - sum.ln()) as f32);
    }
    scores
}

#[test]
fn ten_windows_of_text_are_those_of_a_rebuilt_cache() {
    let (size, sinks, slide) = (64, 4, 16);
    let tokens = text_tokens(&fixture("tiny-plain"), 10 * size + 1);
    let expected = reference(&tokens, size, sinks, slide);
    for form in F32_FORMS {
        for cuts in [&[1usize][..], &[23, 64, 5], &[641]] {
            let mut engine = engine(&fixture(form), window(size, sinks, slide));
            let slot = engine.open().unwrap();
            let found = scores(&mut *engine, slot, &tokens, cuts);
            let difference = largest_difference(&found, &expected);
            println!("{form}, cut {cuts:?}: {difference:e} over {} tokens", found.len());
            assert!(difference < F32_TOLERANCE, "{form} {cuts:?}: {difference:e}");
        }
    }
}
