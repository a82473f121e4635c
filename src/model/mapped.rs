//! A file as bytes, without reading it: pages come in as they are touched.
//!
//! The one place in the crate that is unsafe.

use std::{fs::File, io, path::Path};

use bytes::Bytes;
use memmap2::Mmap;

/// The file's bytes; slices of them keep the mapping alive.
///
/// # Errors
/// The file cannot be opened or mapped.
#[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see the comment at the call")]
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    // SAFETY: a mapping is sound as long as nobody changes or shortens the file while it is mapped.
    // It is mapped only while the model is opened, first loaded or rewritten, read-only and private; model files
    // are written by set-up under another name and renamed into place. ONNX Runtime, which keeps the
    // same files mapped for the life of a session, asks as much of them.
    let mapping = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapping))
}
