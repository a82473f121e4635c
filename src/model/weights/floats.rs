//! Constant floats as numbers: matrices with a row for each output, vectors, and f16 widened to f32.

use half::f16;

use super::{WeightsError, products::Matrix, source::Source};
use crate::model::{
    onnx::{self, TensorProto},
    view::View,
};

/// A matrix in memory, `[n, k]` in row-major order: row `i` makes output `i`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) n: usize,
    pub(crate) k: usize,
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
    match tensor.data_type() {
        onnx::FLOAT => Ok(bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()),
        onnx::FLOAT16 => Ok(bytes.as_chunks().0.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect()),
        data_type => Err(WeightsError::NoFloats { tensor: tensor.name().to_owned(), data_type }),
    }
}

/// Numbers as bytes, little-endian.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn size(tensor: &TensorProto, axis: usize) -> usize {
    tensor.dims.get(axis).and_then(|&dim| usize::try_from(dim).ok()).unwrap_or(0)
}

/// `[rows, columns]` as `[columns, rows]`, in tiles that fit the nearest cache.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_turned_twice_is_itself() {
        let values: Vec<f32> = (0..70 * 45).map(|x| x as f32).collect();
        let turned = transposed(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 2], values[2 * 45 + 3]);
        assert_eq!(transposed(&turned, 45, 70), values);
    }
}
