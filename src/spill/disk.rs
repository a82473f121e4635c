//! What the store wants of a disk: few things, so that tests can stand in for one that fails at any of them.

use std::io::{self, Read, Write};

/// Why a file is not read.
#[derive(Debug)]
pub(super) enum Unfit {
    /// The system does not open it.
    Io(io::Error),
    /// Somebody else may have written it, or it is no file: in words.
    Distrusted(String),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A folder of files.
pub(super) trait Disk: Send + Sync + 'static {
    /// A file that is open.
    type File: Read + Write;

    /// A new file for this user alone.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Makes a file that was written last beyond a loss of power, under another name.
    fn finish(&self, file: Self::File, name: &str, to: &str) -> io::Result<()>;

    /// A file that nobody else can have written, and how long it is.
    fn open(&self, name: &str) -> Result<(Self::File, u64), Unfit>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Where a file is, for people.
    fn place(&self, name: &str) -> String;
}
