//! A page: the keys and values of [`BLOCK`] tokens in all layers, in one piece of memory that many may have.
//!
//! All that is unsafe about it but for where its memory comes from (`piece.rs`) is here, and this is why it is right. A number of a page is written at most by one
//! thread at a time and is never written while another reads it:
//!
//! - Rows are written through a [`Lease`], of which a page has one at most, and only those from `rows` on, where the
//!   lease began. [`Written`] hands it out where exactly so many rows are written.
//! - Anybody reads single rows that are written ([`Page::read_key`], [`Page::copy`], [`Page::append`], [`Lease::take`]): numbers that no
//!   lease, be it abandoned in a thread that never returns, writes again. They are read through pointers, never through
//!   a slice, which would be one of rows that a lease may be writing.
//! - Whole blocks ([`Memory::block`]) are read of a page that is full, where no lease is left to write and none is
//!   handed out again, or by the lease's holder, among whose own threads the caller keeps order: that is what is unsafe
//!   in [`Lease::write`] and [`Memory::block`].
//! - What was written is seen by whoever finds it written: [`Written`] releases and acquires.
//!
//! Memory is zeros at first, so that every number is one. Keys are rotated already.

use std::{ops::Range, ptr::NonNull, slice, sync::Arc};

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    kv_store::KvStore,
    page_layout::{ALIGN, BLOCK, PageLayout, Part, cut, value_place},
    panel::Panel,
    piece::Piece,
    product::PANEL,
    strided::Strided,
    written::Written,
};
use crate::{ElementType, rotary::Turn, vector};

/// The system has no memory for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page of {bytes} bytes does not fit")]
pub struct NoMemory {
    /// What it takes.
    pub bytes: usize,
}

/// See the module's description.
pub struct Page {
    /// Where its memory begins.
    memory: NonNull<u8>,
    /// Its size, which is the layout's.
    bytes: usize,
    /// The memory; there until it is dropped.
    piece: Option<Piece>,
    written: Written,
    /// Which of the store's layouts it has.
    wide: bool,
    store: Arc<KvStore>,
}

