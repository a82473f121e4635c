//! Finding the ONNX Runtime library file.
//!
//! Whoever names a file gets that file or an error, never another one. Where nobody does, the places
//! are tried in the order of [`Place`], and in a folder that holds several versions the newest wins.
//! What was found and not named is only taken where nobody else may have written it, see [`trust`]: a library is
//! run. [`find`] is pure over a [`Search`], the listing of folders and that verdict; nothing is opened here: whether
//! the library is one, and new enough, shows when it is loaded.

use std::{
    cmp::Reverse,
    env, fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    places::{self, RUN_SETUP},
    settings,
    trust::{self, Distrust},
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
    /// What would have been taken before it, had nobody else a hand in it.
    pub passed_over: Vec<PassedOver>,
}

/// A library file that was found and is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The file.
    pub path: PathBuf,
    /// Where it was found.
    pub place: Place,
    /// Why it is not used.
    pub why: Distrust,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.path.display(), self.place, self.why)
    }
}

impl PassedOver {
    /// What to do about it.
    pub fn hint(&self) -> String {
        format!(
            "where you trust {}, name it in `runtime.library` or `ORT_DYLIB_PATH`, or {}",
            self.path.display(),
            self.why.hint()
        )
    }
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
    /// There are only such as somebody else may have written.
    #[error("no ONNX Runtime library is used that somebody else may have written; passed over{}", lines(passed_over))]
    NotTrusted {
        /// Every file that was found, in order.
        passed_over: Vec<PassedOver>,
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
            Self::NotTrusted { passed_over } => passed_over.first().map(PassedOver::hint).unwrap_or_default(),
        }
    }
}

fn listed(tried: &[(Place, PathBuf)]) -> String {
    tried.iter().map(|(place, path)| format!("\n  {} ({place})", path.display())).collect()
}

fn lines(passed_over: &[PassedOver]) -> String {
    passed_over.iter().map(|passed| format!("\n  {passed}")).collect()
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

/// The library of a search; `list` gives the files of a folder, or the file itself, `check` whether only this user and
/// root may have written a file.
///
/// # Errors
/// What was named is not there, or no place has a library to be used; all that were tried or passed over are listed.
pub fn find(
    search: &Search,
    list: impl Fn(&Path) -> Vec<PathBuf>,
    check: impl Fn(&Path) -> Result<(), Distrust>,
) -> Result<Found, LibraryError> {
    if let Some((place, path)) = search.named() {
        let files = list(path);
        // A file that was named need not be called as usual.
        let named = files.iter().find(|file| *file == path).cloned().or_else(|| libraries(files).into_iter().next());
        return named
            .map(|path| Found { path, place, passed_over: Vec::new() })
            .ok_or_else(|| LibraryError::Named { place, path: path.to_owned() });
    }
    let tried = search.folders();
    let mut passed_over: Vec<PassedOver> = Vec::new();
    for (place, folder) in &tried {
        for path in libraries(list(folder)) {
            let place = *place;
            match check(&path) {
                Ok(()) => return Ok(Found { path, place, passed_over }),
                // Of several versions in a folder of somebody else's, one tells it.
                Err(why) if passed_over.last().is_some_and(|last| last.why == why) => {}
                Err(why) => passed_over.push(PassedOver { path, place, why }),
            }
        }
    }
    Err(if passed_over.is_empty() {
        LibraryError::NotFound { tried }
    } else {
        LibraryError::NotTrusted { passed_over }
    })
}

/// The library of this process.
///
/// # Errors
/// See [`find`].
pub fn find_on_disk(setting: Option<PathBuf>) -> Result<Found, LibraryError> {
    let found = find(&Search::of_process(setting), list, trust::check)?;
    for PassedOver { path, place, why } in &found.passed_over {
        tracing::warn!(library = %path.display(), %place, %why, "a library that somebody else may have written is passed over");
    }
    Ok(found)
}

/// The files of a folder, the file itself where it is one, nothing where there is neither.
fn list(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// Those files that are called like the library, the newest first.
fn libraries(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.retain(|file| version(file).is_some());
    // By path where versions are equal, so that the choice does not depend on the file system.
    files.sort_by_key(|file| (Reverse(version(file)), file.clone()));
    files
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

    /// Searches a file system that has just these files, all of them by this user.
    fn check(search: &Search, files: &[&str]) -> Result<(String, Place), LibraryError> {
        found(search, files, "nowhere").map(|found| (found.path.display().to_string(), found.place))
    }

    /// The same where everybody may write below `theirs`.
    fn found(search: &Search, files: &[&str], theirs: &str) -> Result<Found, LibraryError> {
        let list = |path: &Path| {
            let here = |file: &&&str| Path::new(file) == path || Path::new(file).parent() == Some(path);
            files.iter().filter(here).map(PathBuf::from).collect()
        };
        let check = |path: &Path| match path.starts_with(theirs) {
            true => Err(Distrust::Everybody { path: theirs.into() }),
            false => Ok(()),
        };
        find(search, list, check)
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

    #[test]
    fn what_others_may_have_written_is_passed_over_unless_it_is_named() {
        let theirs = "/home/me/project/.motorbrain/runtime";
        let files = [
            "/home/me/project/.motorbrain/runtime/libonnxruntime.so.1.31.1",
            "/home/me/project/.motorbrain/runtime/libonnxruntime.so",
            "/usr/lib/libonnxruntime.so",
        ];
        let passed = found(&search(), &files, theirs).expect("the system has one");
        assert_eq!((passed.path.to_str(), passed.place), (Some(files[2]), Place::System));
        let [one] = &passed.passed_over[..] else { panic!("{:?}", passed.passed_over) };
        assert_eq!((one.path.to_str(), one.place), (Some(files[0]), Place::Setup));
        let error = found(&search(), &files[..2], theirs).expect_err("none is left");
        insta::assert_snapshot!(format!("{error}\n{}", error.hint()), @r"
        no ONNX Runtime library is used that somebody else may have written; passed over
          /home/me/project/.motorbrain/runtime/libonnxruntime.so.1.31.1 (set-up): /home/me/project/.motorbrain/runtime may be written by everybody
        where you trust /home/me/project/.motorbrain/runtime/libonnxruntime.so.1.31.1, name it in `runtime.library` or `ORT_DYLIB_PATH`, or `chmod go-w /home/me/project/.motorbrain/runtime`
        ");
        let named = Search { setting: Some(files[1].into()), ..search() };
        assert_eq!(found(&named, &files, theirs).map(|found| found.place), Ok(Place::Setting));
    }
}
