//! A conversation for as long as a chat is answered in it, brought to the chat's tokens.
//!
//! Without a name it is a new one, closed afterwards whatever becomes of whoever asked. With one it holds what earlier
//! requests have left: it goes back to the last token that both have in common. The chats of one name are answered one
//! after the other, since what is brought to one chat's tokens must stay there until they are answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use motorbrain_actors::{
    brain::Brain,
    keep::Kept,
    message::{BrainError, ConversationId},
    tokens::TokenId,
};
use tokio::sync::OwnedMutexGuard;

/// The named conversations in which chats are answered now.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<ConversationId, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConversationId, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a chat in this conversation.
    pub(super) async fn turn(self: &Arc<Self>, name: ConversationId) -> Turn {
        let turn = Arc::clone(self.lock().entry(name.clone()).or_default());
        // Whoever stops waiting leaves the line as well.
        let mut waits = Turn { turns: Arc::clone(self), name, held: None };
        waits.held = Some(turn.lock_owned().await);
        waits
    }
}

/// The turn of a chat in a named conversation.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    name: ConversationId,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut turns = self.turns.lock();
        // Nobody else waits for it.
        if turns.get(&self.name).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.name);
        }
    }
}

/// Where a conversation stands that was brought to a chat's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// It holds so many of them, the first ones.
    pub(super) common: usize,
    /// The keys and values of so many are its own.
    pub(super) resident: usize,
    /// Of the answers that wait in it, the one that it goes on from.
    pub(super) choice: Option<usize>,
}

impl Brought {
    /// How many of the chat's tokens need not be read, where others had read `reused` more than the conversation.
    pub(super) fn reused(self, reused: usize, prompt: usize) -> usize {
        let own = match reused {
            0 => self.resident,
            // What others have read is counted from where the conversation stands, but for a token that was sampled.
            _ => self.resident.max(self.common.saturating_sub(1)),
        };
        // The last one is run for what comes behind it.
        (own + reused).min(prompt.saturating_sub(1))
    }
}

/// Brings a named conversation to the beginning of these tokens.
///
/// # Errors
/// Those of the brain. The conversation may stand somewhere else than before.
pub(super) async fn bring(
    brain: &Brain,
    name: &ConversationId,
    tokens: &[TokenId],
    has_pages: bool,
) -> Result<Brought, BrainError> {
    let states = match brain.export(name.clone()).await {
        Err(BrainError::UnknownConversation { .. }) => return Ok(Brought::default()),
        states => states?,
    };
    let (brought, goes) = plan(&states, tokens, has_pages);
    match goes {
        Goes::Nowhere => {}
        Goes::Back => {
            brain.rewind(name.clone(), brought.common).await?;
        }
        Goes::Reset => brain.reset(name.clone()).await?,
    }
    Ok(brought)
}

/// What is done to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// It stands where it should.
    Nowhere,
    /// To its first tokens.
    Back,
    /// It begins anew.
    Reset,
}

/// How a conversation comes to the beginning of these tokens. `states`: where it stands, and the answers that wait.
fn plan(states: &[Kept], tokens: &[TokenId], has_pages: bool) -> (Brought, Goes) {
    let brought = |state: &Kept, choice| {
        let common = state.history.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let resident = if has_pages { state.resident.kv_len.min(common) } else { common };
        Brought { common, resident, choice }
    };
    let Some((stands, waiting)) = states.split_first() else { return (Brought::default(), Goes::Reset) };
    // What has slid holds keys and values that tell of tokens which are gone.
    if stands.history.has_slid() {
        return (Brought::default(), Goes::Reset);
    }
    let here = brought(stands, None);
    let whole = |(index, state): (usize, &Kept)| {
        let found = brought(state, Some(index));
        (!state.history.has_slid() && found.common == state.history.tokens.len()).then_some(found)
    };
    let best = waiting.iter().enumerate().filter_map(whole).max_by_key(|found| found.common);
    match best.filter(|best| best.common > here.common) {
        Some(best) => (best, Goes::Nowhere),
        None if here.common == 0 && !stands.history.tokens.is_empty() => (Brought::default(), Goes::Reset),
        None if here.common == stands.history.tokens.len() => (here, Goes::Nowhere),
        None => (here, Goes::Back),
    }
}

#[cfg(test)]
mod tests {
    use motorbrain_actors::{engine::Resident, job::History};

    use super::*;

    fn tokens(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().copied().map(TokenId).collect()
    }

    fn state(ids: &[u32], kv_len: usize) -> Kept {
        let history = History { tokens: Arc::new(tokens(ids)), total: ids.len() as u64, ..History::default() };
        Kept { history, floor: 0, resident: Resident { pages: Vec::new(), kv_len } }
    }

    fn check(states: &[Kept], chat: &[u32], expected: (usize, usize, Option<usize>), goes: Goes) {
        let (common, resident, choice) = expected;
        assert_eq!(plan(states, &tokens(chat), true), (Brought { common, resident, choice }, goes), "{chat:?}");
    }

    #[test]
    fn a_conversation_goes_back_to_what_the_chat_begins_with() {
        let states = [state(&[1, 2, 3], 2)];
        check(&states, &[1, 2, 3, 4], (3, 2, None), Goes::Nowhere);
        check(&states, &[1, 2, 3], (3, 2, None), Goes::Nowhere);
        check(&states, &[1, 2], (2, 2, None), Goes::Back);
        check(&states, &[1, 9, 3], (1, 1, None), Goes::Back);
        check(&states, &[9], (0, 0, None), Goes::Reset);
        check(&[state(&[], 0)], &[9], (0, 0, None), Goes::Nowhere);
    }

    #[test]
    fn an_answer_that_the_chat_goes_on_with_is_kept() {
        let states = [state(&[1, 2], 2), state(&[1, 2, 5], 2), state(&[1, 2, 6, 7], 3)];
        check(&states, &[1, 2, 6, 7, 8], (4, 3, Some(1)), Goes::Nowhere);
        check(&states, &[1, 2, 6, 8], (2, 2, None), Goes::Nowhere);
        check(&states, &[1, 3], (1, 1, None), Goes::Back);
    }

    #[test]
    fn what_has_slid_begins_anew() {
        let mut slid = state(&[1, 2, 3], 3);
        slid.history.total = 9;
        check(&[slid], &[1, 2, 3, 4], (0, 0, None), Goes::Reset);
    }

    #[test]
    fn what_need_not_be_read_is_counted_once() {
        let brought = Brought { common: 10, resident: 9, choice: None };
        assert_eq!(brought.reused(0, 20), 9);
        assert_eq!(brought.reused(5, 20), 14);
        assert_eq!(brought.reused(0, 10), 9);
        let whole = Brought { resident: 10, ..brought };
        assert_eq!((whole.reused(0, 10), whole.reused(0, 12)), (9, 10));
        assert_eq!(Brought::default().reused(7, 8), 7);
        let gone = Brought { common: 10, resident: 0, choice: None };
        assert_eq!((gone.reused(0, 20), gone.reused(3, 20)), (0, 12));
    }
}
