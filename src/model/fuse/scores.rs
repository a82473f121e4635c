//! What a softmax is taken of: `scale * queries x keys + mask`, or `cap * tanh(scale * queries x keys / cap) + mask`.
//! The scale may be split over queries, keys and scores. Which heads of keys are repeated for which queries is not read
//! here; the numeric check of the rewritten graph would show.

use std::collections::HashSet;

use super::{
    scalar::scalar,
    walk::{LAYOUT, STEPS_MAX, both_orders, made_by, source},
    weighing::Unknown,
};
use crate::model::{onnx::NodeProto, view::View};

/// How many nodes may stand before a softmax, its mask's among them, and how many of a node's inputs are looked at.
const SEEN_MAX: usize = 256;
const INPUTS_MAX: usize = 8;

/// What stands before a softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scores<'g> {
    /// Queries, [batch, heads, seq, head_dim], before any scale.
    pub(super) queries: &'g str,
    /// Keys as they are cached, [batch, kv_heads, past + seq, head_dim].
    pub(super) keys: &'g str,
    /// The product of all scales.
    pub(super) scale: f64,
    /// What scaled products are kept below by a hyperbolic tangent.
    pub(super) softcap: Option<f64>,
    /// What is added, or decides which scores count.
    pub(super) mask: Option<&'g str>,
}

/// The cached keys that a softmax is taken over, if it is one over keys.
pub(super) fn keys_of<'g>(view: &View<'g>, softmax: &'g NodeProto) -> Option<&'g str> {
    let product = product_before(view, softmax.input.first()?)?;
    let (keys, _) = unscaled(view, product.input.get(1)?).ok()?;
    Some(keys)
}

/// The product of queries and keys somewhere before `tensor`, whatever else is done to it.
fn product_before<'g>(view: &View<'g>, tensor: &'g str) -> Option<&'g NodeProto> {
    let (mut seen, mut open) = (HashSet::new(), vec![tensor]);
    while let Some(tensor) = open.pop().filter(|_| seen.len() < SEEN_MAX) {
        let Some((_, node)) = made_by(view, tensor).filter(|(index, _)| seen.insert(*index)) else {
            continue;
        };
        match node.op_type() {
            "MatMul" if node.input.iter().all(|input| !view.is_constant(input)) => return Some(node),
            // The first input first.
            "Add" | "Mul" | "Div" | "Sub" | "Where" | "Cast" | "Identity" | "Tanh" | "Clip" | "Max" | "Min" => {
                open.extend(node.input.iter().take(INPUTS_MAX).rev().map(String::as_str));
            }
            _ => {}
        }
    }
    None
}

impl<'g> Scores<'g> {
    /// Reads what a softmax is taken of.
    pub(super) fn before(view: &View<'g>, softmax: &'g NodeProto) -> Result<Self, Unknown<'g>> {
        let mut scale = 1.0;
        let (mut mask, mut softcap) = (None, None);
        let mut tensor = softmax.input.first().ok_or(Unknown::Operator("Softmax"))?.as_str();
        for _ in 0..STEPS_MAX {
            let (_, node) = made_by(view, tensor).ok_or(Unknown::Operator("an input"))?;
            let inputs: Vec<&'g str> = node.input.iter().map(String::as_str).collect();
            match (node.op_type(), inputs.as_slice()) {
                ("MatMul", &[queries, keys]) => {
                    let (queries, of_queries) = unscaled(view, queries)?;
                    let (keys, of_keys) = unscaled(view, keys)?;
                    return Ok(Self { queries, keys, scale: scale * of_queries * of_keys, softcap, mask });
                }
                ("Mul" | "Div", _) => {
                    let (rest, factor) = scaled(view, node).ok_or(Unknown::Scale)?;
                    (tensor, scale) = (rest, scale * factor);
                }
                ("Add" | "Where", _) if mask.is_none() => {
                    let (rest, hides) = masked(view, node).ok_or(Unknown::Operator(node.op_type()))?;
                    (tensor, mask) = (rest, Some(hides));
                }
                // What multiplies the tangent is the cap; what is multiplied before it is divided by that.
                ("Tanh", &[input]) if softcap.is_none() && scale > 0.0 => (tensor, softcap) = (input, Some(scale)),
                ("Cast" | "Identity", &[input]) => tensor = input,
                _ => return Err(Unknown::Operator(node.op_type())),
            }
        }
        Err(Unknown::Operator("a long way"))
    }
}

/// A tensor without its constant factors, copies and repetitions, and the product of the factors.
fn unscaled<'g>(view: &View<'g>, tensor: &'g str) -> Result<(&'g str, f64), Unknown<'g>> {
    let mut scale = 1.0;
    let mut tensor = source(view, tensor, LAYOUT);
    for _ in 0..STEPS_MAX {
        let made = made_by(view, tensor).filter(|(_, node)| matches!(node.op_type(), "Mul" | "Div"));
        let Some((_, node)) = made else {
            return Ok((tensor, scale));
        };
        let (rest, factor) = scaled(view, node).ok_or(Unknown::Scale)?;
        (tensor, scale) = (source(view, rest, LAYOUT), scale * factor);
    }
    Err(Unknown::Scale)
}

/// What a node multiplies by a constant or divides by one, and the factor.
fn scaled<'g>(view: &View<'g>, node: &'g NodeProto) -> Option<(&'g str, f64)> {
    let [[a, b], _] = both_orders(node)?.map(|(a, b)| [a, b]);
    match node.op_type() {
        "Div" => Some((a, scalar(view, b)?.recip())),
        _ => match scalar(view, b) {
            Some(factor) => Some((a, factor)),
            None => Some((b, scalar(view, a)?)),
        },
    }
}

/// The scores and the mask of a node that hides some of them.
fn masked<'g>(view: &View<'g>, node: &'g NodeProto) -> Option<(&'g str, &'g str)> {
    let are_scores = |tensor: &'g str| product_before(view, tensor).is_some();
    match node.input.as_slice() {
        [condition, a, b] => match (are_scores(a), are_scores(b)) {
            (true, false) if view.is_constant(b) => Some((a, condition)),
            (false, true) if view.is_constant(a) => Some((b, condition)),
            _ => None,
        },
        [a, b] => match (are_scores(a), are_scores(b)) {
            (true, false) => Some((a, b)),
            (false, true) => Some((b, a)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{build::operator, onnx::GraphProto};

    #[test]
    fn however_many_ways_lead_back_from_a_softmax_each_is_gone_once() {
        let name = |index: usize| format!("s{index}");
        let sum = |index: usize| operator("Add", &[&name(index), &name(index)], &[&name(index + 1)]);
        for (length, found) in [(100, true), (100_000, false)] {
            let mut node = vec![operator("MatMul", &["queries", "keys"], &[&name(0)])];
            node.extend((0..length).map(sum));
            node.push(operator("Softmax", &[&name(length)], &["weights"]));
            let graph = GraphProto { node, ..GraphProto::default() };
            let keys = keys_of(&View::new(&graph), &graph.node[length + 1]);
            assert_eq!(keys, found.then_some("keys"), "{length} sums");
        }
    }
}
