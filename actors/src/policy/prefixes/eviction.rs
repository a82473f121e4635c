//! What goes and when, and what is counted so that nobody has to look for it.

use super::{Node, NodeId, Place, Prefixes};

impl Prefixes {
    /// Whether an idle page holds no more than the first tokens of another, so that nobody would miss it.
    pub(super) fn is_covered(&self, id: NodeId) -> bool {
        let node = &self.nodes[id];
        let Place::Page { parent, tokens, .. } = &node.place else { return false };
        // Those that begin with the same tokens follow right behind.
        node.is_evictable() && self.nodes[*parent].after(tokens).is_some_and(|(longer, _)| longer.starts_with(tokens))
    }

    /// Lets pages go that nobody keeps, until no more are left than may be.
    pub(super) fn evict(&mut self) {
        while self.idle > self.idle_pages_max {
            // There is one: where nobody sits, nobody sits farther down.
            let Some(&(_, id)) = self.evictable.first() else { break };
            self.remove(id);
        }
    }

    /// Lets the page go that nobody keeps and that was used least recently; false where there is none.
    pub(in crate::policy) fn shed(&mut self) -> bool {
        let first = self.evictable.first().copied();
        first.map(|(_, id)| self.remove(id)).is_some()
    }

    /// Takes out a page that nobody sits at and that has nothing behind it.
    pub(super) fn remove(&mut self, id: NodeId) {
        let node = self.nodes.remove(id);
        self.idle -= 1;
        self.evictable.remove(&(node.used, id));
        if let Place::Page { parent, tokens, .. } = node.place {
            self.change(parent, |parent| {
                parent.children.remove(&tokens);
            });
            self.forget_root(parent);
        }
    }

    /// Forgets a scope that has neither seats nor pages.
    pub(super) fn forget_root(&mut self, id: NodeId) {
        if let Some(Node { place: Place::Root(scope), seats: 0, children, .. }) = self.nodes.get(id)
            && children.is_empty()
        {
            self.roots.remove(scope);
            self.nodes.remove(id);
        }
    }

    /// Changes a node's seats, children or use, and what is counted of it.
    pub(super) fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = &mut self.nodes[id];
        let (idle_before, evictable_before) = (node.is_idle(), node.is_evictable().then_some((node.used, id)));
        let shared_before = node.is_shared();
        change(node);
        self.shared = self.shared + usize::from(node.is_shared()) - usize::from(shared_before);
        let (idle, evictable) = (node.is_idle(), node.is_evictable().then_some((node.used, id)));
        self.idle = self.idle + usize::from(idle) - usize::from(idle_before);
        if evictable != evictable_before {
            evictable_before.map(|entry| self.evictable.remove(&entry));
            evictable.map(|entry| self.evictable.insert(entry));
        }
    }
}
