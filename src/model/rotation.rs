//! What the files say of the rotary position embedding: hints only. The engine measures the rotation
//! on layer-0 keys and takes the hint that fits.

use std::path::Path;

use bytes::Bytes;
use half::f16;

use super::{
    external::Reference,
    mapped,
    onnx::{self, TensorProto},
    view::View,
};

/// What the files say of the rotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rotation {
    /// The base that config.json gives.
    pub config_base: Option<f64>,
    /// The base that the preset gives.
    pub preset_base: Option<f64>,
    /// The tables in the graph.
    pub table: Option<RotationTable>,
}

/// Cosines and sines that a graph carries, [rows, rotated dimensions / 2].
#[derive(Clone, Debug, PartialEq)]
pub struct RotationTable {
    /// Positions that have a row.
    pub rows: usize,
    /// The angle of position 1 in each dimension pair, in radians: what a position turns it by. Empty
    /// where the table's numbers could not be read.
    pub frequencies: Vec<f32>,
    /// Whether neighbours form the pairs; otherwise element `i` goes with `i + half`.
    pub interleaved: bool,
}

/// The tables of the first node that has any.
pub(crate) fn table(view: &View<'_>, folder: &Path) -> Option<RotationTable> {
    view.graph.node.iter().find_map(|node| {
        let (cos, sin, interleaved) = match node.op_type() {
            "GroupQueryAttention" if node.int("do_rotary") == Some(1) => (7, 8, "rotary_interleaved"),
            "RotaryEmbedding" if node.domain() == "com.microsoft" => (2, 3, "interleaved"),
            _ => return None,
        };
        let cos = view.constant(node.input.get(cos)?)?;
        let sin = view.constant(node.input.get(sin)?)?;
        let [rows, pairs] = *cos.dims.as_slice() else {
            return None;
        };
        let (rows, pairs) = (usize::try_from(rows).ok()?, usize::try_from(pairs).ok()?);
        let first = |table| row(table, 1, pairs, folder);
        let angles = first(cos)
            .zip(first(sin))
            .map(|(cos, sin)| cos.into_iter().zip(sin).map(|(cos, sin)| sin.atan2(cos)).collect::<Vec<_>>());
        Some(RotationTable {
            rows,
            frequencies: angles.unwrap_or_default(),
            interleaved: node.int(interleaved).unwrap_or(0) != 0,
        })
    })
}

/// One row of a constant matrix of floats, `width` elements; `None` where it cannot be read.
fn row(tensor: &TensorProto, index: usize, width: usize, folder: &Path) -> Option<Vec<f32>> {
    let elements = index.checked_mul(width)?..index.checked_add(1)?.checked_mul(width)?;
    if !tensor.float_data.is_empty() {
        return tensor.float_data.get(elements).map(<[_]>::to_vec);
    }
    let bytes = data(tensor, folder)?;
    match tensor.data_type() {
        onnx::FLOAT => Some(words(&bytes, elements)?.into_iter().map(f32::from_le_bytes).collect()),
        onnx::FLOAT16 => {
            Some(words(&bytes, elements)?.into_iter().map(|word| f16::from_le_bytes(word).to_f32()).collect())
        }
        _ => None,
    }
}

/// The bytes of a tensor, inline or in another file. References were checked before.
fn data(tensor: &TensorProto, folder: &Path) -> Option<Bytes> {
    if tensor.data_location() != onnx::EXTERNAL {
        return tensor.raw_data.clone();
    }
    let reference = Reference::of(tensor).ok()?;
    let file = mapped::map(&folder.join(reference.location)).ok()?;
    let start = usize::try_from(reference.offset).ok()?;
    (start <= file.len()).then(|| file.slice(start..))
}

fn words<const N: usize>(bytes: &[u8], elements: std::ops::Range<usize>) -> Option<Vec<[u8; N]>> {
    let bytes = bytes.get(elements.start.checked_mul(N)?..elements.end.checked_mul(N)?)?;
    bytes.chunks_exact(N).map(|word| word.try_into().ok()).collect()
}
