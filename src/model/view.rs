//! Questions about a graph: who makes a tensor, what is constant, how wide it is, of which type.
//!
//! No shape inference: a question follows the one input that an output takes its type, rank or width
//! from, back to something declared, and says `None` where it cannot tell. Nodes of a graph are in
//! topological order and each step goes to an earlier node, so that every walk ends. What was found on
//! the way is remembered: all questions about a graph together take time linear in its size.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use super::onnx::{self, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// How many nodes (casts, transpositions, ..) may lie between a constant and its use.
pub(crate) const CONSTANT_DEPTH_MAX: usize = 8;
/// The longest list of integers that is a shape, a list of axes or of the sizes of parts.
const INTEGERS_MAX: usize = 1024;
/// How many inputs an operator may have that hands on the width of one of them.
const INPUTS_MAX: usize = 8;

/// A graph with its names looked up.
pub(crate) struct View<'g> {
    pub(crate) graph: &'g GraphProto,
    producer: HashMap<&'g str, Made>,
    initializer: HashMap<&'g str, &'g TensorProto>,
    declared: HashMap<&'g str, &'g ValueInfoProto>,
    consumers: HashMap<&'g str, Vec<usize>>,
    outputs: HashSet<&'g str>,
    /// By node: whether all that it takes was made before it.
    in_order: Vec<bool>,
    /// By node: whether it gives the same in every run.
    constant: Vec<bool>,
    ranks: Answers,
    widths: Answers,
    element_types: Answers,
}

/// An output of a node: the node's index, and which of its outputs.
type Made = (usize, usize);

/// What a walk has found before.
type Answers = RefCell<HashMap<Made, Option<usize>>>;

/// What a walk does at a tensor.
enum Step<'t> {
    /// It ends.
    Answer(Option<usize>),
    /// The answer is that of another tensor, and so many more.
    Of(&'t str, usize),
}

