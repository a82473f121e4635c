//! The pages of some contexts, each once: those that several of them have are written once, wherever they go.

use std::collections::HashMap;

use motorbrain_actors::{engine::Page, keep::Kept};

/// See the module's description.
pub(crate) struct Distinct<'a> {
    /// Each with the most rows that count in one of the contexts.
    pub(crate) pages: Vec<(&'a Page, usize)>,
    /// Of each context, which of them are its, in order.
    pub(crate) of: Vec<Vec<u32>>,
}

impl<'a> Distinct<'a> {
    /// `page`: tokens of a page.
    pub(crate) fn of(states: &'a [Kept], page: usize) -> Self {
        let (mut pages, mut known) = (Vec::<(&Page, usize)>::new(), HashMap::new());
        let of = states.iter().map(|Kept { resident, .. }| {
            let its = (0..).zip(&resident.pages).map(|(index, its)| {
                let which = *known.entry(its.address()).or_insert_with(|| {
                    pages.push((its, 0));
                    pages.len() - 1
                });
                let rows = rows(resident.kv_len as u64, index, page as u64) as usize;
                pages[which].1 = pages[which].1.max(rows);
                which as u32
            });
            its.collect()
        });
        let of = of.collect();
        Self { pages, of }
    }
}

/// Rows that `kv_len` tokens have in the page of an index. `page`: tokens of a page.
pub(crate) fn rows(kv_len: u64, index: u64, page: u64) -> u64 {
    kv_len.saturating_sub(index.saturating_mul(page)).min(page)
}
