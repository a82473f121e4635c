//! What a spilled file says of itself: who wrote it, of what, whose it is, and what follows.
//!
//! Whole numbers are little-endian, a text has its length before it. Nothing that is read here is believed to be right
//! but that it was written so: every count is compared with what is left of the bytes before memory is asked for, and
//! every number with those that it must fit.

use motorbrain_actors::{
    engine::{Origin, Slides, Window},
    job::History,
};
use xxhash_rust::xxh3::Xxh3;

use crate::distinct;

/// A context, without its tokens and pages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    /// Tokens of the context.
    pub(super) len: u64,
    /// Of its tokens, of how many there were, and of how many are pinned.
    pub(super) digest: u128,
    /// The fewest tokens that it can go back to.
    pub(super) floor: u64,
    /// Tokens whose keys and values its pages hold.
    pub(super) kv_len: u64,
    /// Which of the file's pages are its, in order.
    pub(super) pages: Vec<u32>,
}

/// A page that follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PageHead {
    /// Its rows.
    pub(super) rows: u64,
    /// How long it is.
    pub(super) bytes: u64,
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    /// Who wrote it.
    pub(super) version: String,
    /// What pages come from.
    pub(super) origin: Origin,
    /// A hash of whose it is.
    pub(super) owner: [u8; 32],
    pub(super) states: Vec<State>,
    pub(super) pages: Vec<PageHead>,
}

/// Of a context's tokens, of how many there were in all, and of how many of them are pinned.
pub(super) fn digest(history: &History) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&history.total.to_le_bytes());
    hash.update(&(history.pinned as u64).to_le_bytes());
    history.tokens.iter().for_each(|token| hash.update(&token.0.to_le_bytes()));
    hash.digest128()
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        let number = |to: &mut Vec<u8>, number: u64| to.extend(number.to_le_bytes());
        let text = |to: &mut Vec<u8>, text: &str| {
            number(to, text.len() as u64);
            to.extend(text.as_bytes());
        };
        let Origin { model, form, layout, page, window } = &self.origin;
        text(&mut to, &self.version);
        to.extend(model);
        text(&mut to, form);
        text(&mut to, layout);
        number(&mut to, *page as u64);
        [window.size, window.sinks, window.slide].iter().for_each(|len| number(&mut to, *len as u64));
        to.push(SLIDES.iter().position(|slides| *slides == window.slides).unwrap_or_default() as u8);
        to.extend(self.owner);
        number(&mut to, self.states.len() as u64);
        for State { len, digest, floor, kv_len, pages } in &self.states {
            to.extend(digest.to_le_bytes());
            [*len, *floor, *kv_len, pages.len() as u64].iter().for_each(|count| number(&mut to, *count));
            pages.iter().for_each(|page| to.extend(page.to_le_bytes()));
        }
        number(&mut to, self.pages.len() as u64);
        for PageHead { rows, bytes } in &self.pages {
            [*rows, *bytes].iter().for_each(|count| number(&mut to, *count));
        }
        to
    }

    /// `None`: they are no head's.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Bytes(bytes);
        let version = from.text()?;
        let (model, form, layout, page) = (from.array()?, from.text()?, from.text()?, from.len()?);
        let window = Window {
            size: from.len()?,
            sinks: from.len()?,
            slide: from.len()?,
            slides: *SLIDES.get(usize::from(from.array::<1>()?[0]))?,
        };
        let origin = Origin { model, form, layout, page, window };
        let owner = from.array()?;
        let states = from.list(STATE_BYTES, |from| {
            let digest = u128::from_le_bytes(from.array()?);
            let (len, floor, kv_len) = (from.number()?, from.number()?, from.number()?);
            let pages = from.list(size_of::<u32>(), |from| Some(u32::from_le_bytes(from.array()?)))?;
            Some(State { len, digest, floor, kv_len, pages })
        })?;
        let pages = from.list(PAGE_BYTES, |from| Some(PageHead { rows: from.number()?, bytes: from.number()? }))?;
        let head = Self { version, origin, owner, states, pages };
        (from.0.is_empty() && head.fits_together()).then_some(head)
    }

    /// Whether each context has the pages and rows that it takes.
    fn fits_together(&self) -> bool {
        let page = self.origin.page as u64;
        page > 0
            && self.pages.iter().all(|head| head.rows <= page)
            && self.states.iter().all(|State { len, floor, kv_len, pages, .. }| {
                let needs = |(index, which): (u64, &u32)| {
                    let head = self.pages.get(*which as usize);
                    head.is_some_and(|head| head.rows >= distinct::rows(*kv_len, index, page))
                };
                kv_len <= len
                    && floor <= len
                    && pages.len() as u64 == kv_len.div_ceil(page)
                    && (0..).zip(pages).all(needs)
            })
    }
}

/// What a number stands for.
const SLIDES: [Slides; 3] = [Slides::Never, Slides::Shift, Slides::Recompute];

/// A context's, without its pages.
const STATE_BYTES: usize = 16 + 4 * 8;
const PAGE_BYTES: usize = 2 * 8;

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn text(&mut self) -> Option<String> {
        let len = self.len()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    /// As many as are said to follow, of `bytes` each at least.
    fn list<T>(&mut self, bytes: usize, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.len()?;
        if count > self.0.len() / bytes {
            return None;
        }
        (0..count).map(|_| one(self)).collect()
    }
}
