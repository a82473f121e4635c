//! The paged form: the overlay with its attention done by an operator of our own.
//!
//! GroupQueryAttention wants each row's keys and values in one tensor, padded to the longest row, and
//! more than one new token only in a row alone. The operator [`ATTENTION`] takes the new tokens of any
//! number of conversations one after the other, `[1, tokens, width]`, and finds keys and values in
//! blocks that the engine keeps. So the cache leaves the graph's inputs and outputs, the mask goes with
//! it, and one run reads chunks of prompts and decodes, for whoever is ready.
//!
//! A pure pass over the overlay's graph. What it does not understand it refuses, and the overlay runs.

use std::collections::HashSet;

use prost::Message;

use super::{
    build::int,
    contract::Contract,
    fuse::{self, FuseRotaries, NotFused, prune},
    gated::Gated,
    initializers::{self, Initializer},
    linears::{LinearSource, TableSource},
    onnx::{self, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto},
    overlay::{LmHead, Overlay},
    transposed,
    view::View,
};

mod attention;

/// The domain of our operators.
pub(crate) const DOMAIN: &str = "motorbrain";

/// The operator: inputs query (or query, key and value packed), key and value, f32; output f32 `[1, tokens,
/// heads * head_dim]`. Its rotation tables are number `table` of [`Paged::tables`], -1 for none.
pub(crate) const ATTENTION: &str = "PagedAttention";

/// The operator for products with quantised weights: input f32 `[.., inputs]`, output `[.., outputs]`; its
/// weights are number `index` of [`Paged::linears`]. With two inputs, or one of twice the width, what is
/// multiplied is `silu(first) * second`.
pub(crate) const LINEAR: &str = "PackedLinear";

/// The graph that a session loads for the paged form.
#[derive(Clone, PartialEq, Eq)]
pub struct Paged {
    /// An ONNX model whose weights lie where the overlay's do.
    pub bytes: Vec<u8>,
    /// Whether it takes `position_ids` `[1, tokens]`.
    pub position_ids: bool,
    /// The largest window of a layer that looks back only so far; `None`: all layers see everything.
    pub(crate) local_window: Option<usize>,
    /// The weights of its products, which the graph no longer has.
    pub(crate) linears: Vec<LinearSource>,
    /// The rotation tables of its attentions, which the graph no longer has.
    pub(crate) tables: Vec<TableSource>,
    /// Its constants that lie in files.
    pub(crate) constants: Vec<Initializer>,
}

/// Why a graph has no paged form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPaged {
    /// Without an LM head that gives rows on demand, several conversations cannot share a run.
    #[error("its logits are no projection of hidden states")]
    NoLmHead,
    /// The attention of a plain export was not understood.
    #[error(transparent)]
    NotFused(#[from] NotFused),
    /// A graph that was written and does not read again.
    #[error("the rewritten graph cannot be read")]
    Unreadable,
    /// A layer without the operator that would be replaced.
    #[error("layer {layer} has no GroupQueryAttention")]
    NoAttention {
        /// Which one.
        layer: usize,
    },
    /// An attention that does more than is understood.
    #[error("the attention of layer {layer} has `{what}`")]
    Attention {
        /// Which one.
        layer: usize,
        /// An attribute or input.
        what: String,
    },
    /// An operator that rounds all tokens of a run by their common range: neighbours would change answers.
    #[error("`{operator}` rounds all tokens of a run together")]
    RoundsTogether {
        /// Its type.
        operator: String,
    },
    /// Something else than attention depends on a row's length or past.
    #[error("`{input}` is needed outside of attention")]
    StillNeeded {
        /// The input.
        input: String,
    },
}

impl std::fmt::Debug for Paged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paged")
            .field("bytes", &self.bytes.len())
            .field("linears", &self.linears.len())
            .finish_non_exhaustive()
    }
}

impl Paged {
    /// The paged form of a plain overlay: its attention is made GroupQueryAttention first. Also gives
    /// that graph, which [`Paged::of_fused`] takes.
    pub(crate) fn fuse(
        overlay: &Overlay,
        contract: &Contract,
        rotaries: &FuseRotaries<'_>,
    ) -> Result<(Self, Vec<u8>), NotPaged> {
        let mut model = ModelProto::decode(overlay.bytes.as_slice()).map_err(|_| NotPaged::Unreadable)?;
        let mut graph = model.graph.take().unwrap_or_default();
        fuse::fuse(&mut graph, contract, rotaries)?;
        fuse::import_microsoft(&mut model);
        model.graph = Some(graph);
        let fused = model.encode_to_vec();
        Ok((Self::build(model, contract, overlay.lm_head.as_ref())?, fused))
    }

