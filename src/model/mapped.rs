//! A file as bytes, without reading it: pages come in as they are touched.
//!
//! The one place of this room that is unsafe.

use std::{io, path::Path};

use bytes::Bytes;
use memmap2::Mmap;

use super::files;

/// The file's bytes; slices of them keep the mapping alive.
///
/// # Errors
/// The file cannot be opened or mapped.
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(open(path)?))
}

/// A file that stays mapped.
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps a file.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        open(path).map(Self)
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the pages that were read out of the process's memory. Whoever reads one again gets it
    /// from the system's cache of files, or from the file. Only a matter of memory, so errors are none.
    #[cfg_attr(unix, expect(unsafe_code, reason = "the advice is only sound for some mappings; see the comment"))]
    pub(crate) fn rest(&self) {
        // SAFETY: after this advice a private mapping has the file's bytes again. It has them anyway:
        // it is read-only, so that nobody has written to it.
        #[cfg(unix)]
        if let Err(error) = unsafe { self.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) } {
            tracing::debug!(%error, "a file's pages stay in memory");
        }
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see the comment at the call")]
fn open(path: &Path) -> io::Result<Mmap> {
    let file = files::open(path)?;
    // SAFETY: a mapping is sound as long as nobody changes or shortens the file while it is mapped,
    // read-only and private. Model files are written by set-up under another name and renamed into
    // place. ONNX Runtime, which maps the same files for the life of a session, asks as much of them.
    unsafe { Mmap::map(&file) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_file_at_rest_has_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7u8; 10_000]).unwrap();
        let mapping = Mapping::open(file.path()).unwrap();
        assert_eq!(mapping.bytes(), [7; 10_000]);
        mapping.rest();
        assert_eq!(mapping.bytes(), [7; 10_000]);
    }
}
