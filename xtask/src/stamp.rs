//! Stamps: how set-up knows, in milliseconds, that a stage has nothing to do.
//!
//! A stamp records what a stage was made from (a hash over the files that shape it) and what it made
//! (size, time and hash of each file). It is written last: what an interrupted stage leaves does not
//! pass for done, and what a failed one left alone still does.
//!
//! Sizes and times are compared first; where only the time differs, as in a copied folder, the hash
//! decides and the stamp is brought up to date. Times are whole seconds: archives keep no more.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// What a finished stage leaves behind as `.motorbrain/<stage>.stamp.json`.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Stamp {
    made_from: String,
    files: Vec<Made>,
}

/// One file that a stage has made; `path` is relative to the stamp's folder.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Made {
    path: PathBuf,
    size: u64,
    modified: u64,
    sha256: String,
}

/// Where a stage's stamp is and what the stage depends on.
pub(crate) struct Stage {
    folder: PathBuf,
    name: &'static str,
    made_from: String,
}

impl Stage {
    /// `sources` are the files that shape what the stage makes.
    pub(crate) fn new(
        folder: &Path,
        name: &'static str,
        sources: &[PathBuf],
    ) -> Result<Self, Error> {
        let mut hash = Sha256::new();
        for source in sources {
            hash.update(file_hash(source).map_err(Error::files("read", source))?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            name,
            made_from: hex(&hash.finalize()),
        })
    }

    /// Whether the stage was finished from the same sources and its files are still those it made.
    pub(crate) fn is_done(&self) -> bool {
        let Some(mut stamp) = self.read() else {
            return false;
        };
        if stamp.made_from != self.made_from || stamp.files.is_empty() {
            return false;
        }
        let mut touched = false;
        for made in &mut stamp.files {
            match made.state(&self.folder) {
                State::Same => {}
                State::Touched { modified } => {
                    made.modified = modified;
                    touched = true;
                }
                State::Changed => return false,
            }
        }
        // A stamp that cannot be brought up to date only costs the hashes again next time.
        let _ = touched.then(|| self.write(&stamp));
        true
    }

    /// Records the files, each given by its path under the stage's folder.
    pub(crate) fn finish(&self, files: &[PathBuf]) -> Result<(), Error> {
        let files = files
            .iter()
            .map(|path| Made::now(&self.folder, path).map_err(Error::files("read", path)))
            .collect::<Result<_, _>>()?;
        let stamp = Stamp {
            made_from: self.made_from.clone(),
            files,
        };
        self.write(&stamp)
            .map_err(Error::files("write", &self.path()))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.stamp.json", self.name))
    }

    fn read(&self) -> Option<Stamp> {
        serde_json::from_slice(&fs::read(self.path()).ok()?).ok()
    }

    fn write(&self, stamp: &Stamp) -> io::Result<()> {
        let partial = self.path().with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(stamp)?)?;
        fs::rename(partial, self.path())
    }
}

/// What became of a file since it was made.
enum State {
    Same,
    Touched { modified: u64 },
    Changed,
}

impl Made {
    fn now(folder: &Path, path: &Path) -> io::Result<Self> {
        let file = folder.join(path);
        let (size, modified) = size_and_time(&file)?;
        Ok(Self {
            path: path.to_owned(),
            size,
            modified,
            sha256: hex(&file_hash(&file)?),
        })
    }

    fn state(&self, folder: &Path) -> State {
        let file = folder.join(&self.path);
        match size_and_time(&file) {
            Ok(found) if found == (self.size, self.modified) => State::Same,
            Ok((size, modified)) if size == self.size => match file_hash(&file) {
                Ok(hash) if hex(&hash) == self.sha256 => State::Touched { modified },
                _ => State::Changed,
            },
            _ => State::Changed,
        }
    }
}

fn size_and_time(file: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(file)?;
    let modified = metadata
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok((metadata.len(), modified.as_secs()))
}

fn file_hash(file: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(file)?, &mut HashWriter(&mut hash))?;
    Ok(hash.finalize().into())
}

/// Lets `io::copy` feed a hash.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::{Duration, SystemTime};

    use super::*;

    /// A folder with a source and a made file; the returned stage is finished.
    fn finished() -> (tempfile::TempDir, Stage) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("source"), "one").unwrap();
        fs::write(folder.path().join("made"), "two").unwrap();
        let stage = stage(folder.path());
        stage.finish(&["made".into()]).unwrap();
        (folder, stage)
    }

    fn stage(folder: &Path) -> Stage {
        Stage::new(folder, "stage", &[folder.join("source")]).unwrap()
    }

    fn set_time(file: &Path, ago: Duration) {
        let file = File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    #[test]
    fn a_stage_is_done_once_it_is_finished() {
        let (folder, stage) = finished();
        assert!(stage.is_done());
        fs::remove_file(stage.path()).unwrap();
        assert!(!stage.is_done());
        assert!(folder.path().join("made").exists());
    }

    #[test]
    fn a_changed_source_makes_it_undone() {
        let (folder, _) = finished();
        fs::write(folder.path().join("source"), "other").unwrap();
        assert!(!stage(folder.path()).is_done());
    }

    #[test]
    fn a_missing_or_damaged_file_makes_it_undone() {
        let (folder, stage) = finished();
        let made = folder.path().join("made");
        fs::write(&made, "twO").unwrap();
        set_time(&made, Duration::from_secs(1_000));
        assert!(!stage.is_done());
        fs::remove_file(&made).unwrap();
        assert!(!stage.is_done());
    }

    #[test]
    fn a_copied_file_with_another_time_is_accepted_by_its_hash() {
        let (folder, stage) = finished();
        let before = stage.read().unwrap();
        set_time(&folder.path().join("made"), Duration::from_secs(1_000));
        assert!(stage.is_done());
        assert_ne!(
            stage.read().unwrap(),
            before,
            "the stamp was not brought up to date"
        );
    }

    #[test]
    fn a_broken_stamp_makes_it_undone() {
        let (_folder, stage) = finished();
        fs::write(stage.path(), "{").unwrap();
        assert!(!stage.is_done());
    }
}
