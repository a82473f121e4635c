//! Inputs that only choose what a graph computes, and that nobody gives: they are fed what the engine needs, or cut
//! away.
//!
//! - `num_logits_to_keep`, `logits_to_keep` (transformers.js): for how many of the last tokens, or for which, logits
//!   are wanted. The overlay picks rows itself, behind these; where it cannot, all rows are kept.
//! - `use_cache_branch` (optimum's `decoder_model_merged.onnx`): whether there is a past. Two whole decoders are the
//!   branches of an `If`; the one with a past, which may be empty, takes the place of it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{
    build::{constant, int, integers, operator, with},
    contract_error::ContractError,
    fuse::Needed,
    onnx::{self, GraphProto, NodeProto, TensorProto, ValueInfoProto},
    view::each_input,
};

/// Inputs that choose rows of the logits.
pub(crate) const ROWS: [&str; 2] = ["num_logits_to_keep", "logits_to_keep"];
/// The input that chooses a decoder.
const CACHE_BRANCH: &str = "use_cache_branch";

/// What the names of new tensors begin with.
const PREFIX: &str = "motorbrain_keep";

/// Puts the decoder with a past in the place of the choice between two, and takes the choosing input away.
///
/// # Errors
/// The decoder with a past was made for one new token at a time.
pub(crate) fn take_cached_branch(graph: &mut GraphProto) -> Result<(), ContractError> {
    let Some(input) = graph.input.iter().position(|input| input.name() == CACHE_BRANCH) else {
        return Ok(());
    };
    let is_choice = |node: &NodeProto| {
        node.op_type() == "If" && node.input.first().is_some_and(|condition| condition == CACHE_BRANCH)
    };
    let mut known: HashSet<String> = names_of(graph).map(str::to_owned).collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let inlined = is_choice(&node).then(|| Branches::of(&node)).flatten();
        match inlined {
            Some(branches) => {
                branches.check()?;
                nodes.extend(branches.inlined(&node, &mut known, &mut graph.initializer));
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    let dims = graph.input.remove(input).dims().map_or(0, <[_]>::len);
    let mut asked = false;
    graph.node.iter().for_each(|node| each_input(node, &mut |input| asked |= input == CACHE_BRANCH));
    if asked {
        // Whoever else asks hears that there is a past.
        let yes = TensorProto {
            data_type: Some(onnx::BOOL),
            dims: vec![1; dims],
            raw_data: Some(Bytes::from_static(&[1])),
            ..TensorProto::default()
        };
        graph.node.insert(0, constant(CACHE_BRANCH, yes));
    }
    Ok(())
}

/// The two decoders of a choice.
struct Branches<'n> {
    cached: &'n GraphProto,
    other: &'n GraphProto,
}

impl<'n> Branches<'n> {
    fn of(node: &'n NodeProto) -> Option<Self> {
        let branch = |name| node.attr(name)?.g.as_deref();
        Some(Self { cached: branch("then_branch")?, other: branch("else_branch")? })
    }

    /// Exporters once traced the decoder with a past for one new token, which sees everything: its mask then compares
    /// no positions, and more than one token would see what comes later.
    fn check(&self) -> Result<(), ContractError> {
        let compares = |graph: &GraphProto| graph.node.iter().any(compares_positions);
        if compares(self.other) && !compares(self.cached) {
            return Err(ContractError::OneTokenBranch { input: CACHE_BRANCH });
        }
        Ok(())
    }

    /// The nodes of the decoder with a past, as nodes of the graph around it. What they make is renamed where that
    /// graph already has the name, and where it is what the choice gives.
    fn inlined(
        &self,
        choice: &NodeProto,
        known: &mut HashSet<String>,
        constants: &mut Vec<TensorProto>,
    ) -> Vec<NodeProto> {
        let inner: HashSet<&str> = names_of(self.cached).filter(|name| !name.is_empty()).collect();
        let mut renamed: HashMap<&str, String> = HashMap::new();
        let mut copies = Vec::new();
        for (given, output) in self.cached.output.iter().map(ValueInfoProto::name).zip(&choice.output) {
            if inner.contains(given) && !renamed.contains_key(given) {
                renamed.insert(given, output.clone());
            } else {
                // An outer tensor, or one that is given twice.
                let given = renamed.get(given).map_or(given, String::as_str);
                copies.push(operator("Identity", &[given], &[output]));
            }
        }
        for name in inner.iter().filter(|name| known.contains(**name)) {
            renamed.entry(name).or_insert_with(|| {
                let new = |count: usize| format!("motorbrain_branch{count}/{name}");
                (0..).map(new).find(|new| !known.contains(new)).unwrap_or_default()
            });
        }
        known.extend(renamed.values().cloned());
        known.extend(inner.iter().map(|name| (*name).to_owned()));
        constants.extend(self.cached.initializer.iter().cloned().map(|mut tensor| {
            if let Some(name) = renamed.get(tensor.name()) {
                tensor.name = Some(name.clone());
            }
            tensor
        }));
        let mut nodes = self.cached.node.clone();
        nodes.iter_mut().for_each(|node| rename(node, &renamed));
        nodes.extend(copies);
        nodes
    }
}

/// Gives tensors that a node takes or makes, in its subgraphs as well, their new names.
fn rename(node: &mut NodeProto, renamed: &HashMap<&str, String>) {
    let name_again = |name: &mut String| {
        if let Some(new) = renamed.get(name.as_str()) {
            name.clone_from(new);
        }
    };
    node.input.iter_mut().chain(&mut node.output).for_each(name_again);
    for attribute in &mut node.attribute {
        for graph in attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs) {
            graph.node.iter_mut().for_each(|node| rename(node, renamed));
            graph.output.iter_mut().filter_map(|output| output.name.as_mut()).for_each(name_again);
        }
    }
}

