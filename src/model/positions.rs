//! Tables of positions in a graph: learned embeddings of positions (GPT-2, OPT), or the cosines and sines of a
//! rotary embedding that a plain export looks up. Behind their last row the runtime refuses to run, so that they
//! bound the context.
//!
//! Found by what looks them up: a Gather (GPT-J: a GatherElements) of rows of a constant by numbers that grow by one with each token, that is
//! `position_ids`, a Range, or the sum of the mask so far, perhaps moved by a constant (OPT's two rows that stand for
//! no position).

use super::{
    onnx::NodeProto,
    view::{CONSTANT_DEPTH_MAX, View, integers},
};

/// How many nodes are looked at between a lookup and the positions it is by.
const NODES_MAX: usize = 64;

/// How many tokens all such tables have a row for; `None` where there is no table.
pub(crate) fn of_tables(view: &View<'_>) -> Option<usize> {
    view.graph.node.iter().filter_map(|node| positions_of(view, node)).min()
}

/// The positions that a lookup has rows for, where it is one by positions.
fn positions_of(view: &View<'_>, lookup: &NodeProto) -> Option<usize> {
    let [table, places] = lookup.input.as_slice() else {
        return None;
    };
    let of_rows = match (lookup.op_type(), lookup.int("axis").unwrap_or(0)) {
        ("Gather", axis) => axis == 0,
        // Each row of the batch has the whole table.
        ("GatherElements", axis) => axis == 1,
        _ => return None,
    };
    let rows = rows_of(view, table, of_rows)?;
    let first = Walk { view, left: NODES_MAX }.first_place(places)?;
    usize::try_from(rows.checked_sub(first.max(0))?).ok().filter(|&positions| positions > 0)
}

/// How many rows a constant table has, seen through what cuts or repeats it.
fn rows_of(view: &View<'_>, table: &str, of_rows: bool) -> Option<i64> {
    let mut table = table;
    for _ in 0..=CONSTANT_DEPTH_MAX {
        if let Some(constant) = view.constant(table) {
            return match constant.dims.as_slice() {
                [rows, width] if of_rows && *width > 1 => Some(*rows),
                // Tables of cosines were once kept as [1, 1, positions, width].
                [1, 1, rows, width] if *width > 1 => Some(*rows),
                _ => None,
            };
        }
        let (_, node) = view.earlier(table)?;
        match node.op_type() {
            "Cast" | "Identity" | "Slice" | "Squeeze" | "Reshape" | "Expand" | "Tile" | "DequantizeLinear" => {
                table = node.input.first()?;
            }
            _ => return None,
        }
    }
    None
}

struct Walk<'v, 'g> {
    view: &'v View<'g>,
    /// Nodes that may still be looked at.
    left: usize,
}

impl Walk<'_, '_> {
    /// What a tensor of positions holds for the first token of a context; `None` where it is none.
    fn first_place(&mut self, tensor: &str) -> Option<i64> {
        if tensor == "position_ids" {
            return Some(0);
        }
        self.left = self.left.checked_sub(1)?;
        let (_, node) = self.view.earlier(tensor)?;
        let input = |index: usize| node.input.get(index).map(String::as_str);
        match node.op_type() {
            "Range" => Some(0),
            "CumSum" => Some(1 - node.int("exclusive").unwrap_or(0)),
            "Cast" | "Identity" | "Reshape" | "Unsqueeze" | "Squeeze" | "Expand" | "Slice" | "Clip" | "Tile" => {
                self.first_place(input(0)?)
            }
            "Add" => match (self.number(input(0)?), self.number(input(1)?)) {
                (Some(more), None) => self.first_place(input(1)?)?.checked_add(more),
                (None, Some(more)) => self.first_place(input(0)?)?.checked_add(more),
                // A Range that begins at the length of the past.
                _ => self.first_of(&[input(0)?, input(1)?]),
            },
            "Sub" => self.first_place(input(0)?)?.checked_sub(self.number(input(1)?)?),
            // Only the tokens that the mask shows.
            "Mul" => self.first_of(&[input(0)?, input(1)?]),
            "Where" => self.first_of(&[input(1)?, input(2)?]),
            _ => None,
        }
    }

