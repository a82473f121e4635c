//! Putting nodes into topological order, which passes may disturb.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use crate::model::{
    onnx::{GraphProto, NodeProto},
    view::each_input,
};

/// Orders the nodes so that each comes after those it takes from, otherwise as they stood. `false`,
/// and nothing changed, where they go in a circle.
pub(super) fn topological(graph: &mut GraphProto) -> bool {
    let Some(order) = order_of(&graph.node) else {
        return false;
    };
    let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
    graph.node = order.into_iter().filter_map(|index| nodes[index].take()).collect();
    true
}

/// The indices of the nodes in topological order, the smallest first of those that may come next.
fn order_of(nodes: &[NodeProto]) -> Option<Vec<usize>> {
    let made = |(index, node)| outputs(node).map(move |output| (output, index));
    let producer: HashMap<&str, usize> = nodes.iter().enumerate().flat_map(made).collect();
    let mut waits_for = vec![0usize; nodes.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        each_input(node, &mut |input| {
            if let Some(&earlier) = producer.get(input) {
                waits_for[index] += 1;
                waiting[earlier].push(index);
            }
        });
    }
    let ready = (0..nodes.len()).filter(|&index| waits_for[index] == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for &later in &waiting[index] {
            waits_for[later] -= 1;
            if waits_for[later] == 0 {
                ready.push(Reverse(later));
            }
        }
    }
    (order.len() == nodes.len()).then_some(order)
}

fn outputs(node: &NodeProto) -> impl Iterator<Item = &str> {
    node.output.iter().map(String::as_str).filter(|output| !output.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::build::operator;

    #[test]
    fn only_what_stands_too_early_moves() {
        let first = operator("Neg", &["x"], &["a"]);
        let second = operator("Exp", &["x"], &["b"]);
        let third = operator("Add", &["a", "b"], &["c"]);
        let mut graph =
            GraphProto { node: vec![third.clone(), second.clone(), first.clone()], ..GraphProto::default() };
        assert!(topological(&mut graph));
        assert_eq!(graph.node, [second, first, third]);
    }

    #[test]
    fn a_circle_is_left_as_it_is() {
        let node = vec![operator("Neg", &["a"], &["b"]), operator("Exp", &["b"], &["a"])];
        let mut graph = GraphProto { node, ..GraphProto::default() };
        let before = graph.clone();
        assert!(!topological(&mut graph));
        assert_eq!(graph, before);
    }
}
