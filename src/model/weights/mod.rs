//! Weights rewritten for the machine at hand: projections of one input become one product, and
//! matrices are quantised where that was asked for.
//!
//! ```text
//! Source (tensors of the old graph) -> products -> groups -> one product each -> DataFile + Edit
//! ```
//!
//! Works on any graph, with plain attention as well as GroupQueryAttention. What is quantised already
//! is only merged; matrices of f16 are widened, since the CPU computes in f32. A matrix whose inputs
//! are no multiple of a block stays as it is.

mod data_file;
mod edit;
mod emit;
mod error;
mod floats;
mod groups;
mod head;
mod kinds;
mod lookups;
mod products;
mod settle;
mod source;
mod widen;

use std::{collections::BTreeSet, fs::File, io::Write as _, path::Path};

use motorbrain_kernels::blocks::Format;
use prost::Message as _;
use serde::Serialize;

pub(crate) use self::head::HeadRows;
use self::{
    data_file::DataFile,
    edit::Edit,
    emit::Emitter,
    groups::{Group, Outlet},
    products::{Blocks, Matrix, Product},
    source::Source,
};
pub use self::{
    error::WeightsError,
    kinds::{UnknownWeights, Weights},
};
use super::{
    ModelError,
    activations::ACTIVATIONS_ENTRY,
    choices,
    external::{self, Home},
    graph::GraphFile,
    lm_head,
    onnx::{self, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto},
    view::View,
};

/// The graph's file in a folder that is written.
pub(crate) const GRAPH: &str = "model.onnx";

/// Initializers need not be inputs from this version of the file format on.
const IR_VERSION_MIN: i64 = 4;

/// What a rewrite did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// Whether anything is another than it was.
    pub changed: bool,
    /// Bits of a number of those matrices that were in blocks before and stay so: each kind once.
    pub kept_bits: BTreeSet<i64>,
    /// Projections that became part of another one.
    pub merged: usize,
    /// Matrices that were quantised.
    pub quantized: usize,
    /// How many inputs of an output share a scale there, at most.
    pub block_size: usize,
    /// Bytes of all weights, those that are shared counted once.
    pub bytes: u64,
}