#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: it owns its memory, which no thread is bound to.
unsafe impl Send for Page {}
#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: see the module's description.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros with its lease. `wide`: keys are kept in f32 whatever the model's are.
    pub(super) fn fresh(store: &Arc<KvStore>, wide: bool) -> Result<Lease, NoMemory> {
        let bytes = store.layout(wide).bytes();
        let piece = store.take(wide).ok_or(NoMemory { bytes })?;
        let (memory, written) = (piece.start(), Written::leased());
        let page = Arc::new(Self { memory, bytes, piece: Some(piece), written, wide, store: Arc::clone(store) });
        Ok(Lease { page, rows: 0 })
    }

    /// A page of its own with the first `rows`, and its lease.
    ///
    /// # Panics
    /// Not so many are written.
    pub(super) fn copy(&self, rows: usize) -> Result<Lease, NoMemory> {
        let written = self.written();
        assert!(rows <= written, "{rows} rows of a page are to be copied, {written} are written");
        let mut to = Self::fresh(&self.store, self.wide)?;
        to.take(self, 0..rows, 0, None, &mut Panel::new(self.layout().head_dim()));
        to.rows = rows;
        Ok(to)
    }

    /// The lease, to write behind the first `rows`: `None` where more are written already, or somebody has it.
    pub(super) fn lease(self: &Arc<Self>, rows: usize) -> Option<Lease> {
        (rows < BLOCK && self.written.lease(rows)).then(|| Lease { page: Arc::clone(self), rows })
    }

    /// Rows that are written for good.
    pub fn written(&self) -> usize {
        self.written.rows()
    }

    /// Where it comes from.
    pub fn store(&self) -> &Arc<KvStore> {
        &self.store
    }

    /// Whether keys are kept in f32 whatever the model's are.
    pub(super) fn is_wide(&self) -> bool {
        self.wide
    }

    pub(super) fn layout(&self) -> &PageLayout {
        self.store.layout(self.wide)
    }

    /// Puts one token's key in one layer and head in `key`.
    ///
    /// # Panics
    /// The row is not written.
    pub(super) fn read_key(&self, [keys, _]: [Part; 2], row: usize, key: &mut Vec<f32>) {
        let layout = self.layout();
        key.clear();
        self.read(keys, row, layout.key_place(row), PANEL, layout.head_dim(), key);
    }

    /// Puts one token's value in one layer and head in `value`.
    ///
    /// # Panics
    /// The row is not written.
    #[cfg(test)]
    pub(super) fn read_value(&self, [_, values]: [Part; 2], row: usize, value: &mut Vec<f32>) {
        let head_dim = self.layout().head_dim();
        value.clear();
        for first in (0..head_dim).step_by(PANEL) {
            self.read(values, row, value_place(row, first / PANEL), 1, (head_dim - first).min(PANEL), value);
        }
    }

    /// Appends `count` numbers of a written row from `place` on, `step` apart.
    fn read(&self, part: Part, row: usize, place: usize, step: usize, count: usize, to: &mut Vec<f32>) {
        let (written, start) = (self.written(), self.start(part));
        assert!(row < written, "row {row} of a page is to be read, {written} are written");
        assert!(place + step * count.saturating_sub(1) < part.len, "numbers from {place} on of {part:?}");
        let places = (0..count).map(|index| place + index * step);
        #[expect(unsafe_code, reason = "see the comments")]
        match part.element {
            ElementType::F32 => {
                // SAFETY: all are within the part, and nobody writes what is written.
                to.extend(places.map(|place| unsafe { start.cast::<f32>().add(place).read() }));
            }
            ElementType::F16 => {
                // SAFETY: likewise.
                to.extend(places.map(|place| unsafe { start.cast::<f16>().add(place).read() }.to_f32()));
            }
        }
    }

    /// Appends numbers of a part to bytes, from number `place` on.
    ///
    /// # Panics
    /// Not so many rows are written.
    ///
    /// # Safety
    /// All of the numbers are of the first `rows`.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn append(&self, part: Part, place: usize, numbers: Strided, rows: usize, to: &mut Vec<u8>) {
        let (written, start) = (self.written(), self.place(part, place, numbers));
        assert!(rows <= written, "{rows} rows of a page are to be saved, {written} are written");
        let room = numbers.numbers() * part.element.bytes();
        to.reserve(room);
        let room = &mut to.spare_capacity_mut()[..room];
        // SAFETY: they are within the part and, by the contract, written, which nobody writes again. Then so many bytes are.
        unsafe {
            numbers.pack(part.element, start, room.as_mut_ptr().cast());
            to.set_len(to.len() + numbers.numbers() * part.element.bytes());
        }
    }

    /// Where some numbers of a part lie, from number `place` on.
    fn place(&self, part: Part, place: usize, numbers: Strided) -> *mut u8 {
        assert!(place + numbers.span() <= part.len, "{numbers:?} from {place} on in a part of {}", part.len);
        self.start(part).wrapping_add(place * part.element.bytes())
    }

    /// Its memory, which is there as long as somebody has the page.
    pub(super) fn memory(&self) -> Memory {
        Memory(self.memory)
    }

    /// Where a part begins that is all within the page.
    #[inline(always)]
    fn start(&self, part: Part) -> *mut u8 {
        let (end, bytes) = (part.end(), self.bytes);
        assert!(end <= bytes && part.offset.is_multiple_of(ALIGN), "{part:?} in a page of {bytes} bytes");
        self.memory.as_ptr().wrapping_add(part.offset)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Who has the page last has no slice of it.
        if let Some(piece) = self.piece.take() {
            self.store.put_back(self.wide, piece);
        }
    }
}

/// The right to write a page's rows from `rows` on. Given back when it is dropped: nothing was written then, but for
/// what [`Self::settle`] says.
pub(super) struct Lease {
    page: Arc<Page>,
    /// Rows that are written for good.
    rows: usize,
}

impl Lease {
    /// The page, which others may have, too.
    pub(super) fn page(&self) -> &Arc<Page> {
        &self.page
    }

    /// Gives the lease back: the first `rows` are written for good.
    pub(super) fn settle(mut self, rows: usize) {
        assert!(self.rows <= rows && rows <= BLOCK, "{rows} rows of a page are written, {} were", self.rows);
        self.rows = rows;
    }

