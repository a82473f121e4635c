//! Root mean square norms (Zhang and Sennrich 2019) as exporters write them, made one operator.
//!
//! ```text
//! x -> Pow 2 -> ReduceMean -> Add eps -> Sqrt -> Reciprocal -+-> Mul -> Cast -> Mul weight
//!  \---------------------------------------------------------/
//! ```
//!
//! Casts may stand anywhere, the root's inverse may be a division. The operator computes in f32 whatever
//! its element type, as exporters do by these casts. Norms that look different stay as they are.

use super::{
    scalar::scalar,
    walk::{COPIES, STEPS_MAX, both_orders, float_type, integers, made_by, maker, source},
};
use crate::model::{
    build::{float, int, operator, with},
    contract::ElementType,
    onnx::{GraphProto, NodeProto},
    view::View,
};

/// Puts one operator for each norm that is understood; the nodes that made it up stay for
/// [`prune`](super::prune::prune). How many there were.
pub(super) fn fuse_norms(graph: &mut GraphProto) -> usize {
    let found: Vec<(usize, NodeProto)> = {
        let view = View::new(graph);
        graph.node.iter().enumerate().filter_map(|(index, node)| Some((index, norm(&view, node)?))).collect()
    };
    let count = found.len();
    for (index, norm) in found {
        graph.node[index] = norm;
    }
    count
}

/// The operator that takes the place of a norm's last node.
fn norm(view: &View<'_>, node: &NodeProto) -> Option<NodeProto> {
    let [output] = node.output.as_slice() else {
        return None;
    };
    let (input, weight, epsilon) = match node.op_type() {
        "Mul" => both_orders(node)?.into_iter().find_map(|(weight, x)| written_out(view, weight, x))?,
        "RMSNormalization" if node.int("axis").unwrap_or(-1) == -1 => {
            let [input, weight] = node.input.as_slice() else {
                return None;
            };
            let epsilon = node.attr("epsilon").and_then(|attribute| attribute.f).unwrap_or(1e-5);
            (input.as_str(), weight.as_str(), f64::from(epsilon))
        }
        _ => return None,
    };
    let input = of_type(view, input, float_type(view, weight)?)?;
    let norm = operator("SimplifiedLayerNormalization", &[input, weight], &[output]);
    Some(with(norm, vec![int("axis", -1), float("epsilon", epsilon as f32), int("stash_type", 1)]))
}

/// Input, weight and epsilon of a norm that ends in `weight * normed`.
fn written_out<'g>(view: &View<'g>, weight: &'g str, normed: &'g str) -> Option<(&'g str, &'g str, f64)> {
    if !view.is_constant(weight) || view.rank(weight)? != 1 {
        return None;
    }
    let (_, scaled) = maker(view, normed)?;
    let (x, root) = match scaled.op_type() {
        "Mul" => both_orders(scaled)?.into_iter().find_map(|(x, inverse)| Some((x, inverted(view, inverse)?)))?,
        "Div" => (scaled.input.first()?.as_str(), scaled.input.get(1)?.as_str()),
        _ => return None,
    };
    let (squares, epsilon) = mean_under_root(view, root)?;
    (source(view, squares, COPIES) == source(view, x, COPIES)).then_some((x, weight, epsilon))
}

/// What a tensor is one over.
fn inverted<'g>(view: &View<'g>, tensor: &'g str) -> Option<&'g str> {
    let (_, node) = maker(view, tensor)?;
    match (node.op_type(), node.input.as_slice()) {
        ("Reciprocal", [root]) => Some(root),
        ("Div", [one, root]) if scalar(view, one) == Some(1.0) => Some(root),
        _ => None,
    }
}

/// What is squared, and the epsilon, of `Sqrt(ReduceMean(x^2) + epsilon)` over the last dimension.
fn mean_under_root<'g>(view: &View<'g>, root: &'g str) -> Option<(&'g str, f64)> {
    let made = |tensor, op_type| maker(view, tensor).map(|(_, node)| node).filter(|node| node.op_type() == op_type);
    let sum = made(made(root, "Sqrt")?.input.first()?, "Add")?;
    let (mean, epsilon) =
        both_orders(sum)?.into_iter().find_map(|(mean, epsilon)| Some((mean, scalar(view, epsilon)?)))?;
    let mean = made(mean, "ReduceMean")?;
    let last = |axes: Vec<i64>| axes == [-1] || axes == [2];
    if mean.int("keepdims") == Some(0) || !integers(view, mean, "axes", 1).is_some_and(last) {
        return None;
    }
    let (_, square) = maker(view, mean.input.first()?)?;
    match (square.op_type(), square.input.as_slice()) {
        ("Pow", [x, two]) if scalar(view, two) == Some(2.0) => Some((x, epsilon)),
        ("Mul", [x, same]) if x == same => Some((x, epsilon)),
        _ => None,
    }
}

/// The first of a tensor and what it was cast from that has the type of the norm's weight: where f16
/// was cast to f32 for the norm alone, the operator takes the f16.
fn of_type<'g>(view: &View<'g>, tensor: &'g str, wanted: ElementType) -> Option<&'g str> {
    let copied = |tensor: &&'g str| {
        let (_, copy) = made_by(view, tensor).filter(|(_, node)| COPIES.contains(&node.op_type()))?;
        copy.input.first().map(String::as_str)
    };
    let sources = std::iter::successors(Some(tensor), copied).take(STEPS_MAX);
    sources.filter(|tensor| float_type(view, tensor) == Some(wanted)).last()
}
