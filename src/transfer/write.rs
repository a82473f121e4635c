//! A conversation to a file.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use motorbrain_actors::{
    engine::{Origin, PageError, Slides, Window},
    job::History,
    keep::Kept,
    tokens::TokenId,
};
use xxhash_rust::xxh3::Xxh3;

use super::{FORMAT, Here, SUM, TransferError, VERSION};
use crate::{
    distinct::Distinct,
    safetensors::{Header, Type},
    spill::hexadecimal,
};

/// Writes contexts, where a conversation stands first, then its waiting answers: how many bytes.
///
/// # Errors
/// Pages are another loader's, or `to` takes no more.
pub fn export(to: &mut impl Write, states: &[Kept], here: &Here<'_>) -> Result<u64, TransferError> {
    let origin = here.origin()?;
    let Distinct { pages, of } = Distinct::of(states, origin.page);
    let sized = pages.iter().map(|(page, rows)| here.loader.saved_bytes(page, *rows));
    let sizes = sized.collect::<Result<Vec<_>, PageError>>()?;
    let mut header = Header::new(metadata(states, &origin, here));
    for (index, (state, pages)) in states.iter().zip(&of).enumerate() {
        let History { tokens, left, .. } = &state.history;
        for (part, len) in [("tokens", tokens.len()), ("left", left.len()), ("pages", pages.len())] {
            header.add(format!("context.{index}.{part}"), Type::U32, len);
        }
    }
    sizes.iter().enumerate().for_each(|(index, bytes)| header.add(format!("page.{index}"), Type::U8, *bytes));
    header.add("sum".to_owned(), Type::U8, SUM);

    let mut to = Summed { to, sum: Xxh3::new(), bytes: 0 };
    to.write(&header.encode())?;
    for (state, pages) in states.iter().zip(&of) {
        let ids = |tokens: &[TokenId]| tokens.iter().flat_map(|token| token.0.to_le_bytes()).collect::<Vec<_>>();
        to.write(&ids(&state.history.tokens))?;
        to.write(&ids(&state.history.left))?;
        to.write(&pages.iter().flat_map(|page| page.to_le_bytes()).collect::<Vec<_>>())?;
    }
    let mut bytes = Vec::new();
    for (page, rows) in pages {
        bytes.clear();
        here.loader.save(page, rows, &mut bytes)?;
        to.write(&bytes)?;
    }
    let sum = to.sum.digest128();
    to.write(&sum.to_le_bytes())?;
    Ok(to.bytes)
}

/// How a window slides, in a word.
pub(super) fn slides(window: &Window) -> &'static str {
    match window.slides {
        Slides::Never => "never",
        Slides::Shift => "shift",
        Slides::Recompute => "recompute",
    }
}

fn metadata(states: &[Kept], origin: &Origin, here: &Here<'_>) -> BTreeMap<String, String> {
    let Origin { model, form, layout, page, window } = origin;
    let mut metadata: BTreeMap<String, String> = [
        ("format", FORMAT.to_owned()),
        ("version", VERSION.to_owned()),
        ("made_by", format!("motorbrain {}", env!("CARGO_PKG_VERSION"))),
        ("model", hexadecimal(model, 64)),
        ("tokenizer", hexadecimal(&here.fingerprint.tokenizer, 64)),
        ("form", form.clone()),
        ("layout", layout.clone()),
        ("page", page.to_string()),
        ("window.size", window.size.to_string()),
        ("window.sinks", window.sinks.to_string()),
        ("window.slide", window.slide.to_string()),
        ("window.slides", slides(window).to_owned()),
        ("contexts", states.len().to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for (index, Kept { history, floor, resident }) in states.iter().enumerate() {
        let lens = [("pinned", history.pinned), ("floor", *floor), ("kv_len", resident.kv_len)];
        let counters = lens.map(|(key, len)| (key, len as u64)).into_iter().chain([("total", history.total)]);
        metadata.extend(counters.map(|(key, value)| (format!("context.{index}.{key}"), value.to_string())));
    }
    metadata
}

/// What is written, with the sum of it.
struct Summed<'a, W> {
    to: &'a mut W,
    sum: Xxh3,
    bytes: u64,
}

impl<W: Write> Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        let failed = |cause: io::Error| TransferError::Io { done: "written", path: PathBuf::new(), cause };
        self.to.write_all(bytes).map_err(failed)
    }
}
