//! Constants that our own operators take out of a graph: weights of products with few bits, and rotation
//! tables. ONNX Runtime hands its operators whatever a file is mapped at; these are packed first.

use bytes::Bytes;
use motorbrain_kernels::linear::{LinearShape, ZeroPoints};

use super::{
    contract::{ElementType, element_type},
    external::Reference,
    onnx::{self, NodeProto, TensorProto},
    switched,
    view::View,
};

/// A product whose weights are packed when the model is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinearSource {
    /// Its sizes.
    pub(crate) shape: LinearShape,
    /// `[outputs, inputs / block, block * bits / 8]`, bytes.
    pub(crate) codes: Stored,
    /// `[outputs, inputs / block]`, f32.
    pub(crate) scales: Stored,
    /// Empty where the zero points are the middle.
    pub(crate) zeros: Stored,
}

/// A tensor's bytes, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// In the graph.
    Inline(Bytes),
    /// In a file of the folder.
    File {
        /// Relative to the folder.
        location: String,
        /// In bytes.
        offset: u64,
        /// In bytes; to the file's end where the graph does not say.
        length: Option<u64>,
    },
}

impl LinearSource {
    /// What a node is, where it is a product of this kind and every tensor of it is understood.
    pub(crate) fn of(node: &NodeProto, view: &View<'_>) -> Option<Self> {
        if node.op_type() != "MatMulNBits" {
            return None;
        }
        let size = |name| node.int(name).and_then(|size| usize::try_from(size).ok());
        let (inputs, outputs, block) = (size("K")?, size("N")?, size("block_size")?);
        let bits = u32::try_from(node.int("bits").unwrap_or(4)).ok()?;
        let understood = matches!(bits, 4 | 8)
            && block >= 16
            && block.is_power_of_two()
            && inputs > 0
            && outputs > 0
            && inputs.is_multiple_of(block)
            // That the tensors are as large is for whoever reads them, and no number of bytes overflows there.
            && inputs.checked_mul(outputs).is_some_and(|numbers| numbers <= usize::MAX / size_of::<f32>());
        let input = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
        // A permutation of the inputs, and a bias.
        if !understood || input(4).is_some() || input(5).is_some() {
            return None;
        }
        let tensor = |name: &String| view.initializer(name);
        let (codes, scales) = (tensor(input(1)?)?, tensor(input(2)?)?);
        // Activations, scales and float zero points have one type.
        if element_type(scales.data_type()) != Some(ElementType::F32) {
            return None;
        }
        let (zero_points, zeros) = match input(3) {
            None => (ZeroPoints::Middle, Stored::Inline(Bytes::new())),
            Some(name) => {
                let zeros = tensor(name)?;
                let kind = match zeros.data_type() {
                    kind if kind == scales.data_type() => ZeroPoints::Floats,
                    onnx::UINT8 => ZeroPoints::Codes,
                    _ => return None,
                };
                (kind, Stored::of(zeros)?)
            }
        };
        let (codes, scales) = (Stored::of(codes)?, Stored::of(scales)?);
        let shape = LinearShape { inputs, outputs, bits, block, zero_points };
        Some(Self { shape, codes, scales, zeros })
    }
}

/// Rotation tables of an attention, `[positions, pairs]` both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableSource {
    /// Pairs of a head that are rotated.
    pub(crate) pairs: usize,
    /// What both are kept in.
    pub(crate) element: ElementType,
    /// Of each position's angles.
    pub(crate) cosines: Stored,
    /// Likewise.
    pub(crate) sines: Stored,
}

impl TableSource {
    /// The cosines and sines of two constants, or of those that are for the shorter runs.
    pub(crate) fn of(view: &View<'_>, [cosines, sines]: [&str; 2]) -> Option<Self> {
        let tensor = |name| view.constant(name).or_else(|| switched::shortest(view, name));
        let (cosines, sines) = (tensor(cosines)?, tensor(sines)?);
        let element = element_type(cosines.data_type())?;
        let pairs = usize::try_from(*cosines.dims.last()?).ok().filter(|pairs| *pairs > 0)?;
        let alike = sines.data_type() == cosines.data_type() && sines.dims == cosines.dims;
        alike.then_some(Self { pairs, element, cosines: Stored::of(cosines)?, sines: Stored::of(sines)? })
    }
}

impl Stored {
    fn of(tensor: &TensorProto) -> Option<Self> {
        if tensor.data_location() == onnx::EXTERNAL {
            let Reference { location, offset, length } = Reference::of(tensor).ok()?;
            return Some(Self::File { location: location.to_owned(), offset, length });
        }
        if let Some(raw) = &tensor.raw_data {
            // A copy: a slice would keep the whole file in memory.
            return Some(Self::Inline(Bytes::copy_from_slice(raw)));
        }
        let floats: Vec<u8> = tensor.float_data.iter().flat_map(|x| x.to_le_bytes()).collect();
        (!floats.is_empty()).then(|| Self::Inline(floats.into()))
    }
}
