//! In which form a model is run: paged, where that can be made and gives the model's own numbers, else
//! as its exporter wrote it.
//!
//! The choice is made by the first load of a process. A form that was made is compared with the model's
//! own graph before it is used; that it was equal, and the graph of a rewritten plain export, are kept
//! on disk, so that later processes neither load the slow graph nor compare again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

use super::runtime::Runtime;
use crate::model::{Activations, Model, NotPaged};

/// How a form is chosen.
#[derive(Clone, Debug, Default)]
pub struct FormOptions {
    /// What becomes of activations.
    pub activations: Activations,
    /// Where forms that were made are kept; `None`: nowhere.
    pub cache: Option<PathBuf>,
}

/// The form that engines run.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Conversations share each run, keys and values lie in blocks.
    Paged {
        /// The attention of a plain export was rewritten for it.
        fused: bool,
        /// How far it was from the model's own graph, a log-probability; `None` where an earlier
        /// process has compared them.
        difference: Option<f32>,
    },
    /// The model's own graph, one conversation after the other.
    Plain(WhyPlain),
}

/// Why a model is run as its exporter wrote it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WhyPlain {
    /// It rounds activations, and the settings do not say otherwise.
    #[error("its products round activations to 8 bits, as exported")]
    RoundsActivations,
    /// No paged form can be made.
    #[error(transparent)]
    NotPaged(#[from] NotPaged),
    /// Its rotation could not be measured.
    #[error("its rotation could not be measured")]
    NoRotation,
    /// The graph as exported gives nothing that a form could be compared with.
    #[error("its own graph gives nothing to compare with: {message}")]
    NothingToCompare {
        /// The engine's words.
        message: String,
    },
    /// The runtime does not run the form.
    #[error("the paged form does not run: {message}")]
    DoesNotRun {
        /// The runtime's own words.
        message: String,
    },
    /// The form gives other numbers.
    #[error("the paged form differs by {found} in log-probability, at most {allowed} is allowed")]
    Differs {
        /// The difference.
        found: f32,
        /// The bound.
        allowed: f32,
    },
}

impl WhyPlain {
    /// What to do about it, where something can be done.
    pub fn hint(&self) -> Option<String> {
        matches!(self, Self::RoundsActivations).then(|| {
            "set `runtime.activations` to \"int8\" or, more exactly, \"f32\": many conversations then share a run, \
             and answers are equal however they are cut"
                .into()
        })
    }
}

/// Part of every kept form's name: raised with each change of what makes or runs a paged form, so that
/// none is taken over that this code did not compare.
const FORMS_VERSION: u32 = 4;

/// Forms that are kept, those that were last used: of a large model one has some megabytes.
const FORMS_MAX: usize = 8;

/// What the names of forms begin with, after which come [`NAME_LEN`] digits.
const PREFIX: &str = "form-";

/// Hexadecimal digits of a kept form's name.
const NAME_LEN: usize = 32;

/// Forms that earlier processes have made, one file each.
pub(super) struct Cache {
    file: Option<PathBuf>,
}

impl Cache {
    /// The place of a model's form: named after everything that it depends on.
    pub(super) fn of(options: &FormOptions, runtime: &Runtime, model: &Model, window: usize) -> Self {
        let file = options.cache.as_ref().map(|folder| {
            let mut hash = Sha256::new();
            for part in [env!("CARGO_PKG_VERSION"), runtime.build_info()] {
                hash.update(part);
            }
            hash.update(FORMS_VERSION.to_le_bytes());
            // Other vectors are other functions, which were compared on a machine that has them.
            hash.update(motorbrain_kernels::linear::vectors());
            hash.update(format!("{:?}", model.contract));
            hash.update(window.to_le_bytes());
            hash.update([options.activations as u8]);
            hash.update(&model.overlay.bytes);
            for file in files(&model.overlay.folder) {
                hash.update(file);
            }
            let name: String = hash.finalize().iter().take(NAME_LEN / 2).map(|byte| format!("{byte:02x}")).collect();
            folder.join(format!("{PREFIX}{name}"))
        });
        Self { file }
    }

