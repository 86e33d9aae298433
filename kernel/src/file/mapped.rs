//! Shared mappings of files: one shared memory object for each file, kept coherent with the file on
//! its server.
//!
//! Servers do not know about mappings. All access goes through the kernel, which keeps both sides
//! coherent: before a file is read or changed, dirty pages of its mappings are written to it; after
//! a write, the written bytes are copied to the mapped pages. The kernel knows which pages were
//! stored to, and limits them (`mem::stores`); those whose fingerprint is still that of the file's
//! bytes need not be written. Such files are limited, too ([`MAX_BYTES`]).
//!
//! A file's memory is kept after its last mapping, because neither the end of a process nor munmap
//! waits for a server (X9). Until it is written it acts as a page cache: newer than the file, and
//! seen by every reader. Only clients of a server wait for it: those that open or map a file of its
//! mount ([`write_unused`]), synchronise it ([`write_mount`]), name the mapping ([`write_range`]),
//! or store to too many pages.
//!
//! Locks: `MappedFile::fingerprints` (sleeps) is held while writing back, changing the file, and
//! copying the change to the mapped pages, so that none undoes the other. It is taken after an open
//! file's position lock, also in the fault of a store that waits. `FILES` is a spin lock, never
//! held while waiting.

mod writing;

use super::{FileObject, Identity, Io, UserBuffers, WriteOutcome};
use crate::mem::stores::Share;
use crate::mem::{self, OutOfMemory, PAGE_BYTES, SharedMemory, Space, UserSlice, fallible};
use crate::sync::{Mutex, SleepLock, rank};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Bound, RangeInclusive};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use foundation::{ByteCount, Errno, FileOffset, PageCount};

/// The largest file offset of a shared mapping; ENODEV beyond.
pub const MAX_BYTES: ByteCount = ByteCount(64 << 20);

/// Frames that are freed at once while a file is read in.
const FREED_AT_ONCE: usize = 64;

/// Files that programs have mapped, until they are found written and unused.
static FILES: Mutex<BTreeMap<Identity, Arc<MappedFile>>, rank::SharedMappings> =
    Mutex::new(BTreeMap::new());
/// Their number. Usually 0, and then all functions here return at once.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A file with shared mappings.
struct MappedFile {
    /// Open for reading and writing.
    object: Arc<dyn FileObject>,
    memory: Arc<SharedMemory>,
    /// The dirty pages of its server's files.
    share: Arc<Share>,
    /// Mappings made so far.
    mappings: AtomicU64,
    /// For each page that was read in, the fingerprint of the file's bytes.
    fingerprints: SleepLock<Fingerprints, rank::SharedMapping>,
}

/// Fingerprints by page number, ascending.
#[derive(Default)]
struct Fingerprints(Vec<(u64, u64)>);

impl Fingerprints {
    fn get(&self, page: u64) -> Option<u64> {
        let at = self.0.binary_search_by_key(&page, |&(page, _)| page).ok()?;
        self.0.get(at).map(|&(_, found)| found)
    }

    fn set(&mut self, page: u64, found: u64) -> Result<(), OutOfMemory> {
        match self.0.binary_search_by_key(&page, |&(page, _)| page) {
            Ok(at) => self.0.get_mut(at).into_iter().for_each(|known| known.1 = found),
            Err(at) => {
                fallible::reserve(&mut self.0, 1)?;
                self.0.insert(at, (page, found));
            }
        }
        Ok(())
    }
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

/// The shared memory of a file, after reading in `length` bytes from `offset` on. `object` must be
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
    mem::register_writer(writing::serve_store);
    let (file, memory) = {
        let mut files = FILES.lock();
        let share = files.range(of_device(identity.device)).next().map(|(_, file)| &file.share);
        let share = share.cloned().unwrap_or_default();
        let file = match files.entry(identity) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                place.insert(Arc::new(MappedFile::new(space, object, share)?)).clone()
            }
        };
        COUNT.store(files.len(), Ordering::Relaxed);
        file.mappings.fetch_add(1, Ordering::Relaxed);
        let memory = file.memory.clone();
        (file, memory)
    };
    file.read_in(space, (offset - FileOffset::ZERO).whole_pages(), end.covering_pages())?;
    Ok(memory)
}

/// Writes dirty pages to the file. Called before every read of it.
pub fn before_read(space: &Arc<Space>, object: &Arc<dyn FileObject>) -> Result<(), Errno> {
    match find(object) {
        Some(file) => file.write_back(space, &mut *file.fingerprints.lock()?),
        None => Ok(()),
    }
}

