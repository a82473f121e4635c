//! The gate of a feed-forward network, `silu(gate) * up`, which the product behind it computes on the way.

use super::{onnx::NodeProto, view::View};

/// Where a product finds both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gated {
    /// In one tensor, the gate's half first.
    Halves(String),
    /// In two.
    Two { gate: String, up: String },
}

impl Gated {
    /// What `tensor` is made of, where it is a gate and nothing but one product takes it.
    pub(crate) fn of(view: &View<'_>, tensor: &str) -> Option<Self> {
        let product = made_by(view, tensor, "Mul")?;
        if view.consumers(tensor).len() != 1 || view.is_output(tensor) {
            return None;
        }
        let [one, other] = both(product)?;
        let (gate, up) =
            [(one, other), (other, one)].into_iter().find_map(|(active, up)| Some((activated(view, active)?, up)))?;
        let halves = made_by(view, gate, "Split").filter(|split| {
            // Equal parts of the last dimension.
            split.output.iter().map(String::as_str).eq([gate, up])
                && split.int("axis") == Some(-1)
                && split.input.get(1).is_none_or(String::is_empty)
        });
        Some(match halves.and_then(|split| split.input.first()) {
            Some(whole) => Self::Halves(whole.clone()),
            None => Self::Two { gate: gate.to_owned(), up: up.to_owned() },
        })
    }
}

/// `gate` of `gate * sigmoid(gate)`.
fn activated<'g>(view: &View<'g>, tensor: &str) -> Option<&'g str> {
    let [one, other] = both(made_by(view, tensor, "Mul")?)?;
    let is_sigmoid = |sigmoid: &str, of: &str| {
        made_by(view, sigmoid, "Sigmoid").and_then(|node| node.input.first()).is_some_and(|input| input == of)
    };
    match () {
        () if is_sigmoid(other, one) => Some(one),
        () if is_sigmoid(one, other) => Some(other),
        () => None,
    }
}

fn both(node: &NodeProto) -> Option<[&str; 2]> {
    let [one, other] = node.input.as_slice() else { return None };
    Some([one, other])
}

fn made_by<'g>(view: &View<'g>, tensor: &str, op_type: &str) -> Option<&'g NodeProto> {
    let (_, node) = view.producer(tensor)?;
    (node.op_type() == op_type).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        build::{int, operator},
        onnx::GraphProto,
    };

    fn gated(graph: &GraphProto) -> Option<Gated> {
        Gated::of(&View::new(graph), "gated")
    }

    fn graph(last: &[&str]) -> GraphProto {
        let nodes = vec![
            operator("Sigmoid", &["gate"], &["sigmoid"]),
            operator("Mul", &["sigmoid", "gate"], &["active"]),
            operator("Mul", &["up", "active"], &["gated"]),
            operator("MatMul", last, &["down"]),
        ];
        GraphProto { node: nodes, ..Default::default() }
    }

    #[test]
    fn a_gate_is_found_in_any_order_of_its_factors() {
        let two = Gated::Two { gate: "gate".into(), up: "up".into() };
        assert_eq!(gated(&graph(&["gated", "w"])), Some(two));
        assert_eq!(gated(&graph(&["gated", "gated"])), None, "somebody else takes it");
        let mut other = graph(&["gated", "w"]);
        other.node[0].input[0] = "up".into();
        assert_eq!(gated(&other), None, "the sigmoid of something else");
    }

    #[test]
    fn halves_of_one_tensor_are_taken_whole() {
        let mut graph = graph(&["gated", "w"]);
        graph.node.push(operator("Split", &["whole"], &["gate", "up"]));
        graph.node[4].attribute = vec![int("axis", -1)];
        assert_eq!(gated(&graph), Some(Gated::Halves("whole".into())));
        graph.node[4].attribute = vec![int("axis", 1)];
        assert!(matches!(gated(&graph), Some(Gated::Two { .. })));
    }
}
