//! Inputs that only choose rows of the logits or one of two decoders: nobody gives them, and the graph gives what it
//! gives without them.

use std::{fs, path::Path};

use motorbrain::model::{
    Model,
    onnx::{self, AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto},
};
use motorbrain_actors::tokens::TokenId;
use prost::Message;
use tempfile::TempDir;

use super::{
    build::{folder, integers, language_model, named, node, projection, sized, value, with},
    open, refusal, says,
};
use crate::common::{engine, fixture, largest_difference, scores, window};

/// A small export by a real exporter, with a tokenizer, edited.
fn export(edit: impl FnOnce(&mut GraphProto)) -> TempDir {
    let mut model = ModelProto::decode(&*fs::read(fixture("exports/hf-qwen3.onnx")).unwrap()).unwrap();
    edit(model.graph.as_mut().unwrap());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.onnx"), model.encode_to_vec()).unwrap();
    let tokenizer = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    dir
}

fn scored(dir: &Path) -> Vec<f32> {
    let mut engine = engine(dir, window(64, 4, 16));
    let slot = engine.open().unwrap();
    let tokens: Vec<TokenId> = (0..40).map(|index| TokenId((index * 37 + 11) % 95)).collect();
    scores(&mut *engine, slot, &tokens, &[9, 1, 1])
}

/// What a head gives is renamed, so that more nodes can follow.
fn behind_logits(graph: &mut GraphProto, nodes: impl IntoIterator<Item = NodeProto>) {
    let outputs = graph.node.iter_mut().flat_map(|node| &mut node.output);
    outputs.filter(|output| *output == "logits").for_each(|output| *output = "all_logits".into());
    graph.node.extend(nodes);
}

/// Rows from `start` on, of the sequence.
fn rows_from(input: &str, start: &str, output: &str) -> NodeProto {
    node("Slice", &[input, start, "last", "sequence"], &[output])
}

fn constants() -> [onnx::TensorProto; 3] {
    [integers("last", &[i64::MAX]), integers("sequence", &[1]), integers("zero", &[0])]
}

/// `[input]`, `-input` and `length - input`, as exporters make a start of it.
fn starts(input: &str) -> Vec<NodeProto> {
    vec![
        node("Reshape", &[input, "sequence"], &["count"]),
        node("Neg", &["count"], &["from_the_end"]),
        node("Shape", &["input_ids"], &["shape"]),
        node("Gather", &["shape", "sequence"], &["length"]),
        node("Sub", &["length", "count"], &["from_the_start"]),
    ]
}

/// That the input is gone, and nobody looks for it.
#[track_caller]
fn gone(model: &Model, input: &str) -> GraphProto {
    let graph = ModelProto::decode(model.overlay.bytes.as_slice()).unwrap().graph.unwrap();
    assert!(graph.input.iter().all(|found| found.name() != input), "{input} is an input");
    let made = graph.node.iter().any(|node| node.output.iter().any(|output| output == input));
    let taken = graph.node.iter().any(|node| node.input.iter().any(|taken| taken == input));
    assert_eq!(made, taken, "{input} is taken and not made, or made for nothing");
    graph
}

#[test]
fn rows_that_an_input_chooses_are_chosen_by_the_overlay() {
    let before = |start: &str| [rows_from("x", start, "rows"), node("MatMul", &["rows", "projection"], &["logits"])];
    let behind = |start: &str| [node("MatMul", &["x", "projection"], &["l"]), rows_from("l", start, "logits")];
    for name in ["num_logits_to_keep", "logits_to_keep"] {
        let listed = with(node("Gather", &["x", name], &["rows"]), "axis", 1);
        let everything = node("Slice", &["rows", "zero", "last", "zero"], &["same"]);
        let heads = [
            before("from_the_end").to_vec(),
            before("from_the_start").to_vec(),
            behind("from_the_end").to_vec(),
            vec![
                rows_from("x", "from_the_end", "rows"),
                everything,
                node("MatMul", &["same", "projection"], &["logits"]),
            ],
            vec![listed, node("MatMul", &["rows", "projection"], &["logits"])],
        ];
        for head in heads {
            let mut graph = language_model(starts(name).into_iter().chain(head));
            graph.initializer.extend(constants());
            graph.input.push(value(name, onnx::INT64, vec![]));
            let model = open(folder(graph).path()).unwrap();
            let cut = gone(&model, name);
            assert_eq!((model.contract.inputs, model.contract.hidden), (4, Some(32)));
            let hidden = cut.node.iter().find(|node| node.output == ["hidden_states"]).unwrap();
            assert_eq!(hidden.input, ["x"]);
            assert!(cut.node.iter().all(|node| node.op_type() != "Slice" && node.op_type() != "Neg"));
        }
    }
    let mut table = language_model(projection());
    table.input.push(value("logits_to_keep", onnx::INT64, vec![named("a"), named("b")]));
    says(&refusal(folder(table).path()), &["`logits_to_keep` has 2 dimensions, expected 1"]);
    let mut fraction = language_model(projection());
    fraction.input.push(value("logits_to_keep", onnx::FLOAT, vec![]));
    says(&refusal(folder(fraction).path()), &["`logits_to_keep` has elements of type f32, expected i64"]);
}

