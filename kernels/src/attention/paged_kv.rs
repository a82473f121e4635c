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
    page::{Block, Lease, Memory, NoMemory, Page},
    page_layout::{BLOCK, PageLayout, Part, cut},
    panel::Panel,
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
    /// In a run the memory of all of them, in order; else nothing.
    memory: Vec<Memory>,
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
        let memory = Vec::with_capacity(pages.capacity());
        let (store, leases, told) = (Arc::clone(store), Vec::new(), 0);
        Self { store, wide, pages, leases, memory, told, in_hand: AtomicBool::new(false) }
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
            return made;
        }
        for (index, page) in self.pages.iter().enumerate() {
            let written = page.written();
            assert!(written == BLOCK, "page {index} has {written} rows before a run behind {rows}");
        }
        let leased = self.leases.iter().map(Lease::page);
        self.memory.extend(self.pages.iter().chain(leased).map(|page| page.memory()));
        Ok(())
    }

    fn lease(&mut self, rows: usize, new: usize) -> Result<(), NoRoom> {
        let (full, rest, count) = (rows / BLOCK, rows % BLOCK, rows.saturating_add(new).div_ceil(BLOCK));
        // Together with the last page, which moves from one list to the other.
        self.leases.try_reserve(count - full)?;
        self.pages.try_reserve(count - self.pages.len())?;
        self.memory.try_reserve(count)?;
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
            self.leases.push(Page::fresh(&self.store, self.wide)?);
        }
        Ok(())
    }

    /// Ends a run: the first `rows` are written for good, and what it was given beyond is given back.
    pub fn settle(&mut self, rows: usize) {
        self.memory.clear();
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

    /// A part of one page of a run, as [`Self::layout`] has it.
    ///
    /// # Panics
    /// There is no run, or not so many pages.
    ///
    /// # Safety
    /// It is one of the layout's. Nobody writes to it by this table's leases while the block lives.
    #[expect(unsafe_code, reason = "see the contract")]
    #[inline(always)]
    pub(super) unsafe fn block(&self, part: Part, page: usize) -> Block<'_> {
        // SAFETY: in a run the table has the pages and each is full or leased by itself; the rest is the caller's.
        unsafe { self.memory[page].block(part) }
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
        let mut to = Self::of(&self.store, self.wide || in_f32, Vec::with_capacity(self.pages.capacity()));
        let (mut panel, mut count) = (Panel::new(self.layout().head_dim()), 0);
        for Kept { rows, turns } in kept {
            let turns = turns.map(|turns| turns.layers);
            for (rows, place) in cut(rows.clone(), count, BLOCK) {
                let (page, first, len) = (rows.start / BLOCK, rows.start % BLOCK, rows.len());
                // A page at a time, so that it is still in the processor's cache when it is filled.
                to.make_room(place, len)?;
                to.leases[0].take(&self.pages[page], first..first + len, place % BLOCK, turns, &mut panel);
                to.settle(place + len);
            }
            count += rows.len();
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    #![expect(unsafe_code, reason = "one thread writes, then reads")]
    use super::*;
    use crate::{ElementType, attention::KvTypes, rotary::Layout};

    const F16: KvTypes = KvTypes { key: ElementType::F16, value: ElementType::F16 };

    /// Two layers of three heads, of two numbers.
    fn store() -> Arc<KvStore> {
        let types = KvTypes { key: ElementType::F32, value: ElementType::F16 };
        KvStore::new(vec![types; 2], 3, 2)
    }

    /// A run that writes `rows`, each with a number of its own.
    fn run(kv: &mut PagedKv, rows: Range<usize>, number: f32) {
        kv.make_room(rows.start, rows.len()).unwrap();
        for ((layer, head), row) in kv.layout().heads().flat_map(|head| rows.clone().map(move |row| (head, row))) {
            let first = number + (row + 100 * head + 1000 * layer) as f32;
            // SAFETY: nobody else does.
            unsafe { kv.write(layer, head, row, &[first, 0.0], &[row as f32; 2]) };
        }
        kv.settle(rows.end);
    }

    /// Whose number each of the rows has.
    fn numbers(kv: &PagedKv, rows: Range<usize>) -> Vec<f32> {
        rows.map(|row| {
            let heads = (0..2).flat_map(|layer| {
                let keys = kv.keys(layer, row);
                (0..3).map(move |head| keys[2 * head] - (row + 100 * head + 1000 * layer) as f32)
            });
            let heads: Vec<f32> = heads.collect();
            assert!(heads.iter().all(|number| *number == heads[0]), "row {row}: {heads:?}");
            heads[0]
        })
        .collect()
    }

    /// Which pages they are.
    fn names(pages: &[Arc<Page>]) -> Vec<*const Page> {
        pages.iter().map(Arc::as_ptr).collect()
    }

    fn changes(kv: &mut PagedKv, rows: usize) -> (usize, Vec<*const Page>) {
        let (keep, pages) = kv.take_changes(rows);
        (keep, names(pages))
    }

    fn adopt(kv: &PagedKv, rows: usize) -> PagedKv {
        let pages = kv.pages[..rows.div_ceil(BLOCK)].to_vec();
        PagedKv::adopt(&kv.store, pages.into_iter(), rows, 64).unwrap()
    }

    #[test]
    fn whoever_comes_first_goes_on_in_a_page_and_others_in_copies() {
        let mut kv = PagedKv::new(&store(), 64);
        run(&mut kv, 0..40, 0.0);
        assert_eq!(changes(&mut kv, 40), (0, names(&kv.pages)));
        let page = kv.store.page_bytes();
        let (mut one, mut other) = (adopt(&kv, 40), adopt(&kv, 36));
        assert_eq!(kv.store.bytes(), 2 * page);
        run(&mut one, 40..45, 1.0);
        run(&mut other, 36..45, 2.0);
        run(&mut kv, 40..44, 3.0);
        assert_eq!(kv.store.bytes(), 4 * page);
        assert_eq!(numbers(&one, 38..45), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(numbers(&other, 34..38), [0.0, 0.0, 2.0, 2.0]);
        assert_eq!(numbers(&kv, 38..44), [0.0, 0.0, 3.0, 3.0, 3.0, 3.0]);
        assert_eq!(changes(&mut one, 45), (2, Vec::new()), "its page is the one that was known");
        assert_eq!(changes(&mut kv, 44), (1, names(&kv.pages[1..])));
        // Rows that it took back itself are nobody else's, and yet written.
        run(&mut kv, 42..43, 4.0);
        assert_eq!(numbers(&kv, 40..43), [3.0, 3.0, 4.0]);
        run(&mut kv, 0..70, 5.0);
        assert_eq!(changes(&mut kv, 70), (0, names(&kv.pages)));
        assert_eq!(changes(&mut kv, 33), (2, Vec::new()));
        assert_eq!(changes(&mut kv, 70), (2, names(&kv.pages[2..])));
    }

    #[test]
    fn a_run_that_fails_leaves_everything_as_it_was() {
        let mut kv = PagedKv::new(&store(), 64);
        run(&mut kv, 0..20, 0.0);
        let (page, pages) = (kv.store.page_bytes(), kv.pages.clone());
        kv.make_room(20, 50).unwrap();
        assert_eq!((kv.capacity(), kv.store.bytes()), (96, 3 * page));
        // SAFETY: nobody else does.
        unsafe { kv.write(1, 2, 20, &[9.0; 2], &[9.0; 2]) };
        kv.settle(20);
        assert_eq!((kv.capacity(), kv.store.bytes()), (32, page));
        assert!(kv.make_room(20, usize::MAX).is_err());
        run(&mut kv, 20..21, 1.0);
        assert!(Arc::ptr_eq(&kv.pages[0], &pages[0]));
        assert_eq!(numbers(&kv, 19..21), [0.0, 1.0]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where there is no memory")]
    fn memory_that_the_system_does_not_have_is_an_error_and_changes_nothing() {
        let store = KvStore::new(vec![F16], 1, (isize::MAX as usize >> 8) / BLOCK * BLOCK);
        let mut kv = PagedKv::new(&store, 0);
        assert!(matches!(kv.make_room(0, 1), Err(NoRoom::Page(_))));
        assert!(matches!(kv.make_room(0, usize::MAX), Err(NoRoom::Table(_))));
        assert_eq!((kv.capacity(), store.bytes()), (0, 0));
    }

    #[test]
    fn a_copy_has_the_kept_rows_one_after_the_other() {
        let mut kv = PagedKv::new(&store(), 50);
        run(&mut kv, 0..50, 0.0);
        let half = |frequency| Turn::new(Layout::Halves, &[frequency], -1.0);
        let layers = [half(0.0), half(std::f64::consts::PI)];
        let turns = Turns { layers: &layers, in_f32: false };
        let kept = [Kept { rows: 0..2, turns: None }, Kept { rows: 15..50, turns: Some(turns) }];
        let copy = kv.copy(&kept).unwrap();
        assert_eq!((copy.capacity(), copy.pages[1].written()), (64, 5));
        for (to, (from, sign)) in [(0, 1.0), (1, 1.0)].into_iter().chain((15..50).map(|row| (row, -1.0))).enumerate() {
            for (layer, sign) in [(0, 1.0), (1, sign)] {
                let expected: Vec<f32> = (0..3).map(|head| sign * (from + 100 * head + 1000 * layer) as f32).collect();
                let found: Vec<f32> = copy.keys(layer, to).chunks(2).map(|key| key[0].round()).collect();
                assert_eq!(found, expected, "row {to} of layer {layer}");
            }
        }
    }

    /// What [`PagedKv::copy`] is to give: each row is read, turned and written by itself.
    fn row_by_row(kv: &PagedKv, kept: &[Kept<'_>], wide: bool) -> PagedKv {
        let rows = || kept.iter().flat_map(|kept| kept.rows.clone().map(|row| (row, kept.turns)));
        let mut to = PagedKv::of(&kv.store, wide, Vec::new());
        to.make_room(0, rows().count()).unwrap();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (layer, head) in kv.layout().heads() {
            let from = kv.layout().parts(layer, head);
            for (place, (row, turns)) in rows().enumerate() {
                let page = &kv.pages[row / BLOCK];
                page.read_key(from, row % BLOCK, &mut key);
                page.read_value(from, row % BLOCK, &mut value);
                if let Some(turns) = turns {
                    turns.layers[layer].apply(&mut key);
                }
                // SAFETY: nobody else does.
                unsafe { to.write(layer, head, place, &key, &value) };
            }
        }
        to.settle(rows().count());
        to
    }

    /// All that lies in its pages, which are full or nobody else's.
    fn bytes(kv: &PagedKv) -> Vec<&[u8]> {
        let parts: Vec<_> = kv.layout().heads().flat_map(|(layer, head)| kv.layout().parts(layer, head)).collect();
        // SAFETY: nobody writes.
        let block = |(page, part): (&Arc<Page>, &Part)| unsafe { page.memory().block(*part) }.bytes();
        kv.pages.iter().flat_map(|page| parts.iter().map(move |part| (page, part))).map(block).collect()
    }

    #[test]
    fn a_copy_is_to_the_bit_what_rows_copied_one_by_one_are() {
        let (f32, f16) = (ElementType::F32, ElementType::F16);
        // Sinks, slide and rows: by whole pages, by a whole panel and by neither; the last leaves one row in the end.
        let slides = [(4, 64, 150), (0, 32, 96), (16, 16, 130), (4, 33, 127), (3, 61, 131), (40, 7, 90), (0, 69, 139)];
        // Miri takes long.
        let slides = if cfg!(miri) { &[(3, 13, 60)] } else { &slides[..] };
        let mut state = 7u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for head_dim in if cfg!(miri) { &[18][..] } else { &[2, 8, 18, 40, 64] } {
            let types = [(f32, f32), (f16, f16), (f32, f16), (f16, f32)].map(|(key, value)| KvTypes { key, value });
            let store = KvStore::new(types.to_vec(), 2, *head_dim);
            let mut numbers = || (0..*head_dim).map(|_| random()).collect::<Vec<_>>();
            for (&(sinks, slide, rows), layout) in slides.iter().flat_map(|slide| Layout::ALL.map(|it| (slide, it))) {
                let mut kv = PagedKv::new(&store, rows);
                kv.make_room(0, rows).unwrap();
                for ((layer, head), row) in kv.layout().heads().flat_map(|head| (0..rows).map(move |row| (head, row))) {
                    // SAFETY: nobody else does.
                    unsafe { kv.write(layer, head, row, &numbers(), &numbers()) };
                }
                kv.settle(rows);
                // Each layer has angles of its own, the last ones fewer pairs than a head.
                let pairs = |layer: usize| if layer < 2 { head_dim / 2 } else { (head_dim / 4).max(1) };
                let frequencies = |layer: usize| (0..pairs(layer)).map(move |pair| 0.3f64.powi((pair + layer) as i32));
                let turn = |layer| Turn::new(layout, &frequencies(layer).collect::<Vec<_>>(), -(slide as f64));
                let layers: Vec<_> = (0..types.len()).map(turn).collect();
                // The second slide finds keys in f32 where the first one left them so.
                for in_f32 in [[false, false], [true, true], [false, true]] {
                    let kept = |rows, in_f32| {
                        let turns = Some(Turns { layers: &layers, in_f32 });
                        [Kept { rows: 0..sinks, turns: None }, Kept { rows, turns }]
                    };
                    let (mut copy, mut expected) = (None, None);
                    for (index, in_f32) in in_f32.into_iter().enumerate() {
                        let kept = kept(sinks + slide..rows - index * slide, in_f32);
                        copy = Some(copy.as_ref().unwrap_or(&kv).copy(&kept).unwrap());
                        expected = Some(row_by_row(expected.as_ref().unwrap_or(&kv), &kept, in_f32));
                        let (copy, expected) = (copy.as_ref().unwrap(), expected.as_ref().unwrap());
                        let its = |kv: &PagedKv| kv.pages.iter().map(|page| page.written()).collect::<Vec<_>>();
                        assert_eq!(its(copy), its(expected));
                        let what = (head_dim, layout, sinks, slide, rows, in_f32, index);
                        assert!(bytes(copy) == bytes(expected), "{what:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn keys_that_turn_often_are_kept_in_f32() {
        let mut once = PagedKv::new(&KvStore::new(vec![F16], 1, 2), 1);
        once.make_room(0, 1).unwrap();
        // SAFETY: nobody else does.
        unsafe { once.write(0, 0, 0, &[1.0, 0.5], &[1.0, 1.0]) };
        once.settle(1);
        // Slower than f16 could show: 200 times a ten thousandth of a radian.
        let turned = |in_f32| {
            let layers = [Turn::new(Layout::Halves, &[1e-4], -1.0)];
            let slide = |kv: PagedKv| {
                let turns = Some(Turns { layers: &layers, in_f32 });
                kv.copy(&[Kept { rows: 0..1, turns }]).unwrap()
            };
            let first = once.copy(&[Kept { rows: 0..1, turns: None }]).unwrap();
            let kv = (0..200).fold(first, |kv, _| slide(kv));
            (kv.keys(0, 0), kv.layout().bytes())
        };
        let (sin, cos) = 0.02f32.sin_cos();
        let expected = [cos + 0.5 * sin, 0.5 * cos - sin];
        let off = |keys: &[f32]| keys.iter().zip(expected).map(|(k, e)| (k - e).abs()).fold(0.0, f32::max);
        let ((narrow, less), (wide, more)) = (turned(false), turned(true));
        assert!(off(&wide) < 1e-5 && off(&narrow) > 1e-3, "{wide:?} {narrow:?} {expected:?}");
        assert!(more > less, "{more} {less}");
    }

    #[test]
    fn pages_that_are_not_of_one_kind_are_refused() {
        let mut kv = PagedKv::new(&store(), 64);
        run(&mut kv, 0..40, 0.0);
        let layers = [(); 2].map(|()| Turn::new(Layout::Halves, &[0.0], 0.0));
        let turns = Some(Turns { layers: &layers, in_f32: true });
        let wide = kv.copy(&[Kept { rows: 0..40, turns }]).unwrap();
        let pages = [&kv.pages[0], &wide.pages[1]].map(Arc::clone);
        let refused = |pages: [Arc<Page>; 2], rows| PagedKv::adopt(&kv.store, pages.into_iter(), rows, 64).err();
        assert_eq!(refused(pages, 40), Some(NotAdopted::Layout { page: 1 }));
        let own = [&kv.pages[0], &kv.pages[1]].map(Arc::clone);
        assert_eq!(refused(own.clone(), 41), Some(NotAdopted::Rows { page: 1, written: 8, expected: 9 }));
        assert_eq!(refused(own.clone(), 65), Some(NotAdopted::Count { rows: 65, expected: 3, pages: 2 }));
        assert_eq!(refused(own, 40), None);
        let mut adopted = PagedKv::adopt(&kv.store, wide.pages.iter().map(Arc::clone), 40, 64).unwrap();
        run(&mut adopted, 40..70, 1.0);
        assert!(adopted.pages[2].is_wide());
    }

    #[test]
    fn a_conversation_is_in_one_hand_at_a_time() {
        let row = |kv: &Arc<PagedKv>| BatchRow { kv: Arc::clone(kv), past: 0, cached: 0, position: 0, tokens: 1 };
        let [one, other] = [(); 2].map(|()| Arc::new(PagedKv::new(&store(), 0)));
        let rows = [row(&one), row(&other)];
        let twice = [row(&other), row(&one), row(&one)];
        let hand = InHand::take(&rows);
        let again =
            |rows: &[BatchRow]| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(InHand::take(rows))));
        assert!(again(&rows).is_err());
        drop(hand);
        assert!(again(&twice).is_err());
        assert!(again(&rows).is_ok(), "what is given up is free again");
    }
}
