//! The LM head: the projection behind `logits`, and the hidden states that feed it.
//!
//! Found by walking back from `logits` through what acts on each row alone (casts, biases, scales,
//! soft caps, a flattening) to the product with a constant matrix, and from there back through what
//! only picks or flattens rows to a tensor of [batch, seq, hidden]. This file finds; `overlay.rs` edits.

use std::collections::HashSet;

use super::{
    contract::{LmHeadFacts, element_type},
    onnx::NodeProto,
    view::{View, integers},
};

/// Where the graph is cut.
#[derive(Debug, PartialEq)]
pub(crate) struct LmHeadPlan {
    /// The hidden states, [batch, seq, hidden].
    pub(crate) hidden_states: String,
    pub(crate) facts: LmHeadFacts,
    /// Index of the product with the constant matrix.
    pub(crate) projection: usize,
    /// Index of the node that takes the picked rows as its first input.
    pub(crate) entry: usize,
    /// Indices of nodes that give `logits` its batch and sequence back, or pick rows of it; they become the
    /// identity.
    pub(crate) unflatten: Vec<usize>,
    /// Tensors from the entry to `logits`, whose shapes change.
    pub(crate) stale: HashSet<String>,
}

/// Why a graph has no LM head that can be cut. It still steps, but cannot embed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoLmHead {
    /// The walk met an operator that it does not look through.
    #[error("`logits` comes from `{operator}`, not from a projection of hidden states")]
    Operator {
        /// Its type, or `an input` where the walk left the graph.
        operator: String,
    },
    /// What feeds the projection is not known to be [batch, seq, hidden].
    #[error("what feeds the projection, `{tensor}`, is not known to be [batch, seq, hidden]")]
    Shape {
        /// Its name.
        tensor: String,
    },
    /// What feeds the projection is neither f32 nor f16.
    #[error("what feeds the projection, `{tensor}`, is neither f32 nor f16")]
    ElementType {
        /// Its name.
        tensor: String,
    },
    /// A tensor behind the projection is used for something else, too.
    #[error("`{tensor}`, behind the projection, is used for something else, too")]
    Shared {
        /// Its name.
        tensor: String,
    },
    /// The names that the overlay adds are taken.
    #[error("the graph already has tensors named `{name}`")]
    NameTaken {
        /// The name.
        name: &'static str,
    },
}

/// Finds the LM head of a graph.
pub(crate) fn find(view: &View<'_>) -> Result<LmHeadPlan, NoLmHead> {
    let mut walk = Walk { view, path: HashSet::new(), unflatten: Vec::new() };
    let projection = walk.back_to_projection()?;
    let (entry, hidden) = walk.entry(projection)?;
    let stale = walk.stale()?;
    let rows = &view.graph.node[entry].input[0];
    let keeps_rank = |&index: &usize| view.graph.node[index].op_type() == "Slice";
    let hidden_states = rows_of(view, rows, hidden, !walk.unflatten.iter().all(keeps_rank))?;
    let elem_type = view.element_type(hidden_states).or_else(|| weights_type(view, projection));
    let Some(hidden_type) = elem_type.and_then(element_type) else {
        return Err(NoLmHead::ElementType { tensor: hidden_states.into() });
    };
    Ok(LmHeadPlan {
        hidden_states: hidden_states.into(),
        facts: LmHeadFacts { hidden, hidden_type },
        projection,
        entry,
        unflatten: walk.unflatten,
        stale,
    })
}

/// The way back from `logits`.
struct Walk<'v, 'g> {
    view: &'v View<'g>,
    /// Nodes from the projection to `logits`.
    path: HashSet<usize>,
    unflatten: Vec<usize>,
}

