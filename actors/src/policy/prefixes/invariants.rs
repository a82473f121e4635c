//! What always holds of the tree between two calls. Tests ask after every one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{NodeId, Place, Prefixes, Seat};
use crate::engine::Page;

impl Prefixes {
    /// All pages.
    pub(in crate::policy) fn indexed(&self) -> impl Iterator<Item = &Page> {
        self.nodes.iter().filter_map(|(_, node)| node.page())
    }

    /// Every broken invariant, as a sentence with its numbers; empty if all hold. `seats`: all that there are.
    pub(in crate::policy) fn check_invariants<'a>(&self, seats: impl IntoIterator<Item = &'a Seat>) -> Vec<String> {
        let mut broken = Vec::new();
        self.check_nodes(&mut broken);
        self.check_roots(&mut broken);
        self.check_seats(seats, &mut broken);
        self.check_idle(&mut broken);
        broken
    }

    fn check_nodes(&self, broken: &mut Vec<String>) {
        let mut named = 0;
        for (id, node) in self.nodes.iter() {
            named += node.children.len();
            let own = node.tokens().len();
            match &node.place {
                Place::Root(scope) => {
                    if self.roots.get(scope) != Some(&id) || node.len != 0 {
                        broken.push(format!("{id:?} of length {} is not the root of {scope:?}", node.len));
                    }
                    if node.seats == 0 && node.children.is_empty() {
                        broken.push(format!("{scope:?} is kept for nothing"));
                    }
                }
                Place::Page { parent, tokens, .. } => match self.nodes.get(*parent) {
                    Some(before) if before.children.get(tokens) == Some(&id) && before.len + own == node.len => {}
                    _ => broken.push(format!("{id:?} of length {} is not behind {parent:?}", node.len)),
                },
            }
            if node.page().is_some() && !(1..=self.page_len).contains(&own) {
                broken.push(format!("{id:?} holds {own} tokens in a page of {}", self.page_len));
            }
            if node.page().is_some() && own < self.page_len && !node.children.is_empty() {
                broken.push(format!("{id:?} is not full and has {} pages behind it", node.children.len()));
            }
            if self.is_covered(id) {
                broken.push(format!("{id:?} is idle beside a page that holds its tokens"));
            }
        }
        // Each page is named by the one before it, which is as long as what it does not hold itself: so they all hang
        // on a root, and nothing else is named.
        if named != self.pages() {
            broken.push(format!("{named} pages are named, there are {}", self.pages()));
        }
    }

    fn check_roots(&self, broken: &mut Vec<String>) {
        for (scope, &root) in &self.roots {
            if !matches!(self.nodes.get(root).map(|node| &node.place), Some(Place::Root(its)) if its == scope) {
                broken.push(format!("{scope:?} begins at {root:?}, which is not its root"));
            }
        }
    }

    fn check_seats<'a>(&self, seats: impl IntoIterator<Item = &'a Seat>, broken: &mut Vec<String>) {
        let mut counted = BTreeMap::<NodeId, usize>::new();
        for seat in seats {
            let mut next = Some(seat.0);
            while let Some(id) = next {
                *counted.entry(id).or_default() += 1;
                let Some(node) = self.nodes.get(id) else {
                    broken.push(format!("{seat:?} is behind {id:?}, which is gone"));
                    break;
                };
                next = node.parent();
            }
        }
        for (id, node) in self.nodes.iter() {
            let counted = counted.get(&id).copied().unwrap_or(0);
            if node.seats != counted {
                broken.push(format!("{id:?} counts {} seats at and below it, there are {counted}", node.seats));
            }
        }
    }

    fn check_idle(&self, broken: &mut Vec<String>) {
        let idle = self.nodes.iter().filter(|(_, node)| node.is_idle()).count();
        if idle != self.idle || idle > self.idle_pages_max {
            broken.push(format!("{} idle pages counted, there are {idle} of {}", self.idle, self.idle_pages_max));
        }
        let shared = self.nodes.iter().filter(|(_, node)| node.is_shared()).count();
        if shared != self.shared {
            broken.push(format!("{} shared pages counted, there are {shared}", self.shared));
        }
        let evictable = self.nodes.iter().filter(|(_, node)| node.is_evictable());
        let evictable: BTreeSet<_> = evictable.map(|(id, node)| (node.used, id)).collect();
        if evictable != self.evictable {
            broken.push(format!("{:?} may go, noted are {:?}", evictable, self.evictable));
        }
    }
}
