//! Files that are mapped shared: their server's side of `mem::file_pages`.
//!
//! Servers do not know about mappings. Everything that reads or changes a file goes through the
//! kernel, which keeps memory and file alike:
//!
//! - Readers ([`before_read`]) write the dirty pages of their range first. So there is one way to
//!   read a file: from its server.
//! - Changes ([`change`](change::change)) take the pages of their range out of memory, after
//!   writing those that were stored to.
//! - Before a page becomes dirty its server is asked to reserve its space. So write-back to a
//!   healthy server never fails, and a store that has no space fails itself (SIGBUS).
//!
//! A file's pages stay after its last mapping until they are written, because neither the end of a
//! process nor munmap waits for a server (X9). The kernel's writers do that (`writers`), and write
//! what is in the way of others when memory is short.
//!
//! Only files are mapped that change by requests of this kernel alone, or for which the server
//! grants leases (`leases`); ENODEV elsewhere (M6).
//!
//! Locks: `MappedFile::size`, the file's lock, sleeps, also while its server is waited for. It is
//! taken after an open file's position lock and before anything of `mem`. While it is held, no
//! program's memory is touched, and no other file's lock is taken. `FILES` is a spin lock, never
//! held across a wait.

mod change;
mod failures;
mod leases;
mod write_back;
mod writers;

pub use change::{Extent, change};
pub use failures::{Failures, latest as latest_failure};
pub use leases::recall;
pub use writers::{MAX_WRITERS, await_work, begin_writers, write_what_is_due};

use super::{FileObject, Identity, MAX_OFFSET, MappingSource, mutants};
use crate::mem::file_pages::{Keeper, Opened, Reservation};
use crate::mem::stores::Share;
use crate::mem::{
    Backing, Claim, FileMapping, FilePages, PAGE_BYTES, Page, PageRange, Space, fallible,
};
use crate::sync::{Mutex, Once, SleepLock, rank};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::{Bound, RangeInclusive};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{AllocateMode, FileId};

/// All pages of a file.
const EVERYTHING: PageRange = PageRange { start: Page(0), end: Page(u64::MAX) };

/// Files that programs have mapped, until they are found written and unused.
static FILES: Mutex<BTreeMap<Identity, Arc<MappedFile>>, rank::SharedMappings> =
    Mutex::new(BTreeMap::new());
/// Their number. Usually 0, and then all functions here return at once.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A server with mapped files.
#[derive(Default)]
struct Server {
    /// The dirty pages of its files.
    share: Arc<Share>,
    /// A writer waits for it.
    is_served: AtomicBool,
}

/// A file with shared mappings.
struct MappedFile {
    identity: Identity,
    /// For messages.
    path: Vec<u8>,
    pages: Arc<FilePages>,
    server: Arc<Server>,
    /// By which pages are fetched.
    reader: Arc<dyn FileObject>,
    /// Open for writing, once it was mapped by such an open file.
    writer: Once<Arc<dyn FileObject>>,
    /// The file's lock: it orders write-back, first stores and changes. The file's size, where it
    /// is known.
    size: SleepLock<Option<ByteCount>, rank::SharedMapping>,
    failures: Arc<Failures>,
    retry: writers::Retry,
    /// What is called when the lease that the server recalls has ended.
    recall: Mutex<Option<leases::Answer>, rank::Recall>,
}

/// Whether there is any shared mapping of a file.
pub fn any() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

fn find(identity: Identity) -> Option<Arc<MappedFile>> {
    if any() { FILES.lock().get(&identity).cloned() } else { None }
}

fn find_object(object: &Arc<dyn FileObject>) -> Option<Arc<MappedFile>> {
    if any() { find(object.identity()?) } else { None }
}

