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

    /// `length` bytes of a tensor from `offset` on, and no others are read where they lie in a file.
    pub(crate) fn part(&mut self, tensor: &TensorProto, offset: u64, length: u64) -> Result<Bytes, WeightsError> {
        let end = offset.saturating_add(length);
        let lacks = |found| WeightsError::Length {
            tensor: tensor.name().to_owned(),
            dims: tensor.dims.clone(),
            expected: end,
            found,
        };
        if bytes_of(tensor).is_some_and(|bytes| end > bytes) {
            return Err(lacks(bytes_of(tensor).unwrap_or(0)));
        }
        if tensor.data_location() == onnx::EXTERNAL {
            let Reference { location, offset: first, length: its } = Reference::of(tensor)?;
            if let Some(found) = its.filter(|its| end > *its) {
                return Err(lacks(found));
            }
            return Ok(self.read(tensor, location, first.saturating_add(offset), length)?);
        }
        let bytes = self.bytes(tensor)?;
        if end > bytes.len() as u64 {
            return Err(lacks(bytes.len() as u64));
        }
        Ok(bytes.slice(offset as usize..end as usize))
    }

    fn external(&mut self, tensor: &TensorProto) -> Result<Bytes, ExternalError> {
        let Reference { location, offset, length } = Reference::of(tensor)?;
        let length = length.or_else(|| bytes_of(tensor)).unwrap_or(0);
        self.read(tensor, location, offset, length)
    }

    fn read(&mut self, tensor: &TensorProto, location: &str, offset: u64, length: u64) -> Result<Bytes, ExternalError> {
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
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
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
    fn a_part_is_read_alone_wherever_a_tensor_lies() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), b"..0123456789").unwrap();
        let entry = |key: &str, value: &str| onnx::StringStringEntryProto::new(key, value);
        let tensor = TensorProto { dims: vec![2, 5], data_type: Some(onnx::UINT8), ..TensorProto::default() };
        let entries = vec![entry("location", "data"), entry("offset", "2")];
        let file =
            TensorProto { data_location: Some(onnx::EXTERNAL), external_data: entries.clone(), ..tensor.clone() };
        let sized = TensorProto { external_data: [entries, vec![entry("length", "10")]].concat(), ..file.clone() };
        let inline = TensorProto { raw_data: Some(Bytes::from_static(b"0123456789")), ..tensor.clone() };
        let typed = TensorProto { int32_data: (i32::from(b'0')..=i32::from(b'9')).collect(), ..tensor };
        let mut source = Source::new(folder.path().to_owned());
        for tensor in [file, sized, inline, typed] {
            assert_eq!(source.part(&tensor, 3, 4).unwrap(), "3456");
            assert_eq!(source.part(&tensor, 10, 0).unwrap(), "");
            for (offset, length) in [(3, 8), (11, 0), (u64::MAX, 1)] {
                let error = source.part(&tensor, offset, length);
                assert!(matches!(error, Err(WeightsError::Length { found: 10, .. })), "{error:?}");
            }
        }
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
