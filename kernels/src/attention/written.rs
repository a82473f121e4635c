//! How many rows of a page are written for good, and whether somebody may write more: one number, changed at once.
//!
//! Rows become more and never fewer. Who would write more takes the lease, which is there once: where exactly so many
//! rows are written as he knows of, since more are another's. He alone writes, and only behind what is written; giving
//! the lease back says how many rows there are now. A lease that is never given back keeps everybody else from
//! writing, and from nothing more.
//!
//! What a holder wrote is seen by whoever finds it written, and by the next holder: giving back releases, looking and
//! taking acquire. `tests/leases.rs` has this file go through all orders of what threads do, on atomics that are
//! loom's; so it takes them from where it stands.

use super::atomic::{AtomicU32, Ordering};

/// Rows, and this where they are leased.
const LEASED: u32 = 1 << 31;

/// See the module's description.
pub(super) struct Written(AtomicU32);

impl Written {
    /// Of no row, leased by whoever makes it.
    pub(super) fn leased() -> Self {
        Self(AtomicU32::new(LEASED))
    }

    /// Rows that are written for good.
    pub(super) fn rows(&self) -> usize {
        (self.0.load(Ordering::Acquire) & !LEASED) as usize
    }

    /// Takes the lease where exactly `rows` are written and nobody has it: whether it was taken.
    #[must_use]
    pub(super) fn lease(&self, rows: usize) -> bool {
        let rows = rows as u32;
        self.0.compare_exchange(rows, rows | LEASED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives the lease back: now so many rows are written. For its holder alone.
    ///
    /// # Panics
    /// Nobody has it, or rows would be fewer than before.
    pub(super) fn give_back(&self, rows: usize) {
        let before = self.0.load(Ordering::Relaxed);
        assert!(before & LEASED != 0 && before & !LEASED <= rows as u32, "{rows} rows are written behind {before:#x}");
        self.0.store(rows as u32, Ordering::Release);
    }
}
