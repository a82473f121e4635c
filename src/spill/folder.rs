//! A folder that is open, and what lies in it: the only part that knows the system.
//!
//! On Unix everything goes through the folder itself, not through its path, which may lead elsewhere meanwhile, and no
//! link is followed. Elsewhere nobody is asked who may write, and paths do.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(super) use other::{Folder, room};
#[cfg(unix)]
pub(super) use unix::{Folder, room};
