//! Files that programs have mapped shared: one piece of shared memory for each file, kept alike
//! with what its server holds.
//!
//! Servers know nothing of mappings. While a file has one, the kernel, through which all access
//! goes, makes the two look as one: before anybody reads the file, or changes it otherwise, the
//! pages that programs have stored to are written to it; after a write, the written bytes are put
//! into the mapped pages. Which pages were stored to is told by comparing fingerprints: such files
//! are small, and bounded ([`MAX_BYTES`]).
//!
//! A file's memory outlives its last mapping until somebody looks ([`sweep`]): a process that is
//! being killed can wait for no server. Until then the memory is what a page cache would be: newer
//! than the file, and seen by every reader.
//!
//! Locks: `MappedFile::order` (sleeps) covers writing back, changing the file, and putting the
//! change into the mapped pages, so that neither undoes the other. It comes after an open file's
//! position lock. `FILES` is a spin lock, never held while waiting.

use super::{FileObject, Identity, Io, UserBuffers, WriteOutcome, WritePosition};
use crate::mem::{PAGE_BYTES, SharedMemory, Space};
use crate::sync::{Mutex, SleepLock, rank};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use foundation::{ByteCount, Errno, FileOffset, PageCount};

/// A mapping reaches no further into a file than this: beyond, there is no shared mapping (ENODEV).
pub const MAX_BYTES: ByteCount = ByteCount(64 << 20);

/// What is mapped, by file.
static FILES: Mutex<BTreeMap<Identity, Arc<MappedFile>>, rank::SharedMappings> =
    Mutex::new(BTreeMap::new());
/// How many there are: mostly none, and then nothing here costs anything.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A file with shared mappings.
struct MappedFile {
    /// Opened for reading and writing.
    object: Arc<dyn FileObject>,
    memory: Arc<SharedMemory>,
    /// Mappings made so far.
    mappings: AtomicU64,
    /// What the file holds in each page that was brought in, as a fingerprint.
    order: SleepLock<BTreeMap<u64, u64>, rank::SharedMapping>,
}

/// Whether there is any shared mapping of a file.
pub fn any() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

fn find(object: &Arc<dyn FileObject>) -> Option<Arc<MappedFile>> {
    if !any() {
        return None;
    }
    FILES.lock().get(&object.identity()?).cloned()
}

/// The memory that stands for a file, with `length` bytes from `offset` on brought in. `object` is
/// open for reading and writing.
pub fn map(
    space: &Arc<Space>,
    object: &Arc<dyn FileObject>,
    offset: FileOffset,
    length: ByteCount,
) -> Result<Arc<SharedMemory>, Errno> {
    let identity = object.identity().ok_or(Errno::ENODEV)?;
    let end = offset
        .checked_add(length)
        .map(|end| end - FileOffset::ZERO)
        .filter(|&end| end <= MAX_BYTES)
        .ok_or(Errno::ENODEV)?;
    let (file, memory) = {
        let mut files = FILES.lock();
        let fresh = || MappedFile {
            object: object.clone(),
            memory: SharedMemory::new(),
            mappings: AtomicU64::new(0),
            order: SleepLock::new(BTreeMap::new()),
        };
        let file = files.entry(identity).or_insert_with(|| Arc::new(fresh())).clone();
        COUNT.store(files.len(), Ordering::Relaxed);
        file.mappings.fetch_add(1, Ordering::Relaxed);
        let memory = file.memory.clone();
        (file, memory)
    };
    file.bring_in(space, (offset - FileOffset::ZERO).whole_pages(), end.covering_pages())?;
    Ok(memory)
}

/// Brings the file up to date with what programs stored; every reader does so first.
pub fn before_read(space: &Arc<Space>, object: &Arc<dyn FileObject>) -> Result<(), Errno> {
    match find(object) {
        Some(file) => file.write_back(space, &mut *file.order.lock()?),
        None => Ok(()),
    }
}

/// Carries out a write, and puts what was written into the mapped pages.
pub fn write(
    space: &Arc<Space>,
    object: &Arc<dyn FileObject>,
    write: impl FnOnce() -> Result<WriteOutcome, Errno>,
) -> Result<WriteOutcome, Errno> {
    let Some(file) = find(object) else { return write() };
    let mut known = file.order.lock()?;
    file.write_back(space, &mut known)?;
    let written = write()?;
    file.take_over(space, &mut known, written.start(), written.end)?;
    Ok(written)
}

/// Carries out a change of length or of holes, and has all mapped pages show it.
pub fn change(
    space: &Arc<Space>,
    object: &Arc<dyn FileObject>,
    change: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(file) = find(object) else { return change() };
    let mut known = file.order.lock()?;
    file.write_back(space, &mut known)?;
    change()?;
    file.take_over(space, &mut known, FileOffset::ZERO, FileOffset(MAX_BYTES.0))
}

