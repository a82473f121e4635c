//! Whether a mask hides only later tokens, those that the input `attention_mask` hides and perhaps those further back
//! than a window, which is what GroupQueryAttention hides. Read from the graph, as a window longer than every prompt of
//! a numeric check would not show in numbers.

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

/// How many keys such a mask leaves a token at most, itself among them, `None` for all; otherwise what else it has.
pub(super) fn window<'g>(view: &View<'g>, mask: &'g str) -> Result<Option<usize>, String> {
    let mut seen = HashSet::new();
    let mut open = vec![mask];
    let (mut orders, mut triangles, mut windows) = (0, 0, Vec::new());
    while let Some(tensor) = open.pop() {
        let Some((index, node)) = made_by(view, tensor).filter(|_| view.constant(tensor).is_none()) else {
            continue;
        };
        if !seen.insert(index) {
            continue;
        }
        if seen.len() > NODES_MAX {
            return Err(format!("more than {NODES_MAX} nodes"));
        }
        let operator = node.op_type();
        if SHAPED.contains(&operator) {
            open.extend(node.input.first().map(String::as_str));
        } else if COMBINED.contains(&operator) {
            open.extend(node.input.iter().map(String::as_str));
        } else if ORDER.contains(&operator) {
            match node.input.iter().find_map(|side| distance(view, side)) {
                None => orders += 1,
                Some(operator) => {
                    let window = compared_window(view, node);
                    windows.push(window.ok_or_else(|| format!("a comparison with a distance (`{operator}`)"))?);
                }
            }
        } else if operator == "Trilu" {
            triangles += 1;
            if !cuts_at_the_diagonal(view, node) {
                return Err("a `Trilu` off the diagonal".into());
            }
        } else if !MADE.contains(&operator) {
            return Err(format!("`{operator}`"));
        }
    }
    match (orders, triangles, windows.as_slice()) {
        (0, 0, _) => Err("no comparison of positions".into()),
        (0 | 1, 0 | 1, []) => Ok(None),
        (0 | 1, 0 | 1, [window]) => Ok(Some(*window)),
        (_, _, windows) => Err(format!("{} comparisons of positions", orders + triangles + windows.len())),
    }
}

/// The window of a comparison of a key's position with that of a query less a constant: `key > query - n` leaves `n`
/// keys, `key >= query - n` one more. What shows and what hides are each other's opposite, so both tell the same.
fn compared_window(view: &View<'_>, node: &NodeProto) -> Option<usize> {
    let [first, second] = node.input.as_slice() else {
        return None;
    };
    let operator = node.op_type();
    let (distance, includes) = match (reach(view, first), reach(view, second)) {
        (None, Some(distance)) => (distance, matches!(operator, "GreaterOrEqual" | "Less")),
        (Some(distance), None) => (distance, matches!(operator, "LessOrEqual" | "Greater")),
        _ => return None,
    };
    distance.checked_add(usize::from(includes)).filter(|window| *window > 0)
}

/// What is taken off a query's position, a whole positive number.
fn reach(view: &View<'_>, side: &str) -> Option<usize> {
    let (_, node) = made_by(view, source(view, side, LAYOUT))?;
    let [position, constant] = node.input.as_slice() else {
        return None;
    };
    let number = match node.op_type() {
        "Sub" if !view.is_constant(position) => scalar(view, constant)?,
        "Add" => -scalar(view, constant).or_else(|| scalar(view, position))?,
        _ => return None,
    };
    // Positions are far below 2^53.
    (number >= 1.0 && number.fract() == 0.0 && number < 9e15).then_some(number as usize)
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