/// Where the head is not one that can be cut, all rows are kept, whatever the graph makes of their number.
#[test]
fn rows_that_cannot_be_chosen_are_all_kept() {
    let expected = scored(export(|graph| behind_logits(graph, [node("Clip", &["all_logits"], &["logits"])])).path());
    let listed = with(node("Gather", &["all_logits", "logits_to_keep"], &["rows"]), "axis", 1);
    let cases: [(_, i32, _); 4] = [
        (rows_from("all_logits", "from_the_end", "rows"), onnx::INT64, vec![]),
        (rows_from("all_logits", "from_the_start", "rows"), onnx::INT64, vec![]),
        (rows_from("all_logits", "from_the_end", "rows"), onnx::INT64, vec![sized(1)]),
        (listed, onnx::INT64, vec![named("rows")]),
    ];
    for (cut, elem_type, dims) in cases {
        let is_list = cut.op_type() == "Gather";
        let dir = export(|graph| {
            let nodes = if is_list { Vec::new() } else { starts("logits_to_keep") };
            behind_logits(graph, nodes.into_iter().chain([cut, node("Clip", &["rows"], &["logits"])]));
            graph.initializer.extend(constants());
            graph.input.push(value("logits_to_keep", elem_type, dims));
        });
        assert_eq!(open(dir.path()).unwrap().overlay.lm_head, None);
        assert_eq!(largest_difference(&scored(dir.path()), &expected), 0.0);
    }
}

/// A choice between two decoders, as optimum merges them: the constants that are short lists stay in the branches.
fn merged(graph: GraphProto, other: GraphProto) -> GraphProto {
    let branch = |graph: &GraphProto, name: &str| {
        let inside = graph.initializer.iter().filter(|constant| constant.data_type() == onnx::INT64);
        let graph = GraphProto {
            node: graph.node.clone(),
            initializer: inside.cloned().collect(),
            output: graph.output.clone(),
            ..GraphProto::default()
        };
        AttributeProto { name: Some(name.into()), g: Some(Box::new(graph)), r#type: Some(5), ..Default::default() }
    };
    let outputs: Vec<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    let mut choice = node("If", &["use_cache_branch"], &outputs);
    choice.attribute = vec![branch(&graph, "then_branch"), branch(&other, "else_branch")];
    let mut outside = GraphProto { node: vec![choice], ..graph };
    outside.initializer.retain(|constant| constant.data_type() != onnx::INT64);
    outside.input.push(value("use_cache_branch", onnx::BOOL, vec![sized(1)]));
    outside
}

/// Real graphs: that the one with a past is run shows in what it gives.
#[test]
fn the_decoder_with_a_past_takes_the_place_of_a_choice() {
    let expected = scored(export(|_| ()).path());
    let dir = export(|graph| {
        let mut wrong = graph.clone();
        behind_logits(&mut wrong, [node("Neg", &["all_logits"], &["logits"])]);
        *graph = merged(graph.clone(), wrong);
    });
    let model = open(dir.path()).unwrap();
    assert!(gone(&model, "use_cache_branch").node.iter().all(|node| node.op_type() != "If"));
    assert_eq!(model.contract.inputs, open(export(|_| ()).path()).unwrap().contract.inputs + 1);
    assert_eq!(scored(dir.path()), expected);
}

#[test]
fn names_of_a_branch_give_way_to_those_outside() {
    let mut graph = merged(language_model(projection()), language_model(projection()));
    graph.node.insert(0, node("Neg", &["embedding"], &["x"]));
    let model = open(folder(graph).path()).unwrap();
    let graph = gone(&model, "use_cache_branch");
    let hidden = graph.node.iter().find(|node| node.output == ["hidden_states"]).unwrap();
    assert_eq!(hidden.input, ["motorbrain_branch0/x"]);
    let made = graph.node.iter().filter(|node| node.output == ["motorbrain_branch0/x"]).count();
    assert_eq!(made, 1);
}

/// What a branch gives may be an outer tensor, or one tensor twice.
#[test]
fn a_branch_may_give_what_it_does_not_make() {
    let mut inner = language_model(projection());
    inner.output[2].name = Some("past_key_values.0.value".into());
    let mut graph = merged(inner.clone(), inner);
    graph.node[0].output[2] = "present.0.value".into();
    graph.output[2].name = Some("present.0.value".into());
    let graph = gone(&open(folder(graph).path()).unwrap(), "use_cache_branch");
    let copy = graph.node.iter().find(|node| node.output == ["present.0.value"]).unwrap();
    assert_eq!(
        (copy.op_type(), copy.input.as_slice()),
        ("Identity", ["past_key_values.0.value".to_owned()].as_slice())
    );
}

/// Traced with one new token, a mask hides nothing: two new tokens would see each other.
#[test]
fn a_decoder_for_one_new_token_at_a_time_is_refused() {
    let masked = |operator: &str| language_model([node(operator, &["x", "x"], &["later"]), projection()[0].clone()]);
    let refused = merged(language_model(projection()), masked("Less"));
    says(
        &refusal(folder(refused).path()),
        &["the decoder behind `use_cache_branch` was made for one new token at a time", "`model.file`"],
    );
    for operator in ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Trilu"] {
        open(folder(merged(masked(operator), masked("Less"))).path()).unwrap();
    }
}

