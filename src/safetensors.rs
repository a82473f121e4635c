//! What stands before the tensors of a safetensors file: 8 bytes of length, and JSON that says of each tensor its type,
//! its shape and where it lies behind the header, beside metadata, which are text. Tensors follow each other without
//! holes. (<https://github.com/huggingface/safetensors>, "Format".)
//!
//! The crate of that name wants all of a file in memory, or mapped, before it looks at it. Here a header is compared with
//! the file's length first, and whoever reads on knows how much there can be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The longest header. The format allows 100 MB; of the longest conversation ours has some hundred kilobytes, and what is
/// read of JSON takes many times its length.
pub(crate) const HEADER_MAX: u64 = 4 << 20;

/// Bytes before the header.
pub(crate) const LENGTH: usize = size_of::<u64>();

/// Types that our tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Type {
    U8,
    U32,
    F16,
    F32,
    F64,
}

/// Why bytes are no header, or not that of a file of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// They are no such JSON.
    NoSafetensors,
    /// It says what cannot be.
    Malformed(&'static str),
    /// The file has fewer bytes of tensors, or more, than it says.
    Length { found: u64, expected: u64 },
}

impl Type {
    fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::U32 | Self::F32 => 4,
            Self::F64 => 8,
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

/// A tensor of one dimension, or of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Type,
    /// How many numbers it has.
    pub(crate) len: u64,
    /// The second dimension, where there is one.
    pub(crate) columns: Option<u64>,
    /// Bytes between the header and it.
    pub(crate) start: u64,
}

impl Tensor {
    pub(crate) fn bytes(&self) -> u64 {
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
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, String>,
    /// By their names.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Bytes of all of them.
    bytes: u64,
}

impl Header {
    /// Without tensors.
    pub(crate) fn new(metadata: BTreeMap<String, String>) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// One that lies behind the others.
    pub(crate) fn add(&mut self, name: String, dtype: Type, len: usize) {
        self.put(name, Tensor { dtype, len: len as u64, columns: None, start: self.bytes });
    }

    /// One of two dimensions.
    pub(crate) fn add_matrix(&mut self, name: String, dtype: Type, [rows, columns]: [usize; 2]) {
        let (len, columns) = ((rows * columns) as u64, Some(columns as u64));
        self.put(name, Tensor { dtype, len, columns, start: self.bytes });
    }

    fn put(&mut self, name: String, tensor: Tensor) {
        self.bytes += tensor.bytes();
        self.tensors.insert(name, tensor);
    }

    /// With its length before it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let told = self.tensors.iter().map(|(name, tensor)| {
            let Tensor { dtype, len, columns, start } = *tensor;
            let shape = columns.map_or(vec![len], |columns| vec![len / columns.max(1), columns]);
            (name.clone(), Told { dtype, shape, data_offsets: (start, start + tensor.bytes()) })
        });
        let json = Json { metadata: self.metadata.clone(), tensors: told.collect() };
        let mut text = serde_json::to_vec(&json).unwrap_or_else(|_| unreachable!("text and numbers are JSON"));
        // Tensors begin where any number could.
        text.resize(text.len().next_multiple_of(LENGTH), b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }

    /// Of the JSON of a file that has `data` bytes behind it.
    pub(crate) fn decode(json: &[u8], data: u64) -> Result<Self, Misfit> {
        let Json { metadata, tensors } = serde_json::from_slice(json).map_err(|_| Misfit::NoSafetensors)?;
        let told = tensors.into_iter().map(|(name, Told { dtype, shape, data_offsets: (start, end) })| {
            let (len, columns) = match shape[..] {
                [len] => (Some(len), None),
                [rows, columns] => (rows.checked_mul(columns), Some(columns)),
                _ => (None, None),
            };
            let len = len.ok_or(Misfit::Malformed("a tensor is neither a row nor a matrix"))?;
            let tensor = Tensor { dtype, len, columns, start };
            if end.checked_sub(start) != Some(tensor.bytes()) {
                return Err(Misfit::Malformed("a tensor does not lie where it says"));
            }
            Ok((name, tensor))
        });
        let tensors = told.collect::<Result<BTreeMap<_, _>, _>>()?;
        let mut places: Vec<(u64, u64)> = tensors.values().map(|tensor| (tensor.start, tensor.bytes())).collect();
        places.sort_unstable();
        let mut bytes = 0;
        for (start, its) in places {
            if start != bytes {
                return Err(Misfit::Malformed("its tensors do not follow each other"));
            }
            // Their ends were numbers.
            bytes += its;
        }
        if bytes != data {
            return Err(Misfit::Length { found: data, expected: bytes });
        }
        Ok(Self { metadata, tensors, bytes })
    }
}
