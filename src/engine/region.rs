//! Memory with a part of a file in it that is read once, and then hardly ever again.
//!
//! A matrix is wanted in full while a session is made, which packs it, and the memory has to stay there for as long as
//! the session. To map the file for that would be short and dangerous: a look at a page behind the end of a file that
//! was shortened ends the process. So memory of the process's own is filled by reading, which fails as an error; once
//! the session stands, the file is mapped over it, which costs nothing as long as nobody looks. Who looks all the same
//! sees what was there before.
//!
//! Off Unix the file is mapped from the start: Windows lets nobody shorten a file that is mapped.

use std::{fs::File, io, ops::Range};

/// See the module's description. Ranges and offsets are those of the file, in bytes.
pub(super) struct Region {
    #[cfg(unix)]
    memory: memmap2::MmapMut,
    #[cfg(not(unix))]
    memory: memmap2::Mmap,
    /// Where in the file it begins: at a page's border.
    from: u64,
}

impl Region {
    /// What lies at a range that was read.
    pub(super) fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        self.memory.get(self.place(range)?)
    }

    fn place(&self, range: &Range<u64>) -> Option<Range<usize>> {
        let place = |offset: u64| usize::try_from(offset.checked_sub(self.from)?).ok();
        Some(place(range.start)?..place(range.end)?)
    }
}

#[cfg(unix)]
impl Region {
    /// Reads these ranges of a file, of which there is at least one.
    ///
    /// # Errors
    /// The file ends before they do, cannot be read, or there is no memory.
    pub(super) fn read(file: &File, ranges: &[Range<u64>]) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let page = rustix::param::page_size() as u64;
        let from = ranges.iter().map(|range| range.start).min().unwrap_or(0) / page * page;
        let to = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        if to > file.metadata()?.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let memory = memmap2::MmapMut::map_anon(usize::try_from(to - from).map_err(io::Error::other)?)?;
        // Fewer pages to ask for, where there are large ones. Only a matter of time.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let mut region = Self { memory, from };
        for range in ranges {
            let place = region.place(range).and_then(|place| region.memory.get_mut(place));
            file.read_exact_at(place.ok_or(io::ErrorKind::InvalidInput)?, range.start)?;
        }
        Ok(region)
    }

    /// Gives the memory back: whoever looks again sees the file.
    #[expect(unsafe_code, reason = "mapping over memory is unsafe by nature; see the comment at the call")]
    pub(super) fn rest(self, file: &File) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
        let (start, length) = (self.memory.as_ptr().cast_mut().cast(), self.memory.len());
        // A mapping that fails may have taken away what was there, so it is tried elsewhere first.
        // SAFETY: the system chooses where, and what it mapped there is unmapped and was never looked at.
        let tried = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, self.from)
                .and_then(|there| munmap(there, length))
        };
        if let Err(error) = tried {
            tracing::debug!(%error, "what was read of a file stays in memory");
            return self;
        }
        // SAFETY: the memory is this region's own, begins at a page's border and keeps its length, and `self` is had by
        // value, so that nobody has a reference into it; whom it was lent as a pointer only reads. The mapping is
        // read-only and private, and nothing here writes from now on. It is unmapped where the memory would have been.
        let mapped =
            unsafe { mmap(start, length, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED, file, self.from) };
        if let Err(error) = mapped {
            tracing::debug!(%error, "what was read of a file stays in memory");
        }
        self
    }
}

#[cfg(not(unix))]
impl Region {
    /// Maps a file that has these ranges.
    ///
    /// # Errors
    /// The file ends before they do, or cannot be mapped.
    #[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see the comment at the call")]
    pub(super) fn read(file: &File, ranges: &[Range<u64>]) -> io::Result<Self> {
        // SAFETY: the system lets nobody shorten a file that is mapped, and the mapping is read-only.
        let memory = unsafe { memmap2::Mmap::map(file) }?;
        let region = Self { memory, from: 0 };
        let there = ranges.iter().all(|range| region.bytes(range).is_some());
        there.then_some(region).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Nothing to give back.
    pub(super) fn rest(self, _file: &File) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_was_read_is_there_before_and_after_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let bytes: Vec<u8> = (0..100_000u32).map(|place| (place / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let ranges = [70_000..90_001, 9_999..20_000];
        let mut region = Region::read(&file, &ranges).unwrap();
        let seen = |region: &Region, range: &Range<u64>| {
            assert_eq!(region.bytes(range).unwrap(), &bytes[range.start as usize..range.end as usize], "{range:?}");
        };
        ranges.iter().for_each(|range| seen(&region, range));
        let at = region.bytes(&ranges[0]).unwrap().as_ptr();
        region = region.rest(&file);
        ranges.iter().for_each(|range| seen(&region, range));
        assert_eq!(region.bytes(&ranges[0]).unwrap().as_ptr(), at);
        assert_eq!(region.bytes(&(0..10)), None);
        let beyond = Region::read(&file, &[0..10, 99_999..100_001]);
        assert!(beyond.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_shortened_changes_nothing_that_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let file = File::open(&path).unwrap();
        let range = 10..90_000;
        let region = Region::read(&file, std::slice::from_ref(&range)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(region.bytes(&range).unwrap().iter().all(|&byte| byte == 7));
        // Nobody looks; the memory is given back with the file behind it gone.
        drop(region.rest(&file));
        assert!(Region::read(&file, &[range]).is_err());
    }
}
