//! Taking out of a graph what none of its outputs needs: nodes, initializers, inputs and what is
//! written about tensors that are gone.

use std::collections::{HashMap, HashSet};

use crate::model::{onnx::GraphProto, view::each_input};

/// Keeps what the graph's outputs are made from, in the order in which it stands. Outputs stay.
///
/// A node stays whole if one of its outputs is needed. An input of the graph goes where nothing takes
/// it: callers look which ones are left.
pub(crate) fn prune(graph: &mut GraphProto) {
    let needed = Needed::by_outputs(graph);
    needed.keep_nodes(graph);
    let Needed { tensors, .. } = needed;
    graph.initializer.retain(|tensor| tensors.contains(tensor.name()));
    graph
        .sparse_initializer
        .retain(|tensor| tensor.values.as_ref().is_some_and(|values| tensors.contains(values.name())));
    graph.input.retain(|input| tensors.contains(input.name()));
    graph.value_info.retain(|value| tensors.contains(value.name()));
    graph.quantization_annotation.retain(|annotation| tensors.contains(annotation.tensor_name()));
}

/// What a graph's outputs are made from.
pub(crate) struct Needed {
    /// For each node, whether it is.
    nodes: Vec<bool>,
    /// All tensors that these nodes take or make, and the graph's outputs.
    tensors: HashSet<String>,
}

impl Needed {
    /// Whether a tensor is.
    pub(crate) fn takes(&self, tensor: &str) -> bool {
        self.tensors.contains(tensor)
    }

    /// Drops the nodes that are not, of the graph that was looked at.
    pub(crate) fn keep_nodes(&self, graph: &mut GraphProto) {
        let mut nodes = self.nodes.iter();
        graph.node.retain(|_| nodes.next().copied().unwrap_or(false));
    }

    pub(crate) fn by_outputs(graph: &GraphProto) -> Self {
        let made = |(index, node): (usize, &'_ crate::model::onnx::NodeProto)| {
            node.output.iter().map(move |output| (output.clone(), index)).collect::<Vec<_>>()
        };
        let producer: HashMap<String, usize> = graph.node.iter().enumerate().flat_map(made).collect();
        let mut nodes = vec![false; graph.node.len()];
        let mut tensors = HashSet::new();
        let mut open: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
        while let Some(tensor) = open.pop() {
            tensors.insert(tensor.to_owned());
            let producer = producer.get(tensor).copied();
            let Some(index) = producer.filter(|&index| !std::mem::replace(&mut nodes[index], true)) else {
                continue;
            };
            tensors.extend(graph.node[index].output.iter().cloned());
            each_input(&graph.node[index], &mut |input| open.push(input));
        }
        Self { nodes, tensors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        build::operator,
        onnx::{TensorProto, ValueInfoProto},
    };

    fn value(name: &str) -> ValueInfoProto {
        ValueInfoProto { name: Some(name.into()), ..ValueInfoProto::default() }
    }

    #[test]
    fn what_no_output_needs_goes() {
        let constant = |name: &str| TensorProto { name: Some(name.into()), ..TensorProto::default() };
        let mut graph = GraphProto {
            node: vec![
                operator("Split", &["x"], &["left", "right"]),
                operator("Mul", &["left", "weight"], &["y"]),
                operator("Add", &["left", "other"], &["dead"]),
                operator("Neg", &["dead"], &["deader"]),
            ],
            initializer: vec![constant("weight"), constant("other")],
            input: vec![value("x"), value("unused")],
            output: vec![value("y")],
            value_info: vec![value("left"), value("right"), value("dead")],
            ..GraphProto::default()
        };
        prune(&mut graph);
        assert_eq!(graph.node.iter().map(|node| node.op_type()).collect::<Vec<_>>(), ["Split", "Mul"]);
        assert_eq!(graph.initializer.len(), 1);
        assert_eq!(graph.input, [value("x")]);
        assert_eq!(graph.value_info, [value("left"), value("right")]);
        let before = graph.clone();
        prune(&mut graph);
        assert_eq!(graph, before);
    }
}
