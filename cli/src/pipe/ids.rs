//! Which requests wait under an id: callers choose ids, and may choose one twice. Pure.

use std::collections::HashMap;

/// The tags of what is not answered yet, by the id as it was written.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// No list is empty.
    tags: HashMap<Box<str>, Vec<u64>>,
}

impl Ids {
    /// A request waits.
    pub(super) fn add(&mut self, id: &str, tag: u64) {
        match self.tags.get_mut(id) {
            Some(tags) => tags.push(tag),
            None => drop(self.tags.insert(id.into(), vec![tag])),
        }
    }

    /// It is answered.
    pub(super) fn remove(&mut self, id: &str, tag: u64) {
        let Some(tags) = self.tags.get_mut(id) else { return };
        tags.retain(|&waiting| waiting != tag);
        if tags.is_empty() {
            self.tags.remove(id);
        }
    }

    /// All that wait under an id, in the order of their lines.
    pub(super) fn of(&self, id: &str) -> Vec<u64> {
        self.tags.get(id).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_for_all_that_wait_under_it_as_it_is_written() {
        let mut ids = Ids::default();
        for (id, tag) in [("1", 1), ("1.0", 2), ("1", 3), (r#""1""#, 4)] {
            ids.add(id, tag);
        }
        assert_eq!((ids.of("1").as_slice(), ids.of("1.0").as_slice()), ([1, 3].as_slice(), [2].as_slice()));
        assert!(ids.of("2").is_empty());
        ids.remove("1", 1);
        ids.remove("1", 2);
        assert_eq!(ids.of("1"), [3]);
        ids.remove("1", 3);
        ids.remove("1", 3);
        assert!(ids.of("1").is_empty());
        assert_eq!(ids.tags.len(), 2, "what is answered takes no memory");
    }
}
