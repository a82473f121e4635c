//! Finding the ONNX Runtime library file.
//!
//! Whoever names a file gets that file or an error, never another one. Where nobody does, the places
//! are tried in the order of [`Place`], and in a folder that holds several versions the newest wins.
//! [`find`] is pure over a [`Search`] and the listing of folders; nothing is opened here: whether the
//! library is one, and new enough, shows when it is loaded.

use std::{
    cmp::Reverse,
    env, fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    places::{self, RUN_SETUP},
    settings,
};

/// Where a library can come from, in the order in which the places are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The setting `runtime.library`.
    Setting,
    /// The environment variable `ORT_DYLIB_PATH`.
    Environment,
    /// `.motorbrain/runtime/` in the working folder or above.
    Setup,
    /// Beside the executable.
    Executable,
    /// `motorbrain/runtime/` in the user's data folder.
    UserData,
    /// The system's library folders.
    System,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setting => "`runtime.library`",
            Self::Environment => "`ORT_DYLIB_PATH`",
            Self::Setup => "set-up",
            Self::Executable => "beside the executable",
            Self::UserData => "the user's data folder",
            Self::System => "the system",
        })
    }
}

/// A library file and the place it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why this one.
    pub place: Place,
}

impl Found {
    /// The version in the file's name, links followed; `None` where it has none. The library itself
    /// is asked for its version when it is opened, which refuses one that is too old.
    pub fn version(&self) -> Option<String> {
        let file = self.path.canonicalize().ok()?;
        let numbers = version(&file).filter(|numbers| !numbers.is_empty())?;
        let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
        Some(numbers.join("."))
    }
}

/// Why there is no library file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// A file was named and is not there.
    #[error("{place} names {path}, where there is no library file", path = path.display())]
    Named {
        /// Who named it.
        place: Place,
        /// The file, or a folder without a library.
        path: PathBuf,
    },
    /// No place has one.
    #[error("there is no ONNX Runtime library; looked in{}", listed(tried))]
    NotFound {
        /// Every folder that was tried, in order.
        tried: Vec<(Place, PathBuf)>,
    },
}

impl LibraryError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Named { place, .. } => {
                format!("correct {place}, or leave it out and {RUN_SETUP}")
            }
            Self::NotFound { .. } => {
                format!("{RUN_SETUP}, or name the file in `runtime.library` or `ORT_DYLIB_PATH`")
            }
        }
    }
}

fn listed(tried: &[(Place, PathBuf)]) -> String {
    tried.iter().map(|(place, path)| format!("\n  {} ({place})", path.display())).collect()
}

