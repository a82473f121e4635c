//! Writing GroupQueryAttention into a graph in place of what was found.

use std::collections::HashSet;

use super::{attention::Attention, heads::Projection};
use crate::model::{
    build::{cast, float, int, integers, microsoft, operator, with},
    contract::{Contract, ElementType, KvNames},
    onnx::{Dimension, GraphProto, NodeProto, TensorProto, type_proto},
};

/// What the names of all new tensors begin with.
pub(super) const PREFIX: &str = "motorbrain_fused_";
/// Tables of rotations, each followed by its number.
const COS: &str = "motorbrain_fused_cos";
const SIN: &str = "motorbrain_fused_sin";
const AXIS: &str = "motorbrain_fused_axis";
const ONE: &str = "motorbrain_fused_one";
const MERGED: &str = "motorbrain_fused_merged";
const SPLIT: &str = "motorbrain_fused_split";
/// The index of each row's last token, i32 `[batch]`.
const LAST: &str = "motorbrain_fused_last";
/// The length of the longest row with its new tokens, i32.
const TOTAL: &str = "motorbrain_fused_total";
/// What the lengths of past and present are called: names of their own, as both may be one buffer and
/// then are its capacity, not the number of tokens in it.
const LENGTHS: [&str; 2] = ["motorbrain_past_rows", "motorbrain_present_rows"];

/// What is put into a graph.
pub(super) struct Written {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Reshapes that get a constant shape: theirs may be made from that of a cache.
    reshapes: Vec<usize>,
    /// Outputs of new nodes that other nodes made before.
    taken_over: HashSet<String>,
}

