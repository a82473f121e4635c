//! A disk in memory that has so much room, and fails when it is told to.

use std::{
    collections::BTreeMap,
    io::{Error, ErrorKind, Read, Write},
};

use super::*;

#[derive(Clone, Default)]
struct Faulty(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Bytes that still fit; `None`: all.
    room: Option<usize>,
    /// Things that are still done before one fails, as what; `None`: none does.
    fault: Option<(usize, ErrorKind)>,
}

struct Handle {
    disk: Faulty,
    name: String,
    at: usize,
}

impl Faulty {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn enter(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match &mut state.fault {
            Some((0, kind)) => Err(Error::from(*kind)),
            Some((left, _)) => {
                *left -= 1;
                Ok(state)
            }
            None => Ok(state),
        }
    }
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.enter()?;
        let count = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if count < bytes.len() && count == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        state.room = state.room.map(|room| room - count);
        state.files.get_mut(&self.name).unwrap().extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Handle {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.enter()?;
        let count = (&state.files[&self.name][self.at..]).read(to)?;
        self.at += count;
        Ok(count)
    }
}

impl Disk for Faulty {
    type File = Handle;

    fn create(&self, name: &str) -> io::Result<Handle> {
        self.enter()?.files.insert(name.to_owned(), Vec::new());
        Ok(Handle { disk: self.clone(), name: name.to_owned(), at: 0 })
    }

    fn finish(&self, _file: Handle, name: &str, to: &str) -> io::Result<()> {
        drop(self.enter()?);
        let mut state = self.enter()?;
        let file = state.files.remove(name).unwrap();
        state.files.insert(to.to_owned(), file);
        drop(state);
        // The folder's sync may fail when the file has its name.
        drop(self.enter()?);
        Ok(())
    }

    fn open(&self, name: &str) -> Result<(Handle, u64), Unfit> {
        let bytes = self.enter()?.files.get(name).ok_or(Error::from(ErrorKind::NotFound))?.len();
        Ok((Handle { disk: self.clone(), name: name.to_owned(), at: 0 }, bytes as u64))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let removed = state.files.remove(name).ok_or(Error::from(ErrorKind::NotFound))?;
        state.room = state.room.map(|room| room + removed.len());
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        name.to_owned()
    }
}

#[test]
fn a_full_disk_is_told_as_that_and_nothing_is_left_on_it() {
    let (loader, disk) = (loader(), Faulty::default());
    let store = Store::new(disk.clone(), 1 << 20, Arc::new(loader.clone()));
    let states = [context(&loader, 30)];
    let whole = store.put(KeptId(0), &name("a"), &states).unwrap();
    for room in 0..whole as usize {
        disk.state().room = Some(room);
        let told = store.put(KeptId(1), &name("b"), &states).unwrap_err();
        assert_eq!(told, KeepError::Full { bytes: whole, room: Room::Disk });
        let left = disk.state();
        assert_eq!((left.files.len(), left.room), (1, Some(room)), "with room for {room}");
        drop(left);
        // What was kept before is still there.
        assert_same(&store.take(KeptId(0), &name("a"), &histories(&states)).unwrap(), &states);
    }
    disk.state().room = Some(whole as usize);
    store.put(KeptId(1), &name("b"), &states).unwrap();
    assert_same(&store.take(KeptId(1), &name("b"), &histories(&states)).unwrap(), &states);
}

#[test]
fn whatever_fails_is_an_error_and_leaves_nothing() {
    let (loader, disk) = (loader(), Faulty::default());
    let store = Store::new(disk.clone(), 1 << 20, Arc::new(loader.clone()));
    let states = [context(&loader, 30)];
    let mut failed = 0;
    for left in 0.. {
        disk.state().fault = Some((left, ErrorKind::Other));
        let put = store.put(KeptId(1), &name("b"), &states);
        if put.is_ok() {
            break;
        }
        assert!(matches!(put, Err(KeepError::Io { done: "written", .. })), "{put:?}");
        assert!(disk.state().files.is_empty() && store.files().used == 0, "after {left} things");
        assert_eq!(store.take(KeptId(1), &name("b"), &histories(&states)), Err(KeepError::Unknown(KeptId(1))));
        failed += 1;
    }
    // It is created, written page by page, synced, named, and so is its name.
    assert_eq!(failed, 1 + 9 + 3);
    for left in 0.. {
        disk.state().fault = Some((left, ErrorKind::Other));
        match store.take(KeptId(1), &name("b"), &histories(&states)) {
            Ok(found) => {
                assert_same(&found, &states);
                break;
            }
            Err(told) => assert!(matches!(told, KeepError::Io { done: "read", .. }), "{told}"),
        }
    }
}

#[test]
fn files_stay_within_their_budget() {
    let (loader, disk) = (loader(), Faulty::default());
    let states = [context(&loader, 30)];
    let bytes =
        Store::new(Faulty::default(), 1 << 20, Arc::new(loader.clone())).put(KeptId(0), &name("a"), &states).unwrap();
    let max = 3 * bytes + 1;
    let store = Store::new(disk.clone(), max, Arc::new(loader.clone()));
    for id in 0..3 {
        assert_eq!(store.put(KeptId(id), &name("a"), &states), Ok(bytes));
    }
    let full = KeepError::Full { bytes, room: Room::Budget { used: 3 * bytes, max } };
    assert_eq!(store.put(KeptId(3), &name("a"), &states), Err(full.clone()));
    assert!(full.is_full());
    // One that takes the place of another needs no room of its own.
    assert_eq!(store.put(KeptId(2), &name("a"), &states), Ok(bytes));
    store.forget(KeptId(0));
    assert_eq!(store.put(KeptId(3), &name("a"), &states), Ok(bytes));
    let files: usize = disk.state().files.values().map(Vec::len).sum();
    assert_eq!((files as u64, store.files().used), (3 * bytes, 3 * bytes));
}
