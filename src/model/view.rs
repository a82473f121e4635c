//! Questions about a graph: who makes a tensor, what is constant, how wide it is, of which type.
//!
//! No shape inference: a question follows the one input that an output takes its type, rank or width
//! from, back to something declared, and says `None` where it cannot tell. Nodes of a graph are in
//! topological order and each step goes to an earlier node, so that every walk ends.

use std::collections::HashMap;

use super::onnx::{self, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// How many nodes (casts, transpositions, ..) may lie between a constant and its use.
const CONSTANT_DEPTH_MAX: usize = 8;

/// A graph with its names looked up.
pub(crate) struct View<'g> {
    pub(crate) graph: &'g GraphProto,
    producer: HashMap<&'g str, usize>,
    initializer: HashMap<&'g str, &'g TensorProto>,
    declared: HashMap<&'g str, &'g ValueInfoProto>,
    consumers: HashMap<&'g str, Vec<usize>>,
}

impl<'g> View<'g> {
    pub(crate) fn new(graph: &'g GraphProto) -> Self {
        let mut producer = HashMap::new();
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                producer.entry(output.as_str()).or_insert(index);
            }
            each_input(node, &mut |input| consumers.entry(input).or_default().push(index));
        }
        let values = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
        Self {
            graph,
            producer,
            initializer: graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect(),
            declared: values.map(|value| (value.name(), value)).collect(),
            consumers,
        }
    }

    /// The graph's inputs proper: old graphs list their initializers among them.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'g ValueInfoProto> {
        self.graph.input.iter().filter(|input| !self.initializer.contains_key(input.name()))
    }

    /// The node that makes a tensor, and its index. In a damaged graph it may come after its users.
    pub(crate) fn producer(&self, tensor: &str) -> Option<(usize, &'g NodeProto)> {
        let index = *self.producer.get(tensor)?;
        Some((index, &self.graph.node[index]))
    }

    /// The nodes that take a tensor, themselves or in a subgraph.
    pub(crate) fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// Whether a tensor is one of the graph's outputs.
    pub(crate) fn is_output(&self, tensor: &str) -> bool {
        self.graph.output.iter().any(|output| output.name() == tensor)
    }

    /// Whether a tensor of that name exists.
    pub(crate) fn knows(&self, tensor: &str) -> bool {
        self.producer.contains_key(tensor)
            || self.initializer.contains_key(tensor)
            || self.declared.contains_key(tensor)
            || self.consumers.contains_key(tensor)
    }

    /// An initializer, or the value of a Constant node.
    pub(crate) fn constant(&self, tensor: &str) -> Option<&'g TensorProto> {
        if let Some(initializer) = self.initializer.get(tensor) {
            return Some(initializer);
        }
        let (_, node) = self.producer(tensor)?;
        node.attr("value").filter(|_| node.op_type() == "Constant")?.t.as_ref()
    }

    /// Whether a tensor is the same in every run: a constant or made of constants alone.
    pub(crate) fn is_constant(&self, tensor: &str) -> bool {
        self.is_constant_within(tensor, CONSTANT_DEPTH_MAX)
    }

    fn is_constant_within(&self, tensor: &str, depth: usize) -> bool {
        if self.initializer.contains_key(tensor) {
            return true;
        }
        let Some((_, node)) = self.producer(tensor).filter(|_| depth > 0) else {
            return false;
        };
        let mut inputs = node.input.iter().filter(|input| !input.is_empty());
        node.op_type() == "Constant"
            || (inputs.clone().next().is_some() && inputs.all(|input| self.is_constant_within(input, depth - 1)))
    }

    /// The two dimensions of a constant matrix, looked at through transposition and the like.
    pub(crate) fn matrix(&self, tensor: &str) -> Option<[usize; 2]> {
        let (mut tensor, mut swapped) = (tensor, false);
        loop {
            if let Some(constant) = self.constant(tensor) {
                let [rows, columns] = *constant.dims.as_slice() else {
                    return None;
                };
                let (rows, columns) = (positive(rows)?, positive(columns)?);
                return Some(if swapped { [columns, rows] } else { [rows, columns] });
            }
            let (_, node) = self.earlier(tensor)?;
            match node.op_type() {
                "Transpose" => {
                    let order = node.attr("perm").map_or(&[1, 0][..], |perm| &perm.ints);
                    swapped ^= order == [1, 0];
                }
                "Cast" | "Identity" | "DequantizeLinear" => {}
                _ => return None,
            }
            tensor = node.input.first()?;
        }
    }

    /// How many dimensions a tensor has.
    pub(crate) fn rank(&self, tensor: &str) -> Option<usize> {
        let (mut tensor, mut added) = (tensor, 0);
        loop {
            if let Some(dims) = self.declared.get(tensor).and_then(|value| value.dims()) {
                return Some(dims.len() + added);
            }
            if let Some(constant) = self.constant(tensor) {
                return Some(constant.dims.len() + added);
            }
            let (_, node) = self.earlier(tensor)?;
            // The rows of an embedding table, one for each token.
            if node.op_type().starts_with("Gather") && self.is_constant(node.input.first()?) {
                tensor = node.input.get(1)?;
                added += 1;
            } else if node.op_type() == "Transpose" {
                tensor = node.input.first()?;
            } else {
                tensor = self.carrier(node)?;
            }
        }
    }

    /// The size of a tensor's last dimension.
    pub(crate) fn width(&self, tensor: &str) -> Option<usize> {
        let mut tensor = tensor;
        loop {
            let dims = self.declared.get(tensor).and_then(|value| value.dims());
            if let Some(width) = dims.and_then(<[_]>::last).and_then(onnx::Dimension::fixed) {
                return Some(width);
            }
            if let Some(constant) = self.constant(tensor) {
                return positive(*constant.dims.last()?);
            }
            let (_, node) = self.earlier(tensor)?;
            if let Some([_, width]) = self.product(node) {
                return Some(width);
            }
            if node.op_type() == "Split" {
                return self.split_width(node, tensor);
            }
            let vectors = node.input.iter().filter_map(|input| self.constant(input));
            let mut widths = vectors.filter_map(|vector| match *vector.dims.as_slice() {
                [width] if width > 1 => usize::try_from(width).ok(),
                _ => None,
            });
            if let Some(width) = widths.next() {
                return Some(width);
            }
            tensor = self.carrier(node)?;
        }
    }

    /// The width of a Split's output, where it splits the last dimension by sizes that are constant.
    fn split_width(&self, node: &NodeProto, output: &str) -> Option<usize> {
        let input = node.input.first()?;
        let axis = node.int("axis").unwrap_or(0);
        if axis != -1 && usize::try_from(axis).ok()? + 1 != self.rank(input)? {
            return None;
        }
        let index = node.output.iter().position(|name| name == output)?;
        positive(*integers(self.constant(node.input.get(1)?)?)?.get(index)?)
    }

    /// A tensor's element type, as the schema numbers them.
    pub(crate) fn element_type(&self, tensor: &str) -> Option<i32> {
        let mut tensor = tensor;
        loop {
            let declared = self.declared.get(tensor).and_then(|value| value.tensor_type());
            if let Some(elem_type) = declared.and_then(|tensor| tensor.elem_type) {
                return Some(elem_type);
            }
            if let Some(constant) = self.constant(tensor) {
                return constant.data_type;
            }
            let (_, node) = self.earlier(tensor)?;
            let carrier = match node.op_type() {
                "Cast" => return i32::try_from(node.int("to")?).ok(),
                "DequantizeLinear" => 1,
                "GatherBlockQuantized" => 2,
                "Gather" | "Reshape" | "Transpose" | "Slice" | "Squeeze" | "Unsqueeze" | "Expand" => 0,
                _ => {
                    tensor = self.carrier(node)?;
                    continue;
                }
            };
            tensor = node.input.get(carrier)?;
        }
    }

    /// `[K, N]` of a node that multiplies its first input by a constant K x N matrix.
    pub(crate) fn product(&self, node: &NodeProto) -> Option<[usize; 2]> {
        let size = |name| node.int(name).and_then(positive);
        let swapped = |name| node.int(name).unwrap_or(0) != 0;
        match node.op_type() {
            "MatMul" | "MatMulInteger" | "MatMulIntegerToFloat" | "DynamicQuantizeMatMul" => {
                self.matrix(node.input.get(1)?)
            }
            "Gemm" | "FusedMatMul" => {
                if swapped("transA") || swapped("transBatchA") || swapped("transBatchB") {
                    return None;
                }
                let [rows, columns] = self.matrix(node.input.get(1)?)?;
                Some(if swapped("transB") { [columns, rows] } else { [rows, columns] })
            }
            "MatMulNBits" | "MatMulBnb4" => Some([size("K")?, size("N")?]),
            _ => None,
        }
    }

    /// The input that a node's outputs take their element type, rank and (where the node is no
    /// product) width from.
    fn carrier(&self, node: &'g NodeProto) -> Option<&'g str> {
        let varying = || node.input.iter().find(|input| !self.is_constant(input));
        let carrier = match node.op_type() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => varying()?,
            "Cast"
            | "Identity"
            | "Dropout"
            | "Neg"
            | "Sqrt"
            | "Tanh"
            | "Sigmoid"
            | "Softmax"
            | "Clip"
            | "Gelu"
            | "FastGelu"
            | "QuickGelu"
            | "BiasGelu"
            | "LayerNormalization"
            | "SimplifiedLayerNormalization"
            | "RMSNormalization"
            | "SkipLayerNormalization"
            | "SkipSimplifiedLayerNormalization"
            | "MatMul"
            | "FusedMatMul"
            | "Gemm"
            | "MatMulNBits"
            | "MatMulBnb4"
            | "RotaryEmbedding"
            | "Split" => node.input.first()?,
            _ => return None,
        };
        Some(carrier)
    }

    /// The node that makes a tensor, if all that it takes was made before it.
    pub(crate) fn earlier(&self, tensor: &str) -> Option<(usize, &'g NodeProto)> {
        let (index, node) = self.producer(tensor)?;
        let before = |input: &String| self.producer.get(input.as_str()).is_none_or(|&other| other < index);
        node.input.iter().all(before).then_some((index, node))
    }
}

