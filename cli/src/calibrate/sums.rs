//! What a calibration is made from, kept beside it until it is made.

use std::{
    fs,
    path::{Path, PathBuf},
};

use motorbrain::calibration::{Affine, CalibrationError, LogitSpace, Pairs, Texts};

#[derive(Clone)]
enum Kind {
    Texts(Texts),
    Pairs(Pairs),
}

/// Sums, and how many of the source they are of.
#[derive(Clone)]
pub(super) struct Sums {
    kind: Kind,
    path: PathBuf,
    /// What tells the source, and what is done with it, from others.
    about: String,
    seen: usize,
}

impl Sums {
    /// Those that were kept of the same source, or none yet. They lie beside `out`.
    pub(super) fn begin(out: &Path, about: String, hidden: usize, pairs: bool) -> Self {
        let path = place(out);
        let kept = match pairs {
            true => Pairs::load(&path, hidden).map(|(pairs, note)| (Kind::Pairs(pairs), note)),
            false => Texts::load(&path, hidden).map(|(texts, note)| (Kind::Texts(texts), note)),
        };
        // What cannot be read, or is of something else, is begun anew.
        let kept = kept.ok().and_then(|(kind, note)| Some((kind, note.strip_prefix(&about)?.trim().parse().ok()?)));
        let none = || if pairs { Kind::Pairs(Pairs::new(hidden)) } else { Kind::Texts(Texts::new(hidden)) };
        let (kind, seen) = kept.unwrap_or_else(|| (none(), 0));
        Self { kind, path, about, seen }
    }

    /// How many of the source were looked at, those that are held out among them.
    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// How many are in the sums.
    pub(super) fn count(&self) -> u64 {
        match &self.kind {
            Kind::Texts(texts) => texts.count(),
            Kind::Pairs(pairs) => pairs.count(),
        }
    }

    /// Adds a text's vector, or a pair's two.
    pub(super) fn add(&mut self, vectors: &[Vec<f32>]) -> Result<(), CalibrationError> {
        match (&mut self.kind, vectors) {
            (Kind::Pairs(pairs), [one, other]) => pairs.add(one, other),
            (Kind::Texts(texts), [text]) => texts.add(text),
            (_, vectors) => panic!("{} vectors are neither a text's nor a pair's", vectors.len()),
        }
    }

    /// Keeps them, so many of the source having been looked at.
    pub(super) fn keep(&mut self, seen: usize) -> Result<(), CalibrationError> {
        self.seen = seen;
        let note = format!("{} {seen}", self.about);
        match &self.kind {
            Kind::Texts(texts) => texts.save(&self.path, &note),
            Kind::Pairs(pairs) => pairs.save(&self.path, &note),
        }
    }

    /// The calibration.
    pub(super) fn finish(&self, space: &LogitSpace) -> Result<Affine, CalibrationError> {
        match &self.kind {
            Kind::Texts(texts) => texts.finish(space),
            Kind::Pairs(pairs) => pairs.finish(space),
        }
    }

    /// They are of no use any more.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where sums lie beside the calibration that they are for.
pub(super) fn place(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".begun");
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn sums_are_gone_on_with_and_those_of_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("calibration.safetensors");
        let begin = |about: &str, pairs| {
            let sums = Sums::begin(&out, about.to_owned(), 2, pairs);
            (sums.seen(), sums.count(), sums)
        };
        let (seen, count, mut sums) = begin("these", false);
        assert_eq!((seen, count), (0, 0));
        sums.add(&[vec![1.0, 2.0]]).unwrap();
        sums.keep(3).unwrap();
        let (seen, count, sums) = begin("these", false);
        assert_eq!((seen, count), (3, 1));
        for (about, pairs) in [("those", false), ("these", true), ("thes", false)] {
            assert_eq!(begin(about, pairs).0, 0, "{about}");
        }
        fs::write(folder.path().join("calibration.safetensors.begun"), "damaged").unwrap();
        assert_eq!(begin("these", false).0, 0);
        sums.forget();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
