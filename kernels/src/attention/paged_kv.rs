//! A conversation's keys and values in one slot: its table of pages, and the leases of the run that it is in.
//!
//! Pages are shared with whoever else has them: other conversations that begin alike, the owner of the conversation,
//! a run that was abandoned. What that takes is settled before a run, in [`PagedKv::make_room`]: a run writes behind
//! the rows that are there, in the last page where it gets the lease, else in a copy of that page's rows, and in
//! pages of its own. So it finds every page either full or leased by itself, and what others do is no matter.
//!
//! How many of its rows count is known by whoever has the table, not here.

use std::{
    collections::TryReserveError,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    kv_store::KvStore,
    page::{Block, Lease, NoMemory, Page},
    page_layout::{BLOCK, PageLayout, Part},
    shape::Shape,
};
use crate::rotary::Turn;

/// Rows that a copy keeps, and how their keys turn on the way.
pub struct Kept<'a> {
    /// Which rows.
    pub rows: Range<usize>,
    /// `None`: their keys stay as they are.
    pub turns: Option<Turns<'a>>,
}

/// How keys turn on their way into a copy.
#[derive(Clone, Copy)]
pub struct Turns<'a> {
    /// One a layer.
    pub layers: &'a [Turn],
    /// Whether the copy's keys are kept in f32 whatever they were kept in. Each turn rounds them, in f16 by up to
    /// 2^-11 of itself, half a step, in which what turns slowly would not move at all, and that adds up where keys are
    /// turned many times.
    pub in_f32: bool,
}

/// There is no room for more rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Nor is there for a page.
    #[error(transparent)]
    Page(#[from] NoMemory),
    /// Not even for the table.
    #[error(transparent)]
    Table(#[from] TryReserveError),
}

/// Why pages are no conversation's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdopted {
    /// They are more or fewer than the rows take.
    #[error("{rows} rows of keys and values lie in {expected} pages, not in {pages}")]
    Count {
        /// Rows that they are said to hold.
        rows: usize,
        /// The pages that takes.
        expected: usize,
        /// Those there are.
        pages: usize,
    },
    /// They come from elsewhere.
    #[error("page {page} is another model's")]
    Store {
        /// Which of them.
        page: usize,
    },
    /// Keys are kept in f32 in some and not in others.
    #[error("page {page} keeps keys in another type than those before it")]
    Layout {
        /// Which of them.
        page: usize,
    },
    /// It has not the rows that it should hold.
    #[error("page {page} has {written} rows, expected {expected}")]
    Rows {
        /// Which of them.
        page: usize,
        /// Rows that are written.
        written: usize,
        /// Rows that are said to be.
        expected: usize,
    },
}

/// See the module's description.
pub struct PagedKv {
    store: Arc<KvStore>,
    /// Which of the store's layouts its pages have.
    wide: bool,
    /// In a run all of these are full.
    pages: Vec<Arc<Page>>,
    /// Those that the run in progress writes to, behind `pages`.
    leases: Vec<Lease>,
    /// How many of its pages its owner knows, see [`Self::take_changes`].
    told: usize,
    /// Whether a layer is at work on it, see [`InHand`].
    in_hand: AtomicBool,
}

impl PagedKv {
    /// Without pages; its table has room for those of `tokens` from the beginning.
    pub fn new(store: &Arc<KvStore>, tokens: usize) -> Self {
        Self::of(store, false, Vec::with_capacity(tokens.div_ceil(BLOCK)))
    }

    fn of(store: &Arc<KvStore>, wide: bool, pages: Vec<Arc<Page>>) -> Self {
        let (store, leases, told) = (Arc::clone(store), Vec::new(), 0);
        Self { store, wide, pages, leases, told, in_hand: AtomicBool::new(false) }
    }

