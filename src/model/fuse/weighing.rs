//! The heart of an attention: values weighed by how well keys answer queries. Either written out, a
//! softmax between two products, or the operator Attention (ONNX 23) that exporters write since.

use super::{
    not_fused::NotFused,
    scalar::scalar,
    scores::{self, Scores},
    walk::{LAYOUT, made_by, source},
};
use crate::model::{
    onnx::{AttributeProto, NodeProto},
    view::View,
};

/// Values weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighing<'g> {
    /// Queries, [batch, heads, seq, head_dim], before any scale, with what mask and scale.
    pub(super) scores: Scores<'g>,
    /// The values that are weighed, perhaps repeated, [batch, heads, past + seq, head_dim].
    pub(super) values: &'g str,
    /// The node that gives the result, [batch, heads, seq, head_dim].
    pub(super) node: &'g NodeProto,
}

/// Why it is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown<'g> {
    /// This operator stands before the softmax.
    Operator(&'g str),
    /// A scale is not constant.
    Scale,
    /// Something else stands behind the softmax.
    Values,
}

impl Unknown<'_> {
    pub(super) fn of_layer(self, layer: usize) -> NotFused {
        match self {
            Self::Operator(operator) => NotFused::Scores { layer, operator: operator.to_owned() },
            Self::Scale => NotFused::Scale { layer },
            Self::Values => NotFused::Values { layer },
        }
    }
}

/// Where a weighing is anchored, and the cached keys it looks at, which tell its layer.
pub(super) fn anchors<'g>(view: &View<'g>) -> impl Iterator<Item = (&'g NodeProto, &'g str)> {
    view.graph.node.iter().filter_map(|node| match node.op_type() {
        "Softmax" => Some((node, scores::keys_of(view, node)?)),
        "Attention" if is_standard(node) => Some((node, source(view, node.input.get(1)?, LAYOUT))),
        _ => None,
    })
}

impl<'g> Weighing<'g> {
    /// The weighing of an anchor; `head_dim` is for the scale that an operator has by default.
    pub(super) fn at(view: &View<'g>, anchor: &'g NodeProto, head_dim: usize) -> Result<Self, Unknown<'g>> {
        if anchor.op_type() == "Softmax" {
            let scores = Scores::before(view, anchor)?;
            let (node, values) = weighted_values(view, anchor).ok_or(Unknown::Values)?;
            return Ok(Self { scores, values, node });
        }
        let [queries, keys, values, mask] = anchor.input.as_slice() else {
            return Err(Unknown::Operator("Attention"));
        };
        let float = |name| anchor.attr(name).and_then(|attribute| attribute.f).map(f64::from);
        let softcap = float("softcap").filter(|cap| *cap != 0.0);
        if anchor.int("is_causal").unwrap_or(0) != 0 || anchor.output.len() != 1 {
            return Err(Unknown::Operator("Attention"));
        }
        let [queries, keys] = [queries, keys].map(|tensor| source(view, tensor, LAYOUT));
        let scale = float("scale").unwrap_or_else(|| (head_dim as f64).sqrt().recip());
        Ok(Self { scores: Scores { queries, keys, scale, softcap, mask: Some(mask) }, values, node: anchor })
    }
}

fn is_standard(node: &NodeProto) -> bool {
    node.domain().is_empty() || node.domain() == "ai.onnx"
}

/// The one node that takes a softmax's probabilities to weigh values with, and these values. Exporters
/// put zero for rows that see nothing, which have no meaning.
fn weighted_values<'g>(view: &View<'g>, softmax: &'g NodeProto) -> Option<(&'g NodeProto, &'g str)> {
    let probabilities = softmax.output.first()?;
    let is_check = |node: &NodeProto| node.op_type() == "IsNaN";
    let mut tensor = probabilities.as_str();
    loop {
        let consumers = view.consumers(tensor).iter().map(|&index| &view.graph.node[index]);
        let mut consumers = consumers.filter(|node| !is_check(node));
        let (node, None) = (consumers.next()?, consumers.next()) else {
            return None;
        };
        tensor = match (node.op_type(), node.input.as_slice()) {
            ("Cast" | "Identity" | "Dropout", _) => node.output.first()?,
            ("Where", [condition, zero, kept]) if kept == tensor && scalar(view, zero) == Some(0.0) => {
                let (_, check) = made_by(view, condition)?;
                (is_check(check) && check.input.first() == Some(probabilities)).then(|| node.output.first())??
            }
            ("MatMul", [weights, values]) if weights == tensor => {
                return Some((node, values));
            }
            _ => return None,
        };
    }
}

/// The tensor that heads are put side by side in again, [batch, seq, heads * head_dim], and the last
/// cast on the way, if there is any.
pub(super) fn merged_heads<'g>(view: &View<'g>, product: &'g NodeProto) -> Option<(&'g str, Option<&'g NodeProto>)> {
    let mut tensor = product.output.first()?.as_str();
    let (mut cast, mut swapped) = (None, false);
    loop {
        let consumers = view.consumers(tensor).iter();
        let mut consumers = consumers.filter(|&&index| view.graph.node[index].op_type() != "Shape");
        let (&index, None) = (consumers.next()?, consumers.next()) else {
            return None;
        };
        let node = &view.graph.node[index];
        let output = node.output.first()?;
        match node.op_type() {
            "Cast" => cast = Some(node),
            "Identity" => {}
            "Transpose" if !swapped && node.attr("perm").is_some_and(puts_tokens_first) => swapped = true,
            "Reshape" if swapped => return Some((output, cast)),
            _ => return None,
        }
        tensor = output;
    }
}

/// Whether heads, or heads within their groups, come to stand behind tokens.
fn puts_tokens_first(perm: &AttributeProto) -> bool {
    perm.ints == [0, 2, 1, 3] || perm.ints == [0, 3, 1, 2, 4]
}
