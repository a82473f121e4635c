//! Which pages of keys and values hold which tokens, so that whoever begins with tokens that are resident takes them
//! over and reads only the rest.
//!
//! A radix tree whose nodes are pages (`nodes`): a path from a root spells tokens from a conversation's beginning, and
//! each page on it holds the keys and values of its tokens behind all those above it. What a token gives does not depend
//! on how a history was cut into runs, so two pages that stand for the same tokens hold the same numbers. Only full pages
//! have pages behind them. Every scope has a root of its own; model, form and window are no part of the key, since a brain
//! has one of each. Rows behind a slide depend on what has left, and so a conversation that slid has no seat here,
//! unless what stays is read again behind each slide.
//!
//! A conversation sits where its tokens end ([`Seat`]) and keeps all pages on the way there. Pages below which nobody sits
//! are idle: they stay to be found, within a bound, and the one used least recently of those with nothing behind them goes
//! first.
//!
//! Lengths are in tokens. Costs are counted in visits of a page, each of which looks up at most once among the n pages
//! that follow the same tokens: a page's length times log n. Nothing scans or recurses. Invariants: see
//! [`Prefixes::check_invariants`].

mod eviction;
mod invariants;
mod nodes;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use crate::{
    engine::{Page, Resident},
    message::Scope,
    tokens::TokenId,
};
use nodes::{Node, NodeId, Nodes, Place};

/// The tree. See the module's page.
#[derive(Debug)]
pub(super) struct Prefixes {
    /// Tokens of a full page.
    page_len: usize,
    idle_pages_max: usize,
    nodes: Nodes,
    /// Each with a seat or a page below it.
    roots: BTreeMap<Option<Scope>, NodeId>,
    /// Pages at and below which nobody sits.
    idle: usize,
    /// Pages at or behind which several sit.
    shared: usize,
    /// Those of the idle ones with nothing behind them, the least recently used first.
    evictable: BTreeSet<(u64, NodeId)>,
    /// Grows with every use.
    stamp: u64,
}

/// Where a conversation sits, and with it the claim on all pages up to there. It ends with [`Prefixes::leave`] and no
/// other way: one that is dropped keeps its pages for ever.
#[derive(Debug)]
#[must_use = "a seat keeps its pages until it is left"]
pub(super) struct Seat(NodeId);

impl Prefixes {
    /// Nothing is resident. `page_len`: tokens of a page, at least 1; `idle_pages_max`: the most pages kept for nobody.
    pub(super) fn new(page_len: usize, idle_pages_max: usize) -> Self {
        Self {
            page_len: page_len.max(1),
            idle_pages_max,
            nodes: Nodes::default(),
            roots: BTreeMap::new(),
            idle: 0,
            shared: 0,
            evictable: BTreeSet::new(),
            stamp: 0,
        }
    }

    /// Pages that are indexed. One that stands at two places, since a conversation went back into the midst of it, counts
    /// twice.
    pub(super) fn pages(&self) -> usize {
        self.nodes.len() - self.roots.len()
    }

    /// Those of them that nobody sits at or behind.
    pub(super) fn idle_pages(&self) -> usize {
        self.idle
    }

    /// Those of them that several sit at or behind.
    pub(super) fn shared_pages(&self) -> usize {
        self.shared
    }

    /// Of the pages of a seat, how many of the first others sit at or behind as well. Costs a visit for each that they do
    /// not.
    pub(super) fn shared(&self, seat: &Seat) -> usize {
        let (mut at, mut alone) = (seat.0, 0);
        while !self.nodes[at].is_shared()
            && let Some(parent) = self.nodes[at].parent()
        {
            (at, alone) = (parent, alone + 1);
        }
        self.nodes[seat.0].len.div_ceil(self.page_len) - alone
    }

    /// Changes the most pages kept for nobody. Costs what goes.
    #[cfg(test)]
    pub(super) fn limit_idle(&mut self, idle_pages_max: usize) {
        self.idle_pages_max = idle_pages_max;
        self.evict();
    }

    /// The longest run of resident tokens that these begin with, `len_max` at most, as the pages it lies in. The last page
    /// may count in part. What was found counts as used. Costs a visit for each page found, and one more.
    pub(super) fn find(
        &mut self,
        scope: Option<&Scope>,
        tokens: impl IntoIterator<Item = TokenId>,
        len_max: usize,
    ) -> Resident {
        let mut found = Resident::default();
        let Some(&root) = self.roots.get(&scope.cloned()) else { return found };
        self.stamp += 1;
        let stamp = self.stamp;
        let (mut node, mut tokens) = (root, tokens.into_iter().take(len_max));
        let mut wanted = Vec::with_capacity(self.page_len);
        loop {
            wanted.clear();
            wanted.extend(tokens.by_ref().take(self.page_len));
            let Some((child, common)) = self.nodes[node].closest(&wanted) else { return found };
            found.pages.extend(self.nodes[child].page().cloned());
            found.kv_len += common;
            self.change(child, |child| child.used = stamp);
            if common < self.page_len {
                return found;
            }
            node = child;
        }
    }

