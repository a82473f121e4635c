//! A residual sum and the norm that follows it, made one operator.

use crate::model::{
    build::{float, microsoft, operator, with},
    onnx::{GraphProto, NodeProto},
    view::View,
};

/// Puts one operator for each norm of a sum; the sum itself is its fourth output, under its old name.
/// How many there were.
pub(super) fn fuse_residuals(graph: &mut GraphProto) -> usize {
    let found: Vec<Residual> = {
        let view = View::new(graph);
        let norms = graph.node.iter().enumerate();
        let norms = norms.filter(|(_, node)| node.op_type() == "SimplifiedLayerNormalization");
        norms.filter_map(|(index, node)| residual(&view, index, node)).collect()
    };
    let mut taken = std::collections::HashSet::new();
    let mut count = 0;
    for Residual { sum, norm, fused } in found {
        // Of several norms of one sum the first computes it.
        if taken.insert(sum) {
            graph.node[norm] = fused;
            count += 1;
        }
    }
    let mut index = 0;
    graph.node.retain(|_| {
        index += 1;
        !taken.contains(&(index - 1))
    });
    count
}

/// The indices of a sum and its norm, and the operator for both.
struct Residual {
    sum: usize,
    norm: usize,
    fused: NodeProto,
}

fn residual(view: &View<'_>, index: usize, norm: &NodeProto) -> Option<Residual> {
    let [input, weight] = norm.input.as_slice() else {
        return None;
    };
    let (sum, add) = view.earlier(input).filter(|(_, node)| node.op_type() == "Add")?;
    let [a, b] = add.input.as_slice() else {
        return None;
    };
    // A bias would have to be repeated, and hidden states are [batch, seq, hidden].
    let hidden = |tensor| !view.is_constant(tensor) && view.rank(tensor).is_none_or(|rank| rank == 3);
    if !hidden(a) || !hidden(b) {
        return None;
    }
    let epsilon = norm.attr("epsilon")?.f?;
    let outputs = [norm.output.first()?.as_str(), "", "", input];
    let fused = microsoft(operator("SkipSimplifiedLayerNormalization", &[a, b, weight], &outputs));
    Some(Residual { sum, norm: index, fused: with(fused, vec![float("epsilon", epsilon)]) })
}
