//! Numbers in a file, with what they are: safetensors, whose metadata say what kind of file it is, tell of it in JSON, and
//! have a sum over all that.
//!
//! A file may have been written by anybody. It is compared with its length and with what is expected of it before memory
//! is asked for, and its sum tells damage.

use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

use super::CalibrationError;
use crate::safetensors::{HEADER_MAX, Header, LENGTH, Misfit, Type};

/// Raised with each change of what stands in such files.
const VERSION: &str = "1";

/// A kind of file.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// As its metadata say it.
    pub(super) format: &'static str,
    /// As people are told.
    pub(super) what: &'static str,
}

/// Numbers that are written.
pub(super) struct Tensor {
    pub(super) name: &'static str,
    pub(super) dtype: Type,
    /// One dimension or two.
    pub(super) shape: Shape,
    /// Little-endian.
    pub(super) bytes: Vec<u8>,
}

/// The dimensions of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Row(usize),
    Matrix(usize, usize),
}

/// The bytes of a file.
pub(super) fn encode(kind: Kind, about: &impl Serialize, tensors: &[Tensor]) -> Vec<u8> {
    let about = serde_json::to_string(about).unwrap_or_else(|_| unreachable!("text and numbers are JSON"));
    let mut sum = Sum::of(kind, &about);
    tensors.iter().for_each(|tensor| sum.add(tensor));
    let metadata =
        [("format", kind.format.to_owned()), ("version", VERSION.to_owned()), ("about", about), ("sum", sum.told())];
    let mut header = Header::new(metadata.map(|(key, value)| (key.to_owned(), value)).into());
    for Tensor { name, dtype, shape, .. } in tensors {
        match *shape {
            Shape::Row(len) => header.add((*name).to_owned(), *dtype, len),
            Shape::Matrix(rows, columns) => header.add_matrix((*name).to_owned(), *dtype, [rows, columns]),
        }
    }
    let mut bytes = header.encode();
    tensors.iter().for_each(|tensor| bytes.extend_from_slice(&tensor.bytes));
    bytes
}

/// That a file may be put at `path`, where nothing is, or nothing else than such files.
pub(super) fn check_place(path: &Path, kinds: &[Kind]) -> Result<(), CalibrationError> {
    let unwritten = |cause| CalibrationError::Io { done: "written", path: path.to_owned(), cause };
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(unwritten(cause)),
        // What is cut or damaged may be replaced, too.
        Ok(there) if !(there.is_file() && (there.len() == 0 || kinds.iter().any(|kind| is_one(path, *kind)))) => {
            Err(CalibrationError::Taken { path: path.to_owned() })
        }
        _ => tempfile::tempfile_in(folder_of(path)).map(drop).map_err(unwritten),
    }
}