/// Rewrites the model of a graph file into `folder`, which gets `model.onnx` and `model.onnx.data`.
pub(crate) fn rewrite_file(
    path: &Path,
    folder: &Path,
    (weights, block_size): (Weights, usize),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Rewritten, ModelError> {
    let GraphFile { mut model, mut graph, .. } = resolved(path, &Home::of(path))?;
    let rewritten = rewrite(&mut model, &mut graph, Home::of(path).folder(), folder, (weights, block_size), progress)?;
    model.graph = Some(graph);
    let write = || {
        let mut file = File::create(folder.join(GRAPH))?;
        file.write_all(&model.encode_to_vec())?;
        file.sync_all()
    };
    write().map_err(WeightsError::Write)?;
    Ok(rewritten)
}

/// The bytes of the weights of a graph file, those that several initializers share counted once.
pub(crate) fn bytes_of_file(path: &Path) -> Result<u64, ModelError> {
    let graph = resolved(path, &Home::of(path))?.graph;
    Ok(settle::bytes(&graph)?)
}

/// Reads the rows of a graph file's output projection as numbers, some at a time: what nodes make logits of.
///
/// # Errors
/// There is no such projection, its weights are of a kind that is not understood, or they cannot be read.
pub(crate) fn each_head_row(path: &Path, visit: &mut dyn FnMut(HeadRows<'_>)) -> Result<(), ModelError> {
    let home = Home::of(path);
    let graph = resolved(path, &home)?.graph;
    let view = View::new(&graph);
    let plan = lm_head::find(&view).map_err(WeightsError::NoLmHead)?;
    let mut source = Source::new(home.folder().to_owned());
    Ok(head::each(&view, plan.projection, &mut source, visit)?)
}

fn resolved(path: &Path, home: &Home) -> Result<GraphFile, ModelError> {
    let mut file = GraphFile::read(path)?;
    external::resolve(&mut file.graph, home)?;
    choices::take_cached_branch(&mut file.graph)?;
    Ok(file)
}

/// Rewrites a model's graph and writes its weights to `model.onnx.data` in `folder`; references of the
/// graph given are relative to `home`, those of the graph it becomes to `folder`.
///
/// `progress` is told, after each step, how many are done and how many there are.
fn rewrite(
    model: &mut ModelProto,
    graph: &mut GraphProto,
    home: &Path,
    folder: &Path,
    (weights, block_size): (Weights, usize),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Rewritten, WeightsError> {
    let mut source = Source::new(home.to_owned());
    let mut data = DataFile::create(folder)?;
    let mut edit = Edit::default();
    let mut rewritten = Rewritten { block_size, ..Rewritten::default() };
    let rounds = graph.node.iter().any(|node| node.int("accuracy_level") == Some(4));
    let widened = {
        let view = View::new(graph);
        let groups = groups::group(&view, products::find(&view));
        let half = |product: &Product| product.weights.dense().is_some_and(|matrix| matrix.half);
        let widened = groups.iter().flat_map(|group| &group.members).any(half);
        let lookups = lookups::find(&view);
        let lm_head = lm_head::find(&view).ok().map(|plan| plan.entry);
        let mut emitter = Emitter { view: &view, source: &mut source, data: &mut data, edit: &mut edit, widened };
        let blocks = groups.iter().flat_map(|group| &group.members).filter_map(|member| member.weights.blocks());
        rewritten.kept_bits = blocks.map(|blocks| blocks.bits).collect();
        for (done, group) in groups.iter().enumerate() {
            rewritten.merged += group.members.len() - 1;
            let first = &group.members[0];
            let format = weights.format(block_size, first.k, lm_head == Some(first.node));
            rewritten.quantized += usize::from(emit(&mut emitter, group, format, &lookups)?);
            progress(done + 1, groups.len());
        }
        widened
    };
    edit.apply(graph);
    settle::settle(graph, &mut source, &mut data, widened)?;
    if widened {
        widen::types(graph);
    }
    import_microsoft(model, graph);
    let says = model.metadata_props.iter().any(|entry| entry.key() == ACTIVATIONS_ENTRY);
    if !rounds && !says {
        // Nothing rounded its activations before; other runtimes may, now that they can.
        model.metadata_props.push(StringStringEntryProto::new(ACTIVATIONS_ENTRY, weights.activations().entry()));
    }
    model.ir_version = model.ir_version.max(Some(IR_VERSION_MIN));
    rewritten.changed = rewritten.merged + rewritten.quantized > 0 || widened || !rounds && !says;
    data.finish()?;
    rewritten.bytes = settle::bytes(graph)?;
    Ok(rewritten)
}

/// Replaces one group; whether its weights were quantised.
fn emit(
    emitter: &mut Emitter<'_, '_>,
    group: &Group,
    format: Option<Format>,
    lookups: &[lookups::Lookup],
) -> Result<bool, WeightsError> {
    let dense: Vec<&Matrix> = group.members.iter().filter_map(|member| member.weights.dense()).collect();
    let blocks: Vec<&Blocks> = group.members.iter().filter_map(|member| member.weights.blocks()).collect();
    let single = group.outlet == Outlet::Whole;
    if dense.is_empty() {
        return if single { Ok(false) } else { emitter.joined(group, &blocks).map(|()| false) };
    }
    let Some(format) = format else {
        if single {
            return Ok(false);
        }
        let rows = emitter.rows(&dense)?;
        return emitter.dense(group, &rows).map(|()| false);
    };
    let rows = emitter.rows(&dense)?;
    let shared = emitter.quantized(group, &rows, format)?;
    for lookup in lookups {
        if single && lookup.is_tied(emitter.view, emitter.source, dense[0], &rows)? {
            lookup.share(emitter, &shared, &rows, format);
        }
    }
    Ok(true)
}

/// ONNX Runtime's own operators need a version, like all others.
fn import_microsoft(model: &mut ModelProto, graph: &GraphProto) {
    let uses = graph.node.iter().any(|node| node.domain() == onnx::MICROSOFT);
    if uses && !model.opset_import.iter().any(|set| set.domain() == onnx::MICROSOFT) {
        model.opset_import.push(OperatorSetIdProto { domain: Some(onnx::MICROSOFT.to_owned()), version: Some(1) });
    }
}
