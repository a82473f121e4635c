//! A keeper whose files are bytes in memory, and which loses them on command.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use motorbrain_actors::{
    engine::{EngineLoader, PageError, Resident},
    job::History,
    keep::{Keep, KeepError, Kept, KeptId, Part, Room},
    message::ConversationId,
};

/// One context: its tokens, the fewest that it can go back to, and its pages' rows.
#[derive(Clone, Debug)]
struct Context {
    history: History,
    floor: usize,
    kv_len: usize,
    pages: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Store {
    kept: BTreeMap<KeptId, (ConversationId, Vec<Context>)>,
    /// Those of them that were altered.
    altered: BTreeSet<KeptId>,
    full: bool,
}

/// See the module's page. Clones are the same keeper.
#[derive(Clone)]
pub struct FakeKeep {
    loader: Arc<dyn EngineLoader>,
    /// Tokens of a page.
    page: usize,
    store: Arc<Mutex<Store>>,
}

impl FakeKeep {
    /// Keeps nothing yet. `page`: tokens of the loader's pages.
    pub fn new(loader: Arc<dyn EngineLoader>, page: usize) -> Self {
        Self { loader, page, store: Arc::default() }
    }

    /// How many conversations are kept.
    pub fn len(&self) -> usize {
        self.store().kept.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Alters all that is kept.
    pub fn alter(&self) {
        let store = &mut *self.store();
        store.altered.extend(store.kept.keys());
    }

    /// Whether there is no room any more.
    pub fn fill(&self, full: bool) {
        self.store().full = full;
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, kept: &Kept) -> Result<Context, PageError> {
        let Kept { history, floor, resident: Resident { pages, kv_len } } = kept;
        let pages = pages.iter().enumerate().map(|(index, page)| {
            let mut bytes = Vec::new();
            let rows = (kv_len - index * self.page).min(self.page);
            self.loader.save(page, rows, &mut bytes).map(|()| bytes)
        });
        Ok(Context {
            history: history.clone(),
            floor: *floor,
            kv_len: *kv_len,
            pages: pages.collect::<Result<_, _>>()?,
        })
    }

    fn restore(&self, context: &Context) -> Result<Kept, PageError> {
        let Context { history, floor, kv_len, pages } = context;
        let pages = pages.iter().enumerate().map(|(index, bytes)| {
            let rows = (kv_len - index * self.page).min(self.page);
            self.loader.restore(bytes, rows)
        });
        let resident = Resident { pages: pages.collect::<Result<_, _>>()?, kv_len: *kv_len };
        Ok(Kept { history: history.clone(), floor: *floor, resident })
    }
}

impl Keep for FakeKeep {
    fn put(&self, id: KeptId, name: &ConversationId, states: &[Kept]) -> Result<u64, KeepError> {
        if self.store().full {
            return Err(KeepError::Full { bytes: 1, room: Room::Disk });
        }
        let contexts = states.iter().map(|kept| self.save(kept)).collect::<Result<Vec<_>, _>>()?;
        self.store().kept.insert(id, (name.clone(), contexts));
        Ok(1)
    }

    fn take(&self, id: KeptId, name: &ConversationId, expected: &[History]) -> Result<Vec<Kept>, KeepError> {
        let store = self.store();
        let (whose, contexts) = store.kept.get(&id).cloned().ok_or(KeepError::Unknown(id))?;
        let place = format!("{id:?}");
        if store.altered.contains(&id) {
            return Err(KeepError::Altered { place, part: Part::Page(0) });
        }
        if whose != *name || !contexts.iter().map(|context| &context.history).eq(expected) {
            return Err(KeepError::Swapped { place });
        }
        contexts.iter().map(|context| self.restore(context).map_err(KeepError::from)).collect()
    }

    fn forget(&self, id: KeptId) {
        let store = &mut *self.store();
        store.kept.remove(&id);
        store.altered.remove(&id);
    }
}
