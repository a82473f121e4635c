//! A conversation as one file that can go anywhere: to another process, another machine, or to whoever asks for it.
//!
//! The file is safetensors (a header of JSON, then tensors one after the other), so that other programs can read its
//! tokens: `context.0.tokens`, those that left the window as `context.0.left`, which pages are its as `context.0.pages`;
//! further contexts are answers that wait; then each page once as bytes, `page.0` and so on, as the engine lays rows out;
//! last a sum of all before it. What belongs to them stands in the metadata: counters, the window, and what pages come
//! from, by hashes of the model's own bytes.
//!
//! A file that comes in was written by anybody. Nothing in it is believed to fit: its parts are compared with its length,
//! its counts with each other and with what this model holds, before memory is asked for, and it is read from its
//! beginning to its end, a part at a time. Where it is of another model, form or window its pages mean nothing here, and
//! that is [`TransferError::Mismatch`]; its tokens alone can be taken over where the tokenizer is the same. The sum tells
//! damage, not deceit: pages that somebody has made up answer as he pleases, and so does a conversation that he types.
//! But what he types is read here: so pages that were imported are for their conversation alone, never for others that
//! begin with the same tokens.
//!
//! `write.rs` and `read.rs` are what we say in such a file, `transfers.rs` does both for a running brain.

use std::{fs, io, path::Path};

use motorbrain_actors::{
    engine::{EngineInfo, EngineLoader, Origin, PageError},
    keep::Kept,
};

mod error;
mod read;
#[cfg(test)]
mod tests;
mod transfers;
mod write;

pub use error::TransferError;
pub use read::import;
pub use transfers::{Exported, Transfers};
pub use write::export;

use crate::engine::Fingerprint;

/// What the metadata say that a file is.
const FORMAT: &str = "motorbrain.conversation";

/// Raised with each change of this form.
const VERSION: &str = "1";

/// Bytes of the sum.
const SUM: usize = size_of::<u128>();

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Tokens and pages, of exactly this model, form and window.
    All,
    /// Tokens, of any model with this tokenizer; they are read again.
    Tokens,
}

/// The model that a conversation leaves or comes to.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// Makes bytes of its engines' pages, and pages of bytes.
    pub loader: &'a dyn EngineLoader,
    /// What its engines are.
    pub info: &'a EngineInfo,
    /// Its bytes.
    pub fingerprint: &'a Fingerprint,
    /// The most bytes of keys and values that a file may bring.
    pub kv_bytes_max: usize,
}

impl Here<'_> {
    /// What pages come from, by the model's bytes. Where there are none all conversations are tokens alone.
    fn origin(&self) -> Result<Origin, TransferError> {
        let origin = match self.loader.origin() {
            Err(PageError::NoPages) => Origin {
                model: [0; 32],
                form: "as exported".to_owned(),
                layout: "no pages".to_owned(),
                page: 1,
                window: self.info.window,
            },
            origin => origin?,
        };
        Ok(Origin { model: self.fingerprint.model, window: self.info.window, ..origin })
    }
}

/// Writes a file, for this user alone: how long it is. It is there as a whole or not at all.
///
/// # Errors
/// There is something of that name already, or it cannot be written.
pub fn export_file(path: &Path, states: &[Kept], here: &Here<'_>) -> Result<u64, TransferError> {
    let failed = |cause: io::Error| TransferError::Io { done: "written", path: path.to_owned(), cause };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut unfinished = tempfile::Builder::new().prefix(".motorbrain-").tempfile_in(folder).map_err(failed)?;
    let bytes = export(&mut unfinished, states, here).map_err(|error| error.at(path))?;
    unfinished.as_file().sync_all().map_err(failed)?;
    match unfinished.persist_noclobber(path) {
        Ok(_) => Ok(bytes),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(TransferError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// Reads a file: where the conversation stands first, then its waiting answers.
///
/// # Errors
/// It is none, is damaged, or does not fit this model; see [`TransferError`].
pub fn import_file(path: &Path, wanted: Wanted, here: &Here<'_>) -> Result<Vec<Kept>, TransferError> {
    let failed = |cause: io::Error| TransferError::Io { done: "read", path: path.to_owned(), cause };
    // To open a pipe would wait for whoever writes to it.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let mut file = fs::File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    import(&mut file, bytes, wanted, here).map_err(|error| error.at(path))
}
