//! A conversation from a file that anybody may have written.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use motorbrain_actors::{
    engine::{Origin, Page, Resident, Window},
    job::{History, LEFT_MAX},
    keep::Kept,
    message::N_MAX,
    tokens::TokenId,
};
use xxhash_rust::xxh3::Xxh3;

use super::{FORMAT, Here, SUM, TransferError, VERSION, Wanted, write::slides};
use crate::{
    distinct,
    safetensors::{HEADER_MAX, Header, LENGTH, Tensor, Type},
    spill::hexadecimal,
};

/// The most contexts of a file: where its conversation stands, and answers that wait.
const CONTEXTS_MAX: usize = 1 + N_MAX;

/// Parts of a context, as tensors.
const PARTS: [&str; 3] = ["tokens", "left", "pages"];

/// Bytes that are read at once of what is not wanted.
const SKIP: u64 = 1 << 16;

/// Reads a file of so many bytes.
///
/// # Errors
/// It is none, is damaged, or does not fit this model; see [`TransferError`]. No page is left of it.
pub fn import(from: &mut impl Read, bytes: u64, wanted: Wanted, here: &Here<'_>) -> Result<Vec<Kept>, TransferError> {
    let mut source = Source { from, sum: Xxh3::new(), at: 0, data: 0, bytes };
    let header = source.header()?;
    let metadata = Metadata(&header.metadata);
    compare(&metadata, wanted, here)?;
    let (page, count) = (metadata.number("page")?, metadata.number("contexts")?);
    if page == 0 || count > CONTEXTS_MAX {
        return Err(malformed("it has not the contexts that it says"));
    }
    let contexts = (0..count).map(|index| Context::read(&mut source, &header, index, page, here));
    let mut contexts = contexts.collect::<Result<Vec<_>, _>>()?;
    if compare_window(&metadata, &here.info.window).is_err() {
        // Reading what left another window leads elsewhere in this one, which may pin less.
        let most = here.info.window.pinned_max();
        for History { left, pinned, .. } in contexts.iter_mut().map(|context| &mut context.history) {
            if *pinned > most {
                let (found, expected) =
                    (format!("{pinned} pinned tokens"), format!("a window that pins {most} at most"));
                return Err(TransferError::Mismatch { what: "window", found, expected });
            }
            *left = Arc::default();
        }
    }
    // Behind them come pages, then the sum.
    let of_pages = header.tensors.len().checked_sub(count * PARTS.len() + 1).ok_or(malformed("it has no sum"))?;
    let rows = rows(&contexts, of_pages, page)?;
    if wanted == Wanted::All {
        check_room(&header, of_pages, here)?;
    }
    let mut pages = Vec::new();
    for (index, rows) in rows.into_iter().enumerate() {
        let tensor = source.next(&header, &format!("page.{index}"), Type::U8)?;
        match wanted {
            Wanted::All => pages.push(source.page(tensor, rows, here)?),
            Wanted::Tokens => source.skip(tensor)?,
        }
    }
    let sum = source.next(&header, "sum", Type::U8)?;
    let (found, mut told) = (source.sum.digest128(), [0; SUM]);
    if sum.len != SUM as u64 {
        return Err(malformed("its sum is of another length"));
    }
    source.exact(&mut told)?;
    if u128::from_le_bytes(told) != found {
        return Err(TransferError::Damaged);
    }
    Ok(contexts.into_iter().map(|context| context.kept(&pages)).collect())
}

/// Whether the file is one, and of what is served here.
fn compare(metadata: &Metadata<'_>, wanted: Wanted, here: &Here<'_>) -> Result<(), TransferError> {
    if metadata.text("format").ok() != Some(FORMAT) {
        return Err(TransferError::NoConversation { why: "it does not say that it is one" });
    }
    let version = metadata.text("version")?;
    if version != VERSION {
        return Err(TransferError::Version { found: shown(version), expected: VERSION });
    }
    let Origin { model, form, layout, page, window } = here.origin()?;
    let same = |what, key, expected| metadata.same(what, key, expected);
    same("tokenizer", "tokenizer", hexadecimal(&here.fingerprint.tokenizer, 64))?;
    if wanted == Wanted::Tokens {
        return Ok(());
    }
    same("model", "model", hexadecimal(&model, 64))?;
    same("form of the model", "form", form)?;
    same("layout", "layout", layout)?;
    same("layout", "page", page.to_string())?;
    compare_window(metadata, &window)
}

