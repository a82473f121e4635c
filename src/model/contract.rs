//! The contract: the names, types and shapes that a model's graph takes and gives.
//!
//! Read from the graph, which is the truth; the config files are asked only for a size that the
//! graph leaves open. Whether a preset agrees is for `presets.rs`.

use std::fmt;

pub use motorbrain_kernels::ElementType;

use super::{
    contract_error::ContractError,
    io::{Io, float_type},
    naming::Naming,
    onnx::{self, NodeProto},
    view::View,
};

/// More heads, and more numbers of one, than any model has: sizes are multiplied with each other, and memory is asked
/// for by them.
const HEAD_SIZE_MAX: usize = 1 << 16;
/// More numbers of a hidden state, and more tokens of a vocabulary, than any model has.
const ROW_MAX: usize = 1 << 28;

/// What a model's graph takes and gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// Inputs of the model's own graph, those of the overlay not counted: 51 for 24 layers with
    /// `position_ids`.
    pub inputs: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Heads of keys and values in each layer.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of a hidden state; `None` where the graph gives none.
    pub hidden: Option<usize>,
    /// Rows of the vocabulary: the last dimension of `logits`.
    pub vocab: usize,
    /// How keys and values grow.
    pub family: Family,
    /// Whether the graph takes `position_ids` [batch, seq].
    pub position_ids: bool,
    /// Whether the graph takes `attention_mask` [batch, past + seq].
    pub attention_mask: bool,
    /// Type of `logits`.
    pub logits_type: ElementType,
    /// Type of the hidden states; `None` where the graph gives none.
    pub hidden_type: Option<ElementType>,
    /// One entry a layer, in order.
    pub kv: Vec<KvNames>,
    /// Whether activations are quantised on the way (MatMulNBits at accuracy level 4, dynamic
    /// quantisation): then a token read in a prefill and the same token decoded alone differ.
    pub quantized_activations: bool,
}

/// The two families of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Standard operators; past and new keys and values are concatenated.
    Plain,
    /// com.microsoft GroupQueryAttention: one buffer for past and present, right-padded rows; more
    /// than one new token on a non-empty past only with batch 1.
    GroupQueryAttention,
}

/// One layer's cache tensors, each [batch, kv_heads, tokens, head_dim]: their names and types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvNames {
    /// Input: keys of past tokens.
    pub past_key: String,
    /// Input: values of past tokens.
    pub past_value: String,
    /// Output: keys of past and new tokens.
    pub present_key: String,
    /// Output: values of past and new tokens.
    pub present_value: String,
    /// Type of both key tensors.
    pub key_type: ElementType,
    /// Type of both value tensors.
    pub value_type: ElementType,
}

/// Sizes from the config files, for what a graph leaves open, and how its caches are named.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fallback {
    /// Heads of keys and values.
    pub(crate) kv_heads: Option<usize>,
    /// Width of one head.
    pub(crate) head_dim: Option<usize>,
    /// Rows of the vocabulary.
    pub(crate) vocab: Option<usize>,
    /// Patterns with `%d` where they are not the usual ones.
    pub(crate) naming: Option<Naming>,
}

/// What the LM head says of the graph, where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LmHeadFacts {
    /// Width of a hidden state.
    pub(crate) hidden: usize,
    /// What hidden states are kept in.
    pub(crate) hidden_type: ElementType,
}

