//! What stands before the tensors of a safetensors file: 8 bytes of length, and JSON that says of each tensor its type,
//! its shape and where it lies behind the header, beside metadata, which are text. Tensors follow each other without
//! holes. (<https://github.com/huggingface/safetensors>, "Format".)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TransferError;

/// The longest header. The format allows 100 MB; of the longest conversation ours has some hundred kilobytes, and what is
/// read of JSON takes many times its length.
pub(super) const HEADER_MAX: u64 = 4 << 20;

/// Bytes before the header.
pub(super) const LENGTH: usize = size_of::<u64>();

/// Types that our tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Type {
    U8,
    U32,
}

impl Type {
    fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::U32 => 4,
        }
    }
}

/// A tensor as the header tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    dtype: Type,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// A tensor of one dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) dtype: Type,
    /// How many numbers it has.
    pub(super) len: u64,
    /// Bytes between the header and it.
    pub(super) start: u64,
}

impl Tensor {
    pub(super) fn bytes(&self) -> u64 {
        self.len.saturating_mul(self.dtype.bytes())
    }
}

#[derive(Serialize, Deserialize)]
struct Json {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Told>,
}

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    /// By their names.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Bytes of all of them.
    bytes: u64,
}

impl Header {
    /// Without tensors.
    pub(super) fn new(metadata: BTreeMap<String, String>) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// One that lies behind the others.
    pub(super) fn add(&mut self, name: String, dtype: Type, len: usize) {
        let tensor = Tensor { dtype, len: len as u64, start: self.bytes };
        self.bytes += tensor.bytes();
        self.tensors.insert(name, tensor);
    }

    /// With its length before it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let told = self.tensors.iter().map(|(name, tensor)| {
            let Tensor { dtype, len, start } = *tensor;
            (name.clone(), Told { dtype, shape: vec![len], data_offsets: (start, start + tensor.bytes()) })
        });
        let json = Json { metadata: self.metadata.clone(), tensors: told.collect() };
        let mut text = serde_json::to_vec(&json).unwrap_or_else(|_| unreachable!("text and numbers are JSON"));
        // Tensors begin where any number could.
        text.resize(text.len().next_multiple_of(LENGTH), b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }

    /// Of the JSON of a file that has `data` bytes behind it.
    pub(super) fn decode(json: &[u8], data: u64) -> Result<Self, TransferError> {
        let Json { metadata, tensors } =
            serde_json::from_slice(json).map_err(|_| TransferError::NoConversation { why: "it is not safetensors" })?;
        let told = tensors.into_iter().map(|(name, Told { dtype, shape, data_offsets: (start, end) })| {
            let [len] = shape[..] else { return Err(TransferError::Malformed { why: "a tensor is not one row" }) };
            let tensor = Tensor { dtype, len, start };
            if end.checked_sub(start) != Some(tensor.bytes()) {
                return Err(TransferError::Malformed { why: "a tensor does not lie where it says" });
            }
            Ok((name, tensor))
        });
        let tensors = told.collect::<Result<BTreeMap<_, _>, _>>()?;
        let mut places: Vec<(u64, u64)> = tensors.values().map(|tensor| (tensor.start, tensor.bytes())).collect();
        places.sort_unstable();
        let mut bytes = 0;
        for (start, its) in places {
            if start != bytes {
                return Err(TransferError::Malformed { why: "its tensors do not follow each other" });
            }
            // Their ends were numbers.
            bytes += its;
        }
        if bytes != data {
            return Err(TransferError::Cut { found: data, expected: bytes });
        }
        Ok(Self { metadata, tensors, bytes })
    }
}