fn is_one(path: &Path, kind: Kind) -> bool {
    use CalibrationError::{Damaged, Length, Version};
    matches!(Opened::open(path, kind), Ok(_) | Err(Version { .. } | Length { .. } | Damaged { .. }))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file aside, has it written to the disk, and puts it in its place, where another may be.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), CalibrationError> {
    let write = || {
        let folder = folder_of(path);
        let mut builder = tempfile::Builder::new();
        // As readable as any file of its folder: it has no secrets.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut unfinished = builder.prefix(".motorbrain-").tempfile_in(folder)?;
        unfinished.write_all(bytes)?;
        unfinished.as_file().sync_all()?;
        unfinished.persist(path)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(|cause| CalibrationError::Io { done: "written", path: path.to_owned(), cause })
}

/// A file whose header was read.
pub(super) struct Opened<R> {
    from: R,
    kind: Kind,
    path: PathBuf,
    header: Header,
    about: String,
}

impl Opened<File> {
    /// Opens a regular file.
    pub(super) fn open(path: &Path, kind: Kind) -> Result<Self, CalibrationError> {
        let open = || {
            // Opening a pipe would wait for whoever writes to it.
            if !fs::metadata(path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
            }
            let file = File::open(path)?;
            Ok((file.metadata()?.len(), file))
        };
        let (bytes, file) = open().map_err(|cause| unread(path, cause))?;
        Self::begin(file, bytes, path, kind)
    }
}

impl<R: Read> Opened<R> {
    /// Reads the header of `bytes` bytes; `path` is where they come from.
    pub(super) fn begin(mut from: R, bytes: u64, path: &Path, kind: Kind) -> Result<Self, CalibrationError> {
        let misfit = |misfit| CalibrationError::misfit(misfit, path, kind.what);
        let mut length = [0; LENGTH];
        let left = bytes.checked_sub(LENGTH as u64).ok_or_else(|| misfit(Misfit::NoSafetensors))?;
        exact(&mut from, &mut length, path)?;
        let length = u64::from_le_bytes(length);
        if length > left.min(HEADER_MAX) {
            return Err(misfit(Misfit::NoSafetensors));
        }
        let mut json = vec![0; length as usize];
        exact(&mut from, &mut json, path)?;
        let header = Header::decode(&json, left - length).map_err(misfit)?;
        let text = |key| header.metadata.get(key).map(String::as_str);
        if text("format") != Some(kind.format) {
            let why = "it does not say that it does";
            return Err(CalibrationError::NoFile { path: path.to_owned(), what: kind.what, why });
        }
        if text("version") != Some(VERSION) {
            let found = text("version").unwrap_or("none").chars().take(80).flat_map(char::escape_default).collect();
            return Err(CalibrationError::Version { path: path.to_owned(), found, expected: VERSION });
        }
        let about = text("about").unwrap_or_default().to_owned();
        Ok(Self { from, kind, path: path.to_owned(), header, about })
    }

    /// What it tells of itself; believed only when the numbers were read.
    pub(super) fn about<T: DeserializeOwned>(&self) -> Result<T, CalibrationError> {
        serde_json::from_str(&self.about).map_err(|_| self.malformed("it does not tell what it is"))
    }

    /// The dimensions of a tensor, `None` where there is none.
    pub(super) fn shape(&self, name: &str) -> Option<Shape> {
        let tensor = self.header.tensors.get(name)?;
        let size = |size: u64| usize::try_from(size).ok();
        Some(match tensor.columns {
            None => Shape::Row(size(tensor.len)?),
            Some(columns) => Shape::Matrix(size(tensor.len / columns.max(1))?, size(columns)?),
        })
    }

    /// The bytes of all tensors, which have to be these, in this order, and as they were written. So many bytes are asked
    /// for as these are.
    pub(super) fn read(mut self, expected: &[(&'static str, Type, Shape)]) -> Result<Vec<Vec<u8>>, CalibrationError> {
        let is_all = self.header.tensors.len() == expected.len();
        let mut sum = Sum::of(self.kind, &self.about);
        let (mut read, mut at) = (Vec::new(), 0);
        for &(name, dtype, shape) in expected {
            let told = self.header.tensors.get(name).copied();
            let told = told.filter(|told| is_all && told.dtype == dtype && told.start == at);
            let told = told.filter(|_| self.shape(name) == Some(shape));
            let told = told.ok_or_else(|| self.malformed("its numbers are others, or more or fewer"))?;
            let mut bytes = vec![0; told.bytes() as usize];
            exact(&mut self.from, &mut bytes, &self.path)?;
            at += told.bytes();
            let tensor = Tensor { name, dtype, shape, bytes };
            sum.add(&tensor);
            read.push(tensor.bytes);
        }
        if self.header.metadata.get("sum") != Some(&sum.told()) {
            return Err(CalibrationError::Damaged { path: self.path });
        }
        Ok(read)
    }

    /// That it is for hidden states of another size.
    pub(super) fn of_size(&self, found: usize, expected: usize) -> CalibrationError {
        let (found, expected) = (found.to_string(), expected.to_string());
        CalibrationError::Foreign { path: self.path.clone(), what: "a hidden size of", found, expected }
    }

    pub(super) fn malformed(&self, why: &'static str) -> CalibrationError {
        CalibrationError::Malformed { path: self.path.clone(), why }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn exact(from: &mut impl Read, to: &mut [u8], path: &Path) -> Result<(), CalibrationError> {
    from.read_exact(to).map_err(|cause| unread(path, cause))
}

fn unread(path: &Path, cause: io::Error) -> CalibrationError {
    CalibrationError::Io { done: "read", path: path.to_owned(), cause }
}

/// Over all that a file says.
struct Sum(Xxh3);

impl Sum {
    fn of(kind: Kind, about: &str) -> Self {
        let mut sum = Xxh3::new();
        for text in [kind.format, VERSION, about] {
            sum.update(&(text.len() as u64).to_le_bytes());
            sum.update(text.as_bytes());
        }
        Self(sum)
    }

    fn add(&mut self, tensor: &Tensor) {
        self.0.update(format!("{} {:?} {:?}", tensor.name, tensor.dtype, tensor.shape).as_bytes());
        self.0.update(&tensor.bytes);
    }

    fn told(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}
