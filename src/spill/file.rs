//! A spilled file from its first byte to its last, wherever it is written to and read from.
//!
//! ```text
//! 8 bytes of magic | version of this form, u32 | length of the head, u32 | head | sum of all of that, u128
//! then for each page: its bytes | sum of the head's sum, the page's number and its bytes, u128
//! ```
//! A page's sum has the head's in it, and so the conversation's hash and a key of the process: a page of another file,
//! or another of this one, is as wrong as one that was flipped. Sums tell damage; who would deceive is kept out by whose
//! the file is.

use std::io::{self, Read, Write};

use motorbrain_actors::{
    engine::{EngineLoader, Origin, Page, PageError, Resident},
    job::History,
    keep::{KeepError, Kept, Part, Room},
};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::head::{self, Head, PageHead, State};
use crate::distinct::Distinct;

/// What a file begins with.
const MAGIC: [u8; 8] = *b"MBspill\n";

/// Raised with each change of this form.
const FORM: u32 = 1;

/// Bytes before the head.
const BEGIN: usize = MAGIC.len() + 2 * size_of::<u32>();

/// Bytes of a sum.
const SUM: usize = size_of::<u128>();

/// The longest head: of many answers to the longest conversation it has some hundred kilobytes.
const HEAD_MAX: u64 = 1 << 26;

/// Why a file was not written.
pub(super) enum Failed {
    Io(io::Error),
    Page(PageError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PageError> for Failed {
    fn from(error: PageError) -> Self {
        Self::Page(error)
    }
}

impl Failed {
    /// The error of a file of so many bytes at a place.
    pub(super) fn while_writing(self, bytes: u64, place: impl Fn() -> String) -> KeepError {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
        match self {
            Self::Page(error) => error.into(),
            Self::Io(error) if full.contains(&error.kind()) => KeepError::Full { bytes, room: Room::Disk },
            Self::Io(error) => KeepError::Io { place: place(), done: "written", reason: error.to_string() },
        }
    }
}

/// A file that is to be written.
pub(super) struct Plan<'a> {
    head: Head,
    /// The head with what stands before it and its sum.
    begin: Vec<u8>,
    /// Each with its rows.
    pages: Vec<(&'a Page, usize)>,
}

impl<'a> Plan<'a> {
    /// Of some contexts, whose pages are written once where several have them.
    ///
    /// # Errors
    /// Pages are not this loader's, or have not the rows that they are said to.
    pub(super) fn new(loader: &dyn EngineLoader, owner: [u8; 32], states: &'a [Kept]) -> Result<Self, KeepError> {
        let origin = loader.origin()?;
        let Distinct { pages, of } = Distinct::of(states, origin.page);
        let heads = states.iter().zip(of).map(|(Kept { history, floor, resident }, pages)| State {
            len: history.tokens.len() as u64,
            digest: head::digest(history),
            floor: *floor as u64,
            kv_len: resident.kv_len as u64,
            pages,
        });
        let sized = pages.iter().map(|(page, rows)| {
            let bytes = loader.saved_bytes(page, *rows)? as u64;
            Ok(PageHead { rows: *rows as u64, bytes })
        });
        let (heads, page_heads) = (heads.collect(), sized.collect::<Result<_, PageError>>()?);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let head = Head { version, origin, owner, states: heads, pages: page_heads };
        let encoded = head.encode();
        let mut begin = [&MAGIC[..], &FORM.to_le_bytes(), &(encoded.len() as u32).to_le_bytes(), &encoded].concat();
        begin.extend(xxh3_128(&begin).to_le_bytes());
        Ok(Self { head, begin, pages })
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.begin.len() as u64 + pages_bytes(&self.head)
    }

    /// Writes all of it, a page at a time.
    pub(super) fn write(&self, loader: &dyn EngineLoader, to: &mut impl Write) -> Result<(), Failed> {
        to.write_all(&self.begin)?;
        let (begun, mut bytes) = (sum_of(&self.begin), Vec::new());
        for (index, (page, rows)) in self.pages.iter().enumerate() {
            bytes.clear();
            loader.save(page, *rows, &mut bytes)?;
            bytes.extend(page_sum(begun, index, &bytes));
            to.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// What a file should hold.
pub(super) struct Expected<'a> {
    /// Whose it is.
    pub(super) owner: [u8; 32],
    /// The tokens of its contexts.
    pub(super) histories: &'a [History],
}

/// Reads a file of so many bytes, which is at a place.
pub(super) fn read(
    loader: &dyn EngineLoader,
    from: &mut impl Read,
    bytes: u64,
    expected: &Expected<'_>,
    place: &dyn Fn() -> String,
) -> Result<Vec<Kept>, KeepError> {
    let origin = loader.origin()?;
    let mut source = Source { from, at: 0, bytes, place };
    let (head, begun) = source.head()?;
    check(&head, &origin, expected, place)?;
    let told = source.at.saturating_add(pages_bytes(&head));
    if told != bytes {
        return Err(KeepError::Cut { place: place(), found: bytes, expected: told });
    }
    let (mut pages, mut buffer) = (Vec::new(), Vec::new());
    for (index, PageHead { rows, bytes }) in head.pages.iter().enumerate() {
        // No more than the file has, by what was compared above.
        buffer.resize(*bytes as usize + SUM, 0);
        source.exact(&mut buffer)?;
        let (its, sum) = buffer.split_at(*bytes as usize);
        if page_sum(begun, index, its) != *sum {
            return Err(KeepError::Altered { place: place(), part: Part::Page(index) });
        }
        pages.push(loader.restore(its, *rows as usize)?);
    }
    let states = head.states.iter().zip(expected.histories).map(|(state, history)| {
        let its = state.pages.iter().filter_map(|which| pages.get(*which as usize).cloned());
        let resident = Resident { pages: its.collect(), kv_len: state.kv_len as usize };
        Kept { history: history.clone(), floor: state.floor as usize, resident }
    });
    Ok(states.collect())
}

/// A file that is being read.
struct Source<'a, R> {
    from: &'a mut R,
    /// Bytes that were read.
    at: u64,
    /// Bytes that it has.
    bytes: u64,
    place: &'a dyn Fn() -> String,
}

impl<R: Read> Source<'_, R> {
    /// The head and its sum.
    fn head(&mut self) -> Result<(Head, u128), KeepError> {
        let place = self.place;
        let altered = || KeepError::Altered { place: place(), part: Part::Head };
        let mut begin = vec![0; BEGIN];
        self.exact(&mut begin)?;
        let (magic, numbers) = begin.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(altered());
        }
        let [form, len] =
            [0, 1].map(|index| numbers.as_chunks().0.get(index).map_or(0, |word| u32::from_le_bytes(*word)));
        foreign("form", &form, &FORM, self.place)?;
        let (end, left) = (BEGIN + len as usize, self.bytes.saturating_sub((BEGIN + SUM) as u64));
        if u64::from(len) > left.min(HEAD_MAX) {
            return Err(altered());
        }
        begin.resize(end + SUM, 0);
        self.exact(&mut begin[BEGIN..])?;
        let sum = sum_of(&begin);
        if xxh3_128(&begin[..end]) != sum {
            return Err(altered());
        }
        Ok((Head::decode(&begin[BEGIN..end]).ok_or_else(altered)?, sum))
    }

    /// Fills a buffer. A file that ends before is one that was cut.
    fn exact(&mut self, to: &mut [u8]) -> Result<(), KeepError> {
        self.from.read_exact(to).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                KeepError::Cut { place: (self.place)(), found: self.at, expected: self.bytes }
            }
            _ => KeepError::Io { place: (self.place)(), done: "read", reason: error.to_string() },
        })?;
        self.at += to.len() as u64;
        Ok(())
    }
}