impl<'g> Walk<'_, 'g> {
    /// The index of the projection.
    fn back_to_projection(&mut self) -> Result<usize, NoLmHead> {
        let mut tensor = "logits";
        loop {
            let (index, node) = self.step(tensor)?;
            tensor = match node.op_type() {
                "Cast" | "Identity" | "Tanh" => &node.input[0],
                "Reshape" => {
                    self.unflatten.push(index);
                    &node.input[0]
                }
                // Rows may be picked behind the projection, too.
                "Slice" | "Gather" if picks_rows(self.view, node) => {
                    self.unflatten.push(index);
                    &node.input[0]
                }
                "Add" | "Sub" | "Mul" | "Div" => self.operand(node)?,
                _ if self.view.product(node).is_some() => return Ok(index),
                operator => {
                    return Err(NoLmHead::Operator { operator: operator.into() });
                }
            };
        }
    }

    /// The node behind a tensor, now part of the path.
    fn step(&mut self, tensor: &str) -> Result<(usize, &'g NodeProto), NoLmHead> {
        let found = self.view.producer(tensor).filter(|(_, node)| !node.input.is_empty());
        let (index, node) = found.ok_or_else(|| NoLmHead::Operator { operator: "an input".into() })?;
        if !self.path.insert(index) {
            return Err(NoLmHead::Operator { operator: node.op_type().into() }); // a cycle
        }
        Ok((index, node))
    }

    /// The operand that carries the rows, where the other acts on each row alike: a scalar, a vector,
    /// or the scale that an integer product is multiplied with.
    fn operand(&mut self, node: &'g NodeProto) -> Result<&'g str, NoLmHead> {
        let operator = || NoLmHead::Operator { operator: node.op_type().into() };
        let [first, second] = node.input.as_slice() else {
            return Err(operator());
        };
        let flat = |tensor: &str| self.view.is_constant(tensor) && self.view.rank(tensor).is_some_and(|rank| rank <= 1);
        if flat(second) {
            return Ok(first);
        }
        if flat(first) && matches!(node.op_type(), "Add" | "Mul") {
            return Ok(second);
        }
        if node.op_type() != "Mul" {
            return Err(operator());
        }
        for (rows, scale) in [(first, second), (second, first)] {
            if self.scales_rows(rows, scale) {
                if let Some((index, _)) = self.view.producer(scale).filter(|(_, node)| node.op_type() == "Mul") {
                    self.path.insert(index);
                }
                return Ok(rows);
            }
        }
        Err(operator())
    }

    /// Whether `scale` is that of the dynamically quantised input of the integer product behind `rows`,
    /// possibly times a constant.
    fn scales_rows(&self, rows: &str, scale: &str) -> bool {
        let behind = |tensor: &str, operator: &str| {
            let (_, node) = self.view.producer(tensor)?;
            (node.op_type() == operator).then_some(node)
        };
        let product = behind(rows, "Cast").and_then(|cast| behind(cast.input.first()?, "MatMulInteger"));
        let quantized = product.and_then(|product| self.view.producer(product.input.first()?));
        let activation_scale = match behind(scale, "Mul") {
            Some(times) => times.input.iter().find(|input| !self.view.is_constant(input)),
            None => None,
        };
        let activation_scale = activation_scale.map_or(scale, String::as_str);
        let scaled = self.view.producer(activation_scale);
        match (quantized, scaled) {
            (Some((quantized, node)), Some((scaled, _))) => {
                quantized == scaled && node.op_type() == "DynamicQuantizeLinear"
            }
            _ => false,
        }
    }

    /// The node that takes the rows, and their width: the projection, or what quantises its input.
    fn entry(&mut self, projection: usize) -> Result<(usize, usize), NoLmHead> {
        let node = &self.view.graph.node[projection];
        let [hidden, _] = self.view.product(node).unwrap_or_default();
        if !node.op_type().starts_with("MatMulInteger") {
            return Ok((projection, hidden));
        }
        let (index, quantize) = self.step(&node.input[0])?;
        match quantize.op_type() {
            "DynamicQuantizeLinear" => Ok((index, hidden)),
            operator => Err(NoLmHead::Operator { operator: operator.into() }),
        }
    }

    /// What the nodes of the path make; none of it may be used outside.
    fn stale(&self) -> Result<HashSet<String>, NoLmHead> {
        let mut stale = HashSet::new();
        for &index in &self.path {
            for tensor in self.view.graph.node[index].output.iter().filter(|name| !name.is_empty()) {
                let inside = self.view.consumers(tensor).iter().all(|user| self.path.contains(user));
                if !inside || (self.view.is_output(tensor) && tensor != "logits") {
                    return Err(NoLmHead::Shared { tensor: tensor.clone() });
                }
                stale.insert(tensor.clone());
            }
        }
        Ok(stale)
    }
}

