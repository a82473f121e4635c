//! The contract: the names, types and shapes that a model's graph takes and gives.
//!
//! Read from the graph, which is the truth; the config files are asked only for a size that the
//! graph leaves open. Whether a preset agrees is for `presets.rs`.

use std::{collections::BTreeMap, fmt};

use super::{
    onnx::{self, ValueInfoProto},
    view::View,
};

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

/// Element types that tensors of the contract may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
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

/// Why a graph cannot be served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// Inputs or outputs that every cached language model has are absent.
    #[error("the graph is not a language model with a KV cache: it lacks {}", list(missing))]
    NotALanguageModel {
        /// The names that were looked for.
        missing: Vec<String>,
    },
    /// An input that nobody would fill.
    #[error("the graph takes an input `{input}` that this version does not know")]
    UnknownInput {
        /// Its name.
        input: String,
    },
    /// Layers are numbered from 0 without a gap.
    #[error("the graph has keys for layer {last}, but none for layer {missing}")]
    LayerGap {
        /// The first number without keys.
        missing: usize,
        /// The highest number with keys.
        last: usize,
    },
    /// A cache tensor without its counterpart.
    #[error("the graph has `{present}`, but not `{missing}`")]
    Unpaired {
        /// What it has.
        present: String,
        /// What it lacks.
        missing: String,
    },
    /// A type that the engine does not handle.
    #[error("`{tensor}` has elements of type {found}, expected {expected}")]
    ElementType {
        /// The input or output.
        tensor: String,
        /// What the graph says.
        found: &'static str,
        /// What can be served.
        expected: &'static str,
    },
    /// A shape that the engine does not handle.
    #[error("`{tensor}` has {found} dimensions, expected {expected}")]
    Rank {
        /// The input or output.
        tensor: String,
        /// What the graph says.
        found: usize,
        /// What the contract asks.
        expected: usize,
    },
    /// Layers that differ from one another.
    #[error("`{tensor}` has {found} {what}, those before it {expected}")]
    Unequal {
        /// The input.
        tensor: String,
        /// KV heads or elements a head.
        what: &'static str,
        /// This tensor's.
        found: usize,
        /// The earlier tensors'.
        expected: usize,
    },
    /// A size that neither the graph nor a config file tells.
    #[error("neither the graph nor a config file tells the {what}")]
    UnknownSize {
        /// KV heads, head size or vocabulary.
        what: &'static str,
    },
}

impl ContractError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotALanguageModel { .. } => {
                "export a decoder with its cache (`text-generation-with-past` in optimum, or the onnxruntime-genai builder)"
            }
            Self::UnknownInput { .. } => "export the model without it, or choose another file with `model.file`",
            Self::LayerGap { .. } | Self::Unpaired { .. } | Self::Unequal { .. } | Self::Rank { .. } => {
                "export the model again; the graph looks damaged or is of a kind not supported"
            }
            Self::ElementType { .. } => "export the model with f32 or f16 inputs and outputs",
            Self::UnknownSize { .. } => "put the model's config.json beside it",
        };
        Some(hint.into())
    }
}

/// Sizes from the config files, for what a graph leaves open, and how its caches are named.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fallback {
    pub(crate) kv_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) vocab: Option<usize>,
    /// Patterns with `%d` where they are not the usual ones.
    pub(crate) naming: Option<Naming>,
}

/// How cache tensors are named; `%d` stands for the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) past_key: String,
    pub(crate) past_value: String,
    pub(crate) present_key: String,
    pub(crate) present_value: String,
}

impl Default for Naming {
    fn default() -> Self {
        Self {
            past_key: "past_key_values.%d.key".into(),
            past_value: "past_key_values.%d.value".into(),
            present_key: "present.%d.key".into(),
            present_value: "present.%d.value".into(),
        }
    }
}

/// What the head says of the graph, where it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeadFacts {
    pub(crate) hidden: usize,
    pub(crate) hidden_type: ElementType,
}

impl Contract {
    /// Reads the contract of a graph.
    pub(crate) fn read(view: &View<'_>, head: Option<HeadFacts>, fallback: &Fallback) -> Result<Self, ContractError> {
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
        Ok(Self {
            inputs: view.inputs().count(),
            layers,
            kv_heads,
            head_dim,
            hidden: head.map(|head| head.hidden),
            vocab: vocab.ok_or(ContractError::UnknownSize { what: "size of the vocabulary" })?,
            family: if attention.is_some() { Family::GroupQueryAttention } else { Family::Plain },
            position_ids: graph.inputs.contains_key("position_ids"),
            attention_mask: graph.inputs.contains_key("attention_mask"),
            logits_type: float_type(graph.outputs["logits"])?,
            hidden_type: head.map(|head| head.hidden_type),
            kv,
            quantized_activations: view.graph.node.iter().any(|node| match node.op_type() {
                "MatMulNBits" => node.int("accuracy_level") == Some(4),
                operator => operator.starts_with("DynamicQuantize"),
            }),
        })
    }

