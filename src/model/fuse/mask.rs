//! Whether a mask hides only later tokens and those that the input `attention_mask` hides, which is
//! what GroupQueryAttention hides. Read from the graph, as a window longer than every prompt of a
//! numeric check would not show in numbers.

use std::collections::HashSet;

use super::{
    scalar::scalar,
    walk::{LAYOUT, made_by, source},
};
use crate::model::{onnx::NodeProto, view::View};

/// Operators of a mask that compare no positions. Of those of the first list only the first input is
/// part of the mask: the others are shapes and places.
const SHAPED: &[&str] =
    &["Cast", "Identity", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Tile"];
const COMBINED: &[&str] =
    &["And", "Or", "Not", "Where", "Add", "Sub", "Mul", "Neg", "Equal", "Gather", "GatherND", "Concat", "ScatterND"];
const MADE: &[&str] = &["Constant", "ConstantOfShape", "Shape", "Range", "Size"];
const ORDER: &[&str] = &["Less", "LessOrEqual", "Greater", "GreaterOrEqual"];

/// A mask of more nodes is not looked through: those of exporters have some hundred, and each layer may have its own.
const NODES_MAX: usize = 4096;

/// `None` for such a mask, otherwise what else it has.
pub(super) fn more_than_causal<'g>(view: &View<'g>, mask: &'g str) -> Option<String> {
    let mut seen = HashSet::new();
    let mut open = vec![mask];
    let (mut orders, mut triangles) = (0, 0);
    while let Some(tensor) = open.pop() {
        let Some((index, node)) = made_by(view, tensor).filter(|_| view.constant(tensor).is_none()) else {
            continue;
        };
        if !seen.insert(index) {
            continue;
        }
        if seen.len() > NODES_MAX {
            return Some(format!("more than {NODES_MAX} nodes"));
        }
        let operator = node.op_type();
        if SHAPED.contains(&operator) {
            open.extend(node.input.first().map(String::as_str));
        } else if COMBINED.contains(&operator) {
            open.extend(node.input.iter().map(String::as_str));
        } else if ORDER.contains(&operator) {
            orders += 1;
            if let Some(operator) = node.input.iter().find_map(|side| distance(view, side)) {
                return Some(format!("a comparison with a distance (`{operator}`)"));
            }
        } else if operator == "Trilu" {
            triangles += 1;
            if !cuts_at_the_diagonal(view, node) {
                return Some("a `Trilu` off the diagonal".into());
            }
        } else if !MADE.contains(&operator) {
            return Some(format!("`{operator}`"));
        }
    }
    match (orders, triangles) {
        (0, 0) => Some("no comparison of positions".into()),
        (0 | 1, 0 | 1) => None,
        _ => Some(format!("{} comparisons of positions", orders + triangles)),
    }
}

/// The operator that makes one side of a comparison a distance rather than a position.
fn distance<'g>(view: &View<'g>, side: &'g str) -> Option<&'g str> {
    let side = source(view, side, LAYOUT);
    if view.is_constant(side) {
        return Some("Constant");
    }
    let (_, node) = made_by(view, side)?;
    let far = || node.input.iter().any(|input| scalar(view, input).is_some_and(|number| number.abs() > 1.0));
    match node.op_type() {
        "Sub" | "Abs" | "Mul" | "Div" | "Mod" => Some(node.op_type()),
        "Add" if far() => Some(node.op_type()),
        _ => None,
    }
}

fn cuts_at_the_diagonal(view: &View<'_>, trilu: &NodeProto) -> bool {
    match trilu.input.get(1).filter(|input| !input.is_empty()) {
        Some(diagonal) => scalar(view, diagonal).is_none_or(|diagonal| diagonal.abs() <= 1.0),
        None => true,
    }
}