/// The tensor of [batch, seq, hidden] that `tensor` is, flattens, or picks rows of: the nearest one
/// of three dimensions, and none from which rows were picked before.
fn rows_of<'g>(view: &View<'g>, tensor: &'g str, hidden: usize, flattened: bool) -> Result<&'g str, NoLmHead> {
    let wide = |rows: &str| view.width(rows).is_none_or(|width| width == hidden);
    // Without a flattening around the product, its input has the rank of `logits`.
    let implied = !flattened && view.rank("logits") == Some(3) && !gives_one_row(view);
    let mut rows = tensor;
    let mut whole = (view.rank(rows).map_or(implied, |rank| rank == 3)).then_some(rows);
    while let Some((_, node)) = view.earlier(rows) {
        let Some(input) = node.input.first() else {
            break;
        };
        match node.op_type() {
            "Gather" | "Slice" if picks_rows(view, node) => whole = None,
            "Slice" if slices_nothing(view, node) => {}
            "Reshape" | "Squeeze" | "Unsqueeze" => {}
            _ => break,
        }
        rows = input;
        if whole.is_none() && view.rank(rows) == Some(3) {
            whole = Some(rows);
        }
    }
    whole.filter(|rows| wide(rows)).ok_or_else(|| NoLmHead::Shape { tensor: tensor.into() })
}

/// Whether the graph says that `logits` has a single row for each sequence: rows were picked.
fn gives_one_row(view: &View<'_>) -> bool {
    let logits = view.graph.output.iter().find(|output| output.name() == "logits");
    let sequence = logits.and_then(|logits| logits.dims()?.get(1)?.fixed());
    sequence == Some(1)
}

/// Whether a node picks rows along the sequence and does nothing else.
fn picks_rows(view: &View<'_>, node: &NodeProto) -> bool {
    match node.op_type() {
        "Gather" => matches!(node.int("axis"), Some(1 | -2)),
        _ => numbers(view, node, "axes", 3).is_some_and(|axes| axes == [1] || axes == [-2]),
    }
}

/// Whether a Slice takes everything, as exporters write `[:]`.
fn slices_nothing(view: &View<'_>, node: &NodeProto) -> bool {
    let all = |attribute, input, taken: fn(i64) -> bool| {
        numbers(view, node, attribute, input).is_some_and(|numbers| numbers.into_iter().all(taken))
    };
    let step = node.input.get(4).is_none_or(|steps| steps.is_empty()) || all("", 4, |step| step == 1);
    step && all("starts", 1, |start| start == 0) && all("ends", 2, |end| end >= i64::from(i32::MAX))
}

/// Constant integers of a node: an attribute, or an input where newer operator sets have it.
fn numbers(view: &View<'_>, node: &NodeProto, attribute: &str, input: usize) -> Option<Vec<i64>> {
    match node.attr(attribute) {
        Some(attribute) => Some(attribute.ints.clone()),
        None => node.input.get(input).and_then(|numbers| view.constant(numbers)).and_then(integers),
    }
}

/// The element type of a projection's weights or their scales, which its input shares.
fn weights_type(view: &View<'_>, projection: usize) -> Option<i32> {
    let node = &view.graph.node[projection];
    let input = match node.op_type() {
        "MatMulNBits" | "MatMulBnb4" | "DynamicQuantizeMatMul" => 2,
        "MatMul" | "Gemm" | "FusedMatMul" => 1,
        _ => return Some(super::onnx::FLOAT), // what is quantised dynamically was f32
    };
    view.element_type(node.input.get(input)?)
}
