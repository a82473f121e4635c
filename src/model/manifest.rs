//! The manifest: size and SHA-256 of each file of a model folder, in `manifest.json`.
//!
//! A bit that flipped in the weights loads without complaint and speaks nonsense, so files are hashed:
//! once in full; that this was done is recorded beside the manifest, and while manifest, sizes and
//! times stay as recorded it is not done again. A folder that cannot be written is hashed each time.
//!
//! It may also say what the weights were made of, by a hash that all forms of a model have in common: who makes another
//! form of a model carries it along.

use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files;

/// A calibration's file in its model's folder. It is not listed: it may be made at any time, and has a sum of its own.
pub const CALIBRATION: &str = "calibration.safetensors";

const VERSION: u32 = 1;
/// What a full check leaves behind.
const RECORD: &str = ".manifest.checked";
const CHUNK_BYTES: usize = 1 << 20;
/// A file changed this shortly before its check may change again within the same tick of its clock,
/// unseen; such a check is not recorded.
const SETTLED: Duration = Duration::from_secs(2);

/// The files of a model folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// A SHA-256 of what the weights go back to, in hexadecimal; `None` where that is these weights themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Sorted by path.
    pub files: Vec<ManifestFile>,
}

/// One file of a model folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Relative to the folder, with forward slashes.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its content, in lower-case hexadecimal.
    pub sha256: String,
}

/// How a folder was compared with its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Every file was hashed.
    Fully,
    /// Sizes and times are those of an earlier full check.
    BySizeAndTime,
}

/// Why a folder is not what its manifest says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A file cannot be read, or the manifest not written.
    #[error("cannot access {}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's own words.
        #[source]
        cause: io::Error,
    },
    /// The manifest does not parse.
    #[error("the manifest {} does not parse", file.display())]
    Parse {
        /// The manifest.
        file: PathBuf,
        /// Where and why.
        #[source]
        cause: serde_json::Error,
    },
    /// A manifest of another time.
    #[error("the manifest {} is of version {found}, expected {VERSION}", file.display())]
    Version {
        /// The manifest.
        file: PathBuf,
        /// Its version.
        found: u32,
    },
    /// What the weights go back to is said by something else than a hash.
    #[error("the manifest {} says that the weights go back to `{found}`, expected 64 hexadecimal digits", file.display())]
    Origin {
        /// The manifest.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// A path that leads out of the folder.
    #[error("the manifest names `{path}`, which is not a path inside the folder")]
    OutsideFolder {
        /// The path.
        path: String,
    },
    /// A listed file is not there.
    #[error("the manifest lists {}, which is not there", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file has another length.
    #[error("{} has {found} bytes, the manifest says {expected}", file.display())]
    Size {
        /// The file.
        file: PathBuf,
        /// What the manifest says.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// A file has another content.
    #[error("{} has the SHA-256 {found}, the manifest says {expected}", file.display())]
    Hash {
        /// The file.
        file: PathBuf,
        /// What the manifest says.
        expected: String,
        /// Its hash.
        found: String,
    },
}

impl ManifestError {
    /// What to do next, one sentence; `None` when only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::Missing { .. } | Self::Size { .. } | Self::Hash { .. } => Some(
                "fetch the file again; if you changed it on purpose, write the manifest anew (`motorbrain doctor --write-manifest`)"
                    .into(),
            ),
            Self::Parse { .. } | Self::Version { .. } | Self::Origin { .. } | Self::OutsideFolder { .. } => Some(
                "write the manifest anew (`motorbrain doctor --write-manifest`), or remove it".into(),
            ),
        }
    }
}

impl Manifest {
    /// The manifest's file name.
    pub const FILE: &str = "manifest.json";

