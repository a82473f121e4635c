//! What is calibrated from: files of texts or of pairs, read one after the other.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::texts::{self, Row, TextsError};

/// Texts shorter than this say too little, in bytes.
const SHORTEST: usize = 30;

/// Files, in an order that does not change.
pub(super) struct Source {
    named: Vec<PathBuf>,
    files: Vec<PathBuf>,
    pairs: bool,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(deserialize_with = "texts::filled")]
    query: String,
    #[serde(alias = "code", deserialize_with = "texts::filled")]
    document: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Named {
        #[serde(deserialize_with = "texts::filled")]
        text: String,
    },
    Plain(#[serde(deserialize_with = "texts::filled")] String),
}

impl Source {
    /// The files that are meant; folders with all that lie in them.
    pub(super) fn open(texts: &[PathBuf], pairs: Option<&Path>) -> Result<Self, TextsError> {
        let named: Vec<PathBuf> = pairs.map(Path::to_owned).into_iter().chain(texts.iter().cloned()).collect();
        let mut files = Vec::new();
        for path in &named {
            collect(path, &mut files)?;
        }
        Ok(Self { named, files, pairs: pairs.is_some() })
    }

    /// Whether they hold pairs.
    pub(super) fn is_pairs(&self) -> bool {
        self.pairs
    }

    /// How many there are.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// As they were named, for people.
    pub(super) fn told(&self) -> String {
        let names: Vec<_> = self.named.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }

    /// What tells them from others: names and lengths.
    pub(super) fn about(&self) -> String {
        let of_file =
            |path: &PathBuf| format!("{}:{}", path.display(), fs::metadata(path).map_or(0, |file| file.len()));
        self.files.iter().map(of_file).collect::<Vec<_>>().join(",")
    }

    /// Texts, one or the two of a pair, each with the place of its file. What is no text in a folder is passed over; a file
    /// that cannot be read, or has a line that is none, is an error.
    pub(super) fn items(&self) -> impl Iterator<Item = (usize, Result<Vec<String>, TextsError>)> {
        self.files.iter().enumerate().flat_map(|(place, file)| {
            let items = self.of_file(file).unwrap_or_else(|error| match &error {
                // Folders hold pictures, too.
                TextsError::Read { cause, .. }
                    if cause.kind() == ErrorKind::InvalidData && !self.named.contains(file) =>
                {
                    Vec::new()
                }
                _ => vec![Err(error)],
            });
            items.into_iter().map(move |item| (place, item))
        })
    }

    fn of_file(&self, path: &Path) -> Result<Vec<Result<Vec<String>, TextsError>>, TextsError> {
        let text = texts::read(path)?;
        if self.pairs {
            let pairs = texts::lines(path, &text, Row::Pair);
            let both = |Pair { query, document }| vec![query, document];
            return Ok(pairs.map(|pair| pair.map(both)).collect());
        }
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let lines = texts::lines(path, &text, Row::Text);
            let one = |(Text::Named { text } | Text::Plain(text))| vec![text];
            return Ok(lines.map(|line| line.map(one)).collect());
        }
        let texts = text.split("\n\n").map(str::trim).filter(|text| text.len() >= SHORTEST);
        Ok(texts.map(|text| Ok(vec![text.to_owned()])).collect())
    }
}

/// A file, or all in a folder but hidden ones, by name.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), TextsError> {
    let read = |cause| TextsError::Read { path: path.to_owned(), cause };
    if !fs::metadata(path).map_err(read)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut inside = fs::read_dir(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    inside.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    // A link may lead back to where it lies.
    inside.retain(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    inside.sort_by_key(fs::DirEntry::file_name);
    inside.iter().try_for_each(|entry| collect(&entry.path(), files))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn items(source: &Source) -> Vec<Result<Vec<String>, String>> {
        source.items().map(|(_, item)| item.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn texts_are_found_in_folders_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("b")).unwrap();
        fs::write(path("b/guide.md"), "too short\n\nA paragraph that is long enough to be one.\n\n").unwrap();
        fs::write(path("a.jsonl"), "{\"text\":\"of a line\"}\n\n\"plain\"\n").unwrap();
        fs::write(path("b/picture.png"), [0x89, 0x50, 0xff, 0xfe]).unwrap();
        fs::write(path(".hidden"), "A paragraph that nobody looks for, since it is hidden.").unwrap();
        let source = Source::open(&[folder.path().to_owned()], None).unwrap();
        let expected = ["of a line", "plain", "A paragraph that is long enough to be one."];
        assert_eq!(items(&source), expected.map(|text| Ok(vec![text.to_owned()])));
        assert_eq!((source.files(), source.is_pairs()), (3, false));
        let named = items(&Source::open(&[path("b/picture.png")], None).unwrap());
        assert!(matches!(&named[..], [Err(told)] if told.contains("cannot read")), "{named:?}");
        assert!(matches!(Source::open(&[path("nowhere")], None), Err(TextsError::Read { .. })));
    }

    #[test]
    fn a_line_of_another_kind_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        fs::write(&path, "{\"query\":\"a\",\"code\":\"b\"}\n{\"text\":\"c\"}\nnothing\n").unwrap();
        let found = items(&Source::open(&[], Some(&path)).unwrap());
        assert_eq!(found[0], Ok(vec!["a".to_owned(), "b".to_owned()]));
        for (line, found) in [(2, &found[1]), (3, &found[2])] {
            let told = found.as_ref().unwrap_err();
            assert!(told.contains(&format!("line {line}, has no `query` and `document`")), "{told}");
        }
    }
}