/// Calls `visit` with what a node takes, its subgraphs' reach for outer tensors included.
pub(crate) fn each_input<'g>(node: &'g NodeProto, visit: &mut dyn FnMut(&'g str)) {
    node.input.iter().for_each(|input| visit(input));
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            graph.node.iter().for_each(|node| each_input(node, visit));
            graph.output.iter().for_each(|output| visit(output.name()));
        }
    }
}

/// A size, where it is one.
fn positive(size: i64) -> Option<usize> {
    usize::try_from(size).ok().filter(|&size| size > 0)
}

/// The integers of a constant.
pub(crate) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    if tensor.data_type() != onnx::INT64 {
        return None;
    }
    if let Some(raw) = &tensor.raw_data {
        let words = raw.chunks_exact(8).filter_map(|word| word.try_into().ok());
        return Some(words.map(i64::from_le_bytes).collect());
    }
    Some(tensor.int64_data.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{build, contract::ElementType};

    #[test]
    fn a_split_hands_type_rank_and_its_own_widths_on() {
        let x = build::floats("x", &[1, 32, 32], ElementType::F16, [0.0; 32 * 32].into_iter());
        let graph = |axis| {
            let mut split = build::operator("Split", &["same", "sizes"], &["left", "right"]);
            split.attribute.push(build::int("axis", axis));
            GraphProto {
                node: vec![build::operator("Identity", &["x"], &["same"]), split],
                initializer: vec![build::integers("sizes", &[2], &[24, 8]), x.clone()],
                ..GraphProto::default()
            }
        };
        for (axis, widths) in [(-1, [Some(24), Some(8)]), (2, [Some(24), Some(8)]), (1, [None, None])] {
            let graph = graph(axis);
            let view = View::new(&graph);
            for (output, width) in ["left", "right"].into_iter().zip(widths) {
                assert_eq!(view.width(output), width, "{output} of axis {axis}");
                assert_eq!((view.rank(output), view.element_type(output)), (Some(3), Some(onnx::FLOAT16)));
            }
        }
    }
}
