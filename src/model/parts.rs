//! Parts of a model folder's files, read when they are wanted.
//!
//! No file is mapped here: a look at a page behind the end of a file that was shortened meanwhile ends the process. A
//! read that finds less than it wants is an error. What was opened stays open, so that a file that is replaced under
//! its name is still the one that was read from before.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use bytes::Bytes;

use super::files;

/// A folder's files, each opened once.
pub(crate) struct Files {
    folder: PathBuf,
    open: HashMap<String, File>,
}

impl Files {
    /// Of a folder, none of them open yet.
    pub(crate) fn of(folder: PathBuf) -> Self {
        Self { folder, open: HashMap::new() }
    }

    /// Where a file lies that a graph names.
    pub(crate) fn path(&self, location: &str) -> PathBuf {
        self.folder.join(location)
    }

    /// A file, open.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub(crate) fn file(&mut self, location: &str) -> io::Result<&mut File> {
        if !self.open.contains_key(location) {
            let file = files::open(&self.path(location))?;
            self.open.insert(location.to_owned(), file);
        }
        self.open.get_mut(location).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A file's bytes, as many as it has now.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub(crate) fn length(&mut self, location: &str) -> io::Result<u64> {
        Ok(self.file(location)?.metadata()?.len())
    }

    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    /// As [`Self::file`]; or the file ends before ([`io::ErrorKind::UnexpectedEof`]).
    pub(crate) fn part(&mut self, location: &str, offset: u64, length: u64) -> io::Result<Bytes> {
        // First, since memory is asked for by what a graph says.
        if offset.checked_add(length).is_none_or(|end| self.length(location).is_ok_and(|all| end > all)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let file = self.file(location)?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_part_is_there_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, b"0123456789").unwrap();
        let mut files = Files::of(folder.path().to_owned());
        let mut read = |offset, length| files.part("weights", offset, length).map_err(|error| error.kind());
        assert_eq!(read(3, 4).unwrap(), "3456");
        assert_eq!(read(10, 0).unwrap(), "");
        for (offset, length) in [(3, 8), (11, 0), (u64::MAX, 1), (0, u64::MAX)] {
            assert_eq!(read(offset, length), Err(io::ErrorKind::UnexpectedEof), "{length} from {offset}");
        }
        File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
        assert_eq!(read(3, 4), Err(io::ErrorKind::UnexpectedEof));
        // Another file under the name is not the one that was opened.
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        std::fs::write(&path, b"another").unwrap();
        assert_eq!(read(0, 5).unwrap(), "01234");
        assert_eq!(files.part("none", 0, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