    /// A seat for a conversation that begins with these tokens, behind all pages that are exactly its next ones. Costs a
    /// visit for each of them, and one more.
    pub(super) fn sit(&mut self, scope: Option<&Scope>, tokens: &[TokenId]) -> Seat {
        let root = self.root(scope);
        self.change(root, |root| root.seats += 1);
        let mut at = root;
        while let Some(child) = self.next(at, tokens) {
            self.change(child, |child| child.seats += 1);
            at = child;
        }
        Seat(at)
    }

    /// Seats a conversation behind the first `resident.kv_len` of its tokens, and indexes those of its pages that stand for
    /// what no page stood for. Where one did, `resident` has that one afterwards, and its own is free if nobody else has
    /// it. What the conversation has left behind by growing, going back or parting is idle now if nobody else sits there.
    ///
    /// Costs a visit or two for each page that is new since the seat was taken or settled last, for each that was left and
    /// for each that leaves memory, in whatever depth: a full page is known again as the same memory, and what it stands for
    /// then needs no second look.
    ///
    /// The pages hold what the tokens alone say: the conversation has not slid, or what stays is read again behind each
    /// slide. And no slot is open on them: an engine would go on writing behind the rows of a last page that `resident`
    /// has exchanged.
    pub(super) fn settle(&mut self, seat: &mut Seat, tokens: &[TokenId], resident: &mut Resident) {
        debug_assert!(resident.kv_len <= tokens.len(), "{} of {} tokens are resident", resident.kv_len, tokens.len());
        debug_assert!(resident.kv_len <= resident.pages.len() * self.page_len, "{resident:?} lacks pages");
        let kv_len = resident.kv_len.min(tokens.len()).min(resident.pages.len() * self.page_len);
        let tokens = &tokens[..kv_len];
        let parting = self.parting(seat.0, tokens, &resident.pages);
        let mut at = parting;
        while self.nodes[at].len < kv_len {
            let begin = self.nodes[at].len;
            let page = &mut resident.pages[begin / self.page_len];
            let child = match self.next(at, tokens) {
                Some(child) => {
                    page.clone_from(self.nodes[child].page().expect("only a root has no page"));
                    child
                }
                None => self.insert(at, &tokens[begin..kv_len.min(begin + self.page_len)], page.clone()),
            };
            self.change(child, |child| child.seats += 1);
            at = child;
        }
        self.rise(seat.0, Some(parting));
        seat.0 = at;
        self.evict();
    }

    /// A conversation is gone, was emptied, or gives nothing to others here any more. Its pages are idle now where
    /// nobody else sits. Costs a visit for each page of the seat and for each that leaves memory.
    pub(super) fn leave(&mut self, seat: Seat) {
        self.rise(seat.0, None);
        self.evict();
    }

    fn root(&mut self, scope: Option<&Scope>) -> NodeId {
        let nodes = &mut self.nodes;
        *self
            .roots
            .entry(scope.cloned())
            .or_insert_with_key(|scope| nodes.insert(Node::new(0, Place::Root(scope.clone()))))
    }

    /// The page behind `at` that stands for exactly the next of `tokens`: as many as a page holds, or all that are left.
    fn next(&self, at: NodeId, tokens: &[TokenId]) -> Option<NodeId> {
        let node = &self.nodes[at];
        let end = tokens.len().min(node.len + self.page_len);
        node.children.get(tokens.get(node.len..end)?).copied()
    }

    /// The lowest node at or above `at` that the way to all of `tokens` leads through. `pages`: those that hold them.
    fn parting(&self, mut at: NodeId, tokens: &[TokenId], pages: &[Page]) -> NodeId {
        loop {
            let node = &self.nodes[at];
            let Place::Page { parent, tokens: own, page } = &node.place else { return at };
            let begin = node.len - own.len();
            let agrees = tokens.get(begin..node.len) == Some(&**own) && pages.get(begin / self.page_len) == Some(page);
            if agrees && (own.len() == self.page_len || node.len == tokens.len()) {
                debug_assert!(tokens.starts_with(&self.nodes.spelled(at)), "a page stands for two things");
                return at;
            }
            at = *parent;
        }
    }

    /// Puts a page behind another; an idle one that holds no more than its first tokens makes way.
    fn insert(&mut self, parent: NodeId, tokens: &[TokenId], page: Page) -> NodeId {
        if let Some((shorter, id)) = self.nodes[parent].before(Bound::Excluded(tokens))
            && tokens.starts_with(shorter)
            && self.nodes[id].is_evictable()
        {
            self.remove(id);
        }
        let key: Arc<[TokenId]> = tokens.into();
        let len = self.nodes[parent].len + tokens.len();
        let id = self.nodes.insert(Node::new(len, Place::Page { parent, tokens: Arc::clone(&key), page }));
        self.idle += 1;
        self.evictable.insert((0, id));
        self.change(parent, |parent| {
            parent.children.insert(key, id);
        });
        id
    }

    /// Takes one seat off each node from `at` up to `until`, that one excluded.
    fn rise(&mut self, at: NodeId, until: Option<NodeId>) {
        self.stamp += 1;
        let (stamp, mut next) = (self.stamp, Some(at));
        while next != until {
            let Some(id) = next else { break };
            next = self.nodes[id].parent();
            self.change(id, |node| {
                node.seats -= 1;
                node.used = stamp;
            });
            if self.is_covered(id) {
                self.remove(id);
            }
            self.forget_root(id);
        }
    }
}