impl<'g> View<'g> {
    pub(crate) fn new(graph: &'g GraphProto) -> Self {
        let mut producer = HashMap::new();
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            for (place, output) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                producer.entry(output.as_str()).or_insert((index, place));
            }
            each_input(node, &mut |input| consumers.entry(input).or_default().push(index));
        }
        let values = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
        let mut view = Self {
            graph,
            producer,
            initializer: graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect(),
            declared: values.map(|value| (value.name(), value)).collect(),
            consumers,
            outputs: graph.output.iter().map(ValueInfoProto::name).collect(),
            in_order: Vec::new(),
            constant: Vec::new(),
            ranks: Answers::default(),
            widths: Answers::default(),
            element_types: Answers::default(),
        };
        view.in_order =
            graph.node.iter().enumerate().map(|(index, node)| view.follows_its_inputs(index, node)).collect();
        view.constant = view.constant_nodes();
        view
    }

    fn follows_its_inputs(&self, index: usize, node: &NodeProto) -> bool {
        node.input.iter().all(|input| self.producer.get(input.as_str()).is_none_or(|&(other, _)| other < index))
    }

    /// Which nodes are made of constants alone, in whatever order they stand.
    fn constant_nodes(&self) -> Vec<bool> {
        let mut constant = vec![false; self.graph.node.len()];
        // A subgraph may reach for anything.
        let is_plain = |node: &NodeProto| {
            node.attribute.iter().all(|attribute| attribute.g.is_none() && attribute.graphs.is_empty())
        };
        let waits_for = |node: &NodeProto| {
            let inputs = node.input.iter().filter(|input| !input.is_empty());
            inputs.filter(|input| !self.initializer.contains_key(input.as_str())).count()
        };
        let mut waits_for: Vec<usize> = self.graph.node.iter().map(waits_for).collect();
        let made_of_something =
            |node: &NodeProto| node.op_type() == "Constant" || node.input.iter().any(|input| !input.is_empty());
        let nodes = self.graph.node.iter().enumerate();
        let ready = nodes.filter(|&(index, node)| waits_for[index] == 0 && made_of_something(node) && is_plain(node));
        let mut ready: Vec<usize> = ready.map(|(index, _)| index).collect();
        while let Some(index) = ready.pop() {
            constant[index] = true;
            let outputs = self.graph.node[index].output.iter().enumerate();
            for (_, output) in
                outputs.filter(|(place, output)| self.producer.get(output.as_str()) == Some(&(index, *place)))
            {
                for &user in self.consumers(output).iter().filter(|&&user| is_plain(&self.graph.node[user])) {
                    waits_for[user] -= 1;
                    if waits_for[user] == 0 {
                        ready.push(user);
                    }
                }
            }
        }
        constant
    }

    /// The graph's inputs proper: old graphs list their initializers among them.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'g ValueInfoProto> {
        self.graph.input.iter().filter(|input| !self.initializer.contains_key(input.name()))
    }

    /// The node that makes a tensor, and its index. In a damaged graph it may come after its users.
    pub(crate) fn producer(&self, tensor: &str) -> Option<(usize, &'g NodeProto)> {
        let &(index, _) = self.producer.get(tensor)?;
        Some((index, &self.graph.node[index]))
    }

    /// The nodes that take a tensor, themselves or in a subgraph.
    pub(crate) fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// Whether a tensor is one of the graph's outputs.
    pub(crate) fn is_output(&self, tensor: &str) -> bool {
        self.outputs.contains(tensor)
    }

    /// Whether a tensor of that name exists.
    pub(crate) fn knows(&self, tensor: &str) -> bool {
        self.producer.contains_key(tensor)
            || self.initializer.contains_key(tensor)
            || self.declared.contains_key(tensor)
            || self.consumers.contains_key(tensor)
    }

    /// The initializer of that name.
    pub(crate) fn initializer(&self, tensor: &str) -> Option<&'g TensorProto> {
        self.initializer.get(tensor).copied()
    }

    /// An initializer, or the value of a Constant node.
    pub(crate) fn constant(&self, tensor: &str) -> Option<&'g TensorProto> {
        if let Some(initializer) = self.initializer(tensor) {
            return Some(initializer);
        }
        let (_, node) = self.producer(tensor)?;
        node.attr("value").filter(|_| node.op_type() == "Constant")?.t.as_deref()
    }

    /// Whether a tensor is the same in every run: a constant or made of constants alone.
    pub(crate) fn is_constant(&self, tensor: &str) -> bool {
        let made_of_constants = |&(index, _): &Made| self.constant[index];
        self.initializer.contains_key(tensor) || self.producer.get(tensor).is_some_and(made_of_constants)
    }

    /// The two dimensions of a constant matrix, looked at through transposition and the like.
    pub(crate) fn matrix(&self, tensor: &str) -> Option<[usize; 2]> {
        let (mut tensor, mut swapped) = (tensor, false);
        for _ in 0..=CONSTANT_DEPTH_MAX {
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
        None
    }

    /// How many dimensions a tensor has.
    pub(crate) fn rank(&self, tensor: &str) -> Option<usize> {
        self.answer(&self.ranks, tensor, |tensor, made| {
            if let Some(dims) = self.declared.get(tensor).and_then(|value| value.dims()) {
                return Some(Step::Answer(Some(dims.len())));
            }
            if let Some(constant) = self.constant(tensor) {
                return Some(Step::Answer(Some(constant.dims.len())));
            }
            let node = self.in_order(made?)?;
            // The rows of an embedding table, one for each token.
            Some(if node.op_type().starts_with("Gather") && self.is_constant(node.input.first()?) {
                Step::Of(node.input.get(1)?, 1)
            } else if matches!(node.op_type(), "Transpose" | "Slice") {
                Step::Of(node.input.first()?, 0)
            } else {
                Step::Of(self.carrier(node)?, 0)
            })
        })
    }

    /// The size of a tensor's last dimension.
    pub(crate) fn width(&self, tensor: &str) -> Option<usize> {
        self.answer(&self.widths, tensor, |tensor, made| {
            let dims = self.declared.get(tensor).and_then(|value| value.dims());
            if let Some(width) = dims.and_then(<[_]>::last).and_then(onnx::Dimension::fixed) {
                return Some(Step::Answer(Some(width)));
            }
            if let Some(constant) = self.constant(tensor) {
                return Some(Step::Answer(positive(*constant.dims.last()?)));
            }
            let made = made?;
            let node = self.in_order(made)?;
            if let Some([_, width]) = self.product(node) {
                return Some(Step::Answer(Some(width)));
            }
            if node.op_type() == "Split" {
                return Some(Step::Answer(self.split_width(node, made.1)));
            }
            let vectors = node.input.iter().take(INPUTS_MAX).filter_map(|input| self.constant(input));
            let mut widths = vectors.filter_map(|vector| match *vector.dims.as_slice() {
                [width] if width > 1 => usize::try_from(width).ok(),
                _ => None,
            });
            Some(match widths.next() {
                Some(width) => Step::Answer(Some(width)),
                None => Step::Of(self.carrier(node)?, 0),
            })
        })
    }

    /// The width of a Split's output, where it splits the last dimension by sizes that are constant.
    fn split_width(&self, node: &NodeProto, place: usize) -> Option<usize> {
        let input = node.input.first()?;
        let axis = node.int("axis").unwrap_or(0);
        if axis != -1 && usize::try_from(axis).ok()?.checked_add(1)? != self.rank(input)? {
            return None;
        }
        positive(*integers(self.constant(node.input.get(1)?)?)?.get(place)?)
    }

    /// A tensor's element type, as the schema numbers them.
    pub(crate) fn element_type(&self, tensor: &str) -> Option<i32> {
        let number = |elem_type: i32| Step::Answer(usize::try_from(elem_type).ok());
        let found = self.answer(&self.element_types, tensor, |tensor, made| {
            let declared = self.declared.get(tensor).and_then(|value| value.tensor_type());
            if let Some(elem_type) = declared.and_then(|tensor| tensor.elem_type) {
                return Some(number(elem_type));
            }
            if let Some(constant) = self.constant(tensor) {
                return constant.data_type.map(number);
            }
            let node = self.in_order(made?)?;
            let carrier = match node.op_type() {
                "Cast" => return i32::try_from(node.int("to")?).ok().map(number),
                "DequantizeLinear" => 1,
                "GatherBlockQuantized" => 2,
                "Gather" | "Reshape" | "Transpose" | "Slice" | "Squeeze" | "Unsqueeze" | "Expand" => 0,
                _ => return Some(Step::Of(self.carrier(node)?, 0)),
            };
            Some(Step::Of(node.input.get(carrier)?, 0))
        });
        i32::try_from(found?).ok()
    }

    /// Walks back from a tensor by `step`, which is given the tensor and where it is made, to the first
    /// answer, and remembers that for all tensors on the way.
    fn answer<'t>(
        &'t self,
        answers: &Answers,
        tensor: &'t str,
        step: impl Fn(&'t str, Option<Made>) -> Option<Step<'t>>,
    ) -> Option<usize> {
        let (mut tensor, mut way) = (tensor, Vec::new());
        let mut answer = loop {
            let made = self.producer.get(tensor).copied();
            if let Some(&known) = made.and_then(|made| answers.borrow().get(&made).copied()).as_ref() {
                break known;
            }
            match step(tensor, made).unwrap_or(Step::Answer(None)) {
                Step::Answer(answer) => {
                    way.extend(made.map(|made| (made, 0)));
                    break answer;
                }
                Step::Of(next, more) => {
                    way.extend(made.map(|made| (made, more)));
                    tensor = next;
                }
            }
        };
        let mut answers = answers.borrow_mut();
        for (made, more) in way.into_iter().rev() {
            answer = answer.map(|answer| answer + more);
            answers.insert(made, answer);
        }
        answer
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
        let carrier = match node.op_type() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => {
                node.input.iter().take(2).find(|input| !self.is_constant(input))?
            }
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
        let &made = self.producer.get(tensor)?;
        Some((made.0, self.in_order(made)?))
    }

    fn in_order(&self, (index, _): Made) -> Option<&'g NodeProto> {
        self.in_order[index].then(|| &self.graph.node[index])
    }
}

/// Calls `visit` with what a node takes, its subgraphs' reach for outer tensors included.
pub(crate) fn each_input<'g>(node: &'g NodeProto, visit: &mut dyn FnMut(&'g str)) {
    node.input.iter().for_each(|input| visit(input));
    for attribute in &node.attribute {
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            graph.node.iter().for_each(|node| each_input(node, visit));
            graph.output.iter().for_each(|output| visit(output.name()));
        }
    }
}

/// A size, where it is one.
fn positive(size: i64) -> Option<usize> {
    usize::try_from(size).ok().filter(|&size| size > 0)
}

/// The integers of a constant that is a short list.
pub(crate) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    let too_long = tensor.raw_data().len() > INTEGERS_MAX * size_of::<i64>() || tensor.int64_data.len() > INTEGERS_MAX;
    if tensor.data_type() != onnx::INT64 || too_long {
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
