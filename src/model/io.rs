//! The inputs and outputs of a graph: that those of a language model are there, of the types and
//! ranks that the engine fills and reads.

use std::collections::BTreeMap;

use super::{
    choices,
    contract::{ElementType, Fallback, KvNames, element_type},
    contract_error::ContractError,
    naming::{Naming, layer_of, name_of},
    onnx::{self, Dimension, ValueInfoProto},
    view::View,
};

/// The graph's inputs and outputs by name.
pub(crate) struct Io<'g> {
    /// What a run is given, by name; constants are left out.
    pub(crate) inputs: BTreeMap<&'g str, &'g ValueInfoProto>,
    /// What a run gives, by name.
    pub(crate) outputs: BTreeMap<&'g str, &'g ValueInfoProto>,
}

impl<'g> Io<'g> {
    /// Those of a graph.
    pub(crate) fn of(view: &View<'g>) -> Self {
        let outputs = view.graph.output.iter();
        Self {
            inputs: view.inputs().map(|value| (value.name(), value)).collect(),
            outputs: outputs.map(|value| (value.name(), value)).collect(),
        }
    }

    /// The usual names, unless only those of the config file are there.
    pub(crate) fn naming(&self, fallback: &Fallback) -> Naming {
        let usual = Naming::default();
        let has = |naming: &Naming| self.inputs.keys().any(|name| layer_of(&naming.past_key, name).is_some());
        match &fallback.naming {
            Some(naming) if !has(&usual) && has(naming) => naming.clone(),
            _ => usual,
        }
    }

    /// How many layers there are; also that everything else a language model has is there.
    pub(crate) fn layers(&self, naming: &Naming) -> Result<usize, ContractError> {
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
    pub(crate) fn check_inputs(&self, naming: &Naming, layers: usize) -> Result<(), ContractError> {
        for (&input, value) in &self.inputs {
            match input {
                "input_ids" | "attention_mask" | "position_ids" => {
                    let found = value.tensor_type().map_or(0, onnx::type_proto::Tensor::elem_type);
                    if found != onnx::INT64 {
                        let (tensor, found) = (input.to_owned(), type_name(found));
                        return Err(ContractError::ElementType { tensor, found, expected: "i64" });
                    }
                    check_rank(value, 2)?;
                    check_open(value, &[1], "one row of any length, [batch, sequence]")?;
                }
                _ if choices::ROWS.contains(&input) => {
                    let found = value.tensor_type().map_or(0, onnx::type_proto::Tensor::elem_type);
                    if found != onnx::INT64 && found != onnx::INT32 {
                        let (tensor, found) = (input.to_owned(), type_name(found));
                        return Err(ContractError::ElementType { tensor, found, expected: "i64" });
                    }
                    if value.dims().is_some_and(|dims| dims.len() > 1) {
                        check_rank(value, 1)?;
                    }
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
    pub(crate) fn kv_names(&self, naming: &Naming, layer: usize) -> Result<KvNames, ContractError> {
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
    pub(crate) fn common(
        &self,
        kv: &[KvNames],
        axis: usize,
        what: &'static str,
    ) -> Result<Option<usize>, ContractError> {
        let mut common = None;
        for name in kv.iter().flat_map(|kv| [&kv.past_key, &kv.past_value]) {
            let value = self.inputs[name.as_str()];
            check_rank(value, 4)?;
            check_open(value, &[2], "a cache of any length, [batch, heads, tokens, head size]")?;
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

fn check_rank(value: &ValueInfoProto, expected: usize) -> Result<(), ContractError> {
    match value.dims() {
        Some(dims) if dims.len() != expected => {
            Err(ContractError::Rank { tensor: value.name().to_owned(), found: dims.len(), expected })
        }
        _ => Ok(()),
    }
}

/// The first dimension is 1 or chosen by each run, and those of `axes` are chosen by each run.
fn check_open(value: &ValueInfoProto, axes: &[usize], expected: &'static str) -> Result<(), ContractError> {
    let dims = value.dims().unwrap_or_default();
    let fixed = |axis: usize| dims.get(axis).and_then(Dimension::fixed);
    if fixed(0).is_none_or(|batch| batch == 1) && axes.iter().all(|&axis| fixed(axis).is_none()) {
        return Ok(());
    }
    let found: Vec<String> = dims.iter().map(Dimension::to_string).collect();
    Err(ContractError::FixedSize { tensor: value.name().to_owned(), found: found.join(", "), expected })
}

/// The type of a tensor that has to be one of floats.
pub(crate) fn float_type(value: &ValueInfoProto) -> Result<ElementType, ContractError> {
    let found = value.tensor_type().map_or(0, onnx::type_proto::Tensor::elem_type);
    element_type(found).ok_or_else(|| ContractError::ElementType {
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
