//! Pages that remember what they stand for, the engine that writes them, and conversations that have them.

use std::sync::{Arc, Mutex, Weak};

use super::{PAGE, Prefixes, Seat};
use crate::{
    engine::{Page, Resident},
    message::Scope,
    tokens::TokenId,
};

/// All tokens from a conversation's beginning up to a page's last row.
pub(super) struct Rows(Mutex<Vec<TokenId>>);

pub(super) fn ids(tokens: &[u32]) -> Vec<TokenId> {
    tokens.iter().copied().map(TokenId).collect()
}

fn page_of(rows: Vec<TokenId>, made: &mut Vec<Weak<Rows>>) -> Page {
    let rows = Arc::new(Rows(Mutex::new(rows)));
    made.push(Arc::downgrade(&rows));
    Page::new(rows)
}

/// What an engine does: reads tokens up to `end`, in the last page where nobody else has written there, otherwise in a
/// copy. `made` tells each page that is new.
pub(super) fn read(tokens: &[TokenId], resident: &mut Resident, end: usize, page: usize, made: &mut Vec<Weak<Rows>>) {
    for at in resident.kv_len..end {
        if at % page == 0 {
            resident.pages.push(page_of(tokens[..=at].to_vec(), made));
        } else {
            let last = resident.pages.last_mut().unwrap();
            let rows = last.memory::<Rows>().unwrap();
            let mut rows = rows.0.lock().unwrap();
            if rows.len() == at {
                rows.push(tokens[at]);
            } else {
                *last = page_of(rows[..at].iter().copied().chain([tokens[at]]).collect(), made);
            }
        }
        resident.kv_len = at + 1;
    }
}

/// Whether the pages stand for exactly these tokens, as far as they count.
pub(super) fn means(resident: &Resident, tokens: &[TokenId], page: usize) -> Result<(), String> {
    if resident.kv_len > tokens.len() || resident.pages.len() != resident.kv_len.div_ceil(page) {
        return Err(format!("{} tokens, {resident:?}", tokens.len()));
    }
    for (index, held) in resident.pages.iter().enumerate() {
        let end = resident.kv_len.min((index + 1) * page);
        let rows = held.memory::<Rows>().unwrap();
        let rows = rows.0.lock().unwrap();
        if rows.get(..end) != Some(&tokens[..end]) || rows.len() > (index + 1) * page {
            return Err(format!("page {index} holds {rows:?} instead of {:?}", &tokens[..end]));
        }
    }
    Ok(())
}

/// A conversation.
pub(super) struct Talk {
    pub(super) scope: Option<Scope>,
    pub(super) tokens: Vec<TokenId>,
    pub(super) resident: Resident,
    pub(super) seat: Option<Seat>,
    /// Each page that was made for it.
    pub(super) read: Vec<Weak<Rows>>,
}

impl Talk {
    pub(super) fn new(prefixes: &mut Prefixes, scope: Option<Scope>) -> Self {
        let seat = Some(prefixes.sit(scope.as_ref(), &[]));
        Self { scope, tokens: Vec::new(), resident: Resident::default(), seat, read: Vec::new() }
    }

    pub(super) fn say(&mut self, prefixes: &mut Prefixes, tokens: &[u32]) {
        self.tokens.extend(ids(tokens));
        read(&self.tokens, &mut self.resident, self.tokens.len(), PAGE, &mut self.read);
        self.settle(prefixes);
    }

    pub(super) fn settle(&mut self, prefixes: &mut Prefixes) {
        prefixes.settle(self.seat.as_mut().unwrap(), &self.tokens, &mut self.resident);
        means(&self.resident, &self.tokens, PAGE).unwrap();
    }

    pub(super) fn rewind(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.resident.truncate(len, PAGE);
    }

    pub(super) fn fork(&self, prefixes: &mut Prefixes, at: usize) -> Self {
        let mut fork = Self {
            scope: self.scope.clone(),
            tokens: self.tokens.clone(),
            resident: self.resident.clone(),
            seat: Some(prefixes.sit(self.scope.as_ref(), &self.tokens[..at])),
            read: Vec::new(),
        };
        fork.rewind(at);
        fork
    }

    pub(super) fn leave(&mut self, prefixes: &mut Prefixes) {
        self.resident = Resident::default();
        self.tokens.clear();
        prefixes.leave(self.seat.take().unwrap());
    }
}
