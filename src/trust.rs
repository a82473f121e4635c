//! Whether somebody else may have written a file that nobody named.
//!
//! A library that was found is run, and a kept form is believed: either may come only from this user or from root.
//! [`judge`] is pure over the [`Node`]s of a file's way, which is every folder and every link that the system passes
//! from the root to the file. Each of them has to belong to this user or to root, and nobody else may write to it.
//! [`check`] looks at the disk and at who this process is; off Unix it looks at nothing, see [`IS_CHECKED`].
//!
//! A folder with the sticky bit, such as `/tmp`, may be written by all: what lies in it can be replaced by its owner
//! alone. A group counts as the user where it is the user's primary one and nobody else is in it, by `/etc/passwd` and
//! `/etc/group`; of a user who does not stand there, nothing is known. Access lists are not read: where one lets
//! somebody write, the system shows the group as writing.

#[cfg(unix)]
use std::{ffi::OsString, fs, io};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Whether files are checked on this system at all.
pub const IS_CHECKED: bool = cfg!(unix);

/// The user who may do everything anyway.
const ROOT: u32 = 0;

/// Links on one way, at most: as many as Linux follows.
#[cfg(unix)]
const LINKS_MAX: usize = 40;

/// Bits of a mode: who may write, and whether entries of a folder are their owners' alone.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// What lies at one place of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, or anything else that leads nowhere.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, whose mode means nothing.
    Link,
}

/// One place of a way, as the system tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub kind: Kind,
    /// The number of the user it belongs to.
    pub owner: u32,
    /// The number of its group.
    pub group: u32,
    /// Its permission bits, the sticky bit among them.
    pub mode: u32,
}

/// Who runs this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub user: u32,
    /// The number of the group that nobody else is in.
    pub own_group: Option<u32>,
}

/// Why a file is not used: the first place of its way that somebody else may have a hand in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// It belongs to another user.
    #[error("{} belongs to user {owner}, and this program runs as {}", path.display(), User(*user))]
    Owner {
        /// The place.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who this is.
        user: u32,
    },
    /// Its group may write to it.
    #[error("{} may be written by others of group {group}", path.display())]
    Group {
        /// The place.
        path: PathBuf,
        /// Which group.
        group: u32,
    },
    /// Everybody may write to it.
    #[error("{} may be written by everybody", path.display())]
    Everybody {
        /// The place.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("{} cannot be looked at: {reason}", path.display())]
    Unknown {
        /// The place.
        path: PathBuf,
        /// The system's own words.
        reason: String,
    },
}

impl Distrust {
    /// The place that is at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::Owner { path, .. }
            | Self::Group { path, .. }
            | Self::Everybody { path }
            | Self::Unknown { path, .. } => path,
        }
    }

    /// What would make the place one to trust.
    pub fn hint(&self) -> String {
        match self {
            Self::Owner { path, user, .. } => format!("`chown {user} {}`", path.display()),
            Self::Group { path, .. } => format!("`chmod g-w {}`", path.display()),
            Self::Everybody { path } => format!("`chmod go-w {}`", path.display()),
            Self::Unknown { path, .. } => format!("make {} readable", path.display()),
        }
    }
}

struct User(u32);

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ROOT => f.write_str("root"),
            user => write!(f, "user {user}"),
        }
    }
}

/// Judges a way, from the root on.
///
/// # Errors
/// The first place that another one owns or may write.
pub fn judge(way: &[Node], account: Account) -> Result<(), Distrust> {
    way.iter().try_for_each(|node| {
        let Node { kind, owner, group, mode, .. } = *node;
        let path = || node.path.clone();
        if owner != account.user && owner != ROOT {
            return Err(Distrust::Owner { path: path(), owner, user: account.user });
        }
        let keeps_entries = kind == Kind::Folder && mode & STICKY != 0;
        if kind == Kind::Link || keeps_entries {
            return Ok(());
        }
        if mode & ALL_WRITE != 0 {
            return Err(Distrust::Everybody { path: path() });
        }
        if mode & GROUP_WRITES != 0 && account.own_group != Some(group) {
            return Err(Distrust::Group { path: path(), group });
        }
        Ok(())
    })
}

