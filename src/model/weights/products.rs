//! The projections of a graph: nodes that multiply what flows by a constant matrix.
//!
//! Found by what they are, not by name: a MatMul whose second input is a constant matrix, seen
//! through Transpose, Cast and Identity, or a MatMulNBits. A bias that is added right behind belongs
//! to its product.

use crate::model::{
    onnx::{self, NodeProto, TensorProto},
    view::{CONSTANT_DEPTH_MAX, View},
};

/// One projection: `output = input [.., k] x weights [k, n] (+ bias [n])`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Product {
    /// Index of the node.
    pub(crate) node: usize,
    /// The tensor that is multiplied.
    pub(crate) input: String,
    /// What the node itself gives.
    pub(crate) output: String,
    /// Numbers of a row of the input.
    pub(crate) k: usize,
    /// Numbers of a row of the output.
    pub(crate) n: usize,
    /// The matrix.
    pub(crate) weights: Storage,
    /// What is added before anybody takes the product.
    pub(crate) bias: Option<Bias>,
}

/// A vector that is added to a product and to nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bias {
    /// Index of the Add.
    pub(crate) node: usize,
    /// The constant, `[n]`.
    pub(crate) tensor: String,
    /// The sum.
    pub(crate) output: String,
}

/// How a matrix is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Storage {
    /// As it is.
    Dense(Matrix),
    /// In blocks of few bits.
    Blocks(Blocks),
}

/// A constant of floats with two dimensions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    /// The constant's name.
    pub(crate) tensor: String,
    /// Whether it is stored as `[n, k]`.
    pub(crate) swapped: bool,
    /// Whether its product is one of f16.
    pub(crate) half: bool,
}

/// The weights of a MatMulNBits, see its page in ONNX Runtime's `ContribOperators.md`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Blocks {
    /// Bits of a number: 2, 4 or 8.
    pub(crate) bits: i64,
    /// Neighbouring inputs of an output that share a scale.
    pub(crate) block_size: i64,
    /// What activations are rounded to, 4 being 8 bits; `None`: to nothing.
    pub(crate) accuracy_level: Option<i64>,
    /// `[n, blocks of k, bytes of a block]`, with `n` first in each.
    pub(crate) values: String,
    /// The scales' name, `[n, blocks of k]`.
    pub(crate) scales: String,
    /// The zero points' name; `None`: the middle of the range.
    pub(crate) zero_points: Option<String>,
}

impl Product {
    /// The tensor that the rest of the graph takes: with the bias, where there is one.
    pub(crate) fn result(&self) -> &str {
        self.bias.as_ref().map_or(&self.output, |bias| &bias.output)
    }
}

impl Storage {
    /// The matrix where it is stored as it is.
    pub(crate) fn dense(&self) -> Option<&Matrix> {
        match self {
            Self::Dense(matrix) => Some(matrix),
            Self::Blocks(_) => None,
        }
    }

    /// The matrix where it is in blocks.
    pub(crate) fn blocks(&self) -> Option<&Blocks> {
        match self {
            Self::Dense(_) => None,
            Self::Blocks(blocks) => Some(blocks),
        }
    }
}

/// Every projection, in the order of the nodes.
pub(crate) fn find(view: &View<'_>) -> Vec<Product> {
    let nodes = view.graph.node.iter().enumerate();
    nodes.filter_map(|(index, node)| product(view, index, node)).collect()
}

fn product(view: &View<'_>, index: usize, node: &NodeProto) -> Option<Product> {
    let (input, output) = (node.input.first()?, node.output.first()?);
    let [k, n] = view.product(node)?;
    let weights = match node.op_type() {
        "MatMul" if !view.is_constant(input) => Storage::Dense(matrix(view, node.input.get(1)?)?),
        "MatMulNBits" => Storage::Blocks(blocks(view, node)?),
        _ => return None,
    };
    let bias = bias(view, output, n);
    Some(Product { node: index, input: input.clone(), output: output.clone(), k, n, weights, bias })
}

/// The constant behind a tensor, seen through what does not change its numbers.
pub(crate) fn matrix(view: &View<'_>, tensor: &str) -> Option<Matrix> {
    let (mut tensor, mut swapped, mut cast) = (tensor, false, false);
    for _ in 0..=CONSTANT_DEPTH_MAX {
        if let Some(constant) = view.constant(tensor) {
            let fits = is_float(constant) && constant.dims.len() == 2;
            let half = constant.data_type() == onnx::FLOAT16 && !cast;
            return fits.then(|| Matrix { tensor: tensor.to_owned(), swapped, half });
        }
        let (_, node) = view.earlier(tensor)?;
        match node.op_type() {
            "Transpose" => {
                let order = node.attr("perm").map_or(&[1, 0][..], |perm| &perm.ints);
                swapped ^= order == [1, 0];
            }
            "Identity" => {}
            // A cast to fewer bits would be lost.
            "Cast" if node.int("to") == Some(i64::from(onnx::FLOAT)) => cast = true,
            _ => return None,
        }
        tensor = node.input.first()?;
    }
    None
}

fn blocks(view: &View<'_>, node: &NodeProto) -> Option<Blocks> {
    let tensor = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
    // Groups in another order and a bias inside the node are left as they are.
    if tensor(4).is_some() || tensor(5).is_some() {
        return None;
    }
    let constant = |index| tensor(index).filter(|name| view.constant(name).is_some()).cloned();
    let zero_points = constant(3);
    if tensor(3).is_some() != zero_points.is_some() {
        return None;
    }
    Some(Blocks {
        bits: node.int("bits").unwrap_or(4),
        block_size: node.int("block_size")?,
        accuracy_level: node.int("accuracy_level"),
        values: constant(1)?,
        scales: constant(2)?,
        zero_points,
    })
}

/// The Add of a constant vector that is the only user of a tensor.
fn bias(view: &View<'_>, output: &str, n: usize) -> Option<Bias> {
    let &[index] = view.consumers(output) else {
        return None;
    };
    let node = &view.graph.node[index];
    let [first, second] = node.input.as_slice() else {
        return None;
    };
    let tensor = if first == output { second } else { first };
    let constant = view.constant(tensor).filter(|_| node.op_type() == "Add" && !view.is_output(output))?;
    let fits = is_float(constant) && constant.dims.as_slice() == [i64::try_from(n).ok()?];
    fits.then(|| Bias { node: index, tensor: tensor.clone(), output: node.output[0].clone() })
}

fn is_float(tensor: &TensorProto) -> bool {
    matches!(tensor.data_type(), onnx::FLOAT | onnx::FLOAT16)
}
