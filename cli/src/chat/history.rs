//! Where the lines that were typed are kept: a file of the user's alone, among what programs remember of their use.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// The file's place in a user's folders; `None` where the system has none for it. Of several the first is taken: where
/// there is no folder for what programs remember, such as on macOS, there is one for their data.
pub(super) fn place(folders: [Option<PathBuf>; 2]) -> Option<PathBuf> {
    let folder = folders.into_iter().flatten().next()?;
    Some(folder.join("motorbrain").join("chat_history"))
}

/// The same on this system.
pub(super) fn place_here() -> Option<PathBuf> {
    place([dirs::state_dir(), dirs::data_local_dir()])
}

/// Makes the file, where there is none, for nobody else to read.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mut folders = DirBuilder::new();
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        folders.mode(0o700);
        file.mode(0o600);
    }
    folders.recursive(true).create(path.parent().unwrap_or(Path::new("")))?;
    file.append(true).create(true).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use super::*;

    #[test]
    fn it_lies_in_the_first_folder_that_there_is() {
        let (state, data) = (PathBuf::from("state"), PathBuf::from("data"));
        let expected = Path::new("state").join("motorbrain").join("chat_history");
        assert_eq!(place([Some(state), Some(data.clone())]), Some(expected));
        assert_eq!(place([None, Some(data)]), Some(Path::new("data").join("motorbrain").join("chat_history")));
        assert_eq!(place([None, None]), None);
    }

    #[test]
    fn it_is_made_once_and_for_its_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/motorbrain/chat_history");
        make(&path).unwrap();
        fs::write(&path, "typed").unwrap();
        make(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "typed");
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
    }
}
