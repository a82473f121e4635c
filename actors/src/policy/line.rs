//! Who waits for an actor, or for memory: in the order of arrival, a part at the place of the request that it serves.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::RequestId;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Each behind the request that it serves, which is mostly itself.
    order: BTreeSet<(RequestId, RequestId)>,
    /// What those serve that are parts.
    parts: BTreeMap<RequestId, RequestId>,
}

impl Line {
    /// A request waits; one that does already goes on.
    pub(super) fn insert(&mut self, request: RequestId) {
        self.order.insert((request, request));
    }

    /// The same of a part of `whole`.
    pub(super) fn insert_part(&mut self, part: RequestId, whole: RequestId) {
        self.parts.insert(part, whole);
        self.order.insert((whole, part));
    }

    pub(super) fn remove(&mut self, request: &RequestId) {
        let serves = self.parts.remove(request).unwrap_or(*request);
        self.order.remove(&(serves, *request));
    }

    pub(super) fn contains(&self, request: &RequestId) -> bool {
        let serves = self.parts.get(request).unwrap_or(request);
        self.order.contains(&(*serves, *request))
    }

    /// Who came first.
    pub(super) fn first(&self) -> Option<RequestId> {
        self.order.first().map(|&(_, request)| request)
    }

    /// The first of those that are parts.
    pub(super) fn first_part(&self) -> Option<RequestId> {
        self.parts.iter().map(|(part, whole)| (*whole, *part)).min().map(|(_, part)| part)
    }

    /// Whether somebody came before a request that serves `serves`.
    pub(super) fn has_before(&self, serves: RequestId) -> bool {
        self.order.first().is_some_and(|(first, _)| *first < serves)
    }

    /// All, who came last first.
    pub(super) fn latest(&self) -> impl Iterator<Item = &RequestId> {
        self.order.iter().rev().map(|(_, request)| request)
    }
}
