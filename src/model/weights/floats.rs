//! Constant floats as numbers: matrices with a row for each output, vectors, and f16 widened to f32.

pub(crate) use motorbrain_kernels::bytes_of;
use motorbrain_kernels::matrix::transposed;

use super::{WeightsError, products::Matrix, source::Source};
use crate::model::{contract::element_type, onnx::TensorProto, view::View};

/// A matrix in memory, `[n, k]` in row-major order: row `i` makes output `i`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    /// Outputs.
    pub(crate) n: usize,
    /// Inputs.
    pub(crate) k: usize,
    /// `[n, k]`.
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Reads a constant.
    pub(crate) fn of(view: &View<'_>, source: &mut Source, matrix: &Matrix) -> Result<Self, WeightsError> {
        let tensor = constant(view, &matrix.tensor)?;
        let values = read(source, tensor)?;
        let (rows, columns) = (size(tensor, 0), size(tensor, 1));
        if matrix.swapped {
            return Ok(Self { n: rows, k: columns, values });
        }
        Ok(Self { n: columns, k: rows, values: transposed(&values, rows, columns) })
    }

    /// One matrix above the other.
    pub(crate) fn stack(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or_default();
        parts.fold(first, |mut all, part| {
            all.n += part.n;
            all.values.extend(part.values);
            all
        })
    }

    /// The bytes of the matrix as MatMul wants it, `[k, n]`.
    pub(crate) fn columns_first(&self) -> Vec<u8> {
        bytes_of(&transposed(&self.values, self.n, self.k))
    }
}

/// The constant of that name.
pub(crate) fn constant<'g>(view: &View<'g>, name: &str) -> Result<&'g TensorProto, WeightsError> {
    view.constant(name).ok_or_else(|| WeightsError::NoConstant { tensor: name.to_owned() })
}

/// The numbers of a constant of f32 or f16, in row-major order.
pub(crate) fn read(source: &mut Source, tensor: &TensorProto) -> Result<Vec<f32>, WeightsError> {
    let bytes = source.bytes(tensor)?;
    let data_type = tensor.data_type();
    let element = element_type(data_type);
    let element = element.ok_or_else(|| WeightsError::NoFloats { tensor: tensor.name().to_owned(), data_type })?;
    Ok(element.numbers(&bytes))
}

fn size(tensor: &TensorProto, axis: usize) -> usize {
    tensor.dims.get(axis).and_then(|&dim| usize::try_from(dim).ok()).unwrap_or(0)
}