    /// Bytes of keys and values that one token of context takes.
    pub fn kv_bytes_per_token(&self) -> usize {
        let elements = self.kv_heads * self.head_dim;
        self.kv.iter().map(|kv| elements * (kv.key_type.bytes() + kv.value_type.bytes())).sum()
    }
}

impl ElementType {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The number of the type in the schema.
    pub(crate) const fn schema_number(self) -> i32 {
        match self {
            Self::F32 => onnx::FLOAT,
            Self::F16 => onnx::FLOAT16,
        }
    }

    /// The type of that number in the schema, where it is one of the two.
    pub(crate) const fn of(elem_type: i32) -> Option<Self> {
        match elem_type {
            onnx::FLOAT => Some(Self::F32),
            onnx::FLOAT16 => Some(Self::F16),
            _ => None,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
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

/// The graph's inputs and outputs by name.
struct Io<'g> {
    inputs: BTreeMap<&'g str, &'g ValueInfoProto>,
    outputs: BTreeMap<&'g str, &'g ValueInfoProto>,
}

impl<'g> Io<'g> {
    fn of(view: &View<'g>) -> Self {
        let outputs = view.graph.output.iter();
        Self {
            inputs: view.inputs().map(|value| (value.name(), value)).collect(),
            outputs: outputs.map(|value| (value.name(), value)).collect(),
        }
    }

    /// The usual names, unless only those of the config file are there.
    fn naming(&self, fallback: &Fallback) -> Naming {
        let usual = Naming::default();
        let has = |naming: &Naming| self.inputs.keys().any(|name| layer_of(&naming.past_key, name).is_some());
        match &fallback.naming {
            Some(naming) if !has(&usual) && has(naming) => naming.clone(),
            _ => usual,
        }
    }

    /// How many layers there are; also that everything else a language model has is there.
    fn layers(&self, naming: &Naming) -> Result<usize, ContractError> {
        let mut missing = Vec::new();
        let mut expect = |there: bool, name: &str| {
            if !there {
                missing.push(name.to_owned());
            }
        };
        let (key, present) = (name_of(&naming.past_key, 0), name_of(&naming.present_key, 0));
        let mut layers: Vec<usize> = self.inputs.keys().filter_map(|name| layer_of(&naming.past_key, name)).collect();
        expect(self.inputs.contains_key("input_ids"), "input_ids");
        expect(!layers.is_empty(), &key);
        expect(self.outputs.contains_key("logits"), "logits");
        expect(self.outputs.keys().any(|name| layer_of(&naming.present_key, name).is_some()), &present);
        if !missing.is_empty() {
            return Err(ContractError::NotALanguageModel { missing });
        }
        layers.sort_unstable();
        match layers.iter().enumerate().find(|&(index, &layer)| index != layer) {
            Some((missing, _)) => Err(ContractError::LayerGap { missing, last: layers[layers.len() - 1] }),
            None => Ok(layers.len()),
        }
    }

    /// Every input is one that the engine fills, of the type it fills in.
    fn check_inputs(&self, naming: &Naming, layers: usize) -> Result<(), ContractError> {
        for (&input, value) in &self.inputs {
            match input {
                "input_ids" | "attention_mask" | "position_ids" => {
                    let found = value.tensor_type().map_or(0, onnx::type_proto::Tensor::elem_type);
                    if found != onnx::INT64 {
                        let (tensor, found) = (input.to_owned(), type_name(found));
                        return Err(ContractError::ElementType { tensor, found, expected: "i64" });
                    }
                    check_rank(value, 2)?;
                }
                _ if layer_of(&naming.past_key, input).is_some() => {}
                _ => match layer_of(&naming.past_value, input) {
                    Some(layer) if layer < layers => {}
                    Some(layer) => {
                        let missing = name_of(&naming.past_key, layer);
                        return Err(ContractError::Unpaired { present: input.to_owned(), missing });
                    }
                    None => {
                        return Err(ContractError::UnknownInput { input: input.to_owned() });
                    }
                },
            }
        }
        check_rank(self.outputs["logits"], 3)
    }

    /// The cache tensors of one layer.
    fn kv_names(&self, naming: &Naming, layer: usize) -> Result<KvNames, ContractError> {
        let past_key = name_of(&naming.past_key, layer);
        let find = |values: &BTreeMap<&str, &'g ValueInfoProto>, pattern: &str| {
            let missing = name_of(pattern, layer);
            match values.get(missing.as_str()) {
                Some(&value) => Ok(value),
                None => Err(ContractError::Unpaired { present: past_key.clone(), missing }),
            }
        };
        let past_value = find(&self.inputs, &naming.past_value)?;
        let present_key = find(&self.outputs, &naming.present_key)?;
        let present_value = find(&self.outputs, &naming.present_value)?;
        Ok(KvNames {
            key_type: same_type(self.inputs[past_key.as_str()], present_key)?,
            value_type: same_type(past_value, present_value)?,
            past_value: past_value.name().to_owned(),
            present_key: present_key.name().to_owned(),
            present_value: present_value.name().to_owned(),
            past_key,
        })
    }

    /// The size of one dimension of all past tensors, where the graph fixes it.
    fn common(&self, kv: &[KvNames], axis: usize, what: &'static str) -> Result<Option<usize>, ContractError> {
        let mut common = None;
        for name in kv.iter().flat_map(|kv| [&kv.past_key, &kv.past_value]) {
            let value = self.inputs[name.as_str()];
            check_rank(value, 4)?;
            let Some(found) = value.dims().and_then(|dims| dims.get(axis)?.fixed()) else {
                continue;
            };
            let expected = *common.get_or_insert(found);
            if found != expected {
                return Err(ContractError::Unequal { tensor: name.clone(), what, found, expected });
            }
        }
        Ok(common)
    }
}

/// The head size of a GroupQueryAttention node whose cache shapes leave it open: from the width of
/// its (packed) query, else from its rotation tables (half a head wide).
fn attention_head_dim(view: &View<'_>, node: &onnx::NodeProto) -> Option<usize> {
    let heads = usize::try_from(node.int("num_heads")?).ok()?;
    let kv_heads = usize::try_from(node.int("kv_num_heads")?).ok()?;
    let input = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
    let packed = if input(1).is_none() { heads + 2 * kv_heads } else { heads };
    let query = input(0).and_then(|query| view.width(query)).filter(|width| width % packed == 0);
    query.map(|width| width / packed).or_else(|| Some(2 * view.width(input(7)?)?))
}

/// `past_key_values.3.key` from `past_key_values.%d.key` and 3.
fn name_of(pattern: &str, layer: usize) -> String {
    pattern.replacen("%d", &layer.to_string(), 1)
}

/// 3 from `past_key_values.%d.key` and `past_key_values.3.key`.
fn layer_of(pattern: &str, name: &str) -> Option<usize> {
    let (prefix, suffix) = pattern.split_once("%d")?;
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let layer = digits.parse().ok()?;
    (name_of(pattern, layer) == name).then_some(layer)
}

fn check_rank(value: &ValueInfoProto, expected: usize) -> Result<(), ContractError> {
    match value.dims() {
        Some(dims) if dims.len() != expected => {
            Err(ContractError::Rank { tensor: value.name().to_owned(), found: dims.len(), expected })
        }
        _ => Ok(()),
    }
}

fn float_type(value: &ValueInfoProto) -> Result<ElementType, ContractError> {
    let found = value.tensor_type().map_or(0, onnx::type_proto::Tensor::elem_type);
    ElementType::of(found).ok_or_else(|| ContractError::ElementType {
        tensor: value.name().to_owned(),
        found: type_name(found),
        expected: "f32 or f16",
    })
}

/// The type of a past tensor, which its present tensor must share.
fn same_type(past: &ValueInfoProto, present: &ValueInfoProto) -> Result<ElementType, ContractError> {
    let (expected, found) = (float_type(past)?, float_type(present)?);
    if expected == found {
        return Ok(expected);
    }
    let name = |element| match element {
        ElementType::F32 => "f32",
        ElementType::F16 => "f16",
    };
    let tensor = present.name().to_owned();
    Err(ContractError::ElementType { tensor, found: name(found), expected: name(expected) })
}

/// The schema's element types as people write them.
fn type_name(elem_type: i32) -> &'static str {
    match elem_type {
        1 => "f32",
        2 => "u8",
        3 => "i8",
        6 => "i32",
        7 => "i64",
        9 => "bool",
        10 => "f16",
        11 => "f64",
        16 => "bf16",
        0 => "undefined",
        _ => "another kind",
    }
}

/// `` `a`, `b` and `c` ``.
fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