    /// The paged form of a graph that [`Paged::fuse`] gave before.
    pub(crate) fn of_fused(fused: &[u8], overlay: &Overlay, contract: &Contract) -> Result<Self, NotPaged> {
        let model = ModelProto::decode(fused).map_err(|_| NotPaged::Unreadable)?;
        Self::build(model, contract, overlay.lm_head.as_ref())
    }

    /// The paged form of a model whose graph has the overlay's edits.
    pub(crate) fn build(
        mut model: ModelProto,
        contract: &Contract,
        lm_head: Option<&LmHead>,
    ) -> Result<Self, NotPaged> {
        let lm_head = *lm_head.ok_or(NotPaged::NoLmHead)?;
        let mut graph = model.graph.take().unwrap_or_default();
        let tables = attention::replace(&mut graph, contract)?;
        let windows =
            graph.node.iter().filter(|node| node.op_type() == ATTENTION).filter_map(|node| node.int("window"));
        let local_window = windows.filter_map(|window| usize::try_from(window).ok()).filter(|window| *window > 0).max();
        let presents: HashSet<&str> =
            contract.kv.iter().flat_map(|kv| [kv.present_key.as_str(), kv.present_value.as_str()]).collect();
        graph.output.retain(|output| !presents.contains(&output.name()));
        let linears = replace_linears(&mut graph);
        if transposed::fuse(&mut graph) {
            fuse::import_microsoft(&mut model);
        }
        prune(&mut graph);
        if let Some(node) = graph.node.iter().find(|node| node.op_type().starts_with("DynamicQuantize")) {
            return Err(NotPaged::RoundsTogether { operator: node.op_type().to_owned() });
        }
        let position_ids = flatten_inputs(&mut graph, &lm_head)?;
        model.opset_import.push(OperatorSetIdProto { domain: Some(DOMAIN.into()), version: Some(1) });
        let constants = initializers::external(&graph);
        model.graph = Some(graph);
        Ok(Self { bytes: model.encode_to_vec(), position_ids, local_window, linears, tables, constants })
    }
}

/// Puts our operator in the place of every product with quantised weights that it understands.
fn replace_linears(graph: &mut GraphProto) -> Vec<LinearSource> {
    let view = View::new(graph);
    let find = |node| {
        let source = LinearSource::of(node, &view)?;
        let input = node.input.first()?;
        let inputs = match Gated::of(&view, input) {
            None => vec![input.clone()],
            Some(Gated::Halves(whole)) => vec![whole],
            Some(Gated::Two { gate, up }) => vec![gate, up],
        };
        Some((source, inputs))
    };
    let found: Vec<_> = graph.node.iter().map(find).collect();
    let mut linears = Vec::new();
    for (node, found) in graph.node.iter_mut().zip(found) {
        let Some((source, inputs)) = found else {
            keep_activations(node);
            continue;
        };
        node.input = inputs;
        node.op_type = Some(LINEAR.into());
        node.domain = Some(DOMAIN.into());
        node.attribute = vec![int("index", linears.len() as i64), int("outputs", source.shape.outputs as i64)];
        linears.push(source);
    }
    linears
}

/// A product that stays the runtime's rounds no activations either, whatever it was exported to do.
fn keep_activations(node: &mut NodeProto) {
    if node.op_type() == "MatMulNBits" {
        let levels = node.attribute.iter_mut().filter(|attribute| attribute.name() == "accuracy_level");
        levels.for_each(|level| level.i = Some(1));
    }
}

/// Inputs become rows of tokens, `[1, tokens]`; true where `position_ids` is one of them.
fn flatten_inputs(graph: &mut GraphProto, lm_head: &LmHead) -> Result<bool, NotPaged> {
    let mut position_ids = false;
    for input in &mut graph.input {
        match input.name().to_owned().as_str() {
            name @ ("input_ids" | "position_ids") => {
                position_ids |= name == "position_ids";
                *input =
                    ValueInfoProto::tensor(name, onnx::INT64, vec![Dimension::size(1), Dimension::named("tokens")]);
            }
            name if name == lm_head.row_index => {}
            name => return Err(NotPaged::StillNeeded { input: name.to_owned() }),
        }
    }
    // Shapes that the exporter noted name dimensions that are no more.
    graph.value_info.clear();
    for output in graph.output.iter_mut().filter(|output| output.name() == lm_head.hidden_output) {
        let elem_type = output.tensor_type().and_then(|tensor| tensor.elem_type).unwrap_or(onnx::FLOAT);
        let width = output.dims().and_then(<[_]>::last).cloned().unwrap_or_else(|| Dimension::named("hidden"));
        *output = ValueInfoProto::tensor(
            lm_head.hidden_output,
            elem_type,
            vec![Dimension::size(1), Dimension::named("tokens"), width],
        );
    }
    Ok(position_ids)
}