    /// A table of pages that hold `rows`, with room for those of `tokens`. Its owner knows them.
    ///
    /// # Errors
    /// They do not.
    pub fn adopt(
        store: &Arc<KvStore>,
        pages: impl ExactSizeIterator<Item = Arc<Page>>,
        rows: usize,
        tokens: usize,
    ) -> Result<Self, NotAdopted> {
        let (count, expected) = (pages.len(), rows.div_ceil(BLOCK));
        if count != expected {
            return Err(NotAdopted::Count { rows, expected, pages: count });
        }
        let mut kv = Self::new(store, tokens);
        for (index, page) in pages.enumerate() {
            if !Arc::ptr_eq(page.store(), store) {
                return Err(NotAdopted::Store { page: index });
            }
            kv.wide = if index == 0 { page.is_wide() } else { kv.wide };
            if page.is_wide() != kv.wide {
                return Err(NotAdopted::Layout { page: index });
            }
            let (written, expected) = (page.written(), (rows - index * BLOCK).min(BLOCK));
            if written < expected {
                return Err(NotAdopted::Rows { page: index, written, expected });
            }
            kv.pages.push(page);
        }
        kv.told = count;
        Ok(kv)
    }

    /// Makes room for `new` rows behind the first `rows`, for a run. Pages behind them go.
    ///
    /// # Errors
    /// The system has no more memory. The rows stay.
    ///
    /// # Panics
    /// There are not so many.
    pub fn make_room(&mut self, rows: usize, new: usize) -> Result<(), NoRoom> {
        // Those of a run that failed.
        self.settle(rows);
        let room = self.capacity();
        assert!(rows <= room, "{rows} rows are to be gone on behind, there is room for {room}");
        self.pages.truncate(rows.div_ceil(BLOCK));
        self.told = self.told.min(self.pages.len());
        let made = self.lease(rows, new);
        if made.is_err() {
            self.settle(rows);
        }
        made
    }

    fn lease(&mut self, rows: usize, new: usize) -> Result<(), NoRoom> {
        let (full, rest, count) = (rows / BLOCK, rows % BLOCK, rows.saturating_add(new).div_ceil(BLOCK));
        // Together with the last page, which moves from one list to the other.
        self.leases.try_reserve(count - full)?;
        self.pages.try_reserve(count - self.pages.len())?;
        if rest > 0
            && let Some(page) = self.pages.last()
        {
            let lease = page.lease(rest);
            let lease = match lease {
                Some(lease) => lease,
                None => {
                    let copy = page.copy(rest)?;
                    self.told = self.told.min(full);
                    copy
                }
            };
            self.pages.pop();
            self.leases.push(lease);
        }
        while self.pages() < count {
            self.leases.push(Page::new(&self.store, self.wide)?);
        }
        Ok(())
    }

    /// Ends a run: the first `rows` are written for good, and what it was given beyond is given back.
    pub fn settle(&mut self, rows: usize) {
        for lease in self.leases.drain(..) {
            let written = rows.saturating_sub(self.pages.len() * BLOCK).min(BLOCK);
            if written > 0 {
                self.pages.push(Arc::clone(lease.page()));
                lease.settle(written);
            }
        }
    }

    /// What became of the first `rows` since this was last asked: how many of the pages that their owner knew are
    /// still theirs, and those behind them. Between runs.
    pub fn take_changes(&mut self, rows: usize) -> (usize, &[Arc<Page>]) {
        let count = rows.div_ceil(BLOCK);
        let keep = self.told.min(count);
        self.told = count;
        (keep, &self.pages[keep..count])
    }

    /// Tokens there is room for.
    pub fn capacity(&self) -> usize {
        self.pages() * BLOCK
    }

    /// Pages that it has.
    pub(super) fn pages(&self) -> usize {
        self.pages.len() + self.leases.len()
    }

    /// What its layers are, where they are those of `shape`.
    pub(super) fn fits(&self, shape: &Shape) -> bool {
        let layout = self.layout();
        shape.layer < layout.layers() && shape.kv_heads == layout.kv_heads() && shape.head_dim == layout.head_dim()
    }

    pub(super) fn layout(&self) -> &PageLayout {
        self.store.layout(self.wide)
    }