/// Everything that decides where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// `runtime.library`.
    pub setting: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`.
    pub environment: Option<PathBuf>,
    /// Set-up's folder is looked for here and above.
    pub working_dir: Option<PathBuf>,
    /// The folder of the executable.
    pub executable_dir: Option<PathBuf>,
    /// The user's data folder.
    pub data_dir: Option<PathBuf>,
    /// The system's library folders.
    pub system_dirs: Vec<PathBuf>,
}

impl Search {
    /// What this process has to offer.
    pub fn of_process(setting: Option<PathBuf>) -> Self {
        let executable = env::current_exe().ok();
        Self {
            setting,
            environment: env::var_os(settings::env::LIBRARY).filter(|path| !path.is_empty()).map(PathBuf::from),
            working_dir: env::current_dir().ok(),
            executable_dir: executable.and_then(|path| path.parent().map(Path::to_owned)),
            data_dir: dirs::data_local_dir(),
            system_dirs: system_dirs(),
        }
    }

    /// What was named, with who named it.
    fn named(&self) -> Option<(Place, &Path)> {
        let setting = self.setting.as_deref().map(|path| (Place::Setting, path));
        setting.or(self.environment.as_deref().map(|path| (Place::Environment, path)))
    }

    /// The folders to look into where nothing was named, in order.
    fn folders(&self) -> Vec<(Place, PathBuf)> {
        let setup = self.working_dir.iter().flat_map(|folder| places::setup_dirs(folder));
        let setup = setup.map(|folder| (Place::Setup, folder.join("runtime")));
        let executable = self.executable_dir.iter().map(|folder| (Place::Executable, folder.clone()));
        let data = self.data_dir.iter().map(|folder| (Place::UserData, folder.join("motorbrain").join("runtime")));
        let system = self.system_dirs.iter().map(|folder| (Place::System, folder.clone()));
        setup.chain(executable).chain(data).chain(system).collect()
    }
}

/// The library of a search; `list` gives the files of a folder, or the file itself.
///
/// # Errors
/// What was named is not there, or no place has a library; all that were tried are listed.
pub fn find(search: &Search, list: impl Fn(&Path) -> Vec<PathBuf>) -> Result<Found, LibraryError> {
    if let Some((place, path)) = search.named() {
        let files = list(path);
        // A file that was named need not be called as usual.
        let named = files.iter().find(|file| *file == path).cloned().or_else(|| newest(files));
        return named
            .map(|path| Found { path, place })
            .ok_or_else(|| LibraryError::Named { place, path: path.to_owned() });
    }
    let tried = search.folders();
    let found = tried.iter().find_map(|(place, folder)| Some(Found { path: newest(list(folder))?, place: *place }));
    found.ok_or(LibraryError::NotFound { tried })
}

/// The files of a folder, the file itself where it is one, nothing where there is neither.
pub fn list(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// The newest of the files that are called like the library.
fn newest(mut files: Vec<PathBuf>) -> Option<PathBuf> {
    files.retain(|file| version(file).is_some());
    // By path where versions are equal, so that the choice does not depend on the file system.
    files.sort_by_key(|file| (Reverse(version(file)), file.clone()));
    files.into_iter().next()
}

/// The version in a library file's name, empty where it has none; `None` for any other file.
fn version(file: &Path) -> Option<Vec<u32>> {
    let name = file.file_name()?.to_str()?;
    let version = if cfg!(target_os = "windows") {
        name.strip_prefix("onnxruntime")?.strip_suffix(".dll")?
    } else if cfg!(target_os = "macos") {
        name.strip_prefix("libonnxruntime")?.strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so")?
    };
    match version.strip_prefix('.') {
        Some(numbers) => numbers.split('.').map(|number| number.parse().ok()).collect(),
        None => version.is_empty().then(Vec::new),
    }
}

/// Where packages put libraries. Windows is left out: the library in its system folder belongs to
/// the system and is years old.
fn system_dirs() -> Vec<PathBuf> {
    let folders: &[&str] = if cfg!(target_os = "windows") {
        &[]
    } else if cfg!(target_os = "macos") {
        &["/opt/homebrew/lib", "/usr/local/lib"]
    } else {
        &["/usr/local/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
    };
    folders.iter().map(PathBuf::from).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn search() -> Search {
        Search {
            working_dir: Some("/home/me/project/sub".into()),
            executable_dir: Some("/opt/app".into()),
            data_dir: Some("/home/me/.local/share".into()),
            system_dirs: vec!["/usr/lib".into()],
            ..Search::default()
        }
    }

    /// Searches a file system that has just these files.
    fn check(search: &Search, files: &[&str]) -> Result<(String, Place), LibraryError> {
        let list = |path: &Path| {
            let here = |file: &&&str| Path::new(file) == path || Path::new(file).parent() == Some(path);
            files.iter().filter(here).map(PathBuf::from).collect()
        };
        find(search, list).map(|found| (found.path.display().to_string(), found.place))
    }

    #[test]
    fn the_places_are_tried_in_order() {
        let files = [
            ("/home/me/project/sub/.motorbrain/runtime/libonnxruntime.so.1.31.1", Place::Setup),
            ("/home/me/project/.motorbrain/runtime/libonnxruntime.so.1.31.1", Place::Setup),
            ("/opt/app/libonnxruntime.so", Place::Executable),
            ("/home/me/.local/share/motorbrain/runtime/libonnxruntime.so.1", Place::UserData),
            ("/usr/lib/libonnxruntime.so.1.31.1", Place::System),
        ];
        let paths: Vec<_> = files.iter().map(|(path, _)| *path).collect();
        for (first, (path, place)) in files.iter().enumerate() {
            assert_eq!(check(&search(), &paths[first..]), Ok(((*path).to_owned(), *place)));
        }
    }

    #[test]
    fn what_is_named_is_taken_or_an_error() {
        let everywhere = ["/usr/lib/libonnxruntime.so", "/a/mine.so", "/b/libonnxruntime.so.1.31.1"];
        let set = Search { setting: Some("/a/mine.so".into()), environment: Some("/b".into()), ..search() };
        assert_eq!(check(&set, &everywhere), Ok(("/a/mine.so".into(), Place::Setting)));
        let variable = Search { setting: None, ..set };
        assert_eq!(check(&variable, &everywhere), Ok(("/b/libonnxruntime.so.1.31.1".into(), Place::Environment)));
        let missing = Search { environment: Some("/c".into()), ..search() };
        let error = check(&missing, &everywhere).expect_err("nothing is there");
        assert_eq!(error, LibraryError::Named { place: Place::Environment, path: "/c".into() });
    }

    #[test]
    fn the_newest_version_wins_and_other_files_do_not_count() {
        let folder = [
            "/usr/lib/libonnxruntime.so",
            "/usr/lib/libonnxruntime.so.1.9.0",
            "/usr/lib/libonnxruntime.so.1.31.1",
            "/usr/lib/libonnxruntime.so.1.99.sig",
            "/usr/lib/libonnxruntime_providers_shared.so",
        ];
        assert_eq!(check(&search(), &folder), Ok(("/usr/lib/libonnxruntime.so.1.31.1".into(), Place::System)));
    }

    #[test]
    fn nothing_anywhere_lists_every_place() {
        let error = check(&search(), &["/usr/lib/libc.so"]).expect_err("nothing is there");
        insta::assert_snapshot!(error, @r#"
        there is no ONNX Runtime library; looked in
          /home/me/project/sub/.motorbrain/runtime (set-up)
          /home/me/project/.motorbrain/runtime (set-up)
          /home/me/.motorbrain/runtime (set-up)
          /home/.motorbrain/runtime (set-up)
          /.motorbrain/runtime (set-up)
          /opt/app (beside the executable)
          /home/me/.local/share/motorbrain/runtime (the user's data folder)
          /usr/lib (the system)
        "#);
        assert!(error.hint().contains("cargo xtask setup"), "{}", error.hint());
    }
}
