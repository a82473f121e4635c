//! A model's large constants as tensors that all sessions of a form read, and what the runtime's
//! products have made of them.
//!
//! Each session would map the same files and pack the same matrices for itself. Here a file is mapped
//! once, each constant in it is one tensor that is lent to every session, and packed matrices go into one
//! container: the runtime shares them only where the constant itself is shared. A matrix is read to be
//! packed and not touched again, so the file's pages leave the process's memory when a session
//! stands; what is looked up row by row comes back as it is needed.
//!
//! A constant lies in its file at whatever address its exporter chose, as it does where the runtime maps
//! the file itself. So these tensors are for the runtime alone: nothing here looks into them.

use std::{
    ptr::{self, NonNull},
    sync::Arc,
};

use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{
        Session,
        builder::{PrepackedWeights, SessionBuilder},
    },
    value::{DynValue, TensorElementType},
};

use crate::model::{Initializer, mapped::Files, onnx};

/// See the module's description. Sessions that were lent these must be gone before it is.
pub(crate) struct Initializers {
    tensors: Vec<(String, Arc<DynValue>)>,
    packed: PrepackedWeights,
    /// Last: the tensors point into them.
    files: Files,
}

impl Initializers {
    /// Makes tensors of what `shareable` names, which lies in `files`. What cannot be mapped is left to the sessions,
    /// which say themselves what they lack.
    pub(crate) fn open(shareable: &[Initializer], mut files: Files) -> ort::Result<Self> {
        let mut tensors = Vec::new();
        for initializer in shareable {
            let Ok(file) = files.bytes(&initializer.location) else { continue };
            if let (Some(bytes), Some(element)) = (part(&file, initializer), element(initializer)) {
                tensors.push((initializer.name.clone(), Arc::new(tensor(bytes, &initializer.dims, element)?)));
            }
        }
        Ok(Self { tensors, packed: PrepackedWeights::new(), files })
    }

    /// Makes a session with these constants in the place of its own.
    pub(crate) fn commit(&self, builder: SessionBuilder, graph: &[u8]) -> ort::Result<Session> {
        let mut builder = builder.with_prepacked_weights(&self.packed)?;
        for (name, tensor) in &self.tensors {
            builder = builder.with_initializer(name, Arc::clone(tensor))?;
        }
        let session = builder.commit_from_memory(graph);
        self.files.rest();
        session
    }
}

fn part<'f>(file: &'f [u8], initializer: &Initializer) -> Option<&'f [u8]> {
    let from = usize::try_from(initializer.offset).ok()?;
    let to = from.checked_add(usize::try_from(initializer.bytes).ok()?)?;
    file.get(from..to)
}

fn element(initializer: &Initializer) -> Option<TensorElementType> {
    match initializer.data_type {
        onnx::FLOAT => Some(TensorElementType::Float32),
        onnx::FLOAT16 => Some(TensorElementType::Float16),
        onnx::UINT8 => Some(TensorElementType::Uint8),
        onnx::INT8 => Some(TensorElementType::Int8),
        _ => None,
    }
}

/// A tensor of bytes that lie in a mapping. They must be as many as `dims` and `element` ask for, and stay
/// for as long as anybody has the tensor.
#[expect(unsafe_code, reason = "the crate's own tensors of borrowed memory cannot be lent to a session")]
fn tensor(bytes: &[u8], dims: &[i64], element: TensorElementType) -> ort::Result<DynValue> {
    let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
    let mut value = ptr::null_mut();
    // SAFETY: all pointers are valid for the call, and the lengths are theirs. The bytes outlive the tensor: both
    // are an `Initializers`', which drops them last, and whoever has a session keeps that. Nobody writes
    // to them: an initializer is constant, and `tensors` are never handed out as anything else.
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