fn compare_window(metadata: &Metadata<'_>, window: &Window) -> Result<(), TransferError> {
    let same = |key, expected: String| metadata.same("window", key, expected);
    same("window.size", window.size.to_string())?;
    same("window.sinks", window.sinks.to_string())?;
    same("window.slide", window.slide.to_string())?;
    same("window.slides", slides(window).to_owned())
}

/// A context, without its pages' memory.
struct Context {
    history: History,
    floor: usize,
    kv_len: usize,
    /// Which of the file's pages are its, in order.
    pages: Vec<u32>,
}

impl Context {
    fn read<R: Read>(
        source: &mut Source<'_, R>,
        header: &Header,
        index: usize,
        page: usize,
        here: &Here<'_>,
    ) -> Result<Self, TransferError> {
        let (size, vocab) = (here.info.window.size, here.info.vocab);
        let number = |what| Metadata(&header.metadata).number(&format!("context.{index}.{what}"));
        let (total, floor, kv_len) = (number("total")?, number("floor")?, number("kv_len")?);
        let pinned = number("pinned")?;
        // As many as there can be, and these bound the memory that is asked for.
        let most = [size, LEFT_MAX, kv_len.min(size).div_ceil(page)];
        let mut parts = Vec::new();
        for (part, most) in PARTS.into_iter().zip(most) {
            let tensor = source.next(header, &format!("context.{index}.{part}"), Type::U32)?;
            if tensor.len > most as u64 && part == "tokens" {
                let (found, expected) = (format!("{} tokens", tensor.len), format!("at most {most}"));
                return Err(TransferError::Mismatch { what: "window", found, expected });
            }
            if tensor.len > most as u64 {
                return Err(malformed("a context has more than there can be"));
            }
            parts.push(source.numbers(tensor)?);
        }
        let [tokens, left, pages] = <[_; 3]>::try_from(parts).map_err(|_| malformed("a context is not whole"))?;
        if tokens.iter().chain(&left).any(|token| *token as usize >= vocab) {
            return Err(malformed("a token is not in the vocabulary"));
        }
        let len = tokens.len();
        let is_total = total == len + left.len() || left.is_empty() && total > len;
        if !is_total || pinned > len || floor > len || kv_len > len || pages.len() != kv_len.div_ceil(page) {
            return Err(malformed("a context's counters do not fit its tokens"));
        }
        let of = |ids: Vec<u32>| Arc::new(ids.into_iter().map(TokenId).collect());
        let history = History { tokens: of(tokens), total: total as u64, left: of(left), pinned };
        Ok(Self { history, floor, kv_len, pages })
    }

    /// With its pages, where these were wanted.
    fn kept(self, pages: &[Page]) -> Kept {
        let its: Vec<Page> = self.pages.iter().filter_map(|which| pages.get(*which as usize).cloned()).collect();
        let kv_len = if its.len() == self.pages.len() { self.kv_len } else { 0 };
        Kept { history: self.history, floor: self.floor, resident: Resident { pages: its, kv_len } }
    }
}

/// The rows of each page: as many as the context needs that has the most of it. A page that none has is no page.
fn rows(contexts: &[Context], pages: usize, page: usize) -> Result<Vec<usize>, TransferError> {
    let mut rows = vec![0; pages];
    for context in contexts {
        for (index, which) in (0..).zip(&context.pages) {
            let its = distinct::rows(context.kv_len as u64, index, page as u64) as usize;
            let most = rows.get_mut(*which as usize).ok_or(malformed("a context has a page that is not there"))?;
            *most = its.max(*most);
        }
    }
    if rows.contains(&0) { Err(malformed("it has pages that no context has")) } else { Ok(rows) }
}