    /// The manifest of a folder; `None` where it has none.
    ///
    /// # Errors
    /// It cannot be read or does not parse.
    pub fn read(dir: &Path) -> Result<Option<Self>, ManifestError> {
        let file = dir.join(Self::FILE);
        let text = match files::read(&file) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|cause| ManifestError::Io { file: file.clone(), cause })?,
        };
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|cause| ManifestError::Parse { file: file.clone(), cause })?;
        if manifest.version != VERSION {
            return Err(ManifestError::Version { file, found: manifest.version });
        }
        if let Some(found) = manifest.origin.as_ref().filter(|origin| digest(origin).is_none()) {
            return Err(ManifestError::Origin { file, found: found.chars().take(80).collect() });
        }
        let inside =
            |path: &str| Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
        match manifest.files.iter().find(|listed| !inside(&listed.path)) {
            Some(listed) => Err(ManifestError::OutsideFolder { path: listed.path.clone() }),
            None => Ok(Some(manifest)),
        }
    }

    /// What the weights go back to, where it is said.
    pub fn origin(&self) -> Option<[u8; 32]> {
        self.origin.as_deref().and_then(digest)
    }

    /// Compares a folder with the manifest: in full, unless an earlier full check still holds.
    ///
    /// # Errors
    /// The first file that is not as listed.
    pub fn verify(&self, dir: &Path) -> Result<Checked, ManifestError> {
        let found = self.found(dir)?;
        if Record::read(dir).is_some_and(|record| record.holds(self, &found)) {
            return Ok(Checked::BySizeAndTime);
        }
        tracing::info!(dir = %dir.display(), "comparing every file of the model with its manifest");
        self.verify_fully(dir)?;
        Ok(Checked::Fully)
    }

    /// Compares a folder with the manifest, hashing every file.
    ///
    /// # Errors
    /// The first file that is not as listed.
    pub fn verify_fully(&self, dir: &Path) -> Result<(), ManifestError> {
        // Looked at before hashing: a file that changes meanwhile has a later time than recorded.
        let found = self.found(dir)?;
        for listed in &self.files {
            let file = dir.join(&listed.path);
            let hash = hash_of(&file).map_err(|cause| ManifestError::Io { file: file.clone(), cause })?;
            if !hash.eq_ignore_ascii_case(&listed.sha256) {
                let expected = listed.sha256.clone();
                return Err(ManifestError::Hash { file, expected, found: hash });
            }
        }
        Record::write(self, found, dir);
        Ok(())
    }

    /// Hashes every file of a folder (but hidden ones) and writes its manifest. What the one before said that the weights
    /// go back to is kept, unless a file has changed since that is not JSON, which are the config files.
    ///
    /// # Errors
    /// A file cannot be read or the manifest not written.
    pub fn write(dir: &Path) -> Result<Self, ManifestError> {
        let before = Self::read(dir).ok().flatten();
        Self::hashed(dir)?.placed(dir, |files| {
            let before = before?;
            let is_config = |file: &ManifestFile| file.path.ends_with(".json");
            let is_same = before.files.iter().all(|file| is_config(file) || files.contains(file));
            before.origin.filter(|_| is_same)
        })
    }

    /// Hashes every file of a folder (but hidden ones) and writes its manifest, which says what the weights go back to.
    ///
    /// # Errors
    /// A file cannot be read or the manifest not written.
    pub fn write_from(dir: &Path, origin: &[u8; 32]) -> Result<Self, ManifestError> {
        let origin = origin.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::hashed(dir)?.placed(dir, |_| Some(origin))
    }

    fn placed(
        mut self,
        dir: &Path,
        origin: impl FnOnce(&[ManifestFile]) -> Option<String>,
    ) -> Result<Self, ManifestError> {
        self.origin = origin(&self.files);
        let file = dir.join(Self::FILE);
        replace(&file, &self).map_err(|cause| ManifestError::Io { file, cause })?;
        Ok(self)
    }

    fn hashed(dir: &Path) -> Result<Self, ManifestError> {
        let mut paths = Vec::new();
        list(dir, "", &mut paths)?;
        paths.sort();
        let is_listed = |path: &String| path != Self::FILE && path != CALIBRATION;
        let files = paths.into_iter().filter(is_listed).map(|path| {
            let file = dir.join(&path);
            let io = |cause| ManifestError::Io { file: file.clone(), cause };
            let size = fs::metadata(&file).map_err(io)?.len();
            Ok(ManifestFile { path, size, sha256: hash_of(&file).map_err(io)? })
        });
        Ok(Self { version: VERSION, origin: None, files: files.collect::<Result<_, ManifestError>>()? })
    }

    /// When each listed file last changed. Every file is there and has its size.
    fn found(&self, dir: &Path) -> Result<Vec<SystemTime>, ManifestError> {
        let times = self.files.iter().map(|listed| {
            let file = dir.join(&listed.path);
            let metadata = match fs::metadata(&file) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    return Err(ManifestError::Missing { file });
                }
                metadata => metadata.map_err(|cause| ManifestError::Io { file: file.clone(), cause })?,
            };
            if metadata.len() != listed.size {
                let (expected, found) = (listed.size, metadata.len());
                return Err(ManifestError::Size { file, expected, found });
            }
            metadata.modified().map_err(|cause| ManifestError::Io { file, cause })
        });
        times.collect()
    }
}

/// That a full check succeeded: of which manifest, and when each of its files had last changed.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    manifest: Manifest,
    modified: Vec<SystemTime>,
}

impl Record {
    /// A record that cannot be read is no record.
    fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read(&dir.join(RECORD)).ok()?).ok()
    }

    fn holds(&self, manifest: &Manifest, modified: &[SystemTime]) -> bool {
        self.manifest == *manifest && self.modified == modified
    }

    /// Where it cannot be written the next check is a full one again.
    fn write(manifest: &Manifest, modified: Vec<SystemTime>, dir: &Path) {
        let settled = SystemTime::now().checked_sub(SETTLED);
        if modified.iter().any(|&time| settled.is_none_or(|settled| time > settled)) {
            return;
        }
        if let Err(cause) = replace(&dir.join(RECORD), &Self { manifest: manifest.clone(), modified }) {
            tracing::debug!(%cause, "the check of the manifest cannot be recorded");
        }
    }
}

/// Writes under another name and renames, so that nobody sees half a file.
fn replace(file: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".new");
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    fs::write(&temporary, text)?;
    fs::rename(&temporary, file)
}

/// The paths of all files below `dir`/`folder`, relative to `dir`, hidden ones left out.
fn list(dir: &Path, folder: &str, paths: &mut Vec<String>) -> Result<(), ManifestError> {
    let below = dir.join(folder);
    let io = |cause| ManifestError::Io { file: below.clone(), cause };
    for entry in fs::read_dir(&below).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if dir.join(&path).is_dir() {
            list(dir, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// A SHA-256 in hexadecimal.
fn digest(hexadecimal: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |&[high, low]: &[u8; 2]| u8::try_from(digit(high)? * 16 + digit(low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

fn hash_of(file: &Path) -> io::Result<String> {
    let mut file = files::open(file)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hasher.update(&chunk[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
