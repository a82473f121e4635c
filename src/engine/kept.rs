//! What earlier processes have made of a model, a file each. Of forms: that one gives the model's own numbers, and the
//! graph of a plain export that was rewritten, so that later processes neither load the slow graph nor compare again. And
//! what `calibration` makes from weights.
//!
//! So what is kept is believed, and three things make it fit to be. Its name is a hash of all that it depends on, so
//! that another model, runtime or machine looks elsewhere. It begins with a hash of that name and of what follows, so
//! that what was cut, altered or put there from elsewhere is seen. And it is only used where nobody else may have
//! written it, see [`trust`]. Whatever is not fit is made again, which costs time and nothing else.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use super::{form::FormOptions, identity, runtime::Runtime};
use crate::{
    model::Model,
    trust::{self, Distrust},
};

/// Part of every kept form's name: raised with each change of what makes or runs a paged form, so that
/// none is taken over that this code did not compare.
const FORMS_VERSION: u32 = 5;

/// Files of a kind that are kept, those that were last used: of a large model one has some megabytes.
const KEPT_MAX: usize = 8;

/// What the names of forms begin with, after which come [`NAME_LEN`] digits.
const FORMS: &str = "form-";

/// Hexadecimal digits of a file's name.
const NAME_LEN: usize = 32;

/// Bytes of a hash, with which a file begins.
const HASH_LEN: usize = 32;

/// Why a form was made again that was kept, or is made at each start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unkept {
    /// The file is not as it was written.
    #[error("{} was damaged, so the form was made again", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// Somebody else may have written it.
    #[error("forms are not kept where others may write: {0}")]
    Distrusted(#[from] Distrust),
    /// The runtime does not take what was kept.
    #[error("{} does not load, so the form was made again", file.display())]
    NotLoaded {
        /// The file.
        file: PathBuf,
    },
    /// The form cannot be written.
    #[error("the form is made again at each start: {} cannot be written: {reason}", file.display())]
    NotWritten {
        /// The file.
        file: PathBuf,
        /// The system's own words.
        reason: String,
    },
}

impl Unkept {
    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { .. } | Self::NotLoaded { .. } => None,
            Self::Distrusted(distrust) => {
                Some(format!("name a folder of your own in `runtime.cache`, or {}", distrust.hint()))
            }
            Self::NotWritten { .. } => Some("name a folder that can be written in `runtime.cache`".into()),
        }
    }
}

/// The place of one thing that is kept.
pub(crate) struct Cache {
    /// `None`: nothing is kept.
    place: Option<Place>,
}

struct Place {
    file: PathBuf,
    /// What the names of its kind begin with.
    prefix: &'static str,
    /// Of everything that it depends on.
    hash: [u8; HASH_LEN],
}

impl Cache {
    /// The place of a model's form.
    pub(super) fn of(options: &FormOptions, runtime: &Runtime, model: &Model, window: usize) -> Self {
        let place = options.cache.as_ref().map(|folder| {
            let mut hash = Sha256::new();
            for part in [env!("CARGO_PKG_VERSION"), runtime.build_info()] {
                hash.update(part);
            }
            hash.update(FORMS_VERSION.to_le_bytes());
            // On another processor other functions compute, ours and the runtime's: they were not compared.
            hash.update(motorbrain_kernels::linear::vectors());
            motorbrain_kernels::features().for_each(|feature| hash.update(feature));
            hash.update(format!("{:?}", model.contract));
            hash.update(window.to_le_bytes());
            hash.update([options.activations as u8]);
            hash.update(&model.overlay.bytes);
            model.data_files().for_each(|file| hash.update(identity::facts(&file)));
            Place::new(folder, FORMS, hash.finalize().into())
        });
        Self { place }
    }

    /// The place of something else, whose kind's names begin with `prefix`; `hash` is of all that it depends on.
    pub(super) fn at(folder: Option<&Path>, prefix: &'static str, hash: [u8; HASH_LEN]) -> Self {
        Self { place: folder.map(|folder| Place::new(folder, prefix, hash)) }
    }

