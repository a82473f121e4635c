//! Graphs made for the occasion: heads of many kinds, and graphs that cannot be served.

use motorbrain::model::{
    ElementType, Model, Note,
    onnx::{self, GraphProto, ModelProto, NodeProto},
};
use prost::Message;

use super::{
    build::{HIDDEN, floats, folder, integers, language_model, named, node, projection, sized, tensor, value, with},
    open, refusal, says,
};

fn opened(graph: GraphProto) -> Model {
    open(folder(graph).path()).unwrap()
}

/// The LM head was cut at `hidden_states`: from it, rows are picked for the node that took it.
#[track_caller]
fn cut_at(graph: GraphProto, hidden_states: &str) -> GraphProto {
    let model = opened(graph);
    let head = model.overlay.lm_head.expect("an LM head");
    assert_eq!((model.contract.hidden, model.contract.vocab), (Some(32), 300));
    let graph = ModelProto::decode(model.overlay.bytes.as_slice()).unwrap().graph.unwrap();
    let into = |tensor: &str| graph.node.iter().find(|node| node.output[0] == tensor).unwrap();
    assert_eq!(into(head.hidden_output).input, [hidden_states]);
    assert_eq!(into("motorbrain_flat_rows").input[0], hidden_states);
    assert_eq!(into("motorbrain_picked_rows").input, ["motorbrain_flat_rows", head.row_index]);
    assert_eq!(graph.node.iter().filter(|node| node.input.contains(&"motorbrain_picked_rows".into())).count(), 1);
    graph
}

#[track_caller]
fn no_head(head: impl IntoIterator<Item = NodeProto>, why: &str) {
    let model = opened(language_model(head));
    assert_eq!((model.overlay.lm_head, model.contract.hidden), (None, None));
    let notes = model.notes.iter().filter(|note| matches!(note, Note::NoLmHead(_)));
    let notes: Vec<_> = notes.map(Note::to_string).collect();
    assert_eq!(notes, [format!("the model steps but cannot embed: {why}")]);
}

#[test]
fn a_head_is_a_product() {
    cut_at(language_model(projection()), "x");
}

#[test]
fn a_head_may_share_the_embedding() {
    let head = [node("Transpose", &["embedding"], &["w"]), node("MatMul", &["x", "w"], &["logits"])];
    cut_at(language_model(head), "x");
}

#[test]
fn a_head_may_have_bias_scale_and_soft_cap() {
    let head = [
        node("MatMul", &["x", "projection"], &["l0"]),
        node("Add", &["l0", "bias"], &["l1"]),
        node("Div", &["l1", "scalar"], &["l2"]),
        node("Tanh", &["l2"], &["l3"]),
        node("Mul", &["scalar", "l3"], &["logits"]),
    ];
    cut_at(language_model(head), "x");
}

#[test]
fn a_head_may_compute_in_f16() {
    let mut graph = language_model([
        with(node("Cast", &["x"], &["xh"]), "to", 10),
        node("MatMul", &["xh", "wh"], &["lh"]),
        with(node("Cast", &["lh"], &["logits"]), "to", 1),
    ]);
    graph.initializer.push(tensor("wh", onnx::FLOAT16, &[32, 300], vec![0; 2 * 32 * 300]));
    cut_at(graph.clone(), "xh");
    let contract = opened(graph).contract;
    assert_eq!((contract.hidden_type, contract.logits_type), (Some(ElementType::F16), ElementType::F32));
}

#[test]
fn a_head_may_be_quantised() {
    let nbits = node("MatMulNBits", &["x", "packed", "scales"], &["logits"]);
    let nbits = with(with(with(nbits, "K", 32), "N", 300), "accuracy_level", 4);
    let mut graph = language_model([nbits]);
    graph.initializer.push(tensor("packed", 2, &[300, 1, 16], vec![0; 4800]));
    graph.initializer.push(floats("scales", &[300]));
    cut_at(graph.clone(), "x");
    assert!(opened(graph).contract.quantized_activations);
}

