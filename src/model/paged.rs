//! The paged form: the overlay with its attention done by an operator of our own.
//!
//! GroupQueryAttention wants each row's keys and values in one tensor, padded to the longest row, and
//! more than one new token only in a row alone. The operator [`ATTENTION`] takes the new tokens of any
//! number of conversations one after the other, `[1, tokens, width]`, and finds keys and values in
//! blocks that the engine keeps. So the cache leaves the graph's inputs and outputs, the mask goes with
//! it, and one run reads chunks of prompts and decodes, for whoever is ready.
//!
//! A pure pass over the overlay's graph. What it does not understand it refuses, and the overlay runs.

use prost::Message;

use super::{
    build::{cast, float, int},
    contract::{Contract, ElementType},
    fuse::{self, FuseRotaries, NotFused, prune},
    gated::Gated,
    initializers::{self, Initializer},
    linears::{LinearSource, TableSource},
    onnx::{self, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto},
    overlay::{LmHead, Overlay},
    transposed,
    view::View,
};

/// The domain of our operators.
pub(crate) const DOMAIN: &str = "motorbrain";

/// The operator: inputs query (or query, key and value packed), key and value, f32; output f32 `[1, tokens,
/// heads * head_dim]`. Its rotation tables are number `table` of [`Paged::tables`], -1 for none.
pub(crate) const ATTENTION: &str = "PagedAttention";

/// The operator for products with quantised weights: input f32 `[.., inputs]`, output `[.., outputs]`; its
/// weights are number `index` of [`Paged::linears`]. With two inputs, or one of twice the width, what is
/// multiplied is `silu(first) * second`.
pub(crate) const LINEAR: &str = "PackedLinear";

/// Attributes of GroupQueryAttention and the only value of each that is understood; absent is as good.
const UNDERSTOOD: [(&str, i64); 2] = [("smooth_softmax", 0), ("qk_output", 0)];

/// Further attributes that are known; one that is not may change what attention is.
const KNOWN: [&str; 9] = [
    "num_heads",
    "kv_num_heads",
    "scale",
    "softcap",
    "local_window_size",
    "do_rotary",
    "rotary_interleaved",
    "k_quant_type",
    "v_quant_type",
];

/// Inputs of GroupQueryAttention: what is behind the rotation tables must be absent, positions aside.
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;
const PAST_KEY: usize = 3;
const COSINES: usize = 7;
const SINES: usize = 8;
const POSITIONS: usize = 9;

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
        let mut tables = Vec::new();
        for layer in 0..contract.layers {
            replace_attention(&mut graph, contract, layer, &mut tables)?;
        }
        let windows =
            graph.node.iter().filter(|node| node.op_type() == ATTENTION).filter_map(|node| node.int("window"));
        let local_window = windows.filter_map(|window| usize::try_from(window).ok()).filter(|window| *window > 0).max();
        let presents: Vec<&str> =
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

