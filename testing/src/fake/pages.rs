//! The fake's pages: what they hold is written once, row by row, by whoever comes first. Others copy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use motorbrain_actors::engine::{Held, Page, PageError, PageSize, Resident};

use crate::control::FakeControl;

/// A page's memory: the states of its rows, as many as are written.
struct Memory {
    number: u64,
    rows: Mutex<Vec<u64>>,
    control: FakeControl,
}

impl Memory {
    fn new(rows: Vec<u64>, control: &FakeControl) -> Arc<Self> {
        Arc::new(Self { number: control.begin_page(), rows: Mutex::new(rows), control: control.clone() })
    }

    fn rows(&self) -> MutexGuard<'_, Vec<u64>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.control.end_page(self.number);
    }
}

/// The number of a page of a fake's, unique among all that its control has counted; `None`: it is another engine's.
pub fn page_number(page: &Page) -> Option<u64> {
    Some(page.memory::<Memory>()?.number)
}

/// What stands in pages that a fake has filled, a number for each token ([`state_behind`](crate::model::state_behind));
/// `None` where they hold less than is said. `page`: tokens of a page.
pub fn states_in(held: &Resident, page: usize) -> Option<Vec<u64>> {
    Pages::adopt(held, page).map(|(_, states)| states)
}

/// Bytes of a row.
const ROW: usize = size_of::<u64>();

/// The first `rows` of a page, as bytes.
pub(crate) fn save(page: &Page, rows: usize) -> Result<Vec<u8>, PageError> {
    let memory = page.memory::<Memory>().ok_or(PageError::Foreign)?;
    let written = memory.rows();
    let kept = written.get(..rows).ok_or(PageError::Rows { rows, found: written.len() })?;
    Ok(kept.iter().flat_map(|state| state.to_le_bytes()).collect())
}

/// A page of such bytes.
pub(crate) fn restore(bytes: &[u8], rows: usize, page: PageSize, control: &FakeControl) -> Result<Page, PageError> {
    if rows > page.tokens {
        return Err(PageError::Rows { rows, found: page.tokens });
    }
    if bytes.len() != rows * ROW {
        return Err(PageError::Length { rows, found: bytes.len(), expected: rows * ROW });
    }
    let states = bytes.as_chunks::<ROW>().0.iter().map(|state| u64::from_le_bytes(*state)).collect();
    Ok(Page::new(Memory::new(states, control)))
}

/// A slot's pages.
#[derive(Clone, Default)]
pub(super) struct Pages {
    table: Vec<Arc<Memory>>,
    /// States that are written there.
    written: usize,
    /// Pages that the slot's owner knows of.
    known: usize,
}

impl Pages {
    /// Those that another slot has filled, and their states; `None` where they hold less than is said.
    pub(super) fn adopt(held: &Resident, page: usize) -> Option<(Self, Vec<u64>)> {
        let table = held.pages.iter().map(|page| page.memory::<Memory>()).collect::<Option<Vec<_>>>()?;
        let mut states = Vec::new();
        for (index, memory) in table.iter().enumerate() {
            let count = (held.kv_len - index * page).min(page);
            states.extend_from_slice(memory.rows().get(..count)?);
        }
        let pages = Self { known: table.len(), written: states.len(), table };
        (states.len() == held.kv_len).then_some((pages, states))
    }

    /// Writes the states that are not written yet.
    pub(super) fn write(&mut self, states: &[u64], page: PageSize, control: &FakeControl) {
        let PageSize { tokens: page, .. } = page;
        self.rewind(states.len(), page);
        while self.written < states.len() {
            let (index, row) = (self.written / page, self.written % page);
            let end = ((index + 1) * page).min(states.len());
            let new = &states[self.written..end];
            match self.table.get(index) {
                Some(memory) if memory.rows().len() == row => memory.rows().extend_from_slice(new),
                _ => {
                    self.cut(index);
                    self.table.push(Memory::new(states[index * page..end].to_vec(), control));
                }
            }
            self.written = end;
        }
    }

    /// Only the first `rows` are the slot's still. `page`: tokens of a page.
    pub(super) fn rewind(&mut self, rows: usize, page: usize) {
        self.written = self.written.min(rows);
        self.cut(self.written.div_ceil(page));
    }

    /// None of them is the slot's any more.
    pub(super) fn leave(&mut self) {
        self.cut(0);
        self.written = 0;
    }

    /// What became of them since this was last asked.
    pub(super) fn take(&mut self, kv_len: usize) -> Held {
        let pages = self.table[self.known..].iter().map(|memory| Page::new(Arc::clone(memory))).collect();
        let keep = std::mem::replace(&mut self.known, self.table.len());
        Held { keep, pages, kv_len }
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.table.iter().map(|memory| memory.number)
    }

    /// Writes a row of no meaning wherever nobody forbids it: behind the slot's own last row. True if it could.
    pub(super) fn garble(&mut self, page: PageSize) -> bool {
        let row = self.written % page.tokens;
        let Some(last) = self.table.last().filter(|memory| row > 0 && memory.rows().len() == row) else { return false };
        last.rows().push(u64::MAX);
        self.written += 1;
        true
    }

    fn cut(&mut self, count: usize) {
        self.table.truncate(count);
        self.known = self.known.min(count);
    }
}