    /// A part of one page.
    ///
    /// # Safety
    /// Nobody writes to that part by this table's leases while the block lives.
    #[expect(unsafe_code, reason = "see the contract")]
    #[inline(always)]
    pub(super) unsafe fn block(&self, part: Part, page: usize) -> Block<'_> {
        match self.pages.get(page) {
            Some(page) => page.block(part),
            // SAFETY: others than the leases' holder do not write, and the rest is the caller's.
            None => unsafe { self.leases[page - self.pages.len()].block(part) },
        }
    }

    /// Writes one token's key and value, `[head_dim]` each, in one layer and head.
    ///
    /// # Panics
    /// The row is written for good, or there is no room for it.
    ///
    /// # Safety
    /// Meanwhile nobody reads or writes the same row and head by this table's leases.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn write(&self, layer: usize, head: usize, row: usize, key: &[f32], value: &[f32]) {
        let (page, full) = (row / BLOCK, self.pages.len());
        assert!(page >= full, "row {row} is to be written behind {full} full pages");
        let parts = self.layout().parts(layer, head);
        // SAFETY: the caller's.
        unsafe { self.leases[page - full].write(parts, row % BLOCK, key, value) };
    }

    /// A copy of only the kept rows, one range after the other, written for good.
    ///
    /// # Errors
    /// The system has no more memory.
    ///
    /// # Panics
    /// Where a row is asked for that is not written for good here.
    pub fn copy(&self, kept: &[Kept<'_>]) -> Result<Self, NoRoom> {
        let in_f32 = kept.iter().any(|kept| kept.turns.is_some_and(|turns| turns.in_f32));
        let count = kept.iter().map(|kept| kept.rows.len()).sum();
        let mut to = Self::of(&self.store, self.wide || in_f32, Vec::with_capacity(self.pages.capacity()));
        to.make_room(0, count)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (layer, head) in self.layout().heads() {
            let from = self.layout().parts(layer, head);
            let rows = kept.iter().flat_map(|Kept { rows, turns }| {
                let turn = turns.map(|turns| &turns.layers[layer]);
                rows.clone().map(move |row| (row, turn))
            });
            for (place, (row, turn)) in rows.enumerate() {
                let page = &self.pages[row / BLOCK];
                page.read_key(from, row % BLOCK, &mut key);
                page.read_value(from, row % BLOCK, &mut value);
                if let Some(turn) = turn {
                    turn.apply(&mut key);
                }
                #[expect(unsafe_code, reason = "see the comment")]
                // SAFETY: nobody else knows the copy.
                unsafe {
                    to.write(layer, head, place, &key, &value);
                }
            }
        }
        to.settle(count);
        Ok(to)
    }

    /// The keys of one token in one layer, `[kv_heads, head_dim]`. Between runs.
    pub fn keys(&self, layer: usize, row: usize) -> Vec<f32> {
        let (mut keys, mut key) = (Vec::new(), Vec::new());
        for head in 0..self.layout().kv_heads() {
            self.pages[row / BLOCK].read_key(self.layout().parts(layer, head), row % BLOCK, &mut key);
            keys.extend_from_slice(&key);
        }
        keys
    }
}

/// A row of a run as its attention sees it.
pub struct BatchRow {
    /// With room for the past and the new tokens.
    pub kv: Arc<PagedKv>,
    /// Rows of the cache before the new ones.
    pub past: usize,
    /// Rows of the cache that are there already: `past` and, of new tokens that run again, theirs. What is there is not
    /// written again.
    pub cached: usize,
    /// The first new token's position. It differs from `past` only where a rotation is measured.
    pub position: usize,
    /// New tokens.
    pub tokens: usize,
}

/// The tables of a run's rows while one layer is at work on them, which no other is: then it alone reads and writes by
/// their leases.
pub(super) struct InHand<'a> {
    rows: &'a [BatchRow],
}

impl<'a> InHand<'a> {
    /// # Panics
    /// One of them is in other hands, or stands here twice.
    pub(super) fn take(rows: &'a [BatchRow]) -> Self {
        let mut taken = Self { rows: &[] };
        for (index, row) in rows.iter().enumerate() {
            let free = !row.kv.in_hand.swap(true, Ordering::Acquire);
            assert!(free, "row {index} of a run is a conversation that another is at work on");
            taken.rows = &rows[..=index];
        }
        taken
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.rows.iter().for_each(|row| row.kv.in_hand.store(false, Ordering::Release));
    }
}
