//! The third port: where a conversation's keys and values go that is not in memory now.
//!
//! Whoever keeps them knows what a place is (a folder, another machine's memory); here stand only what goes and comes
//! and what can go wrong. A conversation always has its tokens besides, so nothing is ever lost but time: whatever is
//! not given back as it was is read again.

use std::fmt;

use crate::{
    engine::{PageError, Resident},
    job::History,
    message::ConversationId,
};

/// A context with its pages: what a conversation that leaves takes along, where it stands first, then its waiting
/// answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// Its tokens.
    pub history: History,
    /// The fewest tokens that it can go back to.
    pub floor: usize,
    /// Its pages; they may hold less than the context.
    pub resident: Resident,
}

/// What was kept, named by whoever gives it to be kept: unique in the life of the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptId(pub u64);

/// Keeps contexts outside of memory. Everything here blocks: it is called on a thread made for that.
pub trait Keep: Send + Sync + 'static {
    /// Keeps them, and pages that several of them have once: how many bytes that takes.
    ///
    /// # Errors
    /// They are not kept, and nothing is left of them.
    fn put(&self, id: KeptId, name: &ConversationId, states: &[Kept]) -> Result<u64, KeepError>;

    /// What was kept, in new memory; `expected` are the tokens that its owner still has, one history a context. It stays
    /// kept until it is forgotten.
    ///
    /// # Errors
    /// It is not as it was kept, or cannot be read.
    fn take(&self, id: KeptId, name: &ConversationId, expected: &[History]) -> Result<Vec<Kept>, KeepError>;

    /// It is not wanted any more, if there is such a thing. Never fails.
    fn forget(&self, id: KeptId);
}

impl fmt::Debug for dyn Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keep")
    }
}

/// What there is no more room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Room {
    /// What the keeper may use.
    #[error("{used} of {max} bytes are used")]
    Budget {
        /// Bytes of all that is kept.
        used: u64,
        /// The most it may be.
        max: u64,
    },
    /// What it keeps things on.
    #[error("the disk is full")]
    Disk,
}

/// Why something is not kept, or not given back. `place`: where, as its keeper names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// There is no room for it.
    #[error("there is no room for {bytes} bytes: {room}")]
    Full {
        /// What it takes.
        bytes: u64,
        /// What is full.
        room: Room,
    },
    /// It is shorter or longer than it was.
    #[error("{place} has {found} bytes, expected {expected}")]
    Cut {
        /// Where.
        place: String,
        /// How long it is.
        found: u64,
        /// How long it should be.
        expected: u64,
    },
    /// It is not what was written.
    #[error("{place} was altered: {part}")]
    Altered {
        /// Where.
        place: String,
        /// Which part of it.
        part: Part,
    },
    /// It was made by another version, of another model, form or window.
    #[error("{place} is of another {what}: {found}, expected {expected}")]
    Foreign {
        /// Where.
        place: String,
        /// What differs.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// It is another conversation's, or another of its states.
    #[error("{place} holds something else than was kept there")]
    Swapped {
        /// Where.
        place: String,
    },
    /// Somebody else may have written it.
    #[error("{place} is not used: {reason}")]
    Distrusted {
        /// Where.
        place: String,
        /// What somebody else may do.
        reason: String,
    },
    /// The system does not read or write it.
    #[error("{place} cannot be {done}: {reason}")]
    Io {
        /// Where.
        place: String,
        /// `read` or `written`.
        done: &'static str,
        /// The system's own words.
        reason: String,
    },
    /// The engines make no bytes of pages, or no pages of bytes.
    #[error(transparent)]
    Page(#[from] PageError),
    /// Nothing of that name is kept.
    #[error("nothing is kept as {}", .0.0)]
    Unknown(KeptId),
}

/// A part of what was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Part {
    /// What it says of itself.
    #[error("its head")]
    Head,
    /// One of its pages.
    #[error("page {0}")]
    Page(usize),
}

impl KeepError {
    /// Whether there is only no room: nothing is wrong, and what leaves meanwhile leaves to its tokens alone.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// What to do about it, one sentence; `None` where there is nothing or only the cause can say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { room: Room::Budget { .. }, .. } => Some("raise `memory.spill_bytes`".into()),
            Self::Full { room: Room::Disk, .. } => {
                Some("make room on the disk of `memory.spill`, or lower `memory.spill_bytes`".into())
            }
            Self::Cut { .. } | Self::Altered { .. } | Self::Swapped { .. } => {
                Some("look at the disk, and at who else writes to `memory.spill`".into())
            }
            Self::Distrusted { .. } => Some("name a folder of your own in `memory.spill`".into()),
            Self::Io { .. } | Self::Foreign { .. } | Self::Page(_) | Self::Unknown(_) => None,
        }
    }
}
