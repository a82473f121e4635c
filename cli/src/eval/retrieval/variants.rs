//! What is compared in one run: each variant is the settings with some of them changed, and has a brain of its own.
//!
//! So whatever settings can name can be compared: recipes, poolings, calibrations, forms of a model, other models.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

/// Settings under a name, as `NAME: KEY=VALUE; KEY=VALUE`; without a name it is the changes themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Variant {
    /// What it is called in tables.
    pub(super) name: String,
    /// What is changed, each as `--set` takes it.
    pub(super) overrides: Vec<String>,
}

impl Variant {
    /// The settings as they are.
    pub(super) fn plain() -> Self {
        Self { name: "as set".into(), overrides: Vec::new() }
    }
}

impl FromStr for Variant {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        // A name has no `=`; what has one before the first `: ` is a change whose value has the colon.
        let (name, changes) = match text.split_once(':') {
            Some((name, changes)) if !name.contains('=') => (name.trim(), changes),
            _ => (text.trim(), text),
        };
        let overrides = changes.split("; ").map(|change| change.trim().to_owned()).filter(|change| !change.is_empty());
        Ok(Self { name: name.into(), overrides: overrides.collect() })
    }
}

/// Vectors that something else has made of the same pairs, as `NAME=FILE`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct External {
    /// Whose.
    pub(super) name: String,
    /// Where they are.
    pub(super) path: PathBuf,
}

impl FromStr for External {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.into(), path: path.into() })
            }
            _ => Err("expected NAME=FILE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, overrides: &[&str]) {
        let Ok(variant) = text.parse::<Variant>();
        assert_eq!(
            variant,
            Variant { name: name.into(), overrides: overrides.iter().map(ToString::to_string).collect() }
        );
    }

    #[test]
    fn a_variant_is_a_name_and_changes() {
        check("last: embedding.pooling=last", "last", &["embedding.pooling=last"]);
        check("embedding.pooling=last", "embedding.pooling=last", &["embedding.pooling=last"]);
        check("f32: model.dir=a b; window.size=64", "f32", &["model.dir=a b", "window.size=64"]);
        check("plain:", "plain", &[]);
        check("embedding.probe=name: x", "embedding.probe=name: x", &["embedding.probe=name: x"]);
    }
}
