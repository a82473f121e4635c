//! A model's constants as tensors that all sessions of a form read, and what the runtime's products have made of them.
//!
//! Left alone, the runtime maps the graph's files itself, for each session, and a file that somebody shortens then ends
//! the process with the next look at it. So every constant in a file is read here and handed to the runtime, which
//! opens nothing. What is looked up or multiplied as it lies is one tensor that is lent to every session. A matrix
//! that the runtime packs is read for each session that is made, as is all that it packs from, and leaves memory when
//! the session stands (`region.rs`); what it was packed to goes into one container, since the runtime shares that only
//! where the constant itself is lent.
//!
//! A constant lies in its file at whatever address its exporter chose. So these tensors are for the runtime alone:
//! nothing here looks into them.

use std::{
    fs::File,
    io,
    ops::Range,
    ptr::{self, NonNull},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{
        Session,
        builder::{PrepackedWeights, SessionBuilder},
    },
    value::{DynValue, TensorElementType},
};

use super::region::Region;
use crate::model::{Initializer, Sharing, onnx, parts::Files};

/// See the module's description.
pub(crate) struct Initializers {
    kept: Vec<Tensor>,
    /// By the file that they lie in, and when that was written.
    packed: Vec<(File, SystemTime, Vec<Initializer>)>,
    container: PrepackedWeights,
    /// Last: the kept tensors point into them.
    _bytes: Vec<Bytes>,
}

/// A constant of the graph, as the runtime is given it.
struct Tensor {
    name: String,
    sharing: Sharing,
    folded: bool,
    value: Arc<DynValue>,
}

/// What a session was lent: to be dropped after it.
pub(crate) struct Lent {
    _regions: Vec<Region>,
    _initializers: Arc<Initializers>,
}

impl Initializers {
    /// Reads constants of a graph from its files. One of a type that the runtime's tensors do not have is left to the
    /// sessions.
    ///
    /// # Errors
    /// A file cannot be read, or is too short; or the runtime's own.
    pub(crate) fn open(constants: &[Initializer], files: &mut Files) -> ort::Result<Self> {
        let (mut kept, mut packed, mut all_bytes) =
            (Vec::new(), Vec::<(String, File, SystemTime, Vec<Initializer>)>::new(), Vec::new());
        for constant in constants.iter().filter(|constant| element(constant).is_some()) {
            let location = &constant.location;
            if constant.sharing != Sharing::Packed {
                let bytes = files.part(location, constant.offset, constant.bytes);
                let bytes = bytes.map_err(|error| unread(files, constant, &error))?;
                kept.push(Tensor::of(constant, &bytes)?);
                all_bytes.push(bytes);
            } else if let Some((.., others)) = packed.iter_mut().find(|(file, ..)| file == location) {
                others.push(constant.clone());
            } else {
                let file = files.file(location).and_then(|file| file.try_clone());
                let file = file.and_then(|file| Ok((file.metadata()?.modified()?, file)));
                let (written, file) = file.map_err(|error| unread(files, constant, &error))?;
                packed.push((location.clone(), file, written, vec![constant.clone()]));
            }
        }
        let packed = packed.into_iter().map(|(_, file, written, constants)| (file, written, constants)).collect();
        Ok(Self { kept, packed, container: PrepackedWeights::new(), _bytes: all_bytes })
    }

    /// Makes a session with these constants in the place of its own, and before it what it reads: dropped after it, as
    /// what is bound first is.
    ///
    /// # Errors
    /// A file was shortened; or the runtime's own.
    pub(crate) fn commit(self: &Arc<Self>, builder: SessionBuilder, graph: &[u8]) -> ort::Result<(Lent, Session)> {
        let mut builder = builder.with_prepacked_weights(&self.container)?;
        for tensor in &self.kept {
            builder = tensor.give(builder)?;
        }
        let mut regions = Vec::new();
        for (file, written, constants) in &self.packed {
            let ranges: Vec<_> = constants.iter().map(range).collect();
            let region = Region::read(file, &ranges).map_err(|error| failed("the weights", &error))?;
            // What is kept of the model is of the file as it was: half of each would be no model at all.
            if file.metadata().and_then(|now| now.modified()).ok() != Some(*written) {
                return Err(ort::Error::new("the weights: the file was written to since the model was first loaded"));
            }
            for (constant, range) in constants.iter().zip(&ranges) {
                let bytes = region.bytes(range).ok_or_else(|| ort::Error::new("a constant lies nowhere"))?;
                builder = Tensor::of(constant, bytes)?.give(builder)?;
            }
            regions.push((region, file));
        }
        let session = builder.commit_from_memory(graph)?;
        let regions = regions.into_iter().map(|(region, file)| region.rest(file)).collect();
        Ok((Lent { _regions: regions, _initializers: Arc::clone(self) }, session))
    }
}

