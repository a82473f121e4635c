//! What is understood of a real export that was changed in one place, and what is not. Whether the
//! numbers stay equal is tested where sessions are: `src/engine/equal`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::model::{
    build::{floats, operator},
    onnx::ValueInfoProto,
};

const FREQUENCIES: [f64; 8] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003];

const ROTARY: FuseRotary<'static> = FuseRotary { frequencies: &FREQUENCIES, interleaved: false, scale: 1.0 };

fn rotaries() -> FuseRotaries<'static> {
    FuseRotaries { layers: vec![Some(ROTARY); 2], positions: 16 }
}

/// Two layers, 4 heads of queries, 2 of keys and values, 16 numbers each.
fn llama() -> GraphProto {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/exports/dynamo18-llama.onnx");
    ModelProto::decode(Bytes::from(std::fs::read(file).unwrap())).unwrap().graph.unwrap()
}

/// The index of the first node of that operator from `start` on.
fn first(graph: &GraphProto, op_type: &str, start: usize) -> usize {
    start + graph.node[start..].iter().position(|node| node.op_type() == op_type).unwrap()
}

/// Puts an operator behind the first of another one.
fn put_behind(graph: &mut GraphProto, op_type: &str, added: &str) {
    let index = first(graph, op_type, 0);
    let output = graph.node[index].output[0].clone();
    let before = format!("{output}_before");
    graph.node[index].output[0] = before.clone();
    graph.node.insert(index + 1, operator(added, &[&before], &[&output]));
}

/// The reason why an edited graph is not fused; it must be what it was.
fn refused(edit: impl FnOnce(&mut GraphProto, &mut Contract)) -> NotFused {
    let mut graph = llama();
    let mut contract = contract_of(&graph).unwrap();
    edit(&mut graph, &mut contract);
    let before = graph.clone();
    let error = fuse(&mut graph, &contract, &rotaries()).unwrap_err();
    assert!(graph == before, "changed in spite of {error}");
    error
}

#[test]
fn heads_and_scale_are_found_in_the_graph() {
    let mut graph = llama();
    let contract = contract_of(&graph).unwrap();
    let fused = fuse(&mut graph, &contract, &rotaries()).unwrap();
    assert_eq!(fused.heads, [4, 4]);
    assert_eq!(fused.nodes, [219, graph.node.len()]);
    let attention: Vec<_> = graph.node.iter().filter(|node| node.op_type() == "GroupQueryAttention").collect();
    assert_eq!(attention.len(), 2);
    for node in attention {
        assert_eq!([node.int("num_heads"), node.int("kv_num_heads")], [Some(4), Some(2)]);
        assert!((node.attr("scale").unwrap().f.unwrap() - 0.25).abs() < 1e-6);
    }
    let inputs: Vec<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    assert!(inputs.contains(&"attention_mask") && !inputs.contains(&"position_ids"), "{inputs:?}");
    let fused_again = fuse(&mut graph.clone(), &contract_of(&graph).unwrap(), &rotaries());
    assert_eq!(fused_again, Err(NotFused::Already));
}

#[test]
fn tables_hold_cosines_and_sines_of_each_position() {
    let [cos, sin] = ROTARY.tables(16, ["cos", "sin"], ElementType::F32);
    assert_eq!((&cos.dims[..], &sin.dims[..]), (&[16, 8][..], &[16, 8][..]));
    let at = |table: &crate::model::onnx::TensorProto, position: usize, pair: usize| {
        let start = 4 * (position * 8 + pair);
        f32::from_le_bytes(table.raw_data.as_ref().unwrap()[start..start + 4].try_into().unwrap())
    };
    for (position, pair) in [(0, 0), (5, 1), (15, 7)] {
        let angle = f64::from(position as f32 * FREQUENCIES[pair] as f32);
        assert_eq!(at(&cos, position, pair), angle.cos() as f32);
        assert_eq!(at(&sin, position, pair), angle.sin() as f32);
    }
}

#[test]
fn what_is_not_understood_is_left_as_it_is() {
    let clipped = refused(|graph, _| {
        // The scaled scores of layer 0.
        let scaled = graph.node[first(graph, "Softmax", 0)].input[0].clone();
        let index = graph.node.iter().position(|node| node.output[0] == scaled).unwrap();
        graph.node[index].output[0] = "whole".into();
        graph.node.insert(index + 1, operator("Clip", &["whole"], &[&scaled]));
    });
    assert_eq!(clipped, NotFused::Scores { layer: 0, operator: "Clip".into() });

    let no_mask = refused(|graph, _| {
        let softmax = first(graph, "Softmax", 0);
        let masked = graph.node.iter().find(|node| node.output == graph.node[softmax].input[..1]).unwrap();
        graph.node[softmax].input[0] = masked.input[0].clone();
    });
    assert!(matches!(no_mask, NotFused::Mask { layer: 0, .. }), "{no_mask}");

    let window = refused(|graph, _| {
        let compared = first(graph, "LessOrEqual", 0);
        let [keys, queries] = [0, 1].map(|side| graph.node[compared].input[side].clone());
        let distance = operator("Sub", &[&queries, &keys], &["distance"]);
        graph.node[compared].input = vec!["distance".into(), queries];
        graph.node.insert(compared, distance);
    });
    assert!(matches!(window, NotFused::Mask { layer: 0, .. }), "{window}");

    let rotated = refused(|graph, _| put_behind(graph, "Neg", "Abs"));
    assert_eq!(rotated, NotFused::Rotary { layer: 0, what: "queries" });

    let cache = refused(|graph, _| put_behind(graph, "Concat", "Abs"));
    assert!(matches!(cache, NotFused::Mask { .. } | NotFused::Cache { .. } | NotFused::Heads { .. }), "{cache}");

    let used = refused(|graph, contract| {
        let past = &contract.kv[1].past_key;
        graph.node.push(operator("Shape", &[past], &["past_shape"]));
        graph.output.push(ValueInfoProto::tensor("past_shape", crate::model::onnx::INT64, Vec::new()));
    });
    assert_eq!(used, NotFused::CacheUsed { tensor: "past_key_values.1.key".into(), operator: "Shape".into() });
}

