//! Steps from a tensor back to what it is made from, over nodes that change no numbers.

use crate::model::{
    contract::{ElementType, element_type},
    onnx::NodeProto,
    view::{self, View},
};

/// Nodes that change at most the element type.
pub(super) const COPIES: &[&str] = &["Cast", "Identity", "Dropout"];
/// Nodes that change at most the element type, the shape or the order, or repeat.
pub(super) const LAYOUT: &[&str] =
    &["Cast", "Identity", "Reshape", "Expand", "Unsqueeze", "Squeeze", "Flatten", "Transpose"];

/// How many of them any walk passes: exporters write a handful in a row.
pub(super) const STEPS_MAX: usize = 32;

/// The node that makes a tensor, and its index, if its operator is of the standard domain.
pub(super) fn made_by<'g>(view: &View<'g>, tensor: &str) -> Option<(usize, &'g NodeProto)> {
    view.earlier(tensor).filter(|(_, node)| node.domain().is_empty() || node.domain() == "ai.onnx")
}

/// The tensor that `tensor` is made from over nodes of these operators alone, by their first inputs.
pub(super) fn source<'g>(view: &View<'g>, tensor: &'g str, over: &[&str]) -> &'g str {
    let before = |tensor: &&'g str| {
        let (_, node) = made_by(view, tensor).filter(|(_, node)| over.contains(&node.op_type()))?;
        node.input.first().map(String::as_str)
    };
    std::iter::successors(Some(tensor), before).take(STEPS_MAX).last().unwrap_or(tensor)
}

/// The node that makes what `tensor` is a copy of, and its index.
pub(super) fn maker<'g>(view: &View<'g>, tensor: &'g str) -> Option<(usize, &'g NodeProto)> {
    made_by(view, source(view, tensor, COPIES))
}

/// The two inputs of a node, in both orders.
pub(super) fn both_orders(node: &NodeProto) -> Option<[(&str, &str); 2]> {
    let [a, b] = node.input.as_slice() else {
        return None;
    };
    Some([(a, b), (b, a)])
}

/// Constant integers, a node's attribute or an input that older or newer operator sets use instead.
pub(super) fn integers(view: &View<'_>, node: &NodeProto, attribute: &str, input: usize) -> Option<Vec<i64>> {
    if let Some(attribute) = node.attr(attribute) {
        return Some(attribute.ints.clone());
    }
    constant_integers(view, node.input.get(input)?)
}

/// The integers of a constant.
pub(super) fn constant_integers(view: &View<'_>, tensor: &str) -> Option<Vec<i64>> {
    match view.constant(tensor) {
        Some(constant) => view::integers(constant),
        None => Some(made_by(view, tensor)?.1.attr("value_ints")?.ints.clone()),
    }
}

/// The element type of a product with constant weights, which is theirs: `tensor` is one, perhaps with a constant
/// vector added, and split into heads.
pub(super) fn product_type(view: &View<'_>, tensor: &str) -> Option<ElementType> {
    let before_layout = |tensor| source(view, tensor, &["Identity", "Reshape", "Transpose"]);
    let (_, mut node) = made_by(view, before_layout(tensor))?;
    if node.op_type() == "Add" {
        let sum = node.input.iter().find(|input| !view.is_constant(input))?;
        (_, node) = made_by(view, before_layout(sum))?;
    }
    let weights = node.input.get(1).filter(|_| matches!(node.op_type(), "MatMul" | "Gemm"))?;
    view.constant(weights).and_then(|_| float_type(view, weights))
}

/// A tensor's element type, where it is one of the two.
pub(super) fn float_type(view: &View<'_>, tensor: &str) -> Option<ElementType> {
    element_type(view.element_type(tensor)?)
}