/// What a region is backed by that maps a file from `offset` on, and the failures of write-back.
/// `object` is what `opened` has open for reading, by this path. ENODEV where the file's bytes may
/// change without this kernel's knowledge (M6).
pub fn map(
    space: &Arc<Space>,
    object: &Arc<dyn FileObject>,
    path: &[u8],
    opened: Arc<dyn Opened>,
    offset: FileOffset,
    length: ByteCount,
) -> Result<(Backing, Arc<Failures>), Errno> {
    if offset.checked_add(length).is_none_or(|end| end > MAX_OFFSET) {
        return Err(Errno::EOVERFLOW);
    }
    // What a server has in memory depends on no other server (F8).
    if space.policy.is_server() {
        return Err(Errno::ENODEV);
    }
    let identity = object.identity().ok_or(Errno::ENODEV)?;
    let source = object.mapping_source().ok_or(Errno::ENODEV)?;
    writers::ensure(identity.device)?;
    let mut files = FILES.lock();
    let server = files.range(of_device(identity.device)).next().map(|(_, file)| &file.server);
    let server = server.cloned().unwrap_or_default();
    let mapped = match files.entry(identity) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let path = fallible::to_vec(path)?;
            place.insert(Arc::new_cyclic(|me: &Weak<MappedFile>| {
                let MappingSource { pager, handle, needs_lease } = source;
                let keeper = me.clone() as Weak<dyn Keeper>;
                let file = (handle, FileId(identity.inode));
                let share = server.share.clone();
                let account = &space.account;
                MappedFile {
                    identity,
                    path,
                    pages: FilePages::new(pager, file, needs_lease, keeper, share, account),
                    server,
                    reader: object.clone(),
                    writer: Once::new(),
                    size: SleepLock::new(None),
                    failures: Arc::default(),
                    retry: writers::Retry::default(),
                    recall: Mutex::new(None),
                }
            }))
        }
    };
    if opened.may_write() {
        mapped.writer.call_once(|| object.clone());
    }
    // Under the lock: nobody finds the file unused from here on.
    let mapping = FileMapping::new(&mapped.pages, opened);
    let failures = mapped.failures.clone();
    COUNT.store(files.len(), Ordering::Relaxed);
    drop(files);
    // Changes that began before found no mapping. Those from here on do.
    object.await_changes()?;
    let first = (offset - FileOffset::ZERO).whole_pages().0;
    Ok((Backing::File { mapping, first }, failures))
}

/// Writes the dirty pages of a range to the file. Called before every read of it.
pub fn before_read(
    object: &Arc<dyn FileObject>,
    offset: FileOffset,
    length: ByteCount,
) -> Result<(), Errno> {
    match find_object(object) {
        Some(file) if !mutants::read_past_stores() => {
            file.synchronise(pages_of(offset, offset.saturating_add(length)))
        }
        _ => Ok(()),
    }
}

/// Writes all dirty pages of a file, as for fsync(2).
pub fn write_file(object: &Arc<dyn FileObject>) -> Result<(), Errno> {
    before_read(object, FileOffset::ZERO, ByteCount(MAX_OFFSET.0))
}

/// Writes the dirty pages of the files that are mapped in a range, as msync(2) does. Reports also
/// what has failed and was not reported to the open files that were mapped.
pub fn synchronise(space: &Arc<Space>, range: PageRange) -> Result<(), Errno> {
    let (mut rest, mut result) = (range, Ok(()));
    while any()
        && let Some((mapping, pages, behind)) = space.next_mapped_file(rest)
    {
        rest = behind;
        result = result.and(mapping.synchronise(pages));
    }
    result
}

/// The failure of write-back of a file that was not reported to an open file of it.
pub fn report(object: &Arc<dyn FileObject>, opened: &dyn Opened) -> Result<(), Errno> {
    find_object(object).map_or(Ok(()), |mapped| mapped.failures.report(opened))
}

/// Writes the dirty pages of all files of one mount, by its device number. Waits for its server
/// only.
pub fn write_mount(device: u64) {
    let mut last = None;
    while any()
        && let Some(file) = after(device, last)
    {
        last = Some(file.identity);
        // The caller synchronises many files, and has no use for the error of one.
        let _ = file.synchronise(EVERYTHING);
    }
}

