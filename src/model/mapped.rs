//! A file as bytes, without reading it: pages come in as they are touched.
//!
//! The one place of this room that is unsafe.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

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

/// A folder's files, each mapped once, and for as long as this lives or somebody has bytes of it.
pub(crate) struct Files {
    folder: PathBuf,
    open: HashMap<String, Mapping>,
}

/// One of them.
struct Mapping(Arc<Mmap>);

impl Files {
    /// Of a folder, none of them mapped yet.
    pub(crate) fn of(folder: PathBuf) -> Self {
        Self { folder, open: HashMap::new() }
    }

    /// Where a file lies that a graph names.
    pub(crate) fn path(&self, location: &str) -> PathBuf {
        self.folder.join(location)
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub(crate) fn bytes(&mut self, location: &str) -> io::Result<Bytes> {
        let mapping = match self.open.get(location) {
            Some(mapping) => mapping,
            None => {
                let mapping = Mapping(Arc::new(open(&self.path(location))?));
                self.open.entry(location.to_owned()).or_insert(mapping)
            }
        };
        Ok(Bytes::from_owner(Mapping(Arc::clone(&mapping.0))))
    }

    /// Takes the pages of all files that were read out of the process's memory, see [`Mapping::rest`].
    pub(crate) fn rest(&self) {
        self.open.values().for_each(Mapping::rest);
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// Takes the pages that were read out of the process's memory. Whoever reads one again gets it
    /// from the system's cache of files, or from the file. Only a matter of memory, so errors are none.
    #[cfg_attr(unix, expect(unsafe_code, reason = "the advice is only sound for some mappings; see the comment"))]
    fn rest(&self) {
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
    fn a_file_at_rest_has_its_bytes_and_is_mapped_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("weights"), [7u8; 10_000]).unwrap();
        let mut files = Files::of(folder.path().to_owned());
        let (first, second) = (files.bytes("weights").unwrap(), files.bytes("weights").unwrap());
        assert_eq!((&first[..], first.as_ptr()), (&[7; 10_000][..], second.as_ptr()));
        files.rest();
        assert_eq!(first, [7; 10_000][..]);
        drop(files);
        assert_eq!(second, [7; 10_000][..]);
        let missing = Files::of(folder.path().to_owned()).bytes("others");
        assert!(missing.is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }
}
