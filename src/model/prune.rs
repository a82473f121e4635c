//! Takes out of a graph what none of its outputs needs.

use std::collections::HashSet;

use super::onnx::{GraphProto, NodeProto};

/// Removes nodes, initializers, inputs and shape notes that no output of the graph depends on. Order
/// stays; nodes must be in topological order.
pub(crate) fn prune(graph: &mut GraphProto) {
    let mut needed: HashSet<String> = graph.output.iter().map(|output| output.name().to_owned()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            each_input(&node, &mut |input| {
                needed.insert(input.to_owned());
            });
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| needed.contains(tensor.name()));
    graph.sparse_initializer.retain(|sparse| {
        sparse.values.as_ref().is_some_and(|values| needed.contains(values.name()))
    });
    graph.input.retain(|input| needed.contains(input.name()));
    let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    graph.value_info.retain(|value| made.contains(value.name()));
}

/// What a node takes, its subgraphs' reach for outer tensors included.
fn each_input(node: &NodeProto, visit: &mut dyn FnMut(&str)) {
    node.input.iter().filter(|input| !input.is_empty()).for_each(|input| visit(input));
    for graph in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
        graph.node.iter().for_each(|node| each_input(node, visit));
        graph.output.iter().for_each(|output| visit(output.name()));
    }
}
