//! Where the bytes of a graph's tensors are: in the graph, in a typed field of it, or in a file beside
//! it.
//!
//! Files stay open for as long as a rewrite reads them, a tensor at a time. References were checked
//! by `external::resolve`, yet a file may have been cut since: what does not fit is an error.

use std::{io, path::PathBuf};

use bytes::Bytes;

use super::WeightsError;
use crate::model::{
    external::{ExternalError, Reference, bytes_of},
    onnx::{self, TensorProto},
    parts::Files,
};

/// Reads tensors of one graph.
pub(crate) struct Source {
    files: Files,
}

impl Source {
    /// A source whose references are relative to `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { files: Files::of(folder) }
    }

    /// The bytes of a tensor, little-endian and in row-major order; a slice wherever they lie in one.
    pub(crate) fn bytes(&mut self, tensor: &TensorProto) -> Result<Bytes, WeightsError> {
        let bytes = match (tensor.data_location(), &tensor.raw_data) {
            (onnx::EXTERNAL, _) => self.external(tensor)?,
            (_, Some(raw)) => raw.clone(),
            _ => typed(tensor),
        };
        match bytes_of(tensor) {
            Some(expected) if expected != bytes.len() as u64 => Err(WeightsError::Length {
                tensor: tensor.name().to_owned(),
                dims: tensor.dims.clone(),
                expected,
                found: bytes.len() as u64,
            }),
            _ => Ok(bytes),
        }
    }

    fn external(&mut self, tensor: &TensorProto) -> Result<Bytes, ExternalError> {
        let Reference { location, offset, length } = Reference::of(tensor)?;
        let length = length.or_else(|| bytes_of(tensor)).unwrap_or(0);
        self.files.part(location, offset, length).map_err(|cause| {
            let (tensor, file) = (tensor.name().to_owned(), self.files.path(location));
            match self.files.length(location) {
                Ok(found) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                    ExternalError::TooShort { tensor, file, needed: offset.saturating_add(length), found }
                }
                _ => ExternalError::Missing { tensor, file, cause },
            }
        })
    }
}

/// The bytes of a tensor whose values stand in a field of their own type. Types narrower than the
/// field's numbers keep the low bytes of each.
fn typed(tensor: &TensorProto) -> Bytes {
    let narrow = |bytes: usize| {
        let values = tensor.int32_data.iter();
        values.flat_map(|value| value.to_le_bytes().into_iter().take(bytes)).collect::<Vec<u8>>()
    };
    let bytes = match tensor.data_type() {
        onnx::FLOAT => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        onnx::INT64 => tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        onnx::DOUBLE => tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        onnx::UINT64 => tensor.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        onnx::UINT8 | onnx::INT8 | onnx::BOOL => narrow(1),
        onnx::FLOAT16 | onnx::BFLOAT16 => narrow(2),
        _ => narrow(4),
    };
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_a_field_of_their_own_type_are_those_of_the_raw_form() {
        let mut source = Source::new(PathBuf::new());
        let f16 = TensorProto {
            dims: vec![2],
            data_type: Some(onnx::FLOAT16),
            int32_data: vec![0x3c00, 0xc000],
            ..TensorProto::default()
        };
        assert_eq!(source.bytes(&f16).ok(), Some(Bytes::from_static(&[0, 0x3c, 0, 0xc0])));
        let f32 =
            TensorProto { dims: vec![], data_type: Some(onnx::FLOAT), float_data: vec![1.0], ..TensorProto::default() };
        assert_eq!(source.bytes(&f32).ok(), Some(Bytes::copy_from_slice(&1f32.to_le_bytes())));
    }

    #[test]
    fn another_length_than_the_shape_asks_for_is_an_error() {
        let short = TensorProto {
            dims: vec![2, 3],
            data_type: Some(onnx::FLOAT),
            raw_data: Some(Bytes::from_static(&[0; 20])),
            ..TensorProto::default()
        };
        let error = Source::new(PathBuf::new()).bytes(&short);
        assert!(matches!(error, Err(WeightsError::Length { expected: 24, found: 20, .. })), "{error:?}");
    }
}