/// Puts our operator in the place of a layer's attention.
fn replace_attention(
    graph: &mut GraphProto,
    contract: &Contract,
    layer: usize,
    tables: &mut Vec<TableSource>,
) -> Result<(), NotPaged> {
    let names = &contract.kv[layer];
    let is_attention =
        |node: &NodeProto| node.op_type() == "GroupQueryAttention" && node.input.get(PAST_KEY) == Some(&names.past_key);
    let index = graph.node.iter().position(is_attention).ok_or(NotPaged::NoAttention { layer })?;
    let attention = &graph.node[index];
    check_understood(attention, contract, layer)?;
    let Some(output) = attention.output.first() else {
        return Err(NotPaged::NoAttention { layer });
    };
    let int_of = |name, otherwise| attention.int(name).unwrap_or(otherwise);
    let float_of = |name| attention.attr(name).and_then(|attribute| attribute.f);
    // 0 stands for the usual 1 / sqrt(head_dim).
    let scale = float_of("scale").filter(|scale| *scale != 0.0).unwrap_or((contract.head_dim as f32).sqrt().recip());
    let rotates = int_of("do_rotary", 0) != 0;
    let input = |index: usize| attention.input.get(index).filter(|name| !name.is_empty());
    let mut table = -1;
    if rotates {
        let source = Option::zip(input(COSINES), input(SINES))
            .and_then(|(cosines, sines)| TableSource::of(graph, cosines, sines))
            .ok_or_else(|| NotPaged::Attention { layer, what: "rotation tables that are computed".into() })?;
        let known = tables.iter().position(|known| *known == source);
        table = known.unwrap_or(tables.len()) as i64;
        if known.is_none() {
            tables.push(source);
        }
    }
    let taken = [input(QUERY), input(KEY), input(VALUE)];
    // All of an attention's tensors have one type, that of its cache.
    let narrow = names.key_type == ElementType::F16;
    let mut added = Vec::new();
    let mut inputs: Vec<String> = taken
        .into_iter()
        .enumerate()
        .map(|(place, name)| match name {
            Some(name) if narrow => {
                let wide = format!("{DOMAIN}/attention.{layer}.input.{place}");
                added.push(cast(name, &wide, ElementType::F32));
                wide
            }
            name => name.cloned().unwrap_or_default(),
        })
        .collect();
    while inputs.last().is_some_and(String::is_empty) {
        inputs.pop();
    }
    let wide = if narrow { format!("{DOMAIN}/attention.{layer}.output") } else { output.clone() };
    added.push(NodeProto {
        input: inputs,
        output: vec![wide.clone()],
        name: Some(format!("{DOMAIN}/attention.{layer}")),
        op_type: Some(ATTENTION.into()),
        domain: Some(DOMAIN.into()),
        attribute: vec![
            int("layer", layer as i64),
            int("table", table),
            int("num_heads", int_of("num_heads", 0)),
            int("kv_num_heads", int_of("kv_num_heads", 0)),
            int("head_dim", contract.head_dim as i64),
            int("rotary_interleaved", int_of("rotary_interleaved", 0)),
            float("scale", scale),
            float("softcap", float_of("softcap").unwrap_or(0.0)),
            // The token itself among them; 0 stands for all.
            int("window", int_of("local_window_size", -1).max(0)),
        ],
        ..NodeProto::default()
    });
    if narrow {
        added.push(cast(&wide, output, ElementType::F16));
    }
    graph.node.splice(index..=index, added);
    Ok(())
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

fn check_understood(attention: &NodeProto, contract: &Contract, layer: usize) -> Result<(), NotPaged> {
    let refused = |what: &str| Err(NotPaged::Attention { layer, what: what.to_owned() });
    let is_known = |name: &str| KNOWN.contains(&name) || UNDERSTOOD.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = attention.attribute.iter().find(|attribute| !is_known(attribute.name())) {
        return refused(unknown.name());
    }
    if attention.int("kv_num_heads").and_then(|heads| usize::try_from(heads).ok()) != Some(contract.kv_heads) {
        return refused("kv_num_heads");
    }
    if attention.input.get(POSITIONS).is_some_and(|name| !name.is_empty() && name != "position_ids") {
        return refused("positions that are computed");
    }
    for (name, value) in UNDERSTOOD {
        if attention.int(name).is_some_and(|found| found != value) {
            return refused(name);
        }
    }
    // A window of no key, which no exporter writes.
    if attention.int("local_window_size") == Some(0) {
        return refused("local_window_size");
    }
    if attention
        .attribute
        .iter()
        .any(|a| a.name().ends_with("quant_type") && a.s.as_deref().is_some_and(|s| s != b"NONE"))
    {
        return refused("a quantised cache");
    }
    let behind = attention.input.iter().enumerate().skip(POSITIONS + 1).find(|(_, name)| !name.is_empty());
    match behind {
        Some((_, name)) => refused(name),
        None => Ok(()),
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