/// Runs a write, and copies what was written to the mapped pages.
pub fn write(
    space: &Arc<Space>,
    object: &Arc<dyn FileObject>,
    write: impl FnOnce() -> Result<WriteOutcome, Errno>,
) -> Result<WriteOutcome, Errno> {
    let Some(file) = find(object) else { return write() };
    let mut known = file.fingerprints.lock()?;
    file.write_back(space, &mut known)?;
    let written = write()?;
    file.update(space, &mut known, written.start(), written.end)?;
    Ok(written)
}

/// Runs a change of length or holes, and updates all mapped pages.
pub fn change(
    space: &Arc<Space>,
    object: &Arc<dyn FileObject>,
    change: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let Some(file) = find(object) else { return change() };
    let mut known = file.fingerprints.lock()?;
    file.write_back(space, &mut known)?;
    change()?;
    file.update(space, &mut known, FileOffset::ZERO, FileOffset(MAX_BYTES.0))
}

/// Which mapped files are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that nobody maps any more.
    Unused,
}

/// The first mapped file of a device behind `last`, or the first.
fn after(device: u64, last: Option<Identity>) -> Option<(Identity, Arc<MappedFile>)> {
    let files = FILES.lock();
    let all = of_device(device);
    let behind =
        (last.map_or(Bound::Included(*all.start()), Bound::Excluded), Bound::Included(*all.end()));
    files.range(behind).next().map(|(&identity, file)| (identity, file.clone()))
}

/// The keys of a device's files.
fn of_device(device: u64) -> RangeInclusive<Identity> {
    Identity { device, inode: 0 }..=Identity { device, inode: u64::MAX }
}

/// Writes the dirty pages of files of one mount, by its device number. Waits for its server only.
/// Files that are not mapped any more are dropped.
pub fn write_mount(space: &Arc<Space>, device: u64) {
    write_files(space, device, Which::All);
}

/// The same for all devices of which `is_written` is false: the mounts that were unmounted.
pub fn write_others(space: &Arc<Space>, is_written: impl Fn(u64) -> bool) {
    let mut next = 0;
    while let Some(device) = device_from(next) {
        if !is_written(device) {
            write_mount(space, device);
        }
        next = device + 1;
    }
}

/// The lowest device number from `first` on that has mapped files.
fn device_from(first: u64) -> Option<u64> {
    let from = Identity { device: first, inode: 0 };
    FILES.lock().range(from..).next().map(|(identity, _)| identity.device)
}

/// The same for files that are not mapped any more.
pub fn write_unused(space: &Arc<Space>, device: u64) {
    write_files(space, device, Which::Unused);
}

fn write_files(space: &Arc<Space>, device: u64, which: Which) {
    if !any() {
        return;
    }
    let mut last = None;
    while let Some((identity, file)) = after(device, last) {
        last = Some(identity);
        if which == Which::All || file.is_unused() {
            write_and_drop(space, identity, file);
        }
    }
}

/// Writes the dirty pages of the files that are mapped in a range.
pub fn write_range(space: &Arc<Space>, range: UserSlice) -> Result<(), Errno> {
    if !any() {
        return Ok(());
    }
    for memory in space.shared_memory(range)? {
        if let Some((_, file)) = with_memory(&memory) {
            file.write_back(space, &mut *file.fingerprints.lock()?)?;
        }
    }
    Ok(())
}

/// Writes a file's dirty pages, and drops it if it is not mapped any more. Pages that could not be
/// written stay for the next attempt, unless the server is gone.
fn write_and_drop(space: &Arc<Space>, identity: Identity, file: Arc<MappedFile>) {
    let before = file.mappings.load(Ordering::Relaxed);
    let known = file.fingerprints.lock().map_err(Errno::from);
    let written = known.and_then(|mut known| file.write_back(space, &mut known));
    if written.is_err() && !file.object.is_lost() {
        return;
    }
    let mut files = FILES.lock();
    let is_unused = file.is_unused() && file.mappings.load(Ordering::Relaxed) == before;
    let gone = if is_unused { files.remove(&identity) } else { None };
    COUNT.store(files.len(), Ordering::Relaxed);
    drop(files);
    drop(gone);
}