/// Whoever else asks hears that there is a past.
#[test]
fn a_choice_of_another_kind_is_told_that_there_is_a_past() {
    for dims in [vec![], vec![sized(1)]] {
        let mut graph = language_model(projection());
        let rank = dims.len();
        graph.input.push(value("use_cache_branch", onnx::BOOL, dims));
        graph.node.push(node("Where", &["use_cache_branch", "x", "x"], &["either"]));
        let graph = gone(&open(folder(graph).path()).unwrap(), "use_cache_branch");
        let told = graph.node.iter().find(|node| node.output == ["use_cache_branch"]).unwrap();
        let told = told.attr("value").unwrap().t.as_ref().unwrap();
        assert_eq!((told.dims.len(), told.raw_data()), (rank, &[1][..]));
    }
}

/// onnxruntime-genai's mark for caches of a window's size; the window itself stays.
#[test]
fn a_cache_is_whole_whatever_its_layer_is_marked_with() {
    let mut graph = language_model(projection());
    let attention = node("GroupQueryAttention", &["x", "", "", "past_key_values.0.key"], &["attended"]);
    graph.node.push(with(with(attention, "sliding_window_cache", 1), "local_window_size", 24));
    let model = open(folder(graph).path()).unwrap();
    let graph = ModelProto::decode(model.overlay.bytes.as_slice()).unwrap().graph.unwrap();
    let attention = graph.node.iter().find(|node| node.op_type() == "GroupQueryAttention").unwrap();
    assert_eq!((attention.attribute.len(), attention.int("local_window_size")), (1, Some(24)));
}

#[test]
fn a_number_of_rows_may_be_of_32_bits() {
    let mut graph = language_model([
        node("MatMul", &["x", "projection"], &["l"]),
        node("Softmax", &["l"], &["logits"]),
        with(node("Cast", &["num_logits_to_keep"], &["count"]), "to", 7),
        node("Slice", &["logits", "count", "count", "count"], &["rows"]),
    ]);
    graph.input.push(value("num_logits_to_keep", onnx::INT32, vec![]));
    graph.output.push(value("rows", onnx::FLOAT, vec![]));
    let graph = gone(&open(folder(graph).path()).unwrap(), "num_logits_to_keep");
    let made = graph.node.iter().find(|node| node.output == ["num_logits_to_keep"]).unwrap();
    assert_eq!((made.op_type(), made.int("to")), ("Cast", Some(i64::from(onnx::INT32))));
}
