//! Responses that are remembered: a bounded number of them and of bytes, those asked for longest ago forgotten first.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use motorbrain::{Brain, ClientId, ConversationId, chat::Message};
use tokio::runtime::Handle;

use crate::names;

/// All that is remembered together takes at most so many bytes a response that may be.
const BYTES_EACH: usize = 128 * 1024;

/// The conversation that holds a chat's keys and values; closed when no response needs it any more.
pub(crate) struct Resident {
    brain: Brain,
    name: ConversationId,
}

impl Resident {
    /// A new one.
    pub(super) fn new(brain: Brain) -> Arc<Self> {
        Arc::new(Self { brain, name: names::random("response ").into() })
    }

    pub(super) fn name(&self) -> ConversationId {
        self.name.clone()
    }
}

impl fmt::Debug for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resident").field(&self.name).finish()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Ok(runtime) = Handle::try_current() {
            let (brain, name) = (self.brain.clone(), self.name.clone());
            // It may be gone already, and then it is.
            runtime.spawn(async move { brain.close(name).await });
        }
    }
}

/// What is remembered of a response.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Whose it is; nobody else finds it.
    pub(super) client: ClientId,
    /// The chat up to and with it.
    pub(super) messages: Vec<Message>,
    pub(super) resident: Option<Arc<Resident>>,
    /// The response as it was given.
    pub(super) json: Bytes,
}

impl Kept {
    fn bytes(&self) -> usize {
        let call = |call: &motorbrain::chat::ToolCall| call.id.len() + call.name.len() + call.arguments.len();
        let message = |message: &Message| {
            size_of::<Message>()
                + message.content.as_ref().map_or(0, String::len)
                + message.tool_calls.iter().map(call).sum::<usize>()
        };
        self.json.len() + self.messages.iter().map(message).sum::<usize>()
    }
}

/// All that is remembered.
#[derive(Debug)]
pub(crate) struct Responses {
    most: usize,
    bytes_max: usize,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    kept: HashMap<String, (u64, Kept)>,
    /// Ids by when they were asked for last.
    order: BTreeMap<u64, String>,
    now: u64,
    bytes: usize,
}

impl Responses {
    /// So many at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, bytes_max: most.saturating_mul(BYTES_EACH), all: Mutex::default() }
    }

    /// Remembers one.
    pub(super) fn put(&self, id: &str, kept: Kept) {
        let mut all = self.lock();
        let now = all.tick();
        all.bytes += kept.bytes();
        all.order.insert(now, id.to_owned());
        all.kept.insert(id.to_owned(), (now, kept));
        let mut forgotten = Vec::new();
        while (all.kept.len() > self.most || all.bytes > self.bytes_max)
            && let Some((_, oldest)) = all.order.pop_first()
        {
            forgotten.extend(all.forget(&oldest));
        }
        // What they held is closed outside of the lock.
        drop(all);
        drop(forgotten);
    }

    /// One of this client's.
    pub(super) fn get(&self, id: &str, client: &ClientId) -> Option<Kept> {
        let mut all = self.lock();
        let now = all.tick();
        let (then, kept) = all.kept.get_mut(id).filter(|(_, kept)| kept.client == *client)?;
        let (then, kept) = (std::mem::replace(then, now), kept.clone());
        all.order.remove(&then);
        all.order.insert(now, id.to_owned());
        Some(kept)
    }

    /// Forgets one of this client's: whether there was one.
    pub(super) fn delete(&self, id: &str, client: &ClientId) -> bool {
        let mut all = self.lock();
        if all.kept.get(id).is_none_or(|(_, kept)| kept.client != *client) {
            return false;
        }
        let forgotten = all.forget(id);
        drop(all);
        drop(forgotten);
        true
    }

    /// Nothing that is done while it is locked can panic halfway.
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn forget(&mut self, id: &str) -> Option<Kept> {
        let (then, kept) = self.kept.remove(id)?;
        self.order.remove(&then);
        self.bytes = self.bytes.saturating_sub(kept.bytes());
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(client: &str, bytes: usize) -> Kept {
        Kept { client: client.into(), messages: Vec::new(), resident: None, json: vec![0; bytes].into() }
    }

    fn has(responses: &Responses, id: &str) -> bool {
        responses.get(id, &"a".into()).is_some()
    }

    #[test]
    fn those_asked_for_longest_ago_are_forgotten_first() {
        let responses = Responses::new(2);
        responses.put("1", kept("a", 1));
        responses.put("2", kept("a", 1));
        assert!(has(&responses, "1"));
        responses.put("3", kept("a", 1));
        assert!(has(&responses, "1") && !has(&responses, "2") && has(&responses, "3"));
        responses.put("4", kept("a", 2 * BYTES_EACH));
        assert!(!has(&responses, "1") && !has(&responses, "3") && has(&responses, "4"));
        assert_eq!(responses.lock().bytes, 2 * BYTES_EACH);
    }

    #[test]
    fn nobody_finds_anothers() {
        let responses = Responses::new(2);
        responses.put("1", kept("a", 1));
        let other = ClientId::from("b");
        assert!(responses.get("1", &other).is_none() && !responses.delete("1", &other));
        assert!(responses.delete("1", &"a".into()) && !has(&responses, "1"));
        assert!(responses.lock().order.is_empty());
    }
}
