//! Changes to a graph, collected while it is read and made in one go.

use std::collections::{HashMap, HashSet};

use crate::model::{
    onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto},
    view::each_input,
};

/// What is to change. Indices are those of the nodes before it.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    /// Nodes that go.
    pub(crate) removed: HashSet<usize>,
    /// Nodes that come in before the node of an index.
    pub(crate) inserted: HashMap<usize, Vec<NodeProto>>,
    /// Inputs of nodes that get another name: node, place, name.
    pub(crate) inputs: Vec<(usize, usize, String)>,
    /// Initializers that come in.
    pub(crate) initializers: Vec<TensorProto>,
}

impl Edit {
    /// Makes the changes, and drops what nothing uses any more.
    pub(crate) fn apply(mut self, graph: &mut GraphProto) {
        for (node, place, name) in self.inputs {
            graph.node[node].input[place] = name;
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for (index, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            nodes.extend(self.inserted.remove(&index).unwrap_or_default());
            if !self.removed.contains(&index) {
                nodes.push(node);
            }
        }
        graph.node = nodes;
        graph.initializer.extend(self.initializers);
        sweep(graph);
    }
}

/// Drops nodes and initializers whose results nothing takes, and what is said of tensors that are gone.
fn sweep(graph: &mut GraphProto) {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        makers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), index)));
    }
    let mut used: HashSet<&str> = HashSet::new();
    let mut kept = vec![false; graph.node.len()];
    let mut waiting: Vec<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    while let Some(name) = waiting.pop() {
        if !used.insert(name) {
            continue;
        }
        if let Some(&index) = makers.get(name).filter(|&&index| !kept[index]) {
            kept[index] = true;
            each_input(&graph.node[index], &mut |input| waiting.push(input));
        }
    }
    let used: HashSet<String> = used.into_iter().map(str::to_owned).collect();
    let mut kept = kept.into_iter();
    graph.node.retain(|_| kept.next().unwrap_or(true));
    graph.initializer.retain(|tensor| used.contains(tensor.name()));
    let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
    graph.value_info.retain(|value| made.contains(value.name()));
}