/// Judges the way to a file or folder as this process would go it.
///
/// # Errors
/// See [`judge`]; or something on the way cannot be looked at.
#[cfg(unix)]
pub fn check(path: &Path) -> Result<(), Distrust> {
    let way = way(path).map_err(|(path, error)| Distrust::Unknown { path, reason: error.to_string() })?;
    judge(&way, Account::of_process())
}

/// Judges nothing: who may write is not known here.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn check(_path: &Path) -> Result<(), Distrust> {
    Ok(())
}

/// Every folder and link between the root and what a path leads to, in the order in which the system passes them.
#[cfg(unix)]
fn way(path: &Path) -> Result<Vec<Node>, (PathBuf, io::Error)> {
    use std::{os::unix::fs::MetadataExt, path::Component};
    let at_fault = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let look = |path: &Path| {
        let metadata = fs::symlink_metadata(path).map_err(at_fault(path))?;
        let kind = match metadata.file_type() {
            kind if kind.is_symlink() => Kind::Link,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::File,
        };
        let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        Ok(Node { path: path.to_owned(), kind, owner, group, mode })
    };
    // The last is the next to go.
    let parts = |path: &Path| {
        let parts = path.components().rev().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        parts.map(|part| part.as_os_str().to_owned()).collect::<Vec<OsString>>()
    };
    let path = std::path::absolute(path).map_err(at_fault(path))?;
    let mut at = PathBuf::from("/");
    let mut way = vec![look(&at)?];
    let mut ahead = parts(&path);
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let node = look(&next)?;
        if node.kind == Kind::Link {
            links += 1;
            if links > LINKS_MAX {
                return Err((path, io::Error::other("too many links")));
            }
            let target = fs::read_link(&next).map_err(at_fault(&next))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            ahead.extend(parts(&target));
        } else {
            at = next;
        }
        way.push(node);
    }
    Ok(way)
}

impl Account {
    /// That of this process.
    #[cfg(unix)]
    pub fn of_process() -> Self {
        let read = |file| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let user = rustix::process::geteuid().as_raw();
        Self { user, own_group: own_group(user, &read("/etc/passwd"), &read("/etc/group")) }
    }
}