/// The rows are picked before they are quantised, so that other rows do not change their scale.
#[test]
fn a_head_may_quantise_its_input() {
    let mut graph = language_model([
        node("DynamicQuantizeLinear", &["x"], &["q", "q_scale", "q_zero"]),
        node("MatMulInteger", &["q", "w8", "q_zero", "w8_zero"], &["l0"]),
        with(node("Cast", &["l0"], &["l1"]), "to", 1),
        node("Mul", &["q_scale", "w8_scale"], &["scale"]),
        node("Mul", &["l1", "scale"], &["logits"]),
    ]);
    graph.initializer.push(tensor("w8", 2, &[32, 300], vec![0; 9600]));
    graph.initializer.push(tensor("w8_zero", 2, &[], vec![0]));
    graph.initializer.push(floats("w8_scale", &[]));
    let graph = cut_at(graph, "x");
    let quantize = graph.node.iter().find(|node| node.op_type() == "DynamicQuantizeLinear").unwrap();
    assert_eq!(quantize.input, ["motorbrain_picked_rows"]);
}

/// Gemm takes matrices: the flattening before it stays behind, the one after it becomes the identity.
#[test]
fn a_head_may_flatten_its_rows() {
    let mut graph = language_model([
        node("Reshape", &["x", "flat"], &["rows"]),
        with(node("Gemm", &["rows", "embedding", "bias"], &["l0"]), "transB", 1),
        node("Reshape", &["l0", "shape"], &["logits"]),
    ]);
    graph.initializer.push(integers("flat", &[-1, HIDDEN]));
    graph.initializer.push(integers("shape", &[1, -1, 300]));
    let graph = cut_at(graph, "x");
    let last = graph.node.last().unwrap();
    assert_eq!((last.op_type(), last.input.as_slice()), ("Identity", ["l0".to_owned()].as_slice()));
}

#[test]
fn a_head_may_have_picked_the_last_row() {
    let last = sized(1);
    let mut sliced = language_model([
        node("Slice", &["x", "minus_one", "end", "axes"], &["picked"]),
        node("MatMul", &["picked", "projection"], &["logits"]),
    ]);
    let mut gathered = language_model([
        with(node("Gather", &["x", "minus_one"], &["row"]), "axis", 1),
        node("Unsqueeze", &["row", "axes"], &["picked"]),
        node("MatMul", &["picked", "projection"], &["logits"]),
    ]);
    for graph in [&mut sliced, &mut gathered] {
        let numbers = [("minus_one", -1), ("end", i64::MAX), ("axes", 1)];
        graph.initializer.extend(numbers.map(|(name, number)| integers(name, &[number])));
        graph.output[0] = value("logits", onnx::FLOAT, vec![named("b"), last.clone(), sized(300)]);
        cut_at(graph.clone(), "x");
    }
}

#[test]
fn the_names_of_a_head_give_way() {
    let head = [node("MatMul", &["x", "projection"], &["logits"]), node("Neg", &["x"], &["hidden_states"])];
    let model = opened(language_model(head));
    assert_eq!(model.overlay.lm_head.unwrap().hidden_output, "motorbrain_hidden_states");
}

#[test]
fn what_is_no_head() {
    no_head(
        [node("MatMul", &["x", "projection"], &["l"]), node("Softmax", &["l"], &["logits"])],
        "`logits` comes from `Softmax`, not from a projection of hidden states",
    );
    no_head(
        [node("MatMul", &["x", "embedded"], &["logits"])],
        "`logits` comes from `MatMul`, not from a projection of hidden states",
    );
    no_head(
        [
            node("MatMul", &["x", "projection"], &["l"]),
            node("Add", &["l", "bias"], &["logits"]),
            node("Neg", &["l"], &["other"]),
        ],
        "`l`, behind the projection, is used for something else, too",
    );
    no_head(
        [
            node("ReduceMax", &["x"], &["pooled"]),
            node("Gemm", &["pooled", "projection"], &["l0"]),
            node("Unsqueeze", &["l0", "heads"], &["l1"]),
            node("Identity", &["l1"], &["logits"]),
        ],
        "`logits` comes from `Unsqueeze`, not from a projection of hidden states",
    );
    no_head(
        [
            node("Reshape", &["pooled", "heads"], &["rows"]),
            node("Gemm", &["rows", "projection"], &["l0"]),
            node("Reshape", &["l0", "heads"], &["logits"]),
        ],
        "what feeds the projection, `rows`, is not known to be [batch, seq, hidden]",
    );
}

