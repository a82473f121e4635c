//! A real folder: whose files are, what is believed of them, and what becomes of those of dead processes.

use std::fs;

use super::*;

/// A store with one conversation, its folder and its file.
#[cfg(unix)]
fn kept(above: &Path, loader: &FakeLoader) -> (Arc<dyn Keep>, Vec<Kept>, std::path::PathBuf) {
    let keep = open(above, None, Arc::new(loader.clone())).unwrap();
    let states = vec![context(loader, 21)];
    let before = files(above);
    keep.put(KeptId(5), &name("who is this"), &states).unwrap();
    let new = files(above).into_iter().find(|file| !before.contains(file)).unwrap();
    (keep, states, new)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[cfg(unix)]
#[test]
fn what_lies_on_disk_is_this_users_alone_and_names_nobody() {
    use std::os::unix::fs::MetadataExt;
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("made/here");
    let (_keep, _, file) = kept(&folder, &loader());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&folder), mode(file.parent().unwrap()), mode(&file)), (0o700, 0o700, 0o600));
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.len() == NAME_LEN && name.bytes().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    let bytes = fs::read(&file).unwrap();
    let contains = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!contains(b"who is this") && contains(env!("CARGO_PKG_VERSION").as_bytes()));
}

#[cfg(unix)]
#[test]
fn what_somebody_else_may_have_written_is_not_believed() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let above = tempfile::tempdir().unwrap();
    let (keep, states, file) = kept(above.path(), &loader());
    let take = || keep.take(KeptId(5), &name("who is this"), &histories(&states));
    let distrusted = || assert!(matches!(take(), Err(KeepError::Distrusted { .. })), "{:?}", take());
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (path, own) in [(&*file, 0o600), (file.parent().unwrap(), 0o700)] {
        for others in [0o040, 0o020, 0o004, 0o002, 0o001] {
            set(path, own | others);
            distrusted();
        }
        set(path, own);
        assert_same(&take().unwrap(), &states);
        // Only root can give a file away.
        if chown(path, Some(12_345), None).is_ok() {
            distrusted();
            chown(path, Some(rustix::process::geteuid().as_raw()), None).unwrap();
        }
        assert_same(&take().unwrap(), &states);
    }
    // A link to what is right is a link, and so is what is no file at all.
    let elsewhere = above.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    assert!(matches!(take(), Err(KeepError::Io { done: "read", .. })), "{:?}", take());
    symlink(&elsewhere, &file).unwrap();
    distrusted();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    distrusted();
    fs::remove_dir(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    distrusted();
    fs::remove_file(&file).unwrap();
    fs::rename(&elsewhere, &file).unwrap();
    assert_same(&take().unwrap(), &states);
}

#[cfg(unix)]
#[test]
fn what_is_planted_where_a_file_is_to_be_is_not_written_through() {
    use std::os::unix::fs::symlink;
    let above = tempfile::tempdir().unwrap();
    let (keep, states, file) = kept(above.path(), &loader());
    let victim = above.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let unfinished = format!("{}{UNFINISHED}", file.display());
    symlink(&victim, &unfinished).unwrap();
    let put = || keep.put(KeptId(5), &name("who is this"), &states);
    assert!(matches!(put(), Err(KeepError::Io { done: "written", .. })), "{:?}", put());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    // What was in the way is gone, so the next one is kept.
    put().unwrap();
    assert_same(&keep.take(KeptId(5), &name("who is this"), &histories(&states)).unwrap(), &states);
}

#[cfg(unix)]
#[test]
fn files_that_changed_places_are_noticed() {
    let above = tempfile::tempdir().unwrap();
    let loader = loader();
    let (keep, states, one) = kept(above.path(), &loader);
    let before = files(above.path());
    // As long, and of the same tokens.
    keep.put(KeptId(6), &name("another"), &states).unwrap();
    let other = files(above.path()).into_iter().find(|file| !before.contains(file)).unwrap();
    let aside = above.path().join("aside");
    fs::rename(&one, &aside).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(&aside, &other).unwrap();
    for (id, whose) in [(5, "who is this"), (6, "another")] {
        let told = keep.take(KeptId(id), &name(whose), &histories(&states)).unwrap_err();
        assert!(matches!(told, KeepError::Swapped { .. }), "{told}");
    }
}

