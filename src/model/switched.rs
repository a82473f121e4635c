//! Constants of which a graph takes one or another by the length of a run: onnxruntime-genai writes the rotation tables
//! of long contexts so (`If` with tables for the original context and for all of it).
//!
//! A window never reaches beyond the shorter ones (`context.rs`), so these are the ones in use.

use super::{
    onnx::{AttributeProto, GraphProto, TensorProto},
    view::View,
};

/// The constant with the fewest rows that an `If` may give as `tensor`; `None` where no `If` makes it, where one of its
/// branches computes it or where both have as many rows.
pub(crate) fn shortest<'g>(view: &View<'g>, tensor: &str) -> Option<&'g TensorProto> {
    let (_, node) = view.producer(tensor).filter(|(_, node)| node.op_type() == "If")?;
    let place = node.output.iter().position(|output| output == tensor)?;
    let branches = node.attribute.iter().filter_map(|attribute| attribute.g.as_deref());
    let given: Vec<&TensorProto> = branches.map(|branch| constant(branch, place)).collect::<Option<_>>()?;
    let [one, other] = given.as_slice() else { return None };
    let rows = |tensor: &TensorProto| tensor.dims.first().copied().unwrap_or(0);
    match rows(one).cmp(&rows(other)) {
        std::cmp::Ordering::Less => Some(one),
        std::cmp::Ordering::Greater => Some(other),
        std::cmp::Ordering::Equal => None,
    }
}

/// A branch's output, where that is a constant of its own.
fn constant(branch: &GraphProto, place: usize) -> Option<&TensorProto> {
    let output = branch.output.get(place)?.name();
    let value = |attribute: &'_ &AttributeProto| attribute.name() == "value";
    let by_node = || {
        let node = branch.node.iter().find(|node| node.output.iter().any(|made| made == output))?;
        (node.op_type() == "Constant").then(|| node.attribute.iter().find(value)?.t.as_deref())?
    };
    branch.initializer.iter().find(|tensor| tensor.name() == output).or_else(by_node)
}