/// Whether it is what was expected, by what it says of itself.
fn check(head: &Head, origin: &Origin, expected: &Expected<'_>, place: &dyn Fn() -> String) -> Result<(), KeepError> {
    foreign("version", &head.version.as_str(), &env!("CARGO_PKG_VERSION"), place)?;
    let Origin { model, form, layout, page, window } = &head.origin;
    foreign("model", &super::hexadecimal(model, 16), &super::hexadecimal(&origin.model, 16), place)?;
    foreign("form of the model", form, &origin.form, place)?;
    foreign("layout", &(layout, page), &(&origin.layout, &origin.page), place)?;
    foreign("window", window, &origin.window, place)?;
    let states = head.states.iter().map(|state| (state.len, state.digest));
    let histories = expected.histories.iter().map(|history| (history.tokens.len() as u64, head::digest(history)));
    if head.owner != expected.owner || !states.eq(histories) {
        return Err(KeepError::Swapped { place: place() });
    }
    Ok(())
}

fn foreign<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    found: &T,
    expected: &T,
    place: &dyn Fn() -> String,
) -> Result<(), KeepError> {
    if found == expected {
        return Ok(());
    }
    let [found, expected] = [found, expected].map(|it| format!("{it:?}"));
    Err(KeepError::Foreign { place: place(), what, found, expected })
}

/// Bytes of all pages with their sums; what no file holds is the largest number.
fn pages_bytes(head: &Head) -> u64 {
    head.pages.iter().fold(0u64, |sum, page| sum.saturating_add(page.bytes).saturating_add(SUM as u64))
}

/// The sum that stands at the end.
fn sum_of(bytes: &[u8]) -> u128 {
    bytes.last_chunk().map_or(0, |sum| u128::from_le_bytes(*sum))
}

fn page_sum(head: u128, index: usize, bytes: &[u8]) -> [u8; SUM] {
    let mut hash = Xxh3::new();
    hash.update(&head.to_le_bytes());
    hash.update(&(index as u64).to_le_bytes());
    hash.update(bytes);
    hash.digest128().to_le_bytes()
}