/// The mapped file with this memory.
fn with_memory(memory: &SharedMemory) -> Option<(Identity, Arc<MappedFile>)> {
    let files = FILES.lock();
    let mut all = files.iter();
    let found = all.find(|(_, file)| core::ptr::eq(Arc::as_ptr(&file.memory), memory));
    found.map(|(&identity, file)| (identity, file.clone()))
}

/// Offset of the first byte of a page of a file.
fn start_of(page: u64) -> FileOffset {
    FileOffset::ZERO + PageCount(page).bytes()
}

/// The fingerprint of a page.
fn fingerprint(bytes: &[u8]) -> u64 {
    // FNV-1a by words. Collisions are no attack: a program that maps a file shared may write to it
    // anyway.
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash: u64, chunk| {
        let word = chunk.iter().rev().fold(0, |word: u64, &byte| word << 8 | u64::from(byte));
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

impl MappedFile {
    fn new(
        space: &Arc<Space>,
        object: &Arc<dyn FileObject>,
        share: Arc<Share>,
    ) -> Result<Self, OutOfMemory> {
        Ok(Self {
            object: object.clone(),
            memory: SharedMemory::of_file(&space.account, &share, MAX_BYTES.covering_pages())?,
            share,
            mappings: AtomicU64::new(0),
            fingerprints: SleepLock::new(Fingerprints::default()),
        })
    }

    /// Whether nobody maps it.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.memory) == 1
    }

    fn io<'a>(space: &'a Arc<Space>) -> Io<'a> {
        Io { space, caller: None, nonblocking: false }
    }

    /// Reads a page of the file; bytes past the end are zeros.
    fn read_page(&self, space: &Arc<Space>, page: u64) -> Result<Vec<u8>, Errno> {
        let mut to = UserBuffers::kernel(PAGE_BYTES);
        while !to.remaining().is_zero() {
            let done = ByteCount::of_len(PAGE_BYTES) - to.remaining();
            if self.object.read(&Self::io(space), &mut to, start_of(page) + done)?.is_zero() {
                break;
            }
        }
        let mut bytes = to.into_bytes();
        let missing = PAGE_BYTES.saturating_sub(bytes.len());
        fallible::reserve_exact(&mut bytes, missing)?;
        bytes.resize(PAGE_BYTES, 0);
        Ok(bytes)
    }

    /// Reads in the pages of a range that are not known yet. Frames are freed for them with no lock
    /// held.
    fn read_in(&self, space: &Arc<Space>, first: PageCount, end: PageCount) -> Result<(), Errno> {
        let (mut next, mut failed) = (first.0, None);
        loop {
            match self.read_in_some(space, &mut next, end) {
                Err(Errno::ENOMEM)
                    if failed.replace(next) != Some(next)
                        && mem::make_room(FREED_AT_ONCE, space.policy.claim())? => {}
                result => return result,
            }
        }
    }

    /// Reads in pages from `next` on, which is advanced. ENOMEM where frames are short.
    fn read_in_some(
        &self,
        space: &Arc<Space>,
        next: &mut u64,
        end: PageCount,
    ) -> Result<(), Errno> {
        let mut known = self.fingerprints.lock()?;
        let pages = self.object.stat()?.size.covering_pages().min(end);
        for page in *next..pages.0 {
            *next = page;
            if known.get(page).is_none() {
                let bytes = self.read_page(space, page)?;
                self.memory.write(page, 0, &bytes)?;
                known.set(page, fingerprint(&bytes))?;
            }
        }
        Ok(())
    }

    /// Copies the file's bytes from `start` to `end` to the pages in memory.
    fn update(
        &self,
        space: &Arc<Space>,
        known: &mut Fingerprints,
        start: FileOffset,
        end: FileOffset,
    ) -> Result<(), Errno> {
        let mut now = Box::new([0; PAGE_BYTES]);
        let mut next = 0;
        while let Some(page) = self.memory.next_page(next) {
            next = page + 1;
            let (from, to) = (start.max(start_of(page)), end.min(start_of(page + 1)));
            if from >= to {
                continue;
            }
            let bytes = self.read_page(space, page)?;
            let [from, to] = [from, to].map(|offset| (offset - start_of(page)).to_usize());
            self.memory.write(page, from, bytes.get(from..to).unwrap_or_default())?;
            // Concurrent stores to the rest of the page are newer than the file, so the fingerprint
            // is the file's.
            now.copy_from_slice(&bytes);
            known.set(page, fingerprint(&now[..]))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_differ_in_single_bytes() {
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