    /// Takes over written rows of a page of the same store, to the same bits as if they were read, turned and written
    /// one by one, from row `place` on. `turns`: what their keys do on the way, one a layer, in `panel`.
    ///
    /// # Panics
    /// Some of the rows are not written there, or are written for good here.
    pub(super) fn take(
        &mut self,
        from: &Page,
        rows: Range<usize>,
        place: usize,
        turns: Option<&[Turn]>,
        panel: &mut Panel,
    ) {
        let (written, end) = (from.written(), place + rows.len());
        assert!(rows.end <= written, "rows {rows:?} of a page are to be copied, {written} are written");
        assert!(self.rows <= place && end <= BLOCK, "rows {place}..{end} are to be written, {} are", self.rows);
        assert!(Arc::ptr_eq(&from.store, &self.page.store), "rows of another store's page are to be copied");
        let (layout, own) = (from.layout(), from.store.layout(self.page.wide));
        for (layer, head) in layout.heads() {
            let ([keys, values], [own_keys, own_values]) = (layout.parts(layer, head), own.parts(layer, head));
            let turn = turns.map(|turns| &turns[layer]);
            for (rows, place) in cut(rows.clone(), place, PANEL) {
                let numbers = layout.keys_of(rows.len());
                let theirs = from.place(keys, layout.key_place(rows.start), numbers);
                let its = self.page.place(own_keys, layout.key_place(place), numbers);
                #[expect(unsafe_code, reason = "see the comment")]
                // SAFETY: each has so many numbers, and they are memory of three kinds. Nobody writes those that are
                // written there; those here only the lease's holder writes or reads, who lends it to this call alone.
                unsafe {
                    numbers.copy(keys.element, theirs, panel.place(keys.element, numbers));
                    panel.turn(keys.element, turn, own_keys.element);
                    numbers.copy(own_keys.element, panel.place(own_keys.element, numbers), its);
                }
            }
            assert!(values.element == own_values.element, "{values:?} and {own_values:?} are of two types");
            let numbers = layout.values_of(rows.len());
            let theirs = from.place(values, value_place(rows.start, 0), numbers);
            let its = self.page.place(own_values, value_place(place, 0), numbers);
            #[expect(unsafe_code, reason = "see the comment")]
            // SAFETY: likewise.
            unsafe {
                numbers.copy(values.element, theirs, its);
            }
        }
    }

    /// Takes over bytes as numbers of a part, from number `place` on, wherever in memory the bytes lie. For a page that no
    /// row of is written.
    ///
    /// # Panics
    /// They are not as many, or some rows are written.
    pub(super) fn fill(&mut self, part: Part, place: usize, numbers: Strided, bytes: &[u8]) {
        let (rows, expected) = (self.rows, numbers.numbers() * part.element.bytes());
        assert!(rows == 0, "a page is to be filled of which {rows} rows are written");
        assert!(bytes.len() == expected, "{} bytes are to be {numbers:?}, {expected} were expected", bytes.len());
        let start = self.page.place(part, place, numbers);
        #[expect(unsafe_code, reason = "see the comment")]
        // SAFETY: they are within the part and as many. Only the lease's holder writes or reads there, who lends it to
        // this call alone.
        unsafe {
            numbers.unpack(part.element, bytes.as_ptr(), start);
        }
    }

    /// Writes one token's key and value, `[head_dim]` each, in one layer and head.
    ///
    /// # Panics
    /// The row is written for good.
    ///
    /// # Safety
    /// Meanwhile nobody reads or writes the same row of these parts, and there is no [`Block`] of them.
    #[expect(unsafe_code, reason = "see the contract")]
    pub(super) unsafe fn write(&self, [keys, values]: [Part; 2], row: usize, key: &[f32], value: &[f32]) {
        let (layout, rows) = (self.page.layout(), self.rows);
        assert!(rows <= row && row < BLOCK, "row {row} of a page is to be written, {rows} are");
        let head_dim = layout.head_dim();
        assert!(key.len() == head_dim && value.len() == head_dim, "a key of {} numbers for {head_dim}", key.len());
        // SAFETY: the lease is for this row, and the caller keeps others away.
        unsafe {
            self.write_numbers(keys, layout.key_place(row), PANEL, key);
            for (panel, value) in value.chunks(PANEL).enumerate() {
                self.write_numbers(values, value_place(row, panel), 1, value);
            }
        }
    }