/// The same for all devices of which `is_written` is false: the mounts that were unmounted.
pub fn write_others(is_written: impl Fn(u64) -> bool) {
    let mut next = 0;
    while any()
        && let Some(device) = device_from(next)
    {
        if !is_written(device) {
            write_mount(device);
        }
        next = device + 1;
    }
}

/// Whether files of a device are mapped, or were and are still in memory.
pub fn has_files(device: u64) -> bool {
    any() && FILES.lock().range(of_device(device)).next().is_some()
}

/// The first mapped file of a device behind `last`, or the first.
fn after(device: u64, last: Option<Identity>) -> Option<Arc<MappedFile>> {
    let files = FILES.lock();
    let all = of_device(device);
    let behind =
        (last.map_or(Bound::Included(*all.start()), Bound::Excluded), Bound::Included(*all.end()));
    files.range(behind).next().map(|(_, file)| file.clone())
}

/// The keys of a device's files.
fn of_device(device: u64) -> RangeInclusive<Identity> {
    Identity { device, inode: 0 }..=Identity { device, inode: u64::MAX }
}

/// The lowest device number from `first` on that has mapped files.
fn device_from(first: u64) -> Option<u64> {
    let from = Identity { device: first, inode: 0 };
    FILES.lock().range(from..).next().map(|(identity, _)| identity.device)
}

/// Offset of the first byte of a page of a file.
fn start_of(page: Page) -> FileOffset {
    FileOffset(page.start().0)
}

/// The pages that some bytes lie in.
fn pages_of(start: FileOffset, end: FileOffset) -> PageRange {
    let first = Page(start.0 / PAGE_BYTES as u64);
    PageRange { start: first, end: Page(end.0.div_ceil(PAGE_BYTES as u64)).max(first) }
}

impl MappedFile {
    /// The open file by which pages are written.
    fn writer(&self) -> Result<&Arc<dyn FileObject>, Errno> {
        self.writer.get().ok_or(Errno::EIO)
    }

    /// Has the server reserve space for a page, and perhaps for others that are likely to be stored
    /// to next. The caller holds the file's lock.
    fn reserve(&self, page: Page) -> Result<(), Errno> {
        let writer = self.writer()?;
        let ask = |pages: PageRange| {
            let length = pages.pages().bytes();
            writer.allocate(start_of(pages.start), length, AllocateMode::KeepSize)?;
            self.pages.note_reserved(pages);
            Ok(())
        };
        let (wanted, single) = (self.pages.to_reserve(page), PageRange::single(page));
        match ask(wanted) {
            // There is no space for all of them.
            Err(Errno::ENOSPC) if wanted != single => ask(single),
            result => result,
        }
    }

    /// The file's size. `known` is what the file's lock protects.
    fn size(&self, known: &mut Option<ByteCount>) -> Result<ByteCount, Errno> {
        match *known {
            Some(size) => Ok(size),
            None => Ok(*known.insert(self.reader.stat()?.size)),
        }
    }
}

impl Keeper for MappedFile {
    fn admit_store(&self, page: Page, claim: Claim) -> Result<(), Errno> {
        while !self.server.share.admits() {
            self.write_some_back()?;
        }
        let _size = self.size.lock()?;
        if !self.pages.needs_reservation(page) {
            return Ok(());
        }
        if !mutants::reserve_nothing() {
            self.reserve(page)?;
        }
        self.pages.make_own(page, Reservation::Made, claim)
    }

    fn renew_lease(&self) -> Result<(), Errno> {
        self.begin_lease()
    }

    fn synchronise(&self, range: PageRange) -> Result<(), Errno> {
        if !self.pages.is_dirty_in(range) {
            return Ok(());
        }
        let mut size = self.size.lock()?;
        self.write_all_back(&mut size, range)
    }

    fn report(&self, opened: &dyn Opened) -> Result<(), Errno> {
        self.failures.report(opened)
    }
}