impl Written {
    /// The attention of all layers with caches of one element type.
    pub(super) fn new(layers: &[Attention<'_>], contract: &Contract, positions: usize, element: ElementType) -> Self {
        let mut written = Self {
            nodes: lengths(),
            initializers: constants(contract.head_dim).into(),
            reshapes: Vec::new(),
            taken_over: HashSet::new(),
        };
        let mut rotaries: Vec<_> = Vec::new();
        for (index, (layer, names)) in layers.iter().zip(&contract.kv).enumerate() {
            let tables = layer.rotary.filter(|rotary| !rotary.frequencies.is_empty()).map(|rotary| {
                let known = rotaries.iter().position(|known| *known == rotary);
                let number = known.unwrap_or(rotaries.len());
                let names = [COS, SIN].map(|name| format!("{name}_{number}"));
                if known.is_none() {
                    rotaries.push(rotary);
                    written.initializers.extend(rotary.tables(
                        positions,
                        names.each_ref().map(String::as_str),
                        element,
                    ));
                }
                names
            });
            written.layer(index, layer, names, contract.kv_heads, tables, element);
        }
        written
    }

    fn layer(
        &mut self,
        index: usize,
        attention: &Attention<'_>,
        names: &KvNames,
        kv_heads: usize,
        tables: Option<[String; 2]>,
        element: ElementType,
    ) {
        let name = |what: &str| format!("{PREFIX}{what}_{index}");
        let mut inputs = Vec::new();
        for ((projection, found), what) in attention.projections.iter().zip(["query", "key", "value"]) {
            inputs.push(self.projection(*projection, *found, element, &name(what)));
        }
        let [past, present] = [[&names.past_key, &names.past_value], [&names.present_key, &names.present_value]];
        inputs.extend(past.map(Clone::clone));
        inputs.extend([LAST, TOTAL].map(str::to_owned));
        let rotates = tables.is_some();
        inputs.extend(tables.into_iter().flatten());

        let (output, wanted) = attention.output;
        let given = if wanted == element { output.to_owned() } else { name("output") };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let node = microsoft(operator("GroupQueryAttention", &inputs, &[&given, present[0], present[1]]));
        let interleaved = attention.rotary.is_some_and(|rotary| rotary.interleaved);
        let attributes = vec![
            int("num_heads", size(attention.heads)),
            int("kv_num_heads", size(kv_heads)),
            float("scale", attention.scale as f32),
            int("do_rotary", i64::from(rotates)),
            int("rotary_interleaved", i64::from(interleaved)),
            float("softcap", attention.softcap.unwrap_or(0.0) as f32),
            int("local_window_size", attention.window.map_or(-1, size)),
        ];
        self.nodes.push(with(node, attributes));
        if wanted != element {
            self.nodes.push(cast(&given, output, wanted));
        }
        self.taken_over.extend([output, present[0], present[1]].map(str::to_owned));
    }

    /// A projection as [batch, seq, heads * head_dim] of the caches' element type: its name.
    fn projection(&mut self, from: Projection<'_>, found: ElementType, wanted: ElementType, name: &str) -> String {
        let mut tensor = from.tensor.to_owned();
        self.reshapes.extend(from.reshape);
        if let Some(norm) = from.norm {
            let normed = format!("{name}_normed");
            let mut norm = norm.clone();
            norm.input[0] = tensor;
            norm.output = vec![normed.clone()];
            self.nodes.push(norm);
            tensor = normed;
        }
        if !from.packed {
            let merged = format!("{name}_merged");
            self.nodes.push(operator("Reshape", &[&tensor, MERGED], &[&merged]));
            tensor = merged;
        }
        if found != wanted {
            self.nodes.push(cast(&tensor, name, wanted));
            tensor = name.to_owned();
        }
        tensor
    }

    /// Puts all this in; what it takes the place of stays for [`prune`](super::prune::prune), under
    /// names that nothing takes.
    pub(super) fn put_into(self, graph: &mut GraphProto, contract: &Contract) {
        let mut replaced = 0;
        for output in graph.node.iter_mut().flat_map(|node| &mut node.output) {
            if self.taken_over.contains(output) {
                *output = format!("{PREFIX}replaced_{replaced}");
                replaced += 1;
            }
        }
        for index in self.reshapes {
            let node = &mut graph.node[index];
            node.input[1] = SPLIT.to_owned();
            node.attribute.clear();
        }
        graph.node.extend(self.nodes);
        graph.initializer.extend(self.initializers);
        let caches = |of: fn(&KvNames) -> [&str; 2]| contract.kv.iter().flat_map(of).collect();
        name_length(&mut graph.input, &caches(|names| [&names.past_key, &names.past_value]), LENGTHS[0]);
        name_length(&mut graph.output, &caches(|names| [&names.present_key, &names.present_value]), LENGTHS[1]);
    }
}

/// Lengths of rows from `attention_mask`, i64 [batch, past + seq].
fn lengths() -> Vec<NodeProto> {
    let name = |what: &str| format!("{PREFIX}{what}");
    let [sum, last, shape, total] = ["mask_sum", "mask_last", "mask_shape", "mask_width"].map(name);
    let to_i32 = |input: &str, output| with(operator("Cast", &[input], &[output]), vec![int("to", INT32)]);
    vec![
        with(operator("ReduceSum", &["attention_mask", AXIS], &[&sum]), vec![int("keepdims", 0)]),
        operator("Sub", &[&sum, ONE], &[&last]),
        to_i32(&last, LAST),
        operator("Shape", &["attention_mask"], &[&shape]),
        with(operator("Gather", &[&shape, ONE], &[&total]), vec![int("axis", 0)]),
        to_i32(&total, TOTAL),
    ]
}

/// [`lengths`] and projections refer to these.
fn constants(head_dim: usize) -> [TensorProto; 4] {
    [
        integers(AXIS, &[1], &[1]),
        integers(ONE, &[], &[1]),
        integers(MERGED, &[3], &[0, 0, -1]),
        integers(SPLIT, &[4], &[0, 0, -1, size(head_dim)]),
    ]
}

/// The number of i32 in the schema.
const INT32: i64 = 6;

/// Names the third dimension, the number of rows, of those of `values` that are `caches`.
fn name_length(values: &mut [crate::model::onnx::ValueInfoProto], caches: &HashSet<&str>, length: &str) {
    for value in values.iter_mut().filter(|value| caches.contains(value.name())) {
        let value = value.r#type.as_mut().and_then(|found| found.value.as_mut());
        if let Some(type_proto::Value::TensorType(tensor)) = value
            && let Some(rows) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(2))
        {
            *rows = Dimension::named(length);
        }
    }
}

fn size(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