fn range(constant: &Initializer) -> Range<u64> {
    constant.offset..constant.offset.saturating_add(constant.bytes)
}

fn unread(files: &Files, constant: &Initializer, error: &io::Error) -> ort::Error {
    failed(&format!("`{}` in {}", constant.name, files.path(&constant.location).display()), error)
}

fn failed(what: &str, error: &io::Error) -> ort::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ort::Error::new(format!("{what}: the file has become shorter")),
        _ => ort::Error::new(format!("{what}: {error}")),
    }
}

fn element(constant: &Initializer) -> Option<TensorElementType> {
    Some(match constant.data_type {
        onnx::FLOAT => TensorElementType::Float32,
        onnx::UINT8 => TensorElementType::Uint8,
        onnx::INT8 => TensorElementType::Int8,
        onnx::UINT16 => TensorElementType::Uint16,
        onnx::INT16 => TensorElementType::Int16,
        onnx::INT32 => TensorElementType::Int32,
        onnx::INT64 => TensorElementType::Int64,
        onnx::BOOL => TensorElementType::Bool,
        onnx::FLOAT16 => TensorElementType::Float16,
        onnx::DOUBLE => TensorElementType::Float64,
        onnx::UINT32 => TensorElementType::Uint32,
        onnx::UINT64 => TensorElementType::Uint64,
        onnx::BFLOAT16 => TensorElementType::Bfloat16,
        onnx::UINT4 => TensorElementType::Uint4,
        onnx::INT4 => TensorElementType::Int4,
        _ => return None,
    })
}

impl Tensor {
    /// A constant whose bytes lie there. They must stay for as long as anybody has the tensor.
    fn of(constant: &Initializer, bytes: &[u8]) -> ort::Result<Self> {
        let element = element(constant).ok_or_else(|| ort::Error::new("a constant of an unknown type"))?;
        let value = Arc::new(tensor(bytes, &constant.dims, element)?);
        Ok(Self { name: constant.name.clone(), sharing: constant.sharing, folded: constant.folded, value })
    }

    /// In the place of what the session would keep, and, where the runtime may look for it earlier, of the graph's own
    /// reference to a file: that costs a copy.
    fn give(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        if self.folded {
            builder = builder.with_external_initializer(&self.name, Arc::clone(&self.value))?;
        }
        if self.sharing != Sharing::Own {
            builder = builder.with_initializer(&self.name, Arc::clone(&self.value))?;
        }
        Ok(builder)
    }
}

/// A tensor of bytes that lie elsewhere. They must be as many as `dims` and `element` ask for, and stay
/// for as long as anybody has the tensor.
#[expect(unsafe_code, reason = "the crate's own tensors of borrowed memory cannot be lent to a session")]
fn tensor(bytes: &[u8], dims: &[i64], element: TensorElementType) -> ort::Result<DynValue> {
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
    let mut value = ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the lengths are theirs. The bytes outlive the tensor: they are an
    // `Initializers`' or a `Region`, which a session's `Lent` keeps until after it. Nobody writes to them: an initializer
    // is constant, and these tensors are never handed out as anything else.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            dims.as_ptr(),
            dims.len(),
            element.into(),
            &raw mut value,
        )
    };
    // SAFETY: the status is the call's own, and used once.
    unsafe { ort::Error::result_from_status(status) }?;
    let value = NonNull::new(value).ok_or_else(|| ort::Error::new("the runtime made no tensor"))?;
    // SAFETY: the call succeeded, so this is a tensor, and nobody else has it. Its memory is not an
    // allocator's; the default one stands for the processor.
    Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
}