/// Whether there may be so many pages at all, by their memory and by the bytes that they are made of, which are more where
/// keys are kept in f32.
fn check_room(header: &Header, pages: usize, here: &Here<'_>) -> Result<(), TransferError> {
    let memory = here.info.pages.map_or(0, |page| page.bytes).saturating_mul(pages);
    let tensors = header.tensors.iter().filter(|(name, _)| name.starts_with("page."));
    let bytes = tensors.map(|(_, tensor)| tensor.bytes()).fold(0, u64::saturating_add);
    let (needed, limit) = (memory.max(usize::try_from(bytes).unwrap_or(usize::MAX)), here.kv_bytes_max);
    if needed > limit { Err(TransferError::TooLarge { needed, limit }) } else { Ok(()) }
}

fn malformed(why: &'static str) -> TransferError {
    TransferError::Malformed { why }
}

/// The beginning of a text that somebody else has written, without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

struct Metadata<'a>(&'a BTreeMap<String, String>);

impl Metadata<'_> {
    fn text(&self, key: &str) -> Result<&str, TransferError> {
        self.0.get(key).map(String::as_str).ok_or(malformed("its metadata lack something"))
    }

    fn number(&self, key: &str) -> Result<usize, TransferError> {
        self.text(key)?.parse().map_err(|_| malformed("its metadata have something else for a number"))
    }

    /// Whether it says what is so here.
    fn same(&self, what: &'static str, key: &str, expected: String) -> Result<(), TransferError> {
        let found = self.text(key)?;
        let mismatch = || TransferError::Mismatch { what, found: shown(found), expected: shown(&expected) };
        if found == expected { Ok(()) } else { Err(mismatch()) }
    }
}

/// A file that is being read, with the sum of what was.
struct Source<'a, R> {
    from: &'a mut R,
    sum: Xxh3,
    /// Bytes that were read.
    at: u64,
    /// Bytes before its tensors.
    data: u64,
    /// Bytes that it has.
    bytes: u64,
}

impl<R: Read> Source<'_, R> {
    fn header(&mut self) -> Result<Header, TransferError> {
        let mut length = [0; LENGTH];
        self.exact(&mut length)?;
        let (length, left) = (u64::from_le_bytes(length), self.bytes.saturating_sub(LENGTH as u64));
        if length > left.min(HEADER_MAX) {
            return Err(TransferError::NoConversation { why: "it is not safetensors" });
        }
        let mut json = vec![0; length as usize];
        self.exact(&mut json)?;
        self.data = self.at;
        Ok(Header::decode(&json, left - length)?)
    }

    /// The tensor that is read next, if it is the one of that name.
    fn next(&self, header: &Header, name: &str, dtype: Type) -> Result<Tensor, TransferError> {
        let tensor = header.tensors.get(name).copied();
        let is_next =
            |tensor: &Tensor| tensor.dtype == dtype && tensor.columns.is_none() && self.data + tensor.start == self.at;
        tensor.filter(is_next).ok_or(malformed("its tensors are others"))
    }

    /// The numbers of a tensor, whose length was compared.
    fn numbers(&mut self, tensor: Tensor) -> Result<Vec<u32>, TransferError> {
        let mut bytes = vec![0; tensor.bytes() as usize];
        self.exact(&mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn page(&mut self, tensor: Tensor, rows: usize, here: &Here<'_>) -> Result<Page, TransferError> {
        // Twice as many as those of a page where keys are kept in f32 beside values in f16, and the byte that says so.
        let most = here.info.pages.map_or(0, |page| page.bytes.saturating_mul(2).saturating_add(1));
        if tensor.bytes() > most as u64 {
            return Err(malformed("a page is larger than any"));
        }
        let mut bytes = vec![0; tensor.bytes() as usize];
        self.exact(&mut bytes)?;
        Ok(here.loader.restore(&bytes, rows)?)
    }

    fn skip(&mut self, tensor: Tensor) -> Result<(), TransferError> {
        let (mut left, mut bytes) = (tensor.bytes(), vec![0; SKIP as usize]);
        while left > 0 {
            let count = left.min(SKIP);
            self.exact(&mut bytes[..count as usize])?;
            left -= count;
        }
        Ok(())
    }

    fn exact(&mut self, to: &mut [u8]) -> Result<(), TransferError> {
        self.from.read_exact(to).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => TransferError::Cut { found: self.at, expected: self.bytes },
            _ => TransferError::Io { done: "read", path: PathBuf::new(), cause },
        })?;
        self.at += to.len() as u64;
        self.sum.update(to);
        Ok(())
    }
}