    /// What [`Self::keep`] kept; of a form, a rewritten graph or nothing but the fact. The error is what is worth telling, if
    /// anything is.
    pub(crate) fn get(&self) -> Result<Vec<u8>, Option<Unkept>> {
        let place = self.place.as_ref().ok_or(None)?;
        let file = &place.file;
        let Ok(metadata) = fs::symlink_metadata(file) else { return Err(None) };
        trust::check(file).map_err(warned)?;
        let damaged = || {
            tracing::warn!(file = %file.display(), "what was kept was damaged, so it is made again");
            Some(Unkept::Damaged { file: file.clone() })
        };
        if !metadata.is_file() {
            return Err(damaged());
        }
        let whole = fs::read(file).map_err(|_| damaged())?;
        let sealed = whole.split_first_chunk().filter(|(seal, graph)| **seal == place.seal(graph));
        let (_, graph) = sealed.ok_or_else(damaged)?;
        // Used now, so that others go first. It stays readable where that cannot be noted.
        if let Ok(file) = File::options().append(true).open(file) {
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(graph.to_vec())
    }

    /// Keeps a form, or what else it is. That it cannot is no matter but of time; why is worth telling.
    pub(crate) fn keep(&self, graph: &[u8]) -> Result<(), Unkept> {
        let Some(place) = &self.place else { return Ok(()) };
        let folder = place.file.parent().unwrap_or(Path::new("."));
        let unwritten = |error: io::Error| {
            tracing::warn!(%error, file = %place.file.display(), "what was made of a model is made again at each start");
            Unkept::NotWritten { file: place.file.clone(), reason: error.to_string() }
        };
        make(folder).map_err(unwritten)?;
        trust::check(folder).map_err(warned)?;
        place.write(folder, graph).map_err(unwritten)?;
        forget(folder, place.prefix);
        Ok(())
    }

    /// That a form does not load which was kept as it was written.
    pub(super) fn not_loaded(&self) -> Option<Unkept> {
        Some(Unkept::NotLoaded { file: self.place.as_ref()?.file.clone() })
    }
}

impl Place {
    fn new(folder: &Path, prefix: &'static str, hash: [u8; HASH_LEN]) -> Self {
        let name: String = hash.iter().take(NAME_LEN / 2).map(|byte| format!("{byte:02x}")).collect();
        Self { file: folder.join(format!("{prefix}{name}")), prefix, hash }
    }

    /// What a file with this graph begins with.
    fn seal(&self, graph: &[u8]) -> [u8; HASH_LEN] {
        Sha256::new().chain_update(self.hash).chain_update(graph).finalize().into()
    }

