//! The nodes of the tree: roots and pages, in a vector where each has a number as long as it is there, so that none owns
//! another and no depth is too deep.

use std::{
    collections::BTreeMap,
    ops::{
        Bound::{self, Excluded, Included, Unbounded},
        Index, IndexMut,
    },
    sync::Arc,
};

use crate::{engine::Page, message::Scope, tokens::TokenId};

/// A node's place in [`Nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(usize);

/// A root or a page.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    /// Tokens from the root to its end.
    pub(super) len: usize,
    /// What follows, by the tokens that it holds.
    pub(super) children: BTreeMap<Arc<[TokenId]>, NodeId>,
    /// Conversations that sit at it or below it.
    pub(super) seats: usize,
    /// When it was last found or left; of no account while somebody sits.
    pub(super) used: u64,
}

/// Where a node is.
#[derive(Debug)]
pub(super) enum Place {
    /// The beginning of a scope's conversations; holds no tokens.
    Root(Option<Scope>),
    /// Behind another.
    Page {
        parent: NodeId,
        /// At least one, a page's at most. The key among the parent's children is the same memory.
        tokens: Arc<[TokenId]>,
        page: Page,
    },
}

impl Node {
    pub(super) fn new(len: usize, place: Place) -> Self {
        Self { place, len, children: BTreeMap::new(), seats: 0, used: 0 }
    }

    /// `None`: a root.
    pub(super) fn parent(&self) -> Option<NodeId> {
        match &self.place {
            Place::Root(_) => None,
            Place::Page { parent, .. } => Some(*parent),
        }
    }

    /// `None`: a root.
    pub(super) fn page(&self) -> Option<&Page> {
        match &self.place {
            Place::Root(_) => None,
            Place::Page { page, .. } => Some(page),
        }
    }

    /// Its own tokens; none of a root.
    pub(super) fn tokens(&self) -> &[TokenId] {
        match &self.place {
            Place::Root(_) => &[],
            Place::Page { tokens, .. } => tokens,
        }
    }

    /// Whether it is a page that nobody keeps.
    pub(super) fn is_idle(&self) -> bool {
        self.seats == 0 && self.page().is_some()
    }

    /// Whether it is a page that several keep.
    pub(super) fn is_shared(&self) -> bool {
        self.seats > 1 && self.page().is_some()
    }

    /// Whether it may go at once.
    pub(super) fn is_evictable(&self) -> bool {
        self.is_idle() && self.children.is_empty()
    }

    /// The last child whose tokens, in order, come before an end.
    pub(super) fn before(&self, end: Bound<&[TokenId]>) -> Option<(&[TokenId], NodeId)> {
        self.children.range::<[TokenId], _>((Unbounded, end)).next_back().map(|(key, &id)| (&**key, id))
    }

    /// The first child whose tokens come after these.
    pub(super) fn after(&self, tokens: &[TokenId]) -> Option<(&[TokenId], NodeId)> {
        self.children.range::<[TokenId], _>((Excluded(tokens), Unbounded)).next().map(|(key, &id)| (&**key, id))
    }

    /// The child with the most first tokens in common with `tokens`, at least one, and how many: in order of their tokens
    /// it is one of the two between which `tokens` would stand, since those that begin alike follow each other. Of equals
    /// it is the one before, which may be these tokens and no more.
    pub(super) fn closest(&self, tokens: &[TokenId]) -> Option<(NodeId, usize)> {
        [self.after(tokens), self.before(Included(tokens))]
            .into_iter()
            .flatten()
            .map(|(key, id)| (id, key.iter().zip(tokens).take_while(|(a, b)| a == b).count()))
            .filter(|&(_, common)| common > 0)
            .max_by_key(|&(_, common)| common)
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    places: Vec<Option<Node>>,
    vacant: Vec<usize>,
    /// How often a node was looked up.
    #[cfg(test)]
    pub(super) visits: std::cell::Cell<usize>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        #[cfg(test)]
        self.visits.update(|visits| visits + 1);
        self.places.get(id.0)?.as_ref()
    }

    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        let place = self.vacant.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(Some(node));
        } else {
            self.places[place] = Some(node);
        }
        NodeId(place)
    }

    /// # Panics
    /// If there is no such node, and that is a mistake here: seats and children keep what they name.
    pub(super) fn remove(&mut self, id: NodeId) -> Node {
        let node = self.places[id.0].take().expect("a node that is named is there");
        self.vacant.push(id.0);
        node
    }

    /// Every node, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.places.iter().enumerate().filter_map(|(place, node)| Some((NodeId(place), node.as_ref()?)))
    }

    /// The tokens on the way from the root to the end of a node. For checks: it costs the whole way.
    pub(super) fn spelled(&self, id: NodeId) -> Vec<TokenId> {
        let way = std::iter::successors(self.places[id.0].as_ref(), |node| self.places[node.parent()?.0].as_ref());
        let mut tokens: Vec<_> = way.flat_map(|node| node.tokens().iter().rev().copied()).collect();
        tokens.reverse();
        tokens
    }
}

impl Index<NodeId> for Nodes {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        self.get(id).expect("a node that is named is there")
    }
}

impl IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        #[cfg(test)]
        self.visits.update(|visits| visits + 1);
        self.places[id.0].as_mut().expect("a node that is named is there")
    }
}
