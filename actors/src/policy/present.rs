//! What is there already: an input that others have read, behind which nothing is sampled.
//!
//! Nothing need be run then: the conversation takes the pages over, and its last token waits for its keys and values as
//! one that was sampled does.

use super::{Answer, Ask, Effect, Notice, Pending, Policy};
use crate::{
    engine::Resident,
    job::{Commit, Outcome, RequestId},
    message::ConversationId,
};

impl Policy {
    /// Answers a step whose turn it is, where all of its input but the last token is in pages; false where it is not, and
    /// then nothing has changed.
    pub(super) fn answer_by_pages(
        &mut self,
        name: &ConversationId,
        request: RequestId,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some((resident, reused)) = self.all_present(name, request) else { return false };
        // It is at home where it would have been run.
        self.actor_for(name, request, effects);
        let Some(mut pending) = self.remove(request) else { return false };
        let appended = pending.to_read().to_vec();
        let pinned = if pending.pins() { appended.len() } else { 0 };
        pending.base = Some(resident);
        if !self.commit(pending.commits(), &Commit { appended, pinned, ..Commit::default() }) {
            effects.push(Effect::Notice(Notice::Impossible("what others have read is no commit")));
        }
        let conversation = self.conversations.get_mut(name);
        let (context_len, rebuilt) =
            conversation.map_or((0, false), |it| (it.state.len(), std::mem::take(&mut it.rebuilt)));
        let outcome = Outcome::Stepped { sampled: Vec::new(), stopped: false };
        let answer = Answer { outcome, tokens: pending.text_len, context_len, rebuilt, reused };
        effects.push(Effect::Answer { request, answer });
        true
    }

    /// The pages that a step would begin on, and how many tokens of its input they have, where that is all it needs.
    fn all_present(&mut self, name: &ConversationId, request: RequestId) -> Option<(Resident, usize)> {
        let samples_nothing =
            |pending: &Pending| pending.carried.is_none() && matches!(&pending.ask, Ask::Step(step) if step.count == 0);
        self.requests.get(&request).filter(|pending| samples_nothing(pending))?;
        self.check_work(request).ok()?;
        let (sharing, window) = (self.sharing_of(request), self.window());
        let pending = self.requests.remove(&request)?;
        let state = self.conversations.get(name).and_then(|it| it.base(pending.choice)).cloned();
        let found = state.and_then(|state| {
            let all = state.len() + pending.to_read().len();
            let (resident, reused) = self.pages_for(&state, &pending, &sharing);
            (reused > 0 && all <= window.size && resident.kv_len + 1 == all).then_some((resident, reused))
        });
        self.requests.insert(request, pending);
        found
    }
}
