//! A page's rows as bytes, and a page of such bytes: to the bit what was written, wherever it went meanwhile.
//!
//! First comes a byte that says whether keys are kept in f32 whatever the model's are. Then, head after head of layer
//! after layer, keys and values of the rows as they lie in the page, panel by panel, without what lies between: numbers
//! in this machine's order. Rows that are not written have no bytes, and are zeros in the page that is made; so any
//! bytes of the right length are a page's.

use std::{iter, sync::Arc};

use super::{
    kv_store::KvStore,
    page::{NoMemory, Page},
    page_layout::{BLOCK, PageLayout, Part, cut, value_place},
    product::PANEL,
    strided::Strided,
};

/// Why bytes are no page, or a page has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSaved {
    /// Not so many rows are written, or a page has fewer.
    #[error("{rows} rows of a page are asked for, of {found}")]
    Rows {
        /// Those that are asked for.
        rows: usize,
        /// Those that there are, or that there may be.
        found: usize,
    },
    /// They are more or fewer.
    #[error("{found} bytes are no page of {rows} rows, expected {expected}")]
    Length {
        /// Rows that they should be.
        rows: usize,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The first of them says neither yes nor no, or there is none.
    #[error("there are no pages of kind {kind}")]
    Kind {
        /// What it says.
        kind: u8,
    },
    /// A page does not fit into memory.
    #[error(transparent)]
    Page(#[from] NoMemory),
}

impl Page {
    /// How many bytes [`Self::save`] makes of the first `rows`.
    ///
    /// # Errors
    /// Not so many are written.
    pub fn saved_bytes(&self, rows: usize) -> Result<usize, NotSaved> {
        let found = self.written();
        if rows > found {
            return Err(NotSaved::Rows { rows, found });
        }
        Ok(bytes_of(self.layout(), rows))
    }

    /// Appends the first `rows` to `to`. Whoever has the lease may write behind them meanwhile.
    ///
    /// # Errors
    /// Not so many are written; nothing is appended.
    pub fn save(&self, rows: usize, to: &mut Vec<u8>) -> Result<(), NotSaved> {
        to.reserve(self.saved_bytes(rows)?);
        to.push(u8::from(self.is_wide()));
        for (part, place, numbers) in stretches(self.layout(), rows) {
            #[expect(unsafe_code, reason = "see the comment")]
            // SAFETY: these are the places of the first rows.
            unsafe {
                self.append(part, place, numbers, rows, to);
            }
        }
        Ok(())
    }

    /// A page of the first `rows` that [`Self::save`] has made bytes of, of a store of the same layers and heads.
    ///
    /// # Errors
    /// They are none, or there is no memory for it.
    pub fn restore(store: &Arc<KvStore>, bytes: &[u8], rows: usize) -> Result<Arc<Self>, NotSaved> {
        if rows > BLOCK {
            return Err(NotSaved::Rows { rows, found: BLOCK });
        }
        let (wide, mut numbers) = match bytes.split_first() {
            Some((kind @ (0 | 1), numbers)) => (*kind == 1, numbers),
            Some((&kind, _)) => return Err(NotSaved::Kind { kind }),
            None => return Err(NotSaved::Length { rows, found: 0, expected: bytes_of(store.layout(false), rows) }),
        };
        let layout = store.layout(wide);
        let (found, expected) = (bytes.len(), bytes_of(layout, rows));
        if found != expected {
            return Err(NotSaved::Length { rows, found, expected });
        }
        let mut lease = Self::fresh(store, wide)?;
        for (part, place, stretch) in stretches(layout, rows) {
            let (its, rest) = numbers.split_at(stretch.numbers() * part.element.bytes());
            lease.fill(part, place, stretch, its);
            numbers = rest;
        }
        let page = Arc::clone(lease.page());
        lease.settle(rows);
        Ok(page)
    }
}

/// Where the numbers of the first `rows` lie: in which part, from which number of it on, and how.
fn stretches(layout: &PageLayout, rows: usize) -> impl Iterator<Item = (Part, usize, Strided)> {
    let parts = layout.heads().map(|(layer, head)| layout.parts(layer, head));
    parts.flat_map(move |[keys, values]| {
        let of_keys = cut(0..rows, 0, PANEL);
        let of_keys = of_keys.map(move |(rows, place)| (keys, layout.key_place(place), layout.keys_of(rows.len())));
        let of_values = (rows > 0).then(|| (values, value_place(0, 0), layout.values_of(rows)));
        of_keys.chain(of_values)
    })
}

/// Bytes of so many rows, with the one before them; what no memory holds is no page's either.
fn bytes_of(layout: &PageLayout, rows: usize) -> usize {
    let numbers = stretches(layout, rows).map(|(part, _, numbers)| numbers.numbers() * part.element.bytes());
    iter::once(1).chain(numbers).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    #![expect(unsafe_code, reason = "see the comment")]
    use super::*;
    use crate::{
        ElementType,
        attention::{KvTypes, page::Lease},
    };

    /// Two layers of two heads, of 18 numbers: a whole panel and a part of one.
    fn store() -> Arc<KvStore> {
        let (f32, f16) = (ElementType::F32, ElementType::F16);
        KvStore::new(vec![KvTypes { key: f16, value: f32 }, KvTypes { key: f32, value: f16 }], 2, 18)
    }

    /// Numbers that f16 holds exactly, another for each place.
    fn write(lease: &Lease, rows: std::ops::Range<usize>, sign: f32) {
        let layout = lease.page().layout();
        for ((layer, head), row) in layout.heads().flat_map(|head| rows.clone().map(move |row| (head, row))) {
            let number = |place: usize| sign * ((row + 32 * place) as f32 + layer as f32 / 2.0 + head as f32 / 4.0);
            let key: Vec<f32> = (0..18).map(number).collect();
            let value: Vec<f32> = key.iter().map(|x| -x).collect();
            // SAFETY: who has the lease calls it from one thread.
            unsafe { lease.write(layout.parts(layer, head), row, &key, &value) };
        }
    }

    /// All that lies in a page that is full or that nobody writes.
    fn numbers(page: &Page) -> Vec<Vec<u8>> {
        let parts = page.layout().heads().flat_map(|(layer, head)| page.layout().parts(layer, head));
        // SAFETY: nobody writes.
        parts.map(|part| unsafe { page.memory().block(part) }.bytes().to_vec()).collect()
    }

    fn saved(page: &Page, rows: usize) -> Vec<u8> {
        let mut bytes = vec![7];
        page.save(rows, &mut bytes).unwrap();
        assert_eq!(bytes[0], 7, "what was there stays");
        bytes.split_off(1)
    }

    /// Also where others write behind the rows, and of which page the bytes went on in.
    #[test]
    fn a_page_made_of_bytes_has_exactly_the_rows_that_were_saved() {
        // Miri takes long.
        let counts = if cfg!(miri) { vec![17] } else { (0..=32).collect() };
        for (rows, wide) in counts.into_iter().flat_map(|rows| [(rows, false), (rows, true)]) {
            let (here, there) = (store(), store());
            let lease = Page::fresh(&here, wide).unwrap();
            let page = Arc::clone(lease.page());
            write(&lease, 0..rows, 1.0);
            lease.settle(rows);
            let expected = numbers(&page);
            if let Some(lease) = page.lease(rows) {
                write(&lease, rows..32, 5.0);
            }
            let bytes = saved(&page, rows);
            assert_eq!(page.saved_bytes(rows), Ok(bytes.len()));
            let restored = Page::restore(&there, &bytes, rows).unwrap();
            assert_eq!((restored.written(), restored.is_wide()), (rows, wide));
            assert!(numbers(&restored) == expected, "{rows} rows, wide: {wide}");
            assert_eq!(saved(&restored, rows), bytes);
            if let Some(lease) = restored.lease(rows) {
                write(&lease, rows..32, 1.0);
                lease.settle(32);
            }
            let whole = Page::fresh(&here, wide).unwrap();
            write(&whole, 0..32, 1.0);
            assert!(numbers(&restored) == numbers(whole.page()), "{rows} rows and the rest, wide: {wide}");
            drop(restored);
            assert_eq!(there.bytes(), 0);
        }
    }

    #[test]
    fn fewer_rows_of_a_page_are_the_first_of_it() {
        let store = store();
        let lease = Page::fresh(&store, false).unwrap();
        write(&lease, 0..20, 1.0);
        let page = Arc::clone(lease.page());
        lease.settle(20);
        for rows in [0, 1, 16, 19] {
            let part = Page::restore(&store, &saved(&page, rows), rows).unwrap();
            assert!(numbers(&part) == numbers(page.copy(rows).unwrap().page()), "{rows}");
        }
    }

    #[test]
    fn what_is_no_page_is_an_error_and_takes_no_memory() {
        let store = store();
        let lease = Page::fresh(&store, false).unwrap();
        write(&lease, 0..5, 1.0);
        let page = Arc::clone(lease.page());
        lease.settle(5);
        let (bytes, before) = (saved(&page, 5), store.bytes());
        let refused = |bytes: &[u8], rows| Page::restore(&store, bytes, rows).err();
        assert_eq!(page.save(6, &mut Vec::new()), Err(NotSaved::Rows { rows: 6, found: 5 }));
        assert_eq!(refused(&bytes, 33), Some(NotSaved::Rows { rows: 33, found: 32 }));
        let expected = bytes.len();
        for found in 0..bytes.len() {
            assert_eq!(refused(&bytes[..found], 5), Some(NotSaved::Length { rows: 5, found, expected }));
        }
        assert!(matches!(refused(&bytes, 4), Some(NotSaved::Length { rows: 4, .. })));
        assert!(matches!(refused(&[&bytes[..], &[0]].concat(), 5), Some(NotSaved::Length { .. })));
        assert_eq!(refused(&[&[2], &bytes[1..]].concat(), 5), Some(NotSaved::Kind { kind: 2 }));
        assert!(
            matches!(refused(&[&[1], &bytes[1..]].concat(), 5), Some(NotSaved::Length { .. })),
            "wide ones are more"
        );
        assert_eq!(store.bytes(), before);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where there is no memory")]
    fn a_page_that_does_not_fit_is_an_error() {
        let types = KvTypes { key: ElementType::F32, value: ElementType::F32 };
        let store = KvStore::new(vec![types], 1, (isize::MAX as usize >> 8) / PANEL * PANEL);
        assert!(matches!(Page::restore(&store, &[0], 0), Err(NotSaved::Page(_))));
    }
}