impl Contract {
    /// Reads the contract of a graph.
    pub(crate) fn read(
        view: &View<'_>,
        lm_head: Option<LmHeadFacts>,
        fallback: &Fallback,
    ) -> Result<Self, ContractError> {
        let graph = Io::of(view);
        let naming = graph.naming(fallback);
        let layers = graph.layers(&naming)?;
        graph.check_inputs(&naming, layers)?;
        let kv = (0..layers).map(|layer| graph.kv_names(&naming, layer)).collect::<Result<Vec<_>, _>>()?;
        let attention = view.graph.node.iter().find(|node| node.op_type() == "GroupQueryAttention");
        let kv_heads = graph
            .common(&kv, 1, "KV heads")?
            .or_else(|| attention.and_then(|node| usize::try_from(node.int("kv_num_heads")?).ok()))
            .or(fallback.kv_heads)
            .ok_or(ContractError::UnknownSize { what: "number of KV heads" })?;
        let head_dim = graph
            .common(&kv, 3, "elements a head")?
            .or_else(|| attention.and_then(|node| attention_head_dim(view, node)))
            .or(fallback.head_dim)
            .ok_or(ContractError::UnknownSize { what: "head size" })?;
        let vocab = view.width("logits").or(fallback.vocab);
        let vocab = vocab.ok_or(ContractError::UnknownSize { what: "size of the vocabulary" })?;
        check_size("KV heads", kv_heads, HEAD_SIZE_MAX)?;
        check_size("elements a head", head_dim, HEAD_SIZE_MAX)?;
        check_size("elements a hidden state", lm_head.map_or(1, |facts| facts.hidden), ROW_MAX)?;
        check_size("rows of the vocabulary", vocab, ROW_MAX)?;
        Ok(Self {
            inputs: view.inputs().count(),
            layers,
            kv_heads,
            head_dim,
            hidden: lm_head.map(|facts| facts.hidden),
            vocab,
            family: if attention.is_some() { Family::GroupQueryAttention } else { Family::Plain },
            position_ids: graph.inputs.contains_key("position_ids"),
            attention_mask: graph.inputs.contains_key("attention_mask"),
            logits_type: float_type(graph.outputs["logits"])?,
            hidden_type: lm_head.map(|facts| facts.hidden_type),
            kv,
            quantized_activations: view.graph.node.iter().any(quantizes_activations),
        })
    }

    /// Bytes of keys and values that one token of context takes.
    pub fn kv_bytes_per_token(&self) -> usize {
        let elements = self.kv_heads.saturating_mul(self.head_dim);
        self.kv.iter().map(|kv| elements.saturating_mul(kv.key_type.bytes() + kv.value_type.bytes())).sum()
    }
}

fn check_size(what: &'static str, found: usize, most: usize) -> Result<(), ContractError> {
    if (1..=most).contains(&found) { Ok(()) } else { Err(ContractError::Size { what, found, most }) }
}

/// The number of a type in the schema.
pub(crate) const fn schema_number(element: ElementType) -> i32 {
    match element {
        ElementType::F32 => onnx::FLOAT,
        ElementType::F16 => onnx::FLOAT16,
    }
}

/// The type of that number in the schema, where it is one of the two.
pub(crate) const fn element_type(number: i32) -> Option<ElementType> {
    match number {
        onnx::FLOAT => Some(ElementType::F32),
        onnx::FLOAT16 => Some(ElementType::F16),
        _ => None,
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::GroupQueryAttention => "GroupQueryAttention",
        })
    }
}

/// The head size of a GroupQueryAttention node whose cache shapes leave it open: from the width of
/// its (packed) query, else from its rotation tables (half a head wide).
fn attention_head_dim(view: &View<'_>, node: &NodeProto) -> Option<usize> {
    let count = |name| usize::try_from(node.int(name)?).ok();
    let input = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
    let (heads, kv_heads) = (count("num_heads")?, count("kv_num_heads")?);
    let packed = match input(1) {
        Some(_) => heads,
        None => heads.checked_add(kv_heads.checked_mul(2)?)?,
    };
    let query = input(0).and_then(|query| view.width(query));
    let from_query = query.filter(|width| width.checked_rem(packed) == Some(0));
    let from_query = from_query.map(|width| width / packed);
    from_query.or_else(|| view.width(input(7)?)?.checked_mul(2))
}

/// Whether a node rounds activations to few bits.
fn quantizes_activations(node: &NodeProto) -> bool {
    match node.op_type() {
        "MatMulNBits" => node.int("accuracy_level") == Some(4),
        // ONNX Runtime fuses these with the product behind them, at level 4.
        "DequantizeLinear" => node.int("block_size").is_some_and(|size| size > 0),
        operator => operator.starts_with("DynamicQuantize"),
    }
}