    /// Under another name first: nobody shall read half a file. Only this user may read or write it.
    fn write(&self, folder: &Path, graph: &[u8]) -> io::Result<()> {
        let mut unfinished =
            tempfile::Builder::new().prefix(self.file.file_name().unwrap_or_default()).tempfile_in(folder)?;
        unfinished.write_all(&self.seal(graph))?;
        unfinished.write_all(graph)?;
        unfinished.persist(&self.file)?;
        Ok(())
    }
}

fn warned(distrust: Distrust) -> Unkept {
    tracing::warn!(why = %distrust, "nothing is kept where others may write");
    distrust.into()
}

/// Makes a folder, and those above it that are missing, for this user alone.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Deletes of a kind what was not used for longest, and what processes have left that died while they
/// wrote. Nothing else that lies in the folder.
fn forget(folder: &Path, prefix: &str) {
    let is_kept = |name: &str| {
        let digits = name.strip_prefix(prefix).and_then(|name| name.as_bytes().get(..NAME_LEN));
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let mut kept: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_kept))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    let old = kept.len().saturating_sub(KEPT_MAX);
    for (_, file) in &kept[..old] {
        if let Err(error) = fs::remove_file(file) {
            tracing::debug!(%error, file = %file.display(), "an old file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::time::Duration;

    use super::*;

    fn cache(folder: &Path, number: u8) -> Cache {
        Cache { place: Some(Place::new(folder, FORMS, [number; HASH_LEN])) }
    }

    fn file(cache: &Cache) -> PathBuf {
        cache.place.as_ref().unwrap().file.clone()
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (cache(folder.path(), 1), cache(folder.path(), 2));
        assert_eq!(one.get(), Err(None));
        for graph in [&b"a graph"[..], b""] {
            one.keep(graph).unwrap();
            assert_eq!(one.get().as_deref(), Ok(graph));
            let whole = fs::read(file(&one)).unwrap();
            let damaged = Err(Some(Unkept::Damaged { file: file(&one) }));
            for bit in 0..8 * whole.len() {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                fs::write(file(&one), flipped).unwrap();
                assert_eq!(one.get(), damaged, "bit {bit}");
            }
            for bytes in 0..whole.len() {
                fs::write(file(&one), &whole[..bytes]).unwrap();
                assert_eq!(one.get(), damaged, "{bytes} bytes");
            }
            fs::write(file(&one), [&whole[..], b"more"].concat()).unwrap();
            assert_eq!(one.get(), damaged);
        }
        // One that is whole, of another model.
        one.keep(b"a graph").unwrap();
        fs::copy(file(&one), file(&other)).unwrap();
        assert_eq!(other.get(), Err(Some(Unkept::Damaged { file: file(&other) })));
        // And something that is no file.
        fs::remove_file(file(&one)).unwrap();
        fs::create_dir(file(&one)).unwrap();
        assert_eq!(one.get(), Err(Some(Unkept::Damaged { file: file(&one) })));
    }

    #[cfg(unix)]
    #[test]
    fn a_form_is_its_users_alone_and_not_used_where_others_may_write() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("made/here");
        let cache = cache(&folder, 1);
        cache.keep(b"a graph").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&folder), mode(&file(&cache))), (0o700, 0o600));
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let check = |distrust: Distrust| assert_eq!(cache.get(), Err(Some(Unkept::Distrusted(distrust))));

        let planted = file(&cache).canonicalize().unwrap();
        set(&planted, 0o602);
        check(Distrust::Everybody { path: planted.clone() });
        // What cannot be trusted there is replaced where the folder can.
        cache.keep(b"another").unwrap();
        assert_eq!(cache.get().as_deref(), Ok(&b"another"[..]));
        for place in [&folder, &above.path().join("made")].map(|path| path.canonicalize().unwrap()) {
            let before = mode(&place);
            set(&place, 0o777);
            check(Distrust::Everybody { path: place.clone() });
            let refused = Unkept::Distrusted(Distrust::Everybody { path: place.clone() });
            assert_eq!(cache.keep(b"a third"), Err(refused));
            // Entries of such a folder are their owners' alone.
            set(&place, 0o1777);
            assert_eq!(cache.get().as_deref(), Ok(&b"another"[..]));
            set(&place, before);
        }
        // Only root can give a file away.
        if chown(&planted, Some(12_345), None).is_ok() {
            let user = fs::metadata(&folder).unwrap().uid();
            check(Distrust::Owner { path: planted, owner: 12_345, user });
        }
    }

    #[test]
    fn the_forms_that_were_last_used_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let forms: Vec<Cache> = (0..=KEPT_MAX as u8).map(|number| cache(folder.path(), number)).collect();
        for (number, form) in forms[..KEPT_MAX].iter().enumerate() {
            form.keep(b"graph").unwrap();
            let long_ago = SystemTime::now() - Duration::from_secs(1000 - number as u64);
            File::options().append(true).open(file(form)).unwrap().set_modified(long_ago).unwrap();
        }
        let own = ["notes.txt", "0123456789abcdef0123456789abcdef"].map(|name| folder.path().join(name));
        own.iter().for_each(|own| fs::write(own, "a user's own").unwrap());
        // Another kind has files of its own, by the same hash.
        let other = Cache::at(Some(folder.path()), "other-", [0; HASH_LEN]);
        other.keep(b"another kind").unwrap();
        assert!(forms[0].get().is_ok());
        forms[KEPT_MAX].keep(b"graph").unwrap();
        let left: Vec<usize> = (0..forms.len()).filter(|&number| file(&forms[number]).exists()).collect();
        assert_eq!(left, [0, 2, 3, 4, 5, 6, 7, 8]);
        assert!(own.iter().all(|own| own.exists()));
        assert_eq!(other.get().as_deref(), Ok(&b"another kind"[..]));
    }
}