    /// # Safety
    /// Nobody reads or writes the same numbers meanwhile.
    #[expect(unsafe_code, reason = "see the contract")]
    unsafe fn write_numbers(&self, part: Part, place: usize, step: usize, numbers: &[f32]) {
        let last = place + step * (numbers.len().max(1) - 1);
        assert!(last < part.len, "number {last} of a part of {}", part.len);
        let start = self.page.start(part);
        // SAFETY: all are within the part; the rest is the caller's.
        unsafe {
            match part.element {
                ElementType::F32 => {
                    let start = start.cast::<f32>().add(place);
                    numbers.iter().enumerate().for_each(|(index, x)| start.add(index * step).write(*x));
                }
                ElementType::F16 => {
                    let start = start.cast::<f16>().add(place);
                    numbers.iter().enumerate().for_each(|(index, x)| start.add(index * step).write(f16::from_f32(*x)));
                }
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.page.written.give_back(self.rows);
    }
}

/// A page's memory. Who reads blocks looks nowhere else: beside many contexts what is known of a page has left the
/// processor's cache when its next block's turn comes, and waiting for it made the attention of 16 decodes at contexts
/// of 520 tokens 0.96 times as fast.
#[derive(Clone, Copy)]
pub(super) struct Memory(NonNull<u8>);

#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: to read it is unsafe.
unsafe impl Send for Memory {}
#[expect(unsafe_code, reason = "see the comment")]
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// A part of the page.
    ///
    /// # Safety
    /// The part is one of the page's layout. While the block lives somebody has the page, and nobody writes to the part:
    /// the page is full, or leased by whoever asks.
    #[expect(unsafe_code, reason = "see the contract")]
    #[inline(always)]
    pub(super) unsafe fn block<'a>(self, part: Part) -> Block<'a> {
        // SAFETY: the part is within the page and aligned for every type of numbers; any bits are a number of either.
        unsafe {
            let start = self.0.as_ptr().add(part.offset);
            match part.element {
                ElementType::F32 => Block::F32(slice::from_raw_parts(start.cast(), part.len)),
                ElementType::F16 => Block::F16(slice::from_raw_parts(start.cast(), part.len)),
            }
        }
    }
}

/// One head's keys or values in a page.
#[derive(Clone, Copy)]
pub(super) enum Block<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

impl<'a> Block<'a> {
    /// Its memory.
    #[inline(always)]
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::F32(numbers) => bytemuck::cast_slice(numbers),
            Self::F16(numbers) => bytemuck::cast_slice(numbers.reinterpret_cast()),
        }
    }

    /// Its numbers; `scratch` holds them where they are not f32.
    #[inline(always)]
    pub(super) fn numbers<'s>(self, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        match self {
            Self::F32(numbers) => numbers,
            Self::F16(numbers) => {
                scratch.resize(numbers.len(), 0.0);
                vector::widen(numbers, scratch);
                scratch
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    #![expect(unsafe_code, reason = "who may write is what is tested")]
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;
    use crate::attention::KvTypes;

    /// Two layers of two heads, of 18 numbers: a whole panel and a part of one.
    fn store() -> Arc<KvStore> {
        let (f32, f16) = (ElementType::F32, ElementType::F16);
        KvStore::new(vec![KvTypes { key: f16, value: f32 }, KvTypes { key: f32, value: f16 }], 2, 18)
    }

    /// Of f16, so that all types hold it exactly.
    fn number(layer: usize, head: usize, row: usize, place: usize) -> f32 {
        (row + 8 * place) as f32 + layer as f32 / 2.0 + head as f32 / 4.0
    }

    fn token(layer: usize, head: usize, row: usize) -> (Vec<f32>, Vec<f32>) {
        let key = |place| number(layer, head, row, place);
        ((0..18).map(key).collect(), (0..18).map(|place| -key(place)).collect())
    }

    fn write(lease: &Lease, rows: impl Iterator<Item = usize> + Clone) {
        let layout = lease.page().layout();
        for (layer, head) in layout.heads() {
            for row in rows.clone() {
                let (key, value) = token(layer, head, row);
                // SAFETY: who has the lease calls it from one thread.
                unsafe { lease.write(layout.parts(layer, head), row, &key, &value) };
            }
        }
    }

    fn check(page: &Page, rows: usize) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (layer, head) in page.layout().heads() {
            for row in 0..rows {
                page.read_key(page.layout().parts(layer, head), row, &mut key);
                page.read_value(page.layout().parts(layer, head), row, &mut value);
                assert_eq!((key.clone(), value.clone()), token(layer, head, row), "{layer} {head} {row}");
            }
        }
    }

    fn filled(store: &Arc<KvStore>, rows: usize) -> Arc<Page> {
        let lease = Page::fresh(store, false).unwrap();
        write(&lease, 0..rows);
        let page = Arc::clone(lease.page());
        lease.settle(rows);
        page
    }

    #[test]
    fn a_lease_is_there_once_and_where_all_rows_are_known() {
        let page = filled(&store(), 5);
        assert!(page.lease(4).is_none() && page.lease(6).is_none(), "more rows are there, or fewer");
        let lease = page.lease(5).unwrap();
        assert!(page.lease(5).is_none());
        write(&lease, 5..9);
        assert_eq!(page.written(), 5, "what is being written does not count");
        drop(lease);
        assert_eq!(page.written(), 5, "nor what nobody stands by");
        let lease = page.lease(5).unwrap();
        write(&lease, 5..9);
        lease.settle(9);
        check(&page, 9);
        let lease = page.lease(9).unwrap();
        write(&lease, 9..32);
        lease.settle(32);
        check(&page, 32);
        assert!(page.lease(32).is_none(), "nobody writes to a full page any more");
    }

    #[test]
    #[should_panic(expected = "row 4 of a page is to be written, 5 are")]
    fn a_row_that_is_written_is_written_by_nobody() {
        write(&filled(&store(), 5).lease(5).unwrap(), 4..5);
    }

    #[test]
    #[should_panic(expected = "row 5 of a page is to be read, 5 are written")]
    fn a_row_that_is_not_written_is_read_by_nobody() {
        let page = filled(&store(), 5);
        page.read_value(page.layout().parts(0, 0), 5, &mut Vec::new());
    }

    #[test]
    fn full_pages_and_leased_ones_are_read_whole() {
        let store = store();
        let full = filled(&store, 32);
        let lease = Page::fresh(&store, false).unwrap();
        write(&lease, 0..32);
        for (layer, head) in full.layout().heads() {
            for part in full.layout().parts(layer, head) {
                // SAFETY: nobody writes.
                let [leased, full] = unsafe { [lease.page(), &full].map(|page| page.memory().block(part)) };
                assert_eq!(full.bytes(), leased.bytes());
                let (mut some, mut others) = (Vec::new(), Vec::new());
                assert_eq!(full.numbers(&mut some), leased.numbers(&mut others));
            }
        }
    }

    /// Ends what waits for it, also where a test fails.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Also beside a lease that is never given back, whose holder writes all that it may for as long as it can.
    #[test]
    fn a_copy_of_any_length_has_the_rows_and_is_gone_on_with() {
        let page = filled(&store(), 20);
        let lease = page.lease(20).unwrap();
        let (over, begun) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let _over = Over(&over);
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let layout = lease.page().layout();
                    for ((layer, head), row) in layout.heads().flat_map(|head| (20..32).map(move |row| (head, row))) {
                        // SAFETY: this thread alone has the lease.
                        unsafe { lease.write(layout.parts(layer, head), row, &[f32::NAN; 18], &[f32::NAN; 18]) };
                    }
                    begun.store(true, Ordering::Relaxed);
                }
            });
            while !begun.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            // Miri takes a minute for each.
            for &rows in if cfg!(miri) { &[17][..] } else { &[0, 1, 15, 16, 17, 20] } {
                let copy = page.copy(rows).unwrap();
                check(copy.page(), 0);
                write(&copy, rows..32);
                let its = Arc::clone(copy.page());
                copy.settle(32);
                check(&its, 32);
                // SAFETY: it is full.
                let numbers = |part| unsafe { its.memory().block(part) }.numbers(&mut Vec::new()).to_vec();
                let all = its.layout().heads().flat_map(|(layer, head)| its.layout().parts(layer, head));
                assert!(all.flat_map(numbers).all(f32::is_finite), "nothing else was copied");
            }
            check(&page, 20);
        });
    }

    #[test]
    fn pages_are_counted_while_somebody_has_them() {
        let store = store();
        let page = filled(&store, 3);
        let wide = Page::fresh(&store, true).unwrap();
        // Of 18 numbers in 2 heads: keys in f16 and f32, values to whole panels.
        let bytes = 32 * 2 * (18 * (2 + 4) + 32 * (4 + 2));
        assert_eq!((store.page_bytes(), store.bytes()), (bytes, bytes + bytes + 32 * 2 * 18 * 2));
        drop(wide);
        let another = Arc::clone(&page);
        drop(page);
        assert_eq!(store.bytes(), bytes);
        drop(another);
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where there is no memory")]
    fn memory_that_the_system_does_not_have_is_an_error() {
        let types = KvTypes { key: ElementType::F32, value: ElementType::F32 };
        let store = KvStore::new(vec![types; 2], 2, usize::MAX / 3);
        assert_eq!(Page::fresh(&store, false).err(), Some(NoMemory { bytes: usize::MAX }));
        let store = KvStore::new(vec![types], 1, (isize::MAX as usize >> 8) / PANEL * PANEL);
        assert!(Page::fresh(&store, false).is_err());
        assert_eq!(store.bytes(), 0);
    }
}
