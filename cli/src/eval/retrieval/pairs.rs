//! What is to find each other, and vectors that others have made of it: JSON, a line a pair.

use std::path::Path;

use serde::Deserialize;

use crate::{
    eval::{EvalError, embed::Vectors},
    texts::{self, Row},
};

/// A query and the document that answers it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Pair {
    /// What is asked.
    #[serde(deserialize_with = "texts::filled")]
    pub(super) query: String,
    /// What answers it.
    #[serde(alias = "code", deserialize_with = "texts::filled")]
    pub(super) document: String,
}

/// A pair's vectors.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct VectorPair {
    /// The query's.
    pub(super) query: Vec<f32>,
    /// The document's.
    pub(super) document: Vec<f32>,
}

/// The first pairs of a file, all of them where there is no limit; at least two.
pub(super) fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Pair>, EvalError> {
    let mut pairs: Vec<Pair> = rows(path, Row::Pair)?;
    pairs.truncate(limit.unwrap_or(pairs.len()));
    match pairs.len() {
        0 | 1 => Err(EvalError::TooFew { path: path.to_owned(), what: "pairs", found: pairs.len(), least: 2 }),
        _ => Ok(pairs),
    }
}

/// Vectors of the first `count` pairs; those of queries and of documents, all of one length.
pub(super) fn read_vectors(path: &Path, count: usize) -> Result<(Vectors, Vectors), EvalError> {
    let mut rows: Vec<VectorPair> = rows(path, Row::Vectors)?;
    if rows.len() < count {
        return Err(EvalError::TooFew {
            path: path.to_owned(),
            what: "pairs of vectors",
            found: rows.len(),
            least: count,
        });
    }
    rows.truncate(count);
    let length = rows.first().map_or(0, |row| row.query.len());
    let odd = rows.iter().position(|row| row.query.len() != length || row.document.len() != length);
    if let Some(line) = odd.map(|at| at + 1).or((length == 0).then_some(1)) {
        return Err(EvalError::Lengths { path: path.to_owned(), line, expected: length });
    }
    Ok(rows.into_iter().map(|row| (row.query, row.document)).unzip())
}

fn rows<T: for<'a> Deserialize<'a>>(path: &Path, expected: Row) -> Result<Vec<T>, EvalError> {
    let text = texts::read(path)?;
    Ok(texts::lines(path, &text, expected).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use super::*;

    /// What is read of a file with this text.
    fn check(text: &str, limit: Option<usize>) -> Result<Vec<Pair>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path(), limit).map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn pairs_are_read_under_either_name() {
        let pair = |query: &str, document: &str| Pair { query: query.into(), document: document.into() };
        let text = "{\"query\":\"a\",\"document\":\"A\",\"source\":\"x\"}\n\n{\"query\":\"b\",\"code\":\"B\"}\n{\"query\":\"c\",\"code\":\"C\"}";
        assert_eq!(check(text, Some(2)), Ok(vec![pair("a", "A"), pair("b", "B")]));
        assert_eq!(check(text, None).map(|pairs| pairs.len()), Ok(3));
    }

    #[test]
    fn what_is_no_pair_is_told_with_its_line() {
        let line = "{\"query\":\"a\",\"document\":\"A\"}\n";
        assert_eq!(
            check(&format!("{line}\n{{\"query\":1}}"), None).unwrap_err(),
            "FILE, line 3, has no `query` and `document`"
        );
        assert_eq!(check(line, None).unwrap_err(), "FILE has 1 pairs, expected at least 2");
    }

    #[test]
    fn vectors_are_all_of_one_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"query\":[1,2],\"document\":[3,4]}\n{\"query\":[1],\"document\":[3,4]}").unwrap();
        assert_eq!(read_vectors(file.path(), 1).unwrap(), (vec![vec![1.0, 2.0]], vec![vec![3.0, 4.0]]));
        assert!(matches!(read_vectors(file.path(), 2), Err(EvalError::Lengths { line: 2, expected: 2, .. })));
        assert!(matches!(read_vectors(file.path(), 3), Err(EvalError::TooFew { found: 2, least: 3, .. })));
    }
}
