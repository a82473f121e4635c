//! What tells a model from another: by a look at its files, which is quick and right as long as they lie there, and by
//! all of their bytes, which is right wherever they lie.

use std::{
    fs::{self, File},
    io::{self, Read},
    iter,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use motorbrain_actors::tokens::{Tokenizer as _, TokenizerKind};
use sha2::{Digest, Sha256};

use crate::model::Model;

/// Bytes that are read at once.
const READ: usize = 1 << 20;

/// Why a model's files are not told by their bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// One of them cannot be read.
    #[error("{} cannot be read", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// They are not those that were loaded any more.
    #[error("the model's files have changed since it was loaded")]
    Changed,
}

/// Hashes of the bytes of a model's files, the same wherever they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of its graph and weights.
    pub model: [u8; 32],
    /// Of what makes tokens of texts; zeros where each byte is one.
    pub tokenizer: [u8; 32],
}

/// What a model goes back to, whichever of its forms it is: what is worked out for one holds for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Of what its weights were made of, where its manifest says, else of its graph and weights.
    pub weights: [u8; 32],
    /// As in [`Fingerprint`].
    pub tokenizer: [u8; 32],
}

impl Lineage {
    /// That of a model. Where its manifest does not say what its weights were made of, all of their bytes are read.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn of(model: &Model) -> Result<Self, IdentityError> {
        let weights = model.origin.map_or_else(|| weights(model), Ok)?;
        Ok(Self { weights, tokenizer: tokenizer_bytes(model)? })
    }
}

/// A hash of where a model's files lie and when they were written.
pub(super) fn look(model: &Model) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&model.overlay.bytes);
    files(model).chain([tokenizer(model)]).for_each(|file| hash.update(facts(&file)));
    hash.finalize().into()
}

/// All of their bytes.
///
/// # Errors
/// They cannot be read, or are not those any more that `look` was taken of.
pub(super) fn read(model: &Model, look: &[u8; 32]) -> Result<Fingerprint, IdentityError> {
    let (weights, tokenizer) = (weights(model)?, tokenizer_bytes(model)?);
    if self::look(model) != *look {
        return Err(IdentityError::Changed);
    }
    Ok(Fingerprint { model: weights, tokenizer })
}

/// A hash of the bytes of graph and weights.
fn weights(model: &Model) -> Result<[u8; 32], IdentityError> {
    let mut hash = Sha256::new();
    for file in files(model) {
        hash.update(digest(&file)?);
    }
    Ok(hash.finalize().into())
}

fn tokenizer_bytes(model: &Model) -> Result<[u8; 32], IdentityError> {
    match model.tokenizer.kind() {
        TokenizerKind::Bytes => Ok([0; 32]),
        _ => digest(&tokenizer(model)),
    }
}

/// The graph, then its other files in the order in which it names them.
fn files(model: &Model) -> impl Iterator<Item = PathBuf> {
    let others = model.data_files().filter(|file| *file != model.graph);
    iter::once(model.graph.clone()).chain(others)
}

fn tokenizer(model: &Model) -> PathBuf {
    model.dir.join("tokenizer.json")
}

fn digest(file: &Path) -> Result<[u8; 32], IdentityError> {
    let read = || {
        let (mut file, mut hash, mut bytes) = (File::open(file)?, Sha256::new(), vec![0; READ]);
        loop {
            match file.read(&mut bytes)? {
                0 => return Ok(hash.finalize().into()),
                count => hash.update(&bytes[..count]),
            }
        }
    };
    read().map_err(|cause| IdentityError::Read { file: file.to_owned(), cause })
}

/// What tells a file of weights from what lies in its place later, without reading gigabytes: where it really lies,
/// how long it is and when it was last written. Where the system tells, also when it last changed in any way: tools
/// set the former time as they like, nobody sets this one.
pub(super) fn facts(file: &Path) -> Vec<u8> {
    // However it is spelled.
    let path = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mut facts = Vec::new();
    if let Ok(metadata) = fs::metadata(&path) {
        let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        facts.extend([u128::from(metadata.len()), written.unwrap_or_default().as_nanos()]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            facts.extend([metadata.ctime(), metadata.ctime_nsec()].map(|time| time as u128));
        }
    }
    let path = path.into_os_string().into_encoded_bytes();
    let length = path.len() as u64;
    let facts = facts.iter().flat_map(|fact| fact.to_le_bytes());
    length.to_le_bytes().into_iter().chain(path).chain(facts).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_file_of_weights_is_another_when_it_was_written_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        let file = dir.path().join("weights");
        fs::write(&file, "x").unwrap();
        let before = facts(&file);
        assert_eq!(facts(&dir.path().join("below/../weights")), before);
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "xy").unwrap();
        assert_ne!(facts(&file), before, "longer");
        fs::write(&file, "y").unwrap();
        File::options().append(true).open(&file).unwrap().set_modified(time).unwrap();
        // As long and as old as before; only the system knows better.
        assert_eq!(facts(&file) != before, cfg!(unix));
        fs::remove_file(&file).unwrap();
        assert_ne!(facts(&file), before);
    }
}
