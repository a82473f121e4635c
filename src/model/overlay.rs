//! The overlay: the edited graph that is really run. The model's own nodes, its weights outside, and
//! two edits at the LM head: the hidden states go out, and only picked rows go through the projection.
//!
//! ```text
//! hidden_states [batch, seq, hidden] -> Reshape [batch * seq, hidden] -> Gather by row_index [rows]
//!                                                   -> projection -> logits [rows, vocab]
//! ```
//!
//! An embed asks for no rows; a step for one of each sequence that samples.

use std::{collections::BTreeSet, path::PathBuf};

use prost::Message;

use super::{
    build::{constant, integers, operator},
    choices,
    contract::{Contract, schema_number},
    external::{self, Home},
    graph::GraphFile,
    initializers::{self, Initializer},
    lm_head::{LmHeadPlan, NoLmHead},
    onnx::{self, Dimension, GraphProto, NodeProto, ValueInfoProto},
    paged::{NotPaged, Paged},
    view::View,
};

/// What the overlay may call its output, the usual name first.
const HIDDEN_STATES: [&str; 2] = ["hidden_states", "motorbrain_hidden_states"];
/// What the overlay may call its input, the usual name first.
const ROW_INDEX: [&str; 2] = ["row_index", "motorbrain_row_index"];
const ROW_SHAPE: &str = "motorbrain_row_shape";
const FLAT_ROWS: &str = "motorbrain_flat_rows";
const PICKED_ROWS: &str = "motorbrain_picked_rows";

/// The graph that a session loads.
#[derive(Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The edited graph, an ONNX model whose weights lie outside.
    pub bytes: Vec<u8>,
    /// Where they lie: the value of `session.model_external_initializers_file_folder_path`.
    pub folder: PathBuf,
    /// What was added at the LM head. `None`: the logits are no projection of hidden states; the graph is
    /// the model's own, steps work and embeds do not.
    pub lm_head: Option<LmHead>,
    /// The form in which many conversations share a run, or why there is none.
    pub paged: Result<Paged, NotPaged>,
    /// The files that weights lie in, relative to the folder: the graph file itself where it has weights.
    pub(crate) data_files: BTreeSet<PathBuf>,
    /// Its constants that lie in files.
    pub(crate) constants: Vec<Initializer>,
}

/// The LM head as the overlay cuts it: what is added to the model's own inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LmHead {
    /// Output: hidden states after the final norm, [batch, seq, hidden].
    pub hidden_output: &'static str,
    /// Input: which rows of [batch * seq] get logits, i64 `[rows]`. `logits` is then
    /// `[rows, vocab]`.
    pub row_index: &'static str,
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay")
            .field("bytes", &self.bytes.len())
            .field("folder", &self.folder)
            .field("lm_head", &self.lm_head)
            .field("paged", &self.paged)
            .finish()
    }
}

/// The names that the cut at the LM head adds, if they are free.
pub(crate) fn name_lm_head(view: &View<'_>) -> Result<LmHead, NoLmHead> {
    let free = |names: [&'static str; 2]| names.into_iter().find(|name| !view.knows(name));
    for name in [ROW_SHAPE, FLAT_ROWS, PICKED_ROWS] {
        if view.knows(name) {
            return Err(NoLmHead::NameTaken { name });
        }
    }
    Ok(LmHead {
        hidden_output: free(HIDDEN_STATES).ok_or(NoLmHead::NameTaken { name: HIDDEN_STATES[1] })?,
        row_index: free(ROW_INDEX).ok_or(NoLmHead::NameTaken { name: ROW_INDEX[1] })?,
    })
}

impl Overlay {
    /// Edits a graph file whose contract was read.
    pub(crate) fn build(
        file: GraphFile,
        home: &Home,
        lm_head: Option<(LmHead, LmHeadPlan)>,
        contract: &Contract,
    ) -> Self {
        let GraphFile { bytes, mut model, mut graph } = file;
        let lm_head = lm_head.map(|(names, plan)| {
            edit(&mut graph, names, plan, contract);
            names
        });
        choices::keep_all_rows(&mut graph);
        graph.node.iter_mut().for_each(grow_whole_caches);
        external::point_into(&mut graph, &bytes, home);
        let data_files = external::files_of(&mut graph);
        let constants = initializers::external(&graph);
        model.graph = Some(graph);
        let bytes = model.encode_to_vec();
        let paged = Paged::build(model, contract, lm_head.as_ref());
        Self { bytes, folder: home.folder().to_owned(), lm_head, paged, data_files, constants }
    }
}

/// The two edits at the LM head.
fn edit(graph: &mut GraphProto, names: LmHead, plan: LmHeadPlan, contract: &Contract) {
    let LmHeadPlan { hidden_states, facts, entry, unflatten, stale, .. } = plan;
    graph.value_info.retain(|value| !stale.contains(value.name()));
    for index in unflatten {
        let node = &mut graph.node[index];
        node.op_type = Some("Identity".into());
        node.input.truncate(1);
        node.attribute.clear();
    }
    graph.node[entry].input[0] = PICKED_ROWS.into();
    let added = [
        constant(ROW_SHAPE, integers("", &[2], &[-1, i64::try_from(facts.hidden).unwrap_or(i64::MAX)])),
        operator("Reshape", &[&hidden_states, ROW_SHAPE], &[FLAT_ROWS]),
        operator("Gather", &[FLAT_ROWS, names.row_index], &[PICKED_ROWS]),
        operator("Identity", &[&hidden_states], &[names.hidden_output]),
    ];
    graph.node.splice(entry..entry, added);

    let rows = || Dimension::named("rows");
    graph.input.push(ValueInfoProto::tensor(names.row_index, onnx::INT64, vec![rows()]));
    let sequence = graph.input.iter().find(|input| input.name() == "input_ids").and_then(|ids| ids.dims());
    let mut shape = sequence
        .map_or_else(|| vec![Dimension::named("batch_size"), Dimension::named("sequence_length")], <[_]>::to_vec);
    shape.push(Dimension::size(facts.hidden));
    let elem_type = schema_number(facts.hidden_type);
    graph.output.push(ValueInfoProto::tensor(names.hidden_output, elem_type, shape));
    for logits in graph.output.iter_mut().filter(|output| output.name() == "logits") {
        let elem_type = schema_number(contract.logits_type);
        let shape = vec![rows(), Dimension::size(contract.vocab)];
        logits.r#type = ValueInfoProto::tensor("logits", elem_type, shape).r#type;
    }
}

/// Lets an attention keep all keys and values. onnxruntime-genai marks layers with a window of their own by
/// `sliding_window_cache`, so that their caches are buffers of the window's size that somebody else turns: a cache that
/// grows is refused inside the runtime (onnxruntime-genai issue 2334, onnxruntime issue 29904). The window itself is
/// another attribute and stays.
fn grow_whole_caches(node: &mut NodeProto) {
    if node.op_type() == "GroupQueryAttention" {
        node.attribute.retain(|attribute| attribute.name() != "sliding_window_cache");
    }
}