    fn first_of(&mut self, tensors: &[&str]) -> Option<i64> {
        tensors.iter().find_map(|tensor| self.first_place(tensor))
    }

    /// A constant integer.
    fn number(&self, tensor: &str) -> Option<i64> {
        let constant = self.view.constant(tensor)?;
        match integers(constant)?.as_slice() {
            [number] => Some(*number),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        build::{floats, int, integers, operator, with},
        contract::ElementType,
        onnx::{GraphProto, TensorProto},
    };

    fn table(name: &str, dims: &[i64]) -> TensorProto {
        let elements = dims.iter().product::<i64>();
        floats(name, dims, ElementType::F32, (0..elements).map(|_| 0.0))
    }

    #[track_caller]
    fn check(node: Vec<NodeProto>, expected: Option<usize>) {
        let graph = GraphProto {
            node,
            initializer: vec![
                table("table", &[66, 4]),
                table("cosines", &[1, 1, 32, 4]),
                integers("one", &[], &[1]),
                integers("two", &[1], &[2]),
            ],
            ..GraphProto::default()
        };
        assert_eq!(of_tables(&View::new(&graph)), expected);
    }

    #[test]
    fn a_lookup_by_positions_bounds_them() {
        check(vec![operator("Gather", &["table", "position_ids"], &["x"])], Some(66));
        check(vec![operator("Gather", &["table", "input_ids"], &["x"])], None);
        let in_turn = with(operator("Gather", &["table", "position_ids"], &["x"]), vec![int("axis", 1)]);
        check(vec![in_turn], None);
    }

    /// `cumsum(mask) * mask - 1`, moved by two.
    #[test]
    fn rows_that_stand_for_no_position_are_not_counted() {
        let positions = |gather: &str| {
            vec![
                operator("CumSum", &["attention_mask", "one"], &["sum"]),
                operator("Mul", &["sum", "attention_mask"], &["shown"]),
                operator("Sub", &["shown", "one"], &["from_zero"]),
                operator("Add", &["from_zero", "two"], &["moved"]),
                operator("Slice", &["moved", "past", "end", "one"], &["new"]),
                operator("Gather", &["table", gather], &["x"]),
            ]
        };
        check(positions("new"), Some(64));
        check(positions("from_zero"), Some(66));
        check(positions("sum"), Some(65));
    }

    #[test]
    fn a_table_of_cosines_may_be_cut_to_the_length_first() {
        let nodes = vec![
            operator("Slice", &["cosines", "zero", "length", "two"], &["cut"]),
            operator("Squeeze", &["cut", "axes"], &["flat"]),
            operator("Gather", &["flat", "position_ids"], &["x"]),
        ];
        check(nodes, Some(32));
    }

    #[test]
    fn each_row_of_a_batch_may_have_a_table_of_its_own() {
        let by = |axis| with(operator("GatherElements", &["tables", "places"], &["x"]), vec![int("axis", axis)]);
        let nodes = |axis| {
            vec![
                operator("Expand", &["table", "batch"], &["tables"]),
                operator("Tile", &["position_ids", "times"], &["places"]),
                by(axis),
            ]
        };
        check(nodes(1), Some(66));
        check(nodes(0), None);
    }

    #[test]
    fn a_range_counts_from_the_past() {
        let nodes = vec![
            operator("Range", &["past", "total", "one"], &["range"]),
            operator("Unsqueeze", &["range", "axes"], &["positions"]),
            operator("Gather", &["table", "positions"], &["x"]),
        ];
        check(nodes, Some(66));
        let nodes = vec![
            operator("Range", &["zero", "new", "one"], &["range"]),
            operator("Add", &["range", "past"], &["positions"]),
            operator("Gather", &["table", "positions"], &["x"]),
        ];
        check(nodes, Some(66));
    }
}
