//! The pages of simulated engines: what they hold is written once, row by row, by whoever comes first. Others copy.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use motorbrain_actors::{
    engine::{Held, Page, PageSize, Resident},
    job::History,
    tokens::TokenId,
};

use super::{
    job::Progress,
    model::{Context, row_behind},
};

/// A row: which token, and what stands for its keys and values.
type Row = (TokenId, u64);

/// A page's memory.
pub(crate) struct Memory {
    rows: Mutex<Vec<Row>>,
    alive: Arc<AtomicUsize>,
}

impl Memory {
    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every page of a history, and every job on its way between two actors, whose pages nobody else sees.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) size: PageSize,
    alive: Arc<AtomicUsize>,
    carried: Rc<RefCell<Vec<Weak<Progress>>>>,
}

impl Store {
    pub(crate) fn new(size: PageSize) -> Self {
        Self { size, alive: Arc::default(), carried: Rc::default() }
    }

    fn make(&self, rows: Vec<Row>) -> Arc<Memory> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Memory { rows: Mutex::new(rows), alive: Arc::clone(&self.alive) })
    }

    pub(crate) fn carry(&self, progress: &Arc<Progress>) {
        self.carried.borrow_mut().push(Arc::downgrade(progress));
    }

    /// How many pages there are.
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// The pages of jobs that no actor has.
    pub(crate) fn carried(&self) -> Vec<Page> {
        self.carried.borrow_mut().retain(|progress| progress.strong_count() > 0);
        let carried = self.carried.borrow();
        let carried = carried.iter().filter_map(Weak::upgrade);
        carried.flat_map(|progress| progress.pages().cloned().collect::<Vec<_>>()).collect()
    }
}

pub(crate) fn address(page: &Page) -> *const Memory {
    Arc::as_ptr(&page.memory::<Memory>().unwrap())
}

/// Gives each row that these pages hold of a context's tokens, or says what is wrong with them: other tokens, or, of a
/// context that has not slid, other rows than theirs.
pub(crate) fn read(held: &Resident, history: &History, page: usize, mut give: impl FnMut(u64)) -> Result<(), String> {
    let tokens = &history.tokens[..];
    if held.pages.len() != held.kv_len.div_ceil(page) || held.kv_len > tokens.len() {
        return Err(format!("{} pages for {} rows of {} tokens", held.pages.len(), held.kv_len, tokens.len()));
    }
    let mut before = 0;
    for (held_pages, tokens) in held.pages.iter().zip(tokens[..held.kv_len].chunks(page)) {
        let memory = held_pages.memory::<Memory>().ok_or("a page of nobody")?;
        let rows = memory.rows();
        if rows.len() < tokens.len() {
            return Err(format!("{} of {} rows are there", rows.len(), tokens.len()));
        }
        for (&(token, row), &expected) in rows.iter().zip(tokens) {
            if token != expected || !history.has_slid() && row != row_behind(before, token) {
                return Err(format!("a row of {token} is not that of {expected} in {tokens:?}"));
            }
            before = row;
            give(row);
        }
    }
    Ok(())
}

/// A slot's pages.
pub(crate) struct Pages {
    store: Store,
    table: Vec<Arc<Memory>>,
    /// Rows that are written there.
    written: usize,
    /// Pages that the slot's owner knows of.
    known: usize,
    slid_to: u64,
}

impl Pages {
    pub(crate) fn adopt(store: Store, held: &Resident, context: &Context) -> Self {
        let table: Vec<_> = held.pages.iter().filter_map(Page::memory).collect();
        let slid_to = slid(context);
        Self { store, known: table.len(), table, written: held.kv_len, slid_to }
    }

    /// Writes the rows that are not written yet; all of them, where a slide has moved them.
    pub(crate) fn write(&mut self, context: &Context) {
        let page = self.store.size.tokens;
        if std::mem::replace(&mut self.slid_to, slid(context)) != self.slid_to {
            self.cut(0);
            self.written = 0;
        }
        let rows: Vec<Row> = context.history.tokens.iter().copied().zip(context.rows.iter().copied()).collect();
        while self.written < rows.len() {
            let (index, row) = (self.written / page, self.written % page);
            let end = ((index + 1) * page).min(rows.len());
            let new = &rows[self.written..end];
            match self.table.get(index) {
                Some(memory) if memory.rows().len() == row => memory.rows().extend_from_slice(new),
                _ => {
                    self.cut(index);
                    self.table.push(self.store.make(rows[index * page..end].to_vec()));
                }
            }
            self.written = end;
        }
    }

    /// What became of them since this was last asked.
    pub(crate) fn take(&mut self) -> Held {
        let pages = self.table[self.known..].iter().map(|memory| Page::new(Arc::clone(memory))).collect();
        let keep = std::mem::replace(&mut self.known, self.table.len());
        Held { keep, pages, kv_len: self.written }
    }

    /// Writes rows of no meaning wherever nobody forbids it: behind the slot's own last row. True if it could.
    pub(crate) fn garble(&mut self) -> bool {
        let page = self.store.size.tokens;
        let row = self.written % page;
        let may = row > 0 && self.table.last().is_some_and(|memory| memory.rows().len() == row);
        if may && let Some(memory) = self.table.last() {
            memory.rows().push((TokenId(u32::MAX), u64::MAX));
            self.written += 1;
        }
        may
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = *const Memory> {
        self.table.iter().map(Arc::as_ptr)
    }

    fn cut(&mut self, count: usize) {
        self.table.truncate(count);
        self.known = self.known.min(count);
    }
}

/// How many tokens have left.
fn slid(context: &Context) -> u64 {
    context.history.total - context.history.tokens.len() as u64
}
