//! Who may ask: bearer tokens, and whose requests are whose.
//!
//! Tokens are kept and compared as hashes, all of them whichever fits, so that the time it takes tells nothing. A client
//! is a hash of its token; the token itself is in no log, no metric and no list.

use std::{fmt, fs, io, path::Path};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use motorbrain::ClientId;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::error::ApiError;

/// The shortest token: what can be guessed is none.
pub const TOKEN_CHARS_MIN: usize = 16;

/// Who may ask.
#[derive(Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tokens").field(&self.0.len()).finish()
    }
}

/// Why tokens cannot be used. None of these shows one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file is not there or not readable.
    #[error("cannot read the file of tokens {path}", path = path.display())]
    Read {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A token that is too short, or has other characters than a header may have.
    #[error("token {number} of {from} is none, expected {TOKEN_CHARS_MIN} or more visible ASCII characters")]
    NoToken {
        /// Where it stands.
        from: String,
        /// Which one, counted from 1.
        number: usize,
    },
    /// There is none.
    #[error("there is no token in {from}")]
    Empty {
        /// Where there is none.
        from: String,
    },
}

impl TokensError {
    /// What to do next, one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name a file in `server.token_file` that can be read",
            Self::NoToken { .. } | Self::Empty { .. } => "make one with `openssl rand -hex 32`, one a line",
        }
    }
}

impl Tokens {
    /// Those of a file: one a line; empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn of_file(path: &Path) -> Result<Self, TokensError> {
        let text = fs::read_to_string(path).map_err(|cause| TokensError::Read { path: path.to_owned(), cause })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self::of(lines, &path.display().to_string())
    }

    /// Those of a text, with commas or white space between them; `from` says where it stands.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn of_text(text: &str, from: &str) -> Result<Self, TokensError> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        Self::of(words, from)
    }

    fn of<'a>(tokens: impl Iterator<Item = &'a str>, from: &str) -> Result<Self, TokensError> {
        let hashed = tokens.enumerate().map(|(index, token)| match is_token(token) {
            true => Ok(Sha256::digest(token).into()),
            false => Err(TokensError::NoToken { from: from.to_owned(), number: index + 1 }),
        });
        match hashed.collect::<Result<Vec<_>, _>>()? {
            hashes if hashes.is_empty() => Err(TokensError::Empty { from: from.to_owned() }),
            hashes => Ok(Self(hashes)),
        }
    }

    /// Whose request this is; `None`: nobody's who may ask.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Option<ClientId> {
        let told: [u8; 32] = Sha256::digest(bearer(headers)?).into();
        let known = self.0.iter().fold(Choice::from(0), |known, hash| known | hash.ct_eq(&told));
        bool::from(known).then(|| client_of(&told))
    }
}

/// What follows `Bearer`, if exactly one such header is there.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = one.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn is_token(token: &str) -> bool {
    token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name that tells clients apart and nothing of their tokens.
fn client_of(hash: &[u8; 32]) -> ClientId {
    let again: [u8; 32] = Sha256::digest([b"motorbrain client ".as_slice(), hash].concat()).into();
    again.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// What whoever has no token is told.
pub(crate) fn refusal() -> (HeaderMap, ApiError) {
    let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))]);
    let message = "no token that is known here, expected the header `Authorization: Bearer TOKEN`";
    (headers, ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const ONE: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn each_token_is_a_client_of_its_own_and_nothing_else_is_one() {
        let tokens = Tokens::of_text(&format!("{ONE}, {OTHER}"), "here").unwrap();
        let client = |value: &str| tokens.client(&headers(&[value]));
        let (one, other) = (client(&format!("Bearer {ONE}")), client(&format!("bearer  {OTHER}")));
        assert!(one.is_some() && other.is_some() && one != other, "{one:?} {other:?}");
        assert!(!format!("{one:?}{tokens:?}").contains(ONE));
        for none in ["", "Bearer", "Bearer ", "Basic 0123456789abcdef", "Bearer 0123456789abcdeX", ONE] {
            assert_eq!(client(none), None, "{none:?}");
        }
        let twice = format!("Bearer {ONE}");
        assert_eq!(tokens.client(&headers(&[&twice, &twice])), None);
        assert_eq!(tokens.client(&HeaderMap::new()), None);
    }

    #[test]
    fn what_can_be_guessed_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, format!("# those of the office\n\n{ONE}\n  {OTHER}  \n")).unwrap();
        assert_eq!(Tokens::of_file(&path).unwrap().0.len(), 2);
        fs::write(&path, format!("{ONE}\nshort\n")).unwrap();
        let error = Tokens::of_file(&path).unwrap_err().to_string();
        assert!(error.contains("token 2 of ") && !error.contains("short"), "{error}");
        fs::write(&path, "#\n").unwrap();
        assert!(matches!(Tokens::of_file(&path), Err(TokensError::Empty { .. })));
        assert!(matches!(Tokens::of_file(&folder.path().join("no")), Err(TokensError::Read { .. })));
    }
}