/// Puts constant scalars into a graph.
fn put_constants(graph: &mut GraphProto, numbers: &[(&str, f64)]) {
    graph
        .initializer
        .extend(numbers.iter().map(|(name, number)| floats(name, &[], ElementType::F32, [*number].into_iter())));
}

#[test]
fn a_soft_cap_and_a_window_are_read() {
    let mut graph = llama();
    let contract = contract_of(&graph).unwrap();
    put_constants(&mut graph, &[("cap", 30.0), ("part", 1.0 / 30.0), ("reach", 24.0)]);
    // The scaled scores of layer 0 become 30 tanh(scores / 30).
    let scaled = graph.node[first(&graph, "Softmax", 0)].input[0].clone();
    let index = graph.node.iter().position(|node| node.output[0] == scaled).unwrap();
    let inner = graph.node[index].input[0].clone();
    graph.node[index].input[0] = "capped".into();
    let cap = [("Mul", [inner.as_str(), "part"], "parts"), ("Mul", ["tangents", "cap"], "capped")];
    let [part, capped] = cap.map(|(op_type, input, output)| operator(op_type, &input, &[output]));
    graph.node.splice(index..index, [part, operator("Tanh", &["parts"], &["tangents"]), capped]);
    // What comes later is hidden, and what lies 24 keys back and more.
    let compared = first(&graph, "LessOrEqual", 0);
    let [keys, queries] = [0, 1].map(|side| graph.node[compared].input[side].clone());
    let causal = std::mem::replace(&mut graph.node[compared].output[0], "no_later".into());
    let near = [
        operator("Cast", &[&queries], &["query_floats"]),
        operator("Sub", &["query_floats", "reach"], &["farthest"]),
        operator("Greater", &[&keys, "farthest"], &["near"]),
        operator("And", &["no_later", "near"], &[&causal]),
    ];
    graph.node.splice(compared + 1..compared + 1, near);
    fuse(&mut graph, &contract, &rotaries()).unwrap();
    let attention =
        |layer: usize| graph.node.iter().filter(|node| node.op_type() == "GroupQueryAttention").nth(layer).unwrap();
    let softcap = |layer| attention(layer).attr("softcap").unwrap().f.unwrap();
    assert!((softcap(0) - 30.0).abs() < 1e-5 && softcap(1) == 0.0, "{} {}", softcap(0), softcap(1));
    assert!((attention(0).attr("scale").unwrap().f.unwrap() - 0.25).abs() < 1e-6);
    // Both layers share the mask.
    assert_eq!([0, 1].map(|layer| attention(layer).int("local_window_size")), [Some(24); 2]);
}

#[test]
fn a_layer_whose_rotation_is_not_known_is_left_as_it_is() {
    let mut graph = llama();
    let contract = contract_of(&graph).unwrap();
    let unknown = FuseRotaries { layers: vec![Some(ROTARY), None], positions: 16 };
    assert_eq!(fuse(&mut graph, &contract, &unknown), Err(NotFused::Rotation { layer: 1 }));
}

#[test]
fn what_the_operator_cannot_do_is_not_tried() {
    assert_eq!(refused(|_, contract| contract.attention_mask = false), NotFused::NoMaskInput);
    assert_eq!(refused(|_, contract| contract.kv[1].value_type = ElementType::F16), NotFused::CacheTypes);
    let heads = refused(|_, contract| contract.kv_heads = 3);
    assert_eq!(heads, NotFused::HeadCount { layer: 0, found: Some(4), kv_heads: 3 });
}

#[test]
fn a_norm_that_is_none_stays() {
    let mut graph = llama();
    let contract = contract_of(&graph).unwrap();
    // The first norm now squares by another power.
    let pow = first(&graph, "Pow", 0);
    graph.node[pow].input[1] = graph.node[first(&graph, "ReduceMean", 0) + 1].input[1].clone();
    let fused = fuse(&mut graph, &contract, &rotaries()).unwrap();
    assert_eq!((fused.norms, fused.residuals), (4, 4));
    assert!(graph.node.iter().any(|node| node.op_type() == "ReduceMean"));
}