/// The primary group of a user, where nobody else is in it but root; `passwd` and `group` are the texts of those files
/// in `/etc`.
#[cfg_attr(not(unix), allow(dead_code, reason = "there are no such files"))]
fn own_group(user: u32, passwd: &str, group: &str) -> Option<u32> {
    let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let users: Vec<(String, u32, u32)> = passwd
        .lines()
        .filter_map(|line| match fields(line).as_slice() {
            [name, _, user, group, ..] => Some((name.clone(), user.parse().ok()?, group.parse().ok()?)),
            _ => None,
        })
        .collect();
    let (_, _, own) = users.iter().find(|(_, number, _)| *number == user)?;
    let is_us = |number: u32| number == user || number == ROOT;
    let others = users.iter().any(|(_, number, primary)| primary == own && !is_us(*number));
    let our_name = |name: &str| users.iter().any(|(known, number, _)| known == name && is_us(*number));
    let shared = group.lines().any(|line| match fields(line).as_slice() {
        [_, _, number, members, ..] if number.parse() == Ok(*own) => {
            members.split(',').map(str::trim).any(|name| !name.is_empty() && !our_name(name))
        }
        _ => false,
    });
    (!others && !shared).then_some(*own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Account = Account { user: 1000, own_group: Some(1000) };

    /// A way of places with owner, group and mode, links with a mode of 0o777.
    fn verdict(places: &[(&str, u32, u32, u32)]) -> String {
        let way: Vec<Node> = places
            .iter()
            .map(|&(path, owner, group, mode)| {
                let kind = match path {
                    path if path.ends_with('/') => Kind::Folder,
                    path if path.ends_with('@') => Kind::Link,
                    _ => Kind::File,
                };
                Node { path: path.into(), kind, owner, group, mode }
            })
            .collect();
        judge(&way, ME).map_or_else(|distrust| distrust.to_string(), |()| "fine".into())
    }

    #[test]
    fn what_belongs_to_this_user_or_root_and_is_theirs_to_write_is_fine() {
        assert_eq!(verdict(&[("/", 0, 0, 0o755), ("/usr/", 0, 0, 0o755), ("/usr/lib.so", 0, 0, 0o644)]), "fine");
        assert_eq!(verdict(&[("/", 0, 0, 0o755), ("/me/", 1000, 1000, 0o775), ("/me/a", 1000, 1000, 0o664)]), "fine");
        assert_eq!(verdict(&[("/tmp/", 0, 0, 0o1777), ("/tmp/a/", 1000, 7, 0o700)]), "fine");
        assert_eq!(verdict(&[("/", 0, 0, 0o755), ("/link@", 0, 0, 0o777), ("/me", 1000, 7, 0o644)]), "fine");
    }

    #[test]
    fn the_first_place_with_somebody_elses_hand_in_it_is_named() {
        let root = ("/", 0, 0, 0o755);
        let everybody = verdict(&[root, ("/a/", 1000, 7, 0o777), ("/a/b", 1001, 7, 0o644)]);
        assert_eq!(everybody, "/a/ may be written by everybody");
        assert_eq!(verdict(&[root, ("/a", 1000, 1000, 0o646)]), "/a may be written by everybody");
        assert_eq!(verdict(&[root, ("/a", 1000, 7, 0o664)]), "/a may be written by others of group 7");
        assert_eq!(verdict(&[root, ("/a/", 0, 0, 0o775)]), "/a/ may be written by others of group 0");
        let owner = "/a belongs to user 1001, and this program runs as user 1000";
        assert_eq!(verdict(&[root, ("/a", 1001, 1000, 0o600)]), owner);
        // A link that somebody else could turn, and what somebody else has put where all may.
        assert_eq!(verdict(&[root, ("/a@", 1001, 0, 0o777)]), owner.replace("/a", "/a@"));
        assert!(verdict(&[("/tmp/", 0, 0, 0o1777), ("/tmp/a/", 1001, 7, 0o755)]).contains("belongs to user 1001"));
        // The bit keeps a folder's entries, not a file.
        assert_eq!(verdict(&[root, ("/a", 1000, 7, 0o1666)]), "/a may be written by everybody");
    }

    #[test]
    fn a_group_is_the_users_where_nobody_else_is_in_it() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nyou:x:1001:100::/home/you:/bin/sh";
        let of = |user, passwd: &str, group| own_group(user, passwd, group);
        assert_eq!(of(1000, passwd, "me:x:1000:\nusers:x:100:me,you"), Some(1000));
        assert_eq!(of(1000, passwd, "me:x:1000:me,root"), Some(1000));
        assert_eq!(of(1000, passwd, "me:x:1000:you"), None);
        assert_eq!(of(1000, passwd, "me:x:1000:stranger"), None);
        assert_eq!(of(1000, &passwd.replace(":100:", ":1000:"), ""), None);
        assert_eq!(of(0, passwd, "root:x:0:"), Some(0));
        assert_eq!(of(1002, passwd, ""), None, "a user of whom nothing is known");
    }

    #[cfg(unix)]
    #[test]
    fn a_way_passes_links_and_what_they_lead_to() {
        use std::{fs, os::unix::fs::symlink};
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().canonicalize().expect("it is there");
        let in_folder = |name: &str| folder.join(name);
        fs::create_dir_all(in_folder("real/deep")).expect("made");
        fs::write(in_folder("real/file"), "").expect("written");
        symlink("real/deep", in_folder("near")).expect("linked");
        symlink(in_folder("near/../file"), in_folder("far")).expect("linked");
        let way = way(&in_folder("far")).expect("it is there");
        let passed: Vec<_> = way.iter().filter(|node| node.path.starts_with(&folder)).map(|n| n.path.clone()).collect();
        let expected = ["", "far", "", "near", "real", "real/deep", "real/file"];
        // The way to the folder is gone twice: the second link starts at the root.
        assert_eq!(passed, expected.map(|name| if name.is_empty() { folder.clone() } else { in_folder(name) }));
        symlink("turn", in_folder("turn")).expect("linked");
        let endless = check(&in_folder("turn")).expect_err("it leads nowhere").to_string();
        assert!(endless.contains("too many links"), "{endless}");
        assert!(check(&in_folder("none")).expect_err("nothing is there").to_string().contains("cannot be looked at"));
    }
}