    /// What [`Self::keep`] kept: a rewritten graph, or nothing but the fact.
    pub(super) fn get(&self) -> Option<Vec<u8>> {
        let file = self.file.as_ref()?;
        let graph = fs::read(file).ok()?;
        // Used now, so that others go first. It stays readable where that cannot be noted.
        if let Ok(file) = fs::File::options().append(true).open(file) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(graph)
    }

    /// Keeps a form. That it cannot is no matter but of time.
    pub(super) fn keep(&self, graph: &[u8]) {
        let Some(file) = &self.file else { return };
        let write = || {
            fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            // Under another name first: nobody shall read half a file.
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let unfinished = file.with_extension(format!("{}.{count}", std::process::id()));
            let written = fs::write(&unfinished, graph).and_then(|()| fs::rename(&unfinished, file));
            written.inspect_err(|_| drop(fs::remove_file(&unfinished)))
        };
        if let Err(error) = write() {
            let file = file.display();
            tracing::warn!(%error, %file, "a model's form is made again at each start: see `runtime.cache`");
        }
        forget(file.parent().unwrap_or(Path::new(".")));
    }
}

/// Deletes the forms that were not used for longest, and what processes have left that died while they
/// wrote. Nothing else that lies in the folder.
fn forget(folder: &Path) {
    let is_form = |name: &str| {
        let digits = name.strip_prefix(PREFIX).and_then(|name| name.as_bytes().get(..NAME_LEN));
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let mut forms: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_form))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    forms.sort();
    let old = forms.len().saturating_sub(FORMS_MAX);
    for (_, form) in &forms[..old] {
        if let Err(error) = fs::remove_file(form) {
            tracing::debug!(%error, file = %form.display(), "an old form stays");
        }
    }
}

/// Names, sizes and times of the files beside a graph and one folder below: weights that were replaced
/// make another model.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    // However it is spelled.
    let folder = &fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    let entries = list(folder);
    let below: Vec<_> = entries.iter().flat_map(|entry| list(&entry.path())).collect();
    let mut files: Vec<Vec<u8>> = entries
        .into_iter()
        .chain(below)
        .filter_map(|entry| {
            let metadata = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
            let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let facts = [metadata.len() as u128, modified.as_nanos()];
            let path = entry.path().into_os_string().into_encoded_bytes();
            Some(path.into_iter().chain(facts.iter().flat_map(|fact| fact.to_le_bytes())).collect())
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_folder_is_the_same_however_it_is_spelled() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("model.onnx"), "x").unwrap();
        let spelled = files(&dir.path().join("below").join(".."));
        assert_eq!(spelled, files(dir.path()));
        assert_eq!(spelled.len(), 1);
    }

    #[test]
    fn the_forms_that_were_last_used_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: usize| folder.path().join(format!("{PREFIX}{number:032x}"));
        for number in 0..FORMS_MAX {
            fs::write(path(number), "graph").unwrap();
            let long_ago = SystemTime::now() - Duration::from_secs(1000 - number as u64);
            fs::File::options().append(true).open(path(number)).unwrap().set_modified(long_ago).unwrap();
        }
        let own = ["notes.txt", "0123456789abcdef0123456789abcdef"].map(|name| folder.path().join(name));
        own.iter().for_each(|own| fs::write(own, "a user's own").unwrap());
        assert!(Cache { file: Some(path(0)) }.get().is_some());
        Cache { file: Some(path(99)) }.keep(b"graph");
        let left: Vec<usize> = (0..100).filter(|&number| path(number).exists()).collect();
        assert_eq!(left, [0, 2, 3, 4, 5, 6, 7, 99]);
        assert!(own.iter().all(|own| own.exists()));
    }
}
