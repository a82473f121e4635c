//! A listening socket with a name in a folder: made for its user alone, and taken away when it is dropped.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::ObserveError;

/// A socket that others of this user can connect to.
#[derive(Debug)]
pub struct Socket {
    listener: tokio::net::UnixListener,
    path: PathBuf,
    /// Device and number: what is there later may be somebody else's.
    node: (u64, u64),
}

impl Socket {
    /// Opens one at `path`, within a tokio runtime.
    ///
    /// # Errors
    /// See [`ObserveError`]; nothing is left behind, and what was there and is no dead socket of this user's is as it was.
    pub fn open(path: &Path) -> Result<Self, ObserveError> {
        let failed = |cause| ObserveError::Open { path: path.to_owned(), cause };
        make_way(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named =
            tempfile::Builder::new().prefix(".mb").rand_bytes(6).make_in(folder, |path| UnixListener::bind(path));
        let named = named.map_err(failed)?;
        fs::set_permissions(named.path(), Permissions::from_mode(0o600)).map_err(failed)?;
        let metadata = fs::symlink_metadata(named.path()).map_err(failed)?;
        let listener = named.persist(path).map_err(|error| failed(error.error))?;
        let node = (metadata.dev(), metadata.ino());
        match to_tokio(listener) {
            Ok(listener) => Ok(Self { listener, path: path.to_owned(), node }),
            Err(cause) => {
                remove(path, node);
                Err(cause.map_or(ObserveError::Runtime, failed))
            }
        }
    }

    /// The next who connects.
    pub(super) async fn accept(&self) -> io::Result<tokio::net::UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        remove(&self.path, self.node);
    }
}

/// `None`: the runtime has no I/O, for which tokio has no error but a panic.
fn to_tokio(listener: UnixListener) -> Result<tokio::net::UnixListener, Option<io::Error>> {
    listener.set_nonblocking(true)?;
    let made = catch_unwind(AssertUnwindSafe(|| tokio::net::UnixListener::from_std(listener)));
    Ok(made.map_err(|_| None)??)
}

/// Takes what is at `path` away if it is this.
fn remove(path: &Path, node: (u64, u64)) {
    if fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == node) {
        // Whoever comes next finds that nobody answers.
        let _ = fs::remove_file(path);
    }
}

/// Whether a socket may be put at `path`: nothing is there, or one of this user's where nobody answers.
fn make_way(path: &Path) -> Result<(), ObserveError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(ObserveError::Open { path: path.to_owned(), cause }),
    };
    let path = path.to_owned();
    if !found.file_type().is_socket() {
        return Err(ObserveError::NotASocket { path });
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(ObserveError::Foreign { path });
    }
    match UnixStream::connect(&path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Who is too busy to answer is there as well.
        _ => Err(ObserveError::InUse { path }),
    }
}