#[test]
fn what_dead_processes_have_left_goes_and_what_living_ones_have_stays() {
    let above = tempfile::tempdir().unwrap();
    let loader = loader();
    let states = [context(&loader, 21)];
    let living = open(above.path(), None, Arc::new(loader.clone())).unwrap();
    living.put(KeptId(0), &name("a"), &states).unwrap();
    let theirs = files(above.path());
    // As a process leaves it that is killed: with and without a lock, before and after it had a folder; and what is none.
    let dead = ["spill-0123456789abcdef", "spill-fedcba9876543210", "spill-0000000000000000"];
    for folder in &dead[..2] {
        fs::create_dir(above.path().join(folder)).unwrap();
        fs::write(above.path().join(folder).join("half.new"), "half").unwrap();
        own(&above.path().join(folder));
    }
    for lock in &dead[1..] {
        fs::write(above.path().join(format!("{lock}.lock")), "").unwrap();
    }
    let strange = ["spill-notes", "spill-0123456789abcdeg.lock", "mine"].map(|name| above.path().join(name));
    strange.iter().for_each(|path| fs::write(path, "").unwrap());

    let another = open(above.path(), None, Arc::new(loader.clone())).unwrap();
    for name in dead {
        let left = [above.path().join(name), above.path().join(format!("{name}.lock"))];
        assert!(left.iter().all(|path| !path.exists()), "{name}");
    }
    assert!(strange.iter().chain(&theirs).all(|path| path.exists()), "{:?}", files(above.path()));
    assert_same(&living.take(KeptId(0), &name("a"), &histories(&states)).unwrap(), &states);
    // One that ends leaves nothing.
    another.put(KeptId(0), &name("a"), &states).unwrap();
    drop((another, living));
    let mut left = strange.to_vec();
    left.sort();
    assert_eq!(files(above.path()), left);
    assert!(fs::read_dir(above.path()).unwrap().all(|entry| entry.unwrap().path().is_file()));
}

/// Makes a folder this user's alone.
fn own(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = folder;
}

#[cfg(unix)]
#[test]
fn a_dead_processs_folder_that_is_a_link_or_anothers_is_left_alone() {
    use std::os::unix::fs::{chown, symlink};
    let above = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let precious = elsewhere.path().join("precious");
    fs::write(&precious, "").unwrap();
    let link = above.path().join("spill-0123456789abcdef");
    symlink(elsewhere.path(), &link).unwrap();
    let anothers = above.path().join("spill-fedcba9876543210");
    fs::create_dir(&anothers).unwrap();
    own(&anothers);
    fs::write(anothers.join("file"), "").unwrap();
    let is_given = chown(&anothers, Some(12_345), None).is_ok();
    drop(open(above.path(), None, Arc::new(loader())).unwrap());
    assert!(precious.exists() && link.is_symlink());
    assert_eq!(anothers.join("file").exists(), is_given);
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_may_write_to_or_that_is_a_link_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("spill");
    let opened = |folder: &Path| open(folder, None, Arc::new(loader())).err();
    assert!(opened(&folder).is_none());
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(opened(&folder), Some(SpillError::Distrusted(_))));
    // Entries of such a folder are their owners' alone.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(opened(&folder).is_none());
    let link = above.path().join("link");
    symlink(&folder, &link).unwrap();
    for link in [link.clone(), link.join("")] {
        let refused = opened(&link);
        assert!(matches!(refused, Some(SpillError::Link { .. })), "{refused:?}");
    }
    let file = above.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(opened(&file), Some(SpillError::Io { .. })), "{:?}", opened(&file));
    let refused = SpillError::Link { folder: link };
    assert!(refused.hint().contains("memory.spill"));
}
