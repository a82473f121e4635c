//! Graphs of real exporters, and two that are small, with some things wrong: bytes that are changed at random rarely stay a graph, so that a
//! fuzzer would see little but the reader.

use std::sync::LazyLock;

use bytes::Bytes;
use motorbrain::model::onnx::{
    Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto,
    type_proto::Value,
};
use prost::Message;

/// Where it begins.
static BASES: LazyLock<Vec<ModelProto>> = LazyLock::new(|| {
    let files: [&'static [u8]; 5] = [
        include_bytes!("../../tests/fixtures/exports/dynamo18-llama.onnx"),
        include_bytes!("../../tests/fixtures/exports/dynamo18-phi3.onnx"),
        include_bytes!("../../tests/fixtures/exports/hf-qwen2-q4f16.onnx"),
        include_bytes!("../corpus/graph/small"),
        include_bytes!("../corpus/graph/small_gqa"),
    ];
    files.map(|file| ModelProto::decode(Bytes::from_static(file)).expect("a fixture is a graph")).into()
});

/// Sizes that are likely to be wrong.
const SIZES: [i64; 16] =
    [0, 1, -1, 2, 3, 7, 16, 64, 300, 4096, 1 << 20, 1 << 31, 1 << 40, i64::MAX, i64::MIN, i64::MAX - 1];

/// Bytes of one edit: what, where (two bytes each), and which.
const EDIT_LEN: usize = 6;

/// One of the graphs, which the first byte chooses, with the edits that the others say; `None` where there are no
/// bytes.
pub(crate) fn edit(data: &[u8]) -> Option<ModelProto> {
    let (base, edits) = data.split_first()?;
    let mut model = BASES[usize::from(*base) % BASES.len()].clone();
    let mut graph = model.graph.take()?;
    for edit in edits.chunks_exact(EDIT_LEN) {
        let place = |at: usize| usize::from(u16::from_le_bytes([edit[at], edit[at + 1]]));
        apply(&mut graph, edit[0], place(1), place(3), usize::from(edit[5]));
    }
    model.graph = Some(graph);
    Some(model)
}

fn apply(graph: &mut GraphProto, what: u8, here: usize, there: usize, which: usize) {
    let size = SIZES[which % SIZES.len()];
    let name = tensor_name(graph, there);
    let other = pick(&mut graph.node, there).map(|node| node.clone());
    match what % 16 {
        0 => remove(&mut graph.node, here),
        1 => with(pick(&mut graph.node, here), |node| with(pick(&mut node.input, which), |input| *input = name)),
        2 => with(pick(&mut graph.node, here), |node| with(pick(&mut node.output, which), |output| *output = name)),
        3 => with(pick(&mut graph.node, here), |node| node.op_type = other.and_then(|other| other.op_type)),
        4 => with(pick(&mut graph.node, here), |node| drop(node.input.pop())),
        5 => with(pick(&mut graph.node, here), |node| node.input.push(name)),
        6 => with(pick(&mut graph.node, here), |node| {
            with(pick(&mut node.attribute, there), |attribute| {
                attribute.i = attribute.i.map(|_| size);
                attribute.f = attribute.f.map(|_| size as f32);
                attribute.ints.iter_mut().take(1 + which % 2).for_each(|int| *int = size);
            });
        }),
        7 => with(pick(&mut graph.node, here), |node| remove(&mut node.attribute, there)),
        8 => with(pick(&mut graph.initializer, here), |tensor| with(pick(&mut tensor.dims, there), |dim| *dim = size)),
        9 => with(pick(&mut graph.initializer, here), |tensor| spoil(tensor, there, size)),
        10 => remove(&mut graph.initializer, here),
        11 => with(pick(&mut graph.input, here), |value| reshape(value, there, size)),
        12 => with(pick(&mut graph.output, here), |value| reshape(value, there, size)),
        13 => with(other, |other| graph.node.insert(here % (graph.node.len() + 1), other)),
        14 => with(pick(&mut graph.initializer, here), |tensor| refer(tensor, size)),
        _ => with(other, |other| nest(graph, here, other)),
    }
}

fn pick<T>(list: &mut [T], place: usize) -> Option<&mut T> {
    let length = list.len().max(1);
    list.get_mut(place % length)
}

fn with<T>(it: Option<T>, work: impl FnOnce(T)) {
    if let Some(it) = it {
        work(it);
    }
}

fn remove<T>(list: &mut Vec<T>, place: usize) {
    if !list.is_empty() {
        list.remove(place % list.len());
    }
}

/// The name of some tensor: a node's output, a constant, an input, or nothing.
fn tensor_name(graph: &GraphProto, place: usize) -> String {
    let outputs = graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
    let constants = graph.initializer.iter().map(TensorProto::name);
    let names = outputs.chain(constants).chain(graph.input.iter().map(ValueInfoProto::name));
    let names: Vec<&str> = names.chain([""]).collect();
    names[place % names.len()].to_owned()
}

fn spoil(tensor: &mut TensorProto, place: usize, size: i64) {
    match place % 4 {
        0 => tensor.data_type = i32::try_from(size % 27).ok(),
        1 => tensor.raw_data = tensor.raw_data.as_ref().map(|data| data.slice(..data.len() / 2)),
        2 => tensor.dims.push(size),
        _ => drop(tensor.dims.pop()),
    }
}

/// The tensor's data lies in a file, at a place that may be none.
fn refer(tensor: &mut TensorProto, size: i64) {
    tensor.raw_data = None;
    tensor.data_location = Some(motorbrain::model::onnx::EXTERNAL);
    tensor.external_data = vec![
        StringStringEntryProto::new("location", "model.onnx.data"),
        StringStringEntryProto::new("offset", size.to_string()),
    ];
}

fn reshape(value: &mut ValueInfoProto, place: usize, size: i64) {
    let Some(Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut()) else { return };
    let Some(shape) = &mut tensor.shape else { return };
    match place % 4 {
        0 => drop(shape.dim.pop()),
        1 => shape.dim.push(Dimension::named("more")),
        2 => tensor.elem_type = i32::try_from(size % 27).ok(),
        _ => with(pick(&mut shape.dim, place / 4), |dim| dim.value = Some(DimensionValue::DimValue(size))),
    }
}

/// A node in the body of another one.
fn nest(graph: &mut GraphProto, place: usize, inner: NodeProto) {
    with(pick(&mut graph.node, place), |node| {
        let body = GraphProto { node: vec![inner], ..GraphProto::default() };
        with(node.attribute.first_mut(), |attribute| attribute.g = Some(Box::new(body)));
    });
}