/// A subgraph reaches for outer tensors by name alone.
#[test]
fn what_a_subgraph_takes_is_used() {
    let branch = GraphProto { node: vec![node("Neg", &["l"], &["inner"])], ..GraphProto::default() };
    let mut choice = node("If", &["scalar"], &["other"]);
    choice.attribute.push(onnx::AttributeProto {
        name: Some("then_branch".into()),
        g: Some(Box::new(branch)),
        ..onnx::AttributeProto::default()
    });
    let product = node("MatMul", &["x", "projection"], &["l"]);
    no_head(
        [product, node("Add", &["l", "bias"], &["logits"]), choice],
        "`l`, behind the projection, is used for something else, too",
    );
}

/// A node of the LM head that feeds itself must not be walked for ever.
#[test]
fn a_circle_is_no_head() {
    no_head(
        [node("Identity", &["a"], &["logits"]), node("Cast", &["b"], &["a"]), node("Tanh", &["a"], &["b"])],
        "`logits` comes from `Cast`, not from a projection of hidden states",
    );
    no_head(
        [
            node("Reshape", &["b", "heads"], &["a"]),
            node("Reshape", &["a", "heads"], &["b"]),
            node("Gemm", &["a", "projection"], &["l"]),
            node("Reshape", &["l", "heads"], &["logits"]),
        ],
        "what feeds the projection, `a`, is not known to be [batch, seq, hidden]",
    );
}

#[track_caller]
fn refused(change: impl FnOnce(&mut GraphProto), things: &[&str]) {
    let mut graph = language_model(projection());
    change(&mut graph);
    says(&refusal(folder(graph).path()), things);
}

#[test]
fn what_is_no_language_model() {
    let image = GraphProto {
        input: vec![value("image", onnx::FLOAT, vec![])],
        output: vec![value("class", onnx::FLOAT, vec![])],
        ..GraphProto::default()
    };
    says(
        &refusal(folder(image).path()),
        &[
            "the graph is not a language model with a KV cache: it lacks `input_ids`, \
             `past_key_values.0.key`, `logits` and `present.0.key`",
            "export a decoder with its cache",
        ],
    );
    refused(|graph| drop(graph.output.remove(0)), &["it lacks `logits`"]);
}

/// Each run has its own number of tokens, of one conversation.
#[test]
fn sizes_that_are_fixed_where_each_run_has_its_own() {
    let ids = |dims: [i64; 2]| value("input_ids", onnx::INT64, dims.map(sized).to_vec());
    let one_row = "expected one row of any length, [batch, sequence]";
    for (dims, found) in [([2, 0], "[2, 0]"), ([1, 1], "[1, 1]"), ([1, 8], "[1, 8]")] {
        let shape = format!("`input_ids` has the shape {found}, {one_row}");
        refused(|graph| graph.input[0] = ids(dims), &[&shape, "as dynamic axes"]);
    }
    let mask = value("attention_mask", onnx::INT64, vec![named("batch"), sized(128)]);
    refused(|graph| graph.input.push(mask), &["`attention_mask` has the shape [batch, 128]", one_row]);
    for (dims, found) in [([2, 2, 0, 16], "[2, 2, 0, 16]"), ([1, 2, 512, 16], "[1, 2, 512, 16]")] {
        let past = value("past_key_values.0.value", onnx::FLOAT, dims.map(sized).to_vec());
        let shape = format!("`past_key_values.0.value` has the shape {found}, expected a cache of any length");
        refused(|graph| graph.input[2] = past, &[&shape, "as dynamic axes"]);
    }
    let mut open_sizes = language_model(projection());
    open_sizes.input[0] = value("input_ids", onnx::INT64, vec![sized(1), named("sequence")]);
    opened(open_sizes);
}

