//! Conversations that left memory, a file each in a folder of this process's own: they come back from there to the bit.
//!
//! A file is what memory was, not what a conversation is: its owner has the tokens besides, and nothing is read from a
//! file that this process did not write. So each process has a folder of its own for its life, with a lock that says
//! that it lives (`claim.rs`); what dead ones have left is removed. A file is written under another name, synced, named
//! and its folder synced, so that none is there in part. It belongs to this user alone, its name is a hash, and it is
//! believed only as far as it is this conversation's, of this model, and as it was written: whatever is not is an error,
//! and tokens are read again.
//!
//! `head.rs` is what a file says of itself, `file.rs` writes and reads all of it, `folder.rs` is the only part that knows
//! the system, and `disk.rs` what the rest wants of it.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use motorbrain_actors::{
    engine::EngineLoader,
    job::History,
    keep::{Keep, KeepError, Kept, KeptId, Room},
    message::ConversationId,
};
use sha2::{Digest, Sha256};

mod claim;
mod disk;
mod error;
mod file;
mod folder;
mod head;
#[cfg(test)]
mod tests;

pub use error::SpillError;

use self::{
    claim::Claim,
    disk::{Disk, Unfit},
    file::{Expected, Failed, Plan},
};

/// Of the room that a disk has, one part in so many is for spilled files where the settings leave that to us: what else
/// is on the disk wants the rest.
const DISK_SHARE: u64 = 2;

/// Behind a file's name while it is written.
const UNFINISHED: &str = ".new";

/// Digits of a file's name.
const NAME_LEN: usize = 32;

/// How many bytes files below `folder` may have, and how many can be written to its disk now. Changes nothing: the folder
/// need not be there yet.
///
/// # Errors
/// The folder is one that others may write to, or cannot be looked at.
pub fn look(folder: &Path, bytes_max: Option<u64>) -> Result<(u64, u64), SpillError> {
    let folder = &claim::itself(folder);
    let there = folder.ancestors().find(|folder| folder.exists() || folder.is_symlink()).unwrap_or(Path::new("."));
    if there == folder {
        claim::check(folder)?;
    }
    let room = folder::room(there).map_err(|cause| SpillError::io(folder, "looked at", cause))?;
    Ok((bytes_max.unwrap_or(room / DISK_SHARE), room))
}

/// Keeps conversations of this loader's engines in files below `folder`, which is made where it is missing, and removes
/// what processes have left there that are dead. `bytes_max`: of all files; `None`: half of the room that the disk has
/// now.
///
/// # Errors
/// The folder is one that others may write to, or cannot be used.
pub fn open(folder: &Path, bytes_max: Option<u64>, loader: Arc<dyn EngineLoader>) -> Result<Arc<dyn Keep>, SpillError> {
    let claim = Claim::of(folder)?;
    let (bytes_max, _) = look(folder, bytes_max)?;
    Ok(Arc::new(Store::new(claim, bytes_max, loader)))
}

/// See the module's description.
struct Store<D> {
    disk: D,
    bytes_max: u64,
    loader: Arc<dyn EngineLoader>,
    /// Makes names of files that nobody can guess a conversation's from.
    key: [u8; 32],
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    /// Bytes of all, those that are being written among them.
    used: u64,
    named: HashMap<KeptId, Entry>,
}

/// A file that is there.
#[derive(Clone)]
struct Entry {
    name: String,
    bytes: u64,
}

impl<D: Disk> Store<D> {
    fn new(disk: D, bytes_max: u64, loader: Arc<dyn EngineLoader>) -> Self {
        let mut key = [0; 32];
        // Without chance names could be guessed by whoever reads the folder, who is this user or root.
        if getrandom::fill(&mut key).is_err() {
            tracing::debug!("the system gives no random numbers for the names of spilled files");
        }
        Self { disk, bytes_max, loader, key, files: Mutex::default() }
    }

    /// Whose file it is: a hash, of which the file's name is a part.
    fn owner(&self, id: KeptId, name: &ConversationId) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.key).chain_update(id.0.to_le_bytes());
        hash.chain_update(name.as_str()).finalize().into()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a file that is to be written.
    fn reserve(&self, bytes: u64) -> Result<(), KeepError> {
        let (mut files, max) = (self.files(), self.bytes_max);
        let used = files.used;
        if used.saturating_add(bytes) > max {
            return Err(KeepError::Full { bytes, room: Room::Budget { used, max } });
        }
        files.used += bytes;
        Ok(())
    }

    fn write(&self, name: &str, plan: &Plan<'_>) -> Result<(), Failed> {
        let unfinished = format!("{name}{UNFINISHED}");
        let mut file = self.disk.create(&unfinished)?;
        plan.write(&*self.loader, &mut file)?;
        self.disk.finish(file, &unfinished, name)?;
        Ok(())
    }

    /// Whether it is gone, or never was.
    fn remove(&self, name: &str) -> bool {
        match self.disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = self.disk.place(name), "a spilled file stays");
                false
            }
            _ => true,
        }
    }
}

impl<D: Disk> Keep for Store<D> {
    fn put(&self, id: KeptId, name: &ConversationId, states: &[Kept]) -> Result<u64, KeepError> {
        let owner = self.owner(id, name);
        let plan = Plan::new(&*self.loader, owner, states)?;
        let (bytes, name) = (plan.bytes(), hexadecimal(&owner, NAME_LEN));
        self.forget(id);
        self.reserve(bytes)?;
        if let Err(failed) = self.write(&name, &plan) {
            // Whichever of them is there.
            let gone = [format!("{name}{UNFINISHED}"), name.clone()].map(|name| self.remove(&name));
            if gone == [true; 2] {
                self.files().used -= bytes;
            }
            return Err(failed.while_writing(bytes, || self.disk.place(&name)));
        }
        self.files().named.insert(id, Entry { name, bytes });
        Ok(bytes)
    }

    fn take(&self, id: KeptId, name: &ConversationId, expected: &[History]) -> Result<Vec<Kept>, KeepError> {
        let entry = self.files().named.get(&id).cloned().ok_or(KeepError::Unknown(id))?;
        let place = || self.disk.place(&entry.name);
        let (mut file, found) = self.disk.open(&entry.name).map_err(|unfit| match unfit {
            Unfit::Io(error) => KeepError::Io { place: place(), done: "read", reason: error.to_string() },
            Unfit::Distrusted(reason) => KeepError::Distrusted { place: place(), reason },
        })?;
        if found != entry.bytes {
            return Err(KeepError::Cut { place: place(), found, expected: entry.bytes });
        }
        let expected = Expected { owner: self.owner(id, name), histories: expected };
        file::read(&*self.loader, &mut file, entry.bytes, &expected, &place)
    }

    fn forget(&self, id: KeptId) {
        let Some(Entry { name, bytes }) = self.files().named.remove(&id) else { return };
        if self.remove(&name) {
            self.files().used -= bytes;
        }
    }
}

/// The first digits of some bytes.
pub(crate) fn hexadecimal(bytes: &[u8], digits: usize) -> String {
    bytes.iter().take(digits / 2).map(|byte| format!("{byte:02x}")).collect()
}
