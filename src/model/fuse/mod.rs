//! Rewriting a plain export into the form that runs best: one GroupQueryAttention a layer in place of
//! rotary embedding, growing caches, repeated heads, mask and softmax; one operator a norm, together
//! with the residual sum before it.
//!
//! What is replaced is found from the graph's fixed points, the caches and the softmax, never by the
//! names of nodes; head counts and scales are read there, too. Where something looks different from
//! what is known, nothing is changed. The graph that comes out still has to be compared with the one
//! that went in, by numbers: this module starts no session.

mod attention;
mod cache;
mod heads;
mod mask;
mod norms;
mod not_fused;
mod order;
mod prune;
mod residuals;
mod rotary;
mod scalar;
mod scores;
mod walk;
mod weighing;
mod write;

#[cfg(test)]
mod tests;

pub use self::not_fused::NotFused;
use self::{
    attention::Attention,
    norms::fuse_norms,
    residuals::fuse_residuals,
    write::{PREFIX, Written},
};
pub(crate) use self::{
    prune::{Needed, prune},
    rotary::{FuseRotaries, FuseRotary},
};
use super::{
    contract::{Contract, ElementType, Family},
    onnx::{self, GraphProto, ModelProto, OperatorSetIdProto},
    view::View,
};

/// What was done to a graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fused {
    /// Heads of queries in each layer.
    pub(crate) heads: Vec<usize>,
    /// The coarsest type of numbers that attention takes, gives or keeps: how equal the rewritten graph
    /// can be.
    pub(crate) precision: ElementType,
    /// Norms that became one operator.
    pub(crate) norms: usize,
    /// Norms of those that also do the residual sum before them.
    pub(crate) residuals: usize,
    /// Nodes before and after.
    pub(crate) nodes: [usize; 2],
}

/// Rewrites a plain graph whose contract was read. Afterwards it may have lost the input
/// `position_ids`; the caller reads its contract again and sees to [`import_microsoft`].
///
/// # Errors
/// Why the graph was left as it is, to the last bit.
pub(crate) fn fuse(
    graph: &mut GraphProto,
    contract: &Contract,
    rotaries: &FuseRotaries<'_>,
) -> Result<Fused, NotFused> {
    let element = check(graph, contract)?;
    // Weights are shared slices, so that this copies nodes and names.
    let mut fused = graph.clone();
    // ONNX Runtime takes nodes in any order, and some converters append theirs at the end.
    if !order::topological(&mut fused) {
        return Err(NotFused::Circle);
    }
    let norms = fuse_norms(&mut fused);
    let (written, heads, precision) = {
        let view = View::new(&fused);
        let layers: Vec<Attention<'_>> = attention::find(&view, contract, rotaries)?;
        let heads = layers.iter().map(|layer| layer.heads).collect();
        let is_half = element == ElementType::F16 || layers.iter().any(Attention::is_half);
        let precision = if is_half { ElementType::F16 } else { ElementType::F32 };
        (Written::new(&layers, contract, rotaries.positions, element), heads, precision)
    };
    written.put_into(&mut fused, contract);
    let residuals = fuse_residuals(&mut fused);
    if !order::topological(&mut fused) {
        return Err(NotFused::Circle);
    }
    prune(&mut fused);
    only_attention_uses_caches(&fused, contract)?;
    let nodes = [graph.node.len(), fused.node.len()];
    *graph = fused;
    Ok(Fused { heads, precision, norms, residuals, nodes })
}

/// Declares that a model uses ONNX Runtime's own operators.
pub(crate) fn import_microsoft(model: &mut ModelProto) {
    if !model.opset_import.iter().any(|set| set.domain() == onnx::MICROSOFT) {
        let set = OperatorSetIdProto { domain: Some(onnx::MICROSOFT.into()), version: Some(1) };
        model.opset_import.push(set);
    }
}

/// What can be said before attention is looked at: the element type of all caches.
fn check(graph: &GraphProto, contract: &Contract) -> Result<ElementType, NotFused> {
    if contract.family == Family::GroupQueryAttention {
        return Err(NotFused::Already);
    }
    if !contract.attention_mask {
        return Err(NotFused::NoMaskInput);
    }
    let mut outputs = graph.node.iter().flat_map(|node| &node.output);
    if outputs.any(|output| output.starts_with(PREFIX)) {
        return Err(NotFused::NameTaken { name: PREFIX });
    }
    let mut elements = contract.kv.iter().flat_map(|kv| [kv.key_type, kv.value_type]);
    let element = elements.next().ok_or(NotFused::CacheTypes)?;
    elements.all(|other| other == element).then_some(element).ok_or(NotFused::CacheTypes)
}

/// Past and present may be one buffer now, so nothing may take its length for that of the past.
fn only_attention_uses_caches(graph: &GraphProto, contract: &Contract) -> Result<(), NotFused> {
    let view = View::new(graph);
    for names in &contract.kv {
        for tensor in [&names.past_key, &names.past_value, &names.present_key, &names.present_value] {
            let users = view.consumers(tensor).iter().map(|&index| graph.node[index].op_type());
            if let Some(operator) = users.into_iter().find(|user| *user != "GroupQueryAttention") {
                return Err(NotFused::CacheUsed { tensor: tensor.clone(), operator: operator.to_owned() });
            }
        }
    }
    Ok(())
}

/// The contract of a graph alone, without the files that lie beside it.
#[cfg(test)]
pub(crate) fn contract_of(graph: &GraphProto) -> Result<Contract, crate::model::ContractError> {
    Contract::read(&View::new(graph), None, &super::contract::Fallback::default())
}
