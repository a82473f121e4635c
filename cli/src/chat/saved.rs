//! What was said as a file: a JSON list of messages, each with `role` and `content`, as chat servers take them.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use motorbrain::chat::{Message, Role};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tempfile::NamedTempFile;

use crate::{
    exit::Exit,
    failure::Failure,
    texts::{self, TextsError, Whole},
};

/// A message in a file. Others may have more to say; what would be lost is refused.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    #[serde(serialize_with = "role_to", deserialize_with = "role_from")]
    role: Role,
    content: String,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("{path} is there already and holds no messages")]
    Taken { path: PathBuf },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Self {
        let hint = match &error {
            SaveError::Taken { .. } => "name a file that is not there yet, or one that `/save` has written",
            SaveError::Write { .. } => "name a file in a folder that is there and that you may write to",
        };
        Self::new(Exit::Settings, error, Some(hint.into()))
    }
}

/// The messages of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Message>, TextsError> {
    let saved: Vec<Saved> = texts::whole(path, Whole::Messages)?;
    Ok(saved.into_iter().map(|Saved { role, content }| Message::new(role, content)).collect())
}

/// Writes messages as a whole or not at all. Other messages are replaced, and nothing else is.
pub(super) fn write(path: &Path, messages: &[Message]) -> Result<(), SaveError> {
    if path.exists() && read(path).is_err() {
        return Err(SaveError::Taken { path: path.to_owned() });
    }
    written(path, messages).map_err(|cause| SaveError::Write { path: path.to_owned(), cause })
}

fn written(path: &Path, messages: &[Message]) -> io::Result<()> {
    let saved = |message: &Message| {
        let content = message.content.clone().unwrap_or_default();
        Saved { role: message.role, content }
    };
    let saved: Vec<Saved> = messages.iter().map(saved).collect();
    // What a link leads to is replaced, and not the link.
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut unfinished = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    serde_json::to_writer_pretty(&mut unfinished, &saved)?;
    unfinished.write_all(b"\n")?;
    if let Ok(before) = place.metadata() {
        unfinished.as_file().set_permissions(before.permissions())?;
    }
    unfinished.persist(place)?;
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's")]
fn role_to<S: Serializer>(role: &Role, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(role.as_str())
}

fn role_from<'de, D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
    let name = String::deserialize(from)?;
    // A tool answers a call, which is no text.
    let role = Role::named(&name).filter(|role| *role != Role::Tool);
    role.ok_or_else(|| D::Error::custom(format!("`role` is `{name}`, expected `system`, `user` or `assistant`")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::{error::Error as _, fs};

    use super::*;

    fn said() -> Vec<Message> {
        vec![Message::system("Be \"brief\"."), Message::user("Hi\nthere"), Message::assistant("<|im_end|> é")]
    }

    #[test]
    fn what_was_saved_is_loaded_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("said.json");
        write(&path, &said()).unwrap();
        assert_eq!(read(&path).unwrap(), said());
        write(&path, &said()[..1]).unwrap();
        assert_eq!(read(&path).unwrap(), said()[..1]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_and_who_may_read_stay_as_they_are() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("said.json"), folder.path().join("link"));
        write(&path, &said()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        write(&link, &said()[..1]).unwrap();
        assert!(link.is_symlink() && read(&path).unwrap() == said()[..1]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_no_chat_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(write(&path, &said()), Err(SaveError::Taken { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert!(matches!(write(&folder.path().join("no/file"), &said()), Err(SaveError::Write { .. })));
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("said.json");
        let refused = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path).unwrap_err().source().unwrap().to_string()
        };
        let role = refused(r#"[{"role":"user","content":"a"},{"role":"tool","content":"b"}]"#);
        assert!(role.contains("`role` is `tool`, expected `system`"), "{role}");
        let key = refused(r#"[{"role":"user","content":"a","name":"b"}]"#);
        assert!(key.contains("unknown field `name`"), "{key}");
    }
}
