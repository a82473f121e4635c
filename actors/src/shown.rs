//! Errors as people read them: the sentence, its causes, and beneath them what to do.
//!
//! What `main` returns is printed by `Debug`, so those that programs return have this for theirs.

use std::{error::Error, fmt, iter};

/// An error and its causes, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |cause| (*cause).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The same, and a line with what to do.
///
/// # Errors
/// Those of `f`.
pub fn shown(f: &mut fmt::Formatter<'_>, error: &dyn Error, hint: Option<String>) -> fmt::Result {
    f.write_str(&with_causes(error))?;
    hint.map_or(Ok(()), |hint| write!(f, "\n{hint}"))
}
