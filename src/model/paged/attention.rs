//! Attention in the paged form: our operator in the place of each layer's GroupQueryAttention.

use std::{collections::HashMap, mem};

use super::{ATTENTION, DOMAIN, NotPaged};
use crate::model::{
    build::{cast, float, int},
    contract::{Contract, ElementType},
    linears::TableSource,
    onnx::{GraphProto, NodeProto},
    view::View,
};

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

/// Rotation tables, those of the same tensors once.
#[derive(Default)]
struct Tables<'g> {
    numbers: HashMap<[&'g str; 2], usize>,
    sources: Vec<TableSource>,
}

impl<'g> Tables<'g> {
    /// The number of the tables with these cosines and sines; `None` where they are computed.
    fn number(&mut self, view: &View<'g>, names: [&'g str; 2]) -> Option<usize> {
        if let Some(number) = self.numbers.get(&names) {
            return Some(*number);
        }
        let number = self.sources.len();
        self.sources.push(TableSource::of(view, names)?);
        self.numbers.insert(names, number);
        Some(number)
    }
}

/// Replaces the attention of every layer: the rotation tables that they read.
pub(super) fn replace(graph: &mut GraphProto, contract: &Contract) -> Result<Vec<TableSource>, NotPaged> {
    let view = View::new(graph);
    let attentions = view.graph.node.iter().enumerate().filter(|(_, node)| node.op_type() == "GroupQueryAttention");
    let by_past: HashMap<&str, usize> =
        attentions.filter_map(|(index, node)| Some((node.input.get(PAST_KEY)?.as_str(), index))).collect();
    let (mut replacements, mut tables) = (HashMap::new(), Tables::default());
    for (layer, names) in contract.kv.iter().enumerate() {
        let index = *by_past.get(names.past_key.as_str()).ok_or(NotPaged::NoAttention { layer })?;
        let attention = &view.graph.node[index];
        replacements.insert(index, replacement(&view, attention, contract, layer, &mut tables)?);
    }
    let sources = tables.sources;
    let nodes = mem::take(&mut graph.node).into_iter().enumerate();
    graph.node = nodes.flat_map(|(index, node)| replacements.remove(&index).unwrap_or_else(|| vec![node])).collect();
    Ok(sources)
}

/// What takes the place of a layer's attention.
fn replacement<'g>(
    view: &View<'g>,
    attention: &'g NodeProto,
    contract: &Contract,
    layer: usize,
    tables: &mut Tables<'g>,
) -> Result<Vec<NodeProto>, NotPaged> {
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
        let names = Option::zip(input(COSINES), input(SINES));
        let number = names.and_then(|(cosines, sines)| tables.number(view, [cosines, sines]));
        let computed = || NotPaged::Attention { layer, what: "rotation tables that are computed".into() };
        table = number.ok_or_else(computed)? as i64;
    }
    let taken = [input(QUERY), input(KEY), input(VALUE)];
    // All of an attention's tensors have one type, that of its cache.
    let narrow = contract.kv[layer].key_type == ElementType::F16;
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
    Ok(added)
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
