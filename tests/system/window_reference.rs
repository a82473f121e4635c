//! The window against a second implementation that shares nothing with the engine: the exporter's
//! own graph run by ONNX Runtime token by token, its cache held in plain vectors, cut and shifted
//! with the textbook rotation at the base each layer was made with.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "what was measured is shown")]

use std::{fs, path::Path};

use crate::common::{
    F32_FORMS, F32_TOLERANCE, copy, engine, fixture, form, largest_difference, loader, loader_of, model, runtime,
    scores, text_tokens, window,
};
use motorbrain::{
    engine::{Form, FormOptions},
    model::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto},
};
use motorbrain_actors::{
    engine::{Engine, EngineErrorKind, EngineLoader, Row, Want},
    tokens::TokenId,
};
use ort::{session::Session, value::Tensor};
use prost::Message;
use tempfile::TempDir;

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

/// Log-probabilities of all tokens but the first, token by token. `rotates`: whether a layer does.
fn reference(
    dir: &Path,
    rotates: impl Fn(usize) -> bool,
    tokens: &[TokenId],
    [size, sinks, slide]: [usize; 3],
) -> Vec<f32> {
    let mut builder = Session::builder(runtime().environment()).unwrap().with_intra_threads(1).unwrap();
    let mut session = builder.commit_from_file(dir.join("model.onnx")).unwrap();
    let takes_positions = session.inputs().iter().any(|input| input.name() == "position_ids");
    let mut layers = vec![Layer::default(); LAYERS];
    let mut scores = Vec::new();
    for (token, following) in tokens.iter().zip(&tokens[1..]) {
        if layers[0].keys.len() == size {
            for (index, layer) in layers.iter_mut().enumerate() {
                layer.keys.drain(sinks..sinks + slide);
                layer.values.drain(sinks..sinks + slide);
                if rotates(index) {
                    layer.keys[sinks..].iter_mut().for_each(|key| rotate_back(key, slide));
                }
            }
        }
        let past = layers[0].keys.len();
        let mut inputs = ort::inputs! {
            "input_ids" => Tensor::from_array(([1, 1], vec![i64::from(token.0)])).unwrap(),
            "attention_mask" => Tensor::from_array(([1, past + 1], vec![1i64; past + 1])).unwrap(),
        };
        if takes_positions {
            let positions = Tensor::from_array(([1, 1], vec![past as i64])).unwrap();
            inputs.push(("position_ids".into(), positions.into()));
        }
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
    let expected = reference(&fixture("tiny-plain"), |_| true, &tokens, [size, sinks, slide]);
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

#[test]
fn what_is_pinned_stays_as_sinks_do() {
    let (size, pinned, slide) = (64, 31, 16);
    let tokens = text_tokens(&fixture("tiny-plain"), 5 * size);
    let expected = reference(&fixture("tiny-plain"), |_| true, &tokens, [size, pinned, slide]);
    for form in F32_FORMS {
        let loader = loader(&fixture(form), window(size, 4, slide));
        for engine in [&mut loader.load().unwrap(), &mut loader.load_plain().unwrap()] {
            for cuts in [&[1usize][..], &[23, 64, 5]] {
                let slot = engine.open().unwrap();
                engine.pin(slot, pinned);
                let difference = largest_difference(&scores(&mut **engine, slot, &tokens, cuts), &expected);
                assert!(difference < F32_TOLERANCE, "{form} {cuts:?}: {difference:e}");
                engine.close(slot);
            }
        }
    }
}

/// A copy of a fixture with its graph edited.
fn edited(name: &str, edit: impl FnOnce(&mut GraphProto)) -> TempDir {
    let folder = copy(name);
    let file = folder.path().join("model.onnx");
    let mut model = ModelProto::decode(fs::read(&file).unwrap().as_slice()).unwrap();
    edit(model.graph.as_mut().unwrap());
    fs::write(&file, model.encode_to_vec()).unwrap();
    folder
}

/// Takes the rotation out of the layers that do not have it.
fn rotate_only(graph: &mut GraphProto, rotates: impl Fn(usize) -> bool) {
    let attentions = graph.node.iter_mut().filter(|node| node.op_type() == "GroupQueryAttention");
    for (_, node) in attentions.enumerate().filter(|(layer, _)| !rotates(*layer)) {
        node.input.truncate(7);
        let rotary = node.attribute.iter_mut().find(|attribute| attribute.name() == "do_rotary");
        rotary.unwrap().i = Some(0);
    }
}

#[test]
fn each_layer_is_turned_by_its_own_rotation() {
    let shape = [64, 4, 16];
    for rotates in [|layer: usize| layer.is_multiple_of(2), |layer| layer != 0] {
        let dir = edited("tiny-gqa-fp32", |graph| rotate_only(graph, rotates));
        let tokens = text_tokens(dir.path(), 5 * 64);
        let expected = reference(dir.path(), rotates, &tokens, shape);
        let loader = loader(dir.path(), window(64, 4, 16));
        let [mut paged, mut plain] = [loader.load().unwrap(), loader.load_plain().unwrap()];
        assert!(matches!(loader.form(), Some(Form::Paged { .. })), "{:?}", loader.form());
        for (layer, rotation) in loader.rotations().unwrap().layers().iter().enumerate() {
            assert_eq!(rotation.as_ref().map(|rotation| rotation.is_none()), Some(!rotates(layer)), "layer {layer}");
        }
        for engine in [&mut paged, &mut plain] {
            for cuts in [&[1usize][..], &[2], &[7], &[50]] {
                let slot = engine.open().unwrap();
                let difference = largest_difference(&scores(&mut **engine, slot, &tokens, cuts), &expected);
                assert!(difference < F32_TOLERANCE, "{cuts:?}: {difference:e}");
                engine.close(slot);
            }
        }
    }
}

/// The new keys of one layer grow with their position, which is no rotation.
fn stretch_keys(graph: &mut GraphProto, layer: usize) {
    let present = format!("present.{layer}.key");
    let concat = graph.node.iter().position(|node| node.output.contains(&present)).unwrap();
    let new = std::mem::replace(&mut graph.node[concat].input[1], "stretched".into());
    let op = |op_type: &str, input: &[&str], output: &str| NodeProto {
        op_type: Some(op_type.into()),
        input: input.iter().map(|name| (*name).into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let attribute = |name: &str, i: i64| AttributeProto {
        name: Some(name.into()),
        i: Some(i),
        r#type: Some(2),
        ..Default::default()
    };
    let constant = |name: &str, data_type: i32, dims: &[i64], raw: Vec<u8>| TensorProto {
        name: Some(name.into()),
        data_type: Some(data_type),
        dims: dims.to_vec(),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    };
    let (float, int) = (1, 7);
    graph.initializer.push(constant("hundredth", float, &[], 0.01f32.to_le_bytes().into()));
    graph.initializer.push(constant("one", float, &[], 1f32.to_le_bytes().into()));
    graph.initializer.push(constant("like_keys", int, &[4], [1i64, 1, -1, 1].map(i64::to_le_bytes).concat()));
    let mut cast = op("Cast", &["position_ids"], "position_floats");
    cast.attribute.push(attribute("to", 1));
    let added = [
        cast,
        op("Mul", &["position_floats", "hundredth"], "position_parts"),
        op("Add", &["position_parts", "one"], "stretches"),
        op("Reshape", &["stretches", "like_keys"], "stretch"),
        op("Mul", &[&new, "stretch"], "stretched"),
    ];
    graph.node.splice(concat..concat, added);
}

/// A model whose layer 5 has keys that no rotation explains.
pub(crate) fn without_a_rotation() -> TempDir {
    edited("tiny-plain", |graph| stretch_keys(graph, 5))
}

#[test]
fn a_layer_that_no_rotation_explains_keeps_the_window_from_sliding() {
    let dir = without_a_rotation();
    let loader = loader(dir.path(), window(64, 4, 16));
    let mut engine = loader.load().unwrap();
    assert_eq!(loader.rotations().unwrap().unexplained(), Some(5));
    assert!(
        matches!(loader.form(), Some(Form::Plain(why)) if why.to_string().contains("layer 5")),
        "{:?}",
        loader.form()
    );
    let (slot, tokens) = (engine.open().unwrap(), text_tokens(dir.path(), 65));
    let error = engine.run(&[Row { slot, tokens: &tokens, want: Want::Nothing }]).unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::ContextFull);
}

/// In f16 each slide would round all keys, and slow pairs would not move at all. Both are of the same weights, so the
/// difference is that of f16 (measured 4e-3 before the first slide), and must not be more after two hundred.
#[test]
fn many_slides_do_not_add_up_in_f16() {
    let shape = window(64, 4, 1);
    let tokens = text_tokens(&fixture("tiny-plain"), 64 + 200);
    let all_scores = |engine: &mut dyn Engine| {
        let slot = engine.open().unwrap();
        scores(engine, slot, &tokens, &[7])
    };
    let expected = all_scores(&mut *engine(&fixture("tiny-plain"), shape));
    let options = FormOptions { cache: None, ..form() };
    let narrow = loader_of(model(&fixture("tiny-plain-f16")), shape, options);
    for engine in [&mut narrow.load().unwrap(), &mut narrow.load_plain().unwrap()] {
        let found = all_scores(&mut **engine);
        let [early, late] = [0..64, found.len() - 64..found.len()]
            .map(|places: std::ops::Range<usize>| largest_difference(&found[places.clone()], &expected[places]));
        println!("within {early:e} at first, {late:e} after 200 slides");
        assert!(late < 1e-2, "{early:e} {late:e}");
    }
}