/// Brings all files up to date, and lets go of those that nobody maps any more.
pub fn sweep(space: &Arc<Space>) {
    if !any() {
        return;
    }
    let all: Vec<(Identity, Arc<MappedFile>)> =
        FILES.lock().iter().map(|(identity, file)| (*identity, file.clone())).collect();
    for (identity, file) in all {
        let before = file.mappings.load(Ordering::Relaxed);
        let written = file
            .order
            .lock()
            .map_err(Errno::from)
            .and_then(|mut known| file.write_back(space, &mut known));
        // What could not be written stays, and is tried again.
        if written.is_err() {
            continue;
        }
        let mut files = FILES.lock();
        let is_unused =
            Arc::strong_count(&file.memory) == 1 && file.mappings.load(Ordering::Relaxed) == before;
        let gone = if is_unused { files.remove(&identity) } else { None };
        COUNT.store(files.len(), Ordering::Relaxed);
        drop(files);
        drop(gone);
    }
}

/// Offset of the first byte of a page of a file.
fn start_of(page: u64) -> FileOffset {
    FileOffset::ZERO + PageCount(page).bytes()
}

/// A page and its fingerprint.
fn fingerprint(bytes: &[u8]) -> u64 {
    // FNV-1a by words; pages differ by what programs store, not by what an enemy chooses: who maps
    // a file may write it anyway.
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash: u64, chunk| {
        let word = chunk.iter().rev().fold(0, |word: u64, &byte| word << 8 | u64::from(byte));
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

impl MappedFile {
    fn io<'a>(space: &'a Arc<Space>) -> Io<'a> {
        Io { space, caller: None, nonblocking: false }
    }

    /// Reads a page of the file; what lies behind its end is zeros.
    fn read_page(&self, space: &Arc<Space>, page: u64) -> Result<Vec<u8>, Errno> {
        let mut to = UserBuffers::kernel(PAGE_BYTES);
        while !to.remaining().is_zero() {
            let done = ByteCount::of_len(PAGE_BYTES) - to.remaining();
            if self.object.read(&Self::io(space), &mut to, start_of(page) + done)?.is_zero() {
                break;
            }
        }
        let mut bytes = to.into_bytes();
        bytes
            .try_reserve_exact(PAGE_BYTES.saturating_sub(bytes.len()))
            .map_err(|_| Errno::ENOMEM)?;
        bytes.resize(PAGE_BYTES, 0);
        Ok(bytes)
    }

    /// Brings in pages that are not there yet.
    fn bring_in(&self, space: &Arc<Space>, first: PageCount, end: PageCount) -> Result<(), Errno> {
        let mut known = self.order.lock()?;
        let pages = self.object.stat()?.size.covering_pages().min(end);
        for page in first.0..pages.0 {
            if let Entry::Vacant(unknown) = known.entry(page) {
                let bytes = self.read_page(space, page)?;
                self.memory.write(page, 0, &bytes)?;
                unknown.insert(fingerprint(&bytes));
            }
        }
        Ok(())
    }

    /// Writes the pages that programs have stored to. What they stored behind the end of the file
    /// is nothing of it.
    fn write_back(&self, space: &Arc<Space>, known: &mut BTreeMap<u64, u64>) -> Result<(), Errno> {
        let zeros = fingerprint(&[0; PAGE_BYTES]);
        let mut bytes = Box::new([0; PAGE_BYTES]);
        let mut size = None;
        for page in self.memory.pages() {
            self.memory.read(page, &mut bytes);
            let found = fingerprint(&bytes[..]);
            if known.get(&page).copied().unwrap_or(zeros) == found {
                continue;
            }
            let size = match size {
                Some(size) => size,
                None => *size.insert(self.object.stat()?.size),
            };
            let length = size.saturating_sub(PageCount(page).bytes()).to_usize().min(PAGE_BYTES);
            let mut from = UserBuffers::kernel_bytes(bytes.iter().copied().take(length).collect());
            while !from.remaining().is_zero() {
                let at = start_of(page) + (ByteCount::of_len(length) - from.remaining());
                let at = WritePosition::At(at);
                if self.object.write(&Self::io(space), &mut from, at)?.bytes.is_zero() {
                    return Err(Errno::EIO);
                }
            }
            known.insert(page, found);
        }
        Ok(())
    }

    /// Has the pages that were touched show the file's bytes from `start` to `end`.
    fn take_over(
        &self,
        space: &Arc<Space>,
        known: &mut BTreeMap<u64, u64>,
        start: FileOffset,
        end: FileOffset,
    ) -> Result<(), Errno> {
        let mut now = Box::new([0; PAGE_BYTES]);
        for page in self.memory.pages() {
            let (from, to) = (start.max(start_of(page)), end.min(start_of(page + 1)));
            if from >= to {
                continue;
            }
            let bytes = self.read_page(space, page)?;
            let [from, to] = [from, to].map(|offset| (offset - start_of(page)).to_usize());
            self.memory.write(page, from, bytes.get(from..to).unwrap_or_default())?;
            // Stores to the rest of the page meanwhile are newer than the file: the fingerprint is
            // the file's.
            now.copy_from_slice(&bytes);
            known.insert(page, fingerprint(&now[..]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_single_bytes_apart() {
        let mut page = [7u8; PAGE_BYTES];
        let before = fingerprint(&page);
        for at in [0, 1, 7, 8, 4095] {
            page[at] ^= 1;
            assert_ne!(fingerprint(&page), before, "{at}");
            page[at] ^= 1;
        }
        assert_eq!(fingerprint(&page), before);
    }
}
