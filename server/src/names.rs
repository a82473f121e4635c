//! Names that nobody can guess: of answers, of requests, of conversations that are gone with their answer.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
};

/// `prefix` and 128 random bits in hexadecimal digits.
pub(crate) fn random(prefix: &str) -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // A system that gives none now; std's own tell names apart all the same.
        let (one, other) = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        bytes[..8].copy_from_slice(&one.to_le_bytes());
        bytes[8..].copy_from_slice(&other.to_le_bytes());
    }
    let mut name = prefix.to_owned();
    for byte in bytes {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        let (one, other) = (random("a-"), random("a-"));
        assert!(one.starts_with("a-") && one.len() == 34 && one != other, "{one} {other}");
    }
}