#[test]
fn graphs_that_cannot_be_served() {
    let kv = || vec![named("b"), sized(2), named("p"), sized(16)];
    refused(
        |graph| graph.input.push(value("encoder_hidden_states", 1, vec![])),
        &["the graph takes an input `encoder_hidden_states` that this version does not know"],
    );
    refused(
        |graph| graph.input.push(value("past_key_values.2.key", onnx::FLOAT, kv())),
        &["the graph has keys for layer 2, but none for layer 1"],
    );
    refused(
        |graph| drop(graph.input.remove(2)),
        &["the graph has `past_key_values.0.key`, but not `past_key_values.0.value`"],
    );
    refused(
        |graph| graph.input.push(value("past_key_values.1.value", onnx::FLOAT, kv())),
        &["the graph has `past_key_values.1.value`, but not `past_key_values.1.key`"],
    );
    refused(
        |graph| drop(graph.output.remove(2)),
        &["the graph has `past_key_values.0.key`, but not `present.0.value`"],
    );
    refused(
        |graph| graph.input[0] = value("input_ids", 6, vec![named("b"), named("s")]),
        &["`input_ids` has elements of type i32, expected i64", "`position_ids` of 64 bits"],
    );
    refused(
        |graph| graph.input[1] = value("past_key_values.0.key", 16, kv()),
        &["`past_key_values.0.key` has elements of type bf16, expected f32 or f16", "in f32 or f16"],
    );
    refused(
        |graph| graph.output[1] = value("present.0.key", onnx::FLOAT16, kv()),
        &["`present.0.key` has elements of type f16, expected f32"],
    );
    refused(
        |graph| graph.input[1] = value("past_key_values.0.key", onnx::FLOAT, kv()[..3].to_vec()),
        &["`past_key_values.0.key` has 3 dimensions, expected 4"],
    );
    refused(
        |graph| {
            graph.input[2] = value("past_key_values.0.value", onnx::FLOAT, [&kv()[..3], &[sized(8)]].concat());
        },
        &["`past_key_values.0.value` has 8 elements a head, those before it 16"],
    );
    refused(
        |graph| {
            for input in &mut graph.input[1..] {
                let name = input.name().to_owned();
                *input = value(&name, onnx::FLOAT, vec![named("b"), named("h"), named("p"), named("d")]);
            }
        },
        &["neither the graph nor a config file tells the number of KV heads", "config.json"],
    );
}

/// Walked once each, however many ways lead there; a walk that went each way would never end.
#[test]
fn sums_of_sums_of_constants_are_constant() {
    const LEVELS: usize = 60;
    let sum = |level: usize| node("Sum", &[&*format!("z{level}"); 12], &[&format!("z{}", level + 1)]);
    let mut head = vec![node("Identity", &["bias"], &["z0"])];
    head.extend((0..LEVELS).map(sum));
    head.push(node("MatMul", &["x", "projection"], &["l"]));
    head.push(node("Add", &["l", &format!("z{LEVELS}")], &["logits"]));
    // Constant or not: what is added has a rank that nothing tells.
    no_head(head, "`logits` comes from `Add`, not from a projection of hidden states");
}

