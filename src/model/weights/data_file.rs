//! The file that a rewritten graph's weights go into, one after the other.
//!
//! Large tensors begin at a page boundary, so that a runtime can map them. Small ones stay in the
//! graph, where the runtime sees shapes and scalars while it loads.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use bytes::Bytes;

use crate::model::onnx::{self, StringStringEntryProto, TensorProto};

/// The name of the file, beside the graph.
pub(crate) const DATA_FILE: &str = "model.onnx.data";
/// Tensors of fewer bytes stay in the graph.
const EXTERNAL_BYTES_MIN: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// A data file being written.
pub(crate) struct DataFile {
    file: BufWriter<File>,
    /// Bytes written so far.
    end: u64,
    /// Every tensor that was put here.
    names: HashSet<String>,
}

impl DataFile {
    /// A new file in `folder`.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(folder.join(DATA_FILE))?);
        Ok(Self { file, end: 0, names: HashSet::new() })
    }

    /// Writes a tensor and returns the initializer that stands for it in the graph.
    pub(crate) fn put(&mut self, name: &str, data_type: i32, dims: &[usize], data: &[u8]) -> io::Result<TensorProto> {
        self.names.insert(name.to_owned());
        let mut tensor = TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(data_type),
            dims: sizes(dims),
            ..TensorProto::default()
        };
        if data.len() < EXTERNAL_BYTES_MIN {
            tensor.raw_data = Some(Bytes::copy_from_slice(data));
            return Ok(tensor);
        }
        let offset = self.end.next_multiple_of(PAGE_BYTES);
        // Less than a page, so that it fits any usize.
        let padding = usize::try_from(offset - self.end).unwrap_or(0);
        self.file.write_all(&[0; PAGE_BYTES as usize][..padding])?;
        self.file.write_all(data)?;
        self.end = offset + data.len() as u64;
        tensor.data_location = Some(onnx::EXTERNAL);
        tensor.external_data = vec![
            StringStringEntryProto::new("location", DATA_FILE),
            StringStringEntryProto::new("offset", offset.to_string()),
            StringStringEntryProto::new("length", data.len().to_string()),
        ];
        Ok(tensor)
    }

    /// A second name, of another shape, for the bytes of a tensor that was put here.
    pub(crate) fn alias(&mut self, tensor: &TensorProto, name: &str, dims: &[usize]) -> TensorProto {
        self.names.insert(name.to_owned());
        TensorProto { name: Some(name.to_owned()), dims: sizes(dims), ..tensor.clone() }
    }

    /// Whether a tensor of that name was put here.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Makes the file durable.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

fn sizes(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect()
}