/// Whether a node decides which tokens see which.
fn compares_positions(node: &NodeProto) -> bool {
    match node.op_type() {
        "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Trilu" => true,
        "GroupQueryAttention" => true,
        "Attention" => node.int("is_causal") == Some(1),
        "MultiHeadAttention" => node.int("unidirectional") == Some(1),
        _ => false,
    }
}

/// Every name that a graph itself gives to something.
fn names_of(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let given = graph.input.iter().map(ValueInfoProto::name);
    made.chain(given).chain(graph.initializer.iter().map(TensorProto::name))
}

/// Takes inputs that choose rows away from a graph whose rows are picked by the overlay, or by nobody: with what only
/// they are for, where nothing needs them any more, else in favour of all rows.
pub(crate) fn keep_all_rows(graph: &mut GraphProto) {
    for name in ROWS {
        let Some(place) = graph.input.iter().position(|input| input.name() == name) else {
            continue;
        };
        let needed = Needed::by_outputs(graph);
        if needed.takes(name) {
            let nodes = all_rows(graph, &graph.input[place]);
            graph.node.splice(0..0, nodes);
        } else {
            needed.keep_nodes(graph);
        }
        graph.input.remove(place);
    }
}

/// Nodes that make all rows of the input that chooses some: their number, or a list of them where rows are looked up
/// by it. The number of tokens is right whatever is done with it: a cut that begins so many rows before the end, or at
/// the difference to the length.
fn all_rows(graph: &GraphProto, input: &ValueInfoProto) -> Vec<NodeProto> {
    let name = input.name();
    let tensor = |what: &str| format!("{PREFIX}_{what}_of_{name}");
    let [shape, one, other, count, list] = ["shape", "one", "other", "count", "found"].map(tensor);
    let is_list =
        graph.node.iter().any(|node| node.op_type() == "Gather" && node.input.get(1).is_some_and(|by| by == name));
    let mut nodes = vec![
        operator("Shape", &["input_ids"], &[&shape]),
        constant(&one, integers("", &[], &[1])),
        operator("Gather", &[&shape, &one], &[&count]),
    ];
    let found = if is_list {
        nodes.push(constant(&other, integers("", &[], &[0])));
        nodes.push(operator("Range", &[&other, &count, &one], &[&list]));
        list
    } else if input.dims().is_some_and(|dims| dims.len() == 1) {
        nodes.push(constant(&other, integers("", &[1], &[1])));
        nodes.push(operator("Reshape", &[&count, &other], &[&list]));
        list
    } else {
        count
    };
    let to = input.tensor_type().map_or(onnx::INT64, onnx::type_proto::Tensor::elem_type);
    nodes.push(with(operator("Cast", &[&found], &[name]), vec![int("to", i64::from(to))]));
    nodes
}