/// No walk calls itself for each step, and none is made again for each node.
#[test]
fn chains_of_many_thousand_nodes_are_walked() {
    const LENGTH: usize = 20_000;
    let chain = |operator: &str, from: &str, to: &str, along: &[&str]| -> Vec<NodeProto> {
        let name = |index: usize| match index {
            0 => from.to_owned(),
            LENGTH => to.to_owned(),
            index => format!("/model/layers.0/{from}/output_{index}"),
        };
        let link = |index| {
            let (before, after) = (name(index), name(index + 1));
            node(operator, &[&[before.as_str()], along].concat(), &[&after])
        };
        (0..LENGTH).map(link).collect()
    };
    let mut behind = vec![node("MatMul", &["x", "projection"], &["l"])];
    behind.extend(chain("Add", "l", "logits", &["scalar"]));
    cut_at(language_model(behind), "x");

    let mut before = chain("Mul", "x", "y", &["norm"]);
    before.push(node("MatMul", &["y", "projection"], &["logits"]));
    cut_at(language_model(before), "y");

    let norms =
        (0..LENGTH).map(|index| node("LayerNormalization", &["y", "norm"], &[&format!("/model/norms/output_{index}")]));
    let mut many = chain("Mul", "x", "y", &["norm"]);
    many.extend(norms);
    many.push(node("MatMul", &["y", "projection"], &["logits"]));
    cut_at(language_model(many), "y");
}

/// No model has them, and nothing is multiplied or asked for by them.
#[test]
fn sizes_that_no_model_has_are_refused() {
    let heads = |dims: [i64; 2]| {
        move |graph: &mut GraphProto| {
            for input in &mut graph.input[1..] {
                let name = input.name().to_owned();
                *input = value(&name, onnx::FLOAT, vec![named("b"), sized(dims[0]), named("p"), sized(dims[1])]);
            }
        }
    };
    let of_heads = |what: &str| format!("the model has 9223372036854775807 {what}, expected 1 to 65536");
    refused(heads([i64::MAX, 16]), &[&of_heads("KV heads")]);
    refused(heads([2, i64::MAX]), &[&of_heads("elements a head")]);
    refused(
        |graph| graph.output[0] = value("logits", onnx::FLOAT, vec![named("b"), named("s"), sized(i64::MAX)]),
        &["the model has 9223372036854775807 rows of the vocabulary, expected 1 to 268435456"],
    );
}

/// Counts that make no sense reach no arithmetic.
#[test]
fn absurd_counts_are_survived() {
    for (heads, kv_heads) in [(0, 0), (i64::MAX, i64::MAX), (-1, 2)] {
        let attention = node("GroupQueryAttention", &["x", "", "", "", "", "", "", "cos"], &["attended"]);
        let mut graph = language_model(projection());
        graph.node.push(with(with(attention, "num_heads", heads), "kv_num_heads", kv_heads));
        for input in &mut graph.input[1..] {
            let name = input.name().to_owned();
            let dims = vec![named("b"), named("h"), named("p"), named("d")];
            *input = value(&name, onnx::FLOAT, dims);
        }
        says(&refusal(folder(graph).path()), &["neither the graph nor a config file tells"]);
    }
}

#[test]
fn caches_may_be_named_by_genai_config() {
    let mut graph = language_model(projection());
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        let name = value.name().to_owned();
        value.name = Some(match name.split('.').collect::<Vec<_>>().as_slice() {
            ["past_key_values", layer, kind] => format!("past_{kind}_{layer}"),
            ["present", layer, kind] => format!("present_{kind}_{layer}"),
            _ => name,
        });
    }
    let dir = folder(graph);
    says(&refusal(dir.path()), &["it lacks `past_key_values.0.key` and `present.0.key`"]);
    let genai = r#"{"model": {"decoder": {
        "inputs": {"past_key_names": "past_key_%d", "past_value_names": "past_value_%d"},
        "outputs": {"present_key_names": "present_key_%d", "present_value_names": "present_value_%d"}}}}"#;
    std::fs::write(dir.path().join("genai_config.json"), genai).unwrap();
    assert_eq!(open(dir.path()).unwrap().contract.kv[0].present_value, "present_value_0");
}
