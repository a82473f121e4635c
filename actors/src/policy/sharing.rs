//! What conversations share: where a request begins by what others have read, and what is left for others.
//!
//! A conversation has a seat among the [`Prefixes`] while its keys and values are those of its tokens from the first on:
//! until it slides and is not read again, is told to share with nobody, or is emptied. Engines without pages share nothing.

use super::{Pending, Policy, conversations::Conversation, state::State};
use crate::{
    engine::{Resident, Slides, Window},
    job::{Commit, RequestId},
    message::{ConversationId, Scope, Sharing},
};

impl Policy {
    /// The window of the model, once that is known.
    pub(super) fn window(&self) -> Window {
        let unknown = Window { size: 0, sinks: 0, slide: 0, slides: Slides::Never };
        self.model.as_ref().map_or(unknown, |model| model.window)
    }

    /// With whom a request shares: as it says itself, or as its conversation does.
    pub(super) fn sharing_of(&self, request: RequestId) -> Sharing {
        let pending = self.requests.get(&request);
        let conversation = pending.and_then(|pending| self.conversations.get(pending.conversation.as_ref()?));
        let own = pending.and_then(|pending| pending.sharing.clone());
        own.or_else(|| conversation.map(|conversation| conversation.sharing.clone())).unwrap_or_default()
    }

    /// The pages that a request begins with: the conversation's own, or more of what others have read; and how many
    /// tokens need not be read for that.
    pub(super) fn pages_for(&mut self, state: &State, pending: &Pending, sharing: &Sharing) -> (Resident, usize) {
        let (own, window) = (state.resident.clone(), self.window());
        let (Some(prefixes), Sharing::With(scope)) = (&mut self.prefixes, sharing) else { return (own, 0) };
        if !state.history.is_plain(&window) {
            return (own, 0);
        }
        let (context, input) = (&state.history.tokens[..], pending.to_read());
        // The last token gives what is asked for, and so it is run.
        let useful = match (pending.reads_all(), input.is_empty()) {
            (true, _) => context.len(),
            (false, true) => context.len().saturating_sub(1),
            (false, false) => context.len() + input.len() - 1,
        };
        let useful = useful.min(self.model.as_ref().map_or(0, |model| model.window.size));
        // A sampled token that waits for its keys is run beside the first new one at no cost.
        if useful <= own.kv_len + 1 {
            return (own, 0);
        }
        let found = prefixes.find(scope.as_ref(), context.iter().chain(input).copied(), useful);
        if found.kv_len <= own.kv_len {
            return (own, 0);
        }
        // What is read again of a context that had left memory is not what others have saved this request.
        let had = own.kv_len.max(context.len().saturating_sub(1));
        let reused = found.kv_len.saturating_sub(had);
        (found, reused)
    }

    /// What a job had read that came to nothing: nobody's, but whoever reads the same again finds it, its own request
    /// first of all.
    pub(super) fn keep_read(&mut self, pending: &mut Pending, read: &Commit, sharing: &Sharing) {
        let whole = pending.whole_of().and_then(|whole| self.requests.get(&whole));
        let name = whole.map_or(&pending.conversation, |whole| &whole.conversation).as_ref();
        let conversation = name.and_then(|name| self.conversations.get(name));
        let (Some(base), Sharing::With(scope)) = (pending.base.take(), sharing) else { return };
        let part = pending.part.as_ref().map(|part| &part.state);
        let begun = part.or(conversation.and_then(|conversation| conversation.base(pending.choice)));
        let (mut state, window) = (begun.cloned().unwrap_or_default(), self.window());
        // What it follows was said on other terms.
        let is_withheld = |it: &Conversation| it.withheld || state.len() > 0 && it.sharing != *sharing;
        if conversation.is_some_and(is_withheld) {
            return;
        }
        let fits = read.dropped == 0 && state.len() + read.appended.len() <= window.size;
        if fits && state.history.is_plain(&window) && state.commit(read, Some(base), &window) {
            self.leave_behind(scope.as_ref(), state);
        }
    }

    /// The rows of the prefix that a text stood behind are left for the texts to come; those of the text are not, since
    /// few are embedded twice.
    pub(super) fn keep_prefix(&mut self, pending: &Pending, commit: &Commit) {
        let (Some(frame), None, Some(base)) = (pending.frame(), &pending.conversation, &pending.base) else { return };
        let (len, window) = (frame.prefix.len(), self.window());
        let Sharing::With(scope) = pending.sharing.clone().unwrap_or_default() else { return };
        let mut state = State::default();
        if base.kv_len >= len || !state.commit(commit, Some(base.clone()), &window) {
            return;
        }
        self.leave_prefix(scope.as_ref(), state, len);
    }

    /// The same of a text of whose pieces the first is read behind the prefix.
    pub(super) fn keep_first(&mut self, request: RequestId) {
        let sharing = self.sharing_of(request);
        let Some(pending) = self.requests.get(&request) else { return };
        let (Some(frame), Some(several), Sharing::With(scope)) = (pending.frame(), &pending.several, sharing) else {
            return;
        };
        if pending.reused < frame.prefix.len() {
            self.leave_prefix(scope.as_ref(), several.start.clone(), frame.prefix.len());
        }
    }

    /// The first rows of what nobody has any more, unless it has slid.
    fn leave_prefix(&mut self, scope: Option<&Scope>, mut state: State, len: usize) {
        if !state.history.has_slid() {
            state.rewind(len, self.page_size());
            self.leave_behind(scope, state);
        }
    }

    /// Rows that nobody has any more, for whoever reads the same.
    fn leave_behind(&mut self, scope: Option<&Scope>, mut state: State) {
        if let Some(prefixes) = &mut self.prefixes {
            let mut seat = prefixes.sit(scope, &[]);
            prefixes.settle(&mut seat, &state.history.tokens, &mut state.resident);
            prefixes.leave(seat);
        }
    }

    /// Where a conversation has come to stand elsewhere and no job is out: what it holds now is there for others.
    pub(super) fn settle_down(&mut self, name: &ConversationId) {
        let window = self.window();
        let (Some(prefixes), Some(conversation)) = (&mut self.prefixes, self.conversations.get_mut(name)) else {
            return;
        };
        if std::mem::take(&mut conversation.moved)
            && conversation.gives(&window)
            && let Sharing::With(scope) = &conversation.sharing
        {
            let State { history, resident, .. } = &mut conversation.state;
            let seat = conversation.seat.get_or_insert_with(|| prefixes.sit(scope.as_ref(), &[]));
            prefixes.settle(seat, &history.tokens, resident);
        }
    }

    /// A conversation that gives nothing any more, or to others than before, gives up its seat at once, also amid a
    /// streamed step: should that end badly, then what it has shown is still shared with nobody else than it said.
    pub(super) fn leave_wrong_seat(&mut self, name: &ConversationId, before: &Sharing) {
        let window = self.window();
        let stays = |it: &Conversation| it.gives(&window) && it.sharing == *before;
        if self.conversations.get(name).is_some_and(|conversation| conversation.seat.is_some() && !stays(conversation))
        {
            self.stand_up(name);
        }
    }

    /// A conversation gives up its seat: it is emptied or forgotten.
    pub(super) fn stand_up(&mut self, name: &ConversationId) {
        if let (Some(prefixes), Some(conversation)) = (&mut self.prefixes, self.conversations.get_mut(name))
            && let Some(seat) = conversation.seat.take()
        {
            prefixes.leave(seat);
        }
    }
}
