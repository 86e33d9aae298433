//! Read-ahead snapshots: a file that is read sequentially in small pieces is answered from a
//! snapshot of its next bytes, without a message for each read.
//!
//! Owns one snapshot for each such open file, and the list of changes in progress. Does not own
//! frames: those are in the frame cache. The list also says when what is kept of the files of
//! programs is valid (`kept`).
//!
//! Invariant (R1): a read-ahead snapshot holds what the file holds now. The server has declared
//! that its files change only by this kernel's requests
//! ([`Features::SOLE`](fsproto::Features::SOLE)), in the order in which they are sent. Every
//! request that changes a file is announced first ([`ReadAhead::begin_change`]), and until its
//! reply has arrived, no snapshot of the file is kept or used; those that are kept are dropped.
//! Where only the reply names the files ([`ReadAhead::begin_path_change`]), none of any file is
//! kept or used meanwhile, and then those of the named files are dropped, or all without a reply.
//! Taking a snapshot updates the access time (X6); the reads that it answers would not update it
//! again within a day, as the file has not changed.
//!
//! Lock: `state`, never held while sending or waiting; snapshots are dropped after unlocking.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{FileId, Handle};

use super::mutants;
use crate::mem::{Copies, KeptFile, Snapshot, UserSlice, fallible, kept_file};
use crate::sync::{Interrupt, Interrupted, Mutex, WaitQueue, rank};

/// Sequential reads after which the next one is read ahead.
const FIRST_READS: u32 = 2;
/// The factor by which that number grows each time that a snapshot was dropped unused.
const BACKOFF: u32 = 8;

/// The read-ahead snapshots of a mount, and when what is kept of its files is valid.
#[derive(Default)]
pub struct ReadAhead {
    /// The mount's number.
    mount: u64,
    state: Mutex<State, rank::ReadAhead>,
    /// Threads that wait for the end of changes.
    ended: WaitQueue,
    /// Their number.
    awaited: AtomicU32,
}

#[derive(Default)]
struct State {
    /// Changes announced so far.
    begun: u64,
    /// Changes in progress: the file, or `None` where it may be any file.
    changing: Vec<Option<FileId>>,
    windows: BTreeMap<(FileId, Handle), Window>,
}

/// A range of a file, read ahead. Starts at a multiple of the page size.
#[derive(Clone)]
pub(super) struct Window {
    pub snapshot: Arc<Snapshot>,
    pub start: FileOffset,
    /// The bytes after the last whole page.
    pub trailing: Arc<[u8]>,
    /// Whether the file ends where the window does.
    pub to_end: bool,
}

impl Window {
    /// How many of `length` bytes from `offset` on a read returns; `None` where the window cannot
    /// answer it.
    pub fn answers(&self, offset: FileOffset, length: ByteCount) -> Option<ByteCount> {
        let left = self.start.saturating_add(self.snapshot.len).saturating_since(offset);
        (offset >= self.start && (length <= left || self.to_end)).then_some(length.min(left))
    }
}

impl State {
    fn is_changing(&self, file: FileId) -> bool {
        self.changing.iter().any(|changing| changing.is_none_or(|changing| changing == file))
            && !mutants::stale_ahead()
    }

    /// Removes a window of a file, or of any.
    fn take_stale(&mut self, file: Option<FileId>) -> Option<Window> {
        if mutants::stale_ahead() {
            return None;
        }
        let from = (file.unwrap_or(FileId::NONE), Handle::NONE);
        let (&key, _) = self.windows.range(from..).next()?;
        if file.is_none_or(|file| file == key.0) { self.windows.remove(&key) } else { None }
    }
}

/// A change in progress of a file that is known; ends when dropped.
pub struct Change<'a> {
    read_ahead: &'a ReadAhead,
    file: Option<FileId>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.read_ahead.state.lock();
        if let Some(index) = state.changing.iter().position(|&changing| changing == self.file) {
            state.changing.swap_remove(index);
        }
        drop(state);
        if self.read_ahead.awaited.load(Ordering::Relaxed) > 0 {
            self.read_ahead.ended.wake_all();
        }
    }
}

/// What a request on paths changes of the files that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Names and the change time, after which the next read updates the access time.
    Names,
    /// The bytes, too.
    Contents,
}

/// A change in progress of files at paths. When it is dropped, what is kept of all files goes,
/// unless the reply has [named](Self::was_of) them.
pub struct PathChange<'a> {
    what: Changes,
    files: Option<[FileId; 2]>,
    /// Dropped last: until then, nothing is kept or used.
    change: Change<'a>,
}

impl PathChange<'_> {
    /// The reply has arrived: at most these files have changed.
    pub fn was_of(mut self, files: [FileId; 2]) {
        self.files = Some(files);
    }

    fn forget(&self, file: Option<FileId>) {
        let read_ahead = self.change.read_ahead;
        read_ahead.drop_stale(file);
        if self.what == Changes::Contents {
            read_ahead.forget_kept(file);
        }
    }
}

impl Drop for PathChange<'_> {
    fn drop(&mut self) {
        match self.files {
            None => self.forget(None),
            Some(files) => files.into_iter().for_each(|file| self.forget(Some(file))),
        }
    }
}

/// The number of changes that had begun at an instant when none of a file was in progress.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangeCount(u64);

impl ReadAhead {
    /// Nothing, of the mount with this number.
    pub(super) fn new(mount: u64) -> Self {
        Self { mount, ..Self::default() }
    }

    /// Announces a request that changes files at paths, which its reply names. The change is in
    /// progress until the result is dropped.
    pub fn begin_path_change(&self, what: Changes) -> Result<PathChange<'_>, Errno> {
        Ok(PathChange { what, files: None, change: self.begin(None)? })
    }

    /// Announces a request that changes a file. The change is in progress until the result is
    /// dropped.
    pub fn begin_change(&self, file: FileId) -> Result<Change<'_>, Errno> {
        let change = self.begin(Some(file))?;
        self.drop_stale(Some(file));
        self.forget_kept(Some(file));
        Ok(change)
    }

    /// Waits until no change of a file is in progress.
    pub fn await_changes(&self, file: FileId) -> Result<(), Interrupted> {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        let ended = self.ended.wait_for_server(Interrupt::Killable, || {
            (!self.state.lock().is_changing(file)).then_some(())
        });
        self.awaited.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    fn begin(&self, file: Option<FileId>) -> Result<Change<'_>, Errno> {
        let mut state = self.state.lock();
        fallible::push(&mut state.changing, file)?;
        state.begun += 1;
        Ok(Change { read_ahead: self, file })
    }

    /// Drops the snapshots of a file, or of all.
    fn drop_stale(&self, file: Option<FileId>) {
        loop {
            // Dropped while the lock is not held.
            let stale = self.state.lock().take_stale(file);
            if stale.is_none() {
                return;
            }
        }
    }

    fn forget_kept(&self, file: Option<FileId>) {
        if !mutants::run_old_program() {
            kept_file::forget(self.mount, file.map(|file| file.0));
        }
    }

    /// Drops all snapshots, which frees the space that the server has reserved for them. Returns
    /// whether there was any.
    pub fn drop_all(&self) -> bool {
        let windows = core::mem::take(&mut self.state.lock().windows);
        !windows.is_empty()
    }

    /// What is kept of a file, unless the file is changing.
    pub(super) fn find_file(&self, file: FileId) -> Option<KeptFile> {
        let state = self.state.lock();
        let place = kept_file::Place { mount: self.mount, file: file.0 };
        if state.is_changing(file) { None } else { kept_file::find(place) }
    }

    /// Keeps a file that was requested at `before`, unless a change has begun since. Returns
    /// whether it is unchanged.
    pub(super) fn keep_file(&self, file: FileId, before: ChangeCount, contents: &KeptFile) -> bool {
        let state = self.state.lock();
        if ChangeCount(state.begun) != before {
            return false;
        }
        let place = kept_file::Place { mount: self.mount, file: file.0 };
        // Without memory for it, it is not kept.
        let _ = kept_file::keep(place, contents);
        true
    }

    /// Drops the snapshot of a file that is being closed.
    pub fn forget(&self, file: FileId, handle: Handle) {
        let window = self.state.lock().windows.remove(&(file, handle));
        drop(window);
    }

    /// The window of an open file, unless the file is changing.
    #[inline]
    pub(super) fn find(&self, file: FileId, handle: Handle) -> Option<Window> {
        let state = self.state.lock();
        if state.is_changing(file) { None } else { state.windows.get(&(file, handle)).cloned() }
    }

    /// The number of changes begun so far; `None` while one of this file is in progress.
    pub(super) fn change_count(&self, file: FileId) -> Option<ChangeCount> {
        let state = self.state.lock();
        (!state.is_changing(file)).then_some(ChangeCount(state.begun))
    }

    /// Keeps a window whose snapshot was requested at `before`, unless a change has begun since.
    /// Returns whether it was kept.
    pub(super) fn keep(
        &self,
        file: FileId,
        handle: Handle,
        before: ChangeCount,
        window: &Window,
    ) -> bool {
        let mut state = self.state.lock();
        let is_current = ChangeCount(state.begun) == before || mutants::stale_ahead();
        let old =
            if is_current { state.windows.insert((file, handle), window.clone()) } else { None };
        drop(state);
        drop(old);
        is_current
    }
}

/// How an open file has been read so far. Races between readers cost only efficiency.
#[derive(Debug)]
pub struct ReadPattern {
    /// Where the next sequential read begins.
    next: AtomicU64,
    /// Sequential reads so far that returned all bytes requested.
    reads: AtomicU32,
    /// How many of them must precede a read-ahead.
    required: AtomicU32,
    /// Whether a window was kept.
    has_window: AtomicBool,
    /// Where the buffer of the last small read ended.
    memory: AtomicU64,
    /// Whether small reads are copied, because one that was associated was touched at once.
    copies: Copies,
}

impl Default for ReadPattern {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            reads: AtomicU32::new(0),
            required: AtomicU32::new(FIRST_READS),
            has_window: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            copies: Copies::default(),
        }
    }
}

impl ReadPattern {
    /// Whether a read at `offset` should read ahead.
    pub(super) fn is_sequential(&self, offset: FileOffset) -> bool {
        offset.0 == self.next.load(Ordering::Relaxed)
            && self.reads.load(Ordering::Relaxed) >= self.required.load(Ordering::Relaxed)
    }

    /// Whether a window was kept.
    pub(super) fn has_window(&self) -> bool {
        self.has_window.load(Ordering::Relaxed)
    }

    /// Whether a small read may be associated (R11): its buffer begins where that of the one before
    /// ended, and pages are not touched as soon as they are read. `touched` returns whether those
    /// before the buffer were.
    pub(super) fn coalesces(&self, buffer: UserSlice, touched: impl FnOnce() -> bool) -> bool {
        let before = self.memory.load(Ordering::Relaxed);
        self.memory.store(buffer.end().0, Ordering::Relaxed);
        if self.copies.next() || before != buffer.addr().0 {
            return false;
        }
        let touched = touched();
        self.copies.learn(touched);
        !touched
    }

    /// Records that a window was kept.
    pub(super) fn set_window(&self) {
        self.has_window.store(true, Ordering::Relaxed);
    }

    /// Records a read that returned `count` of `requested` bytes.
    pub fn record(&self, offset: FileOffset, requested: ByteCount, count: ByteCount) {
        let continues = offset.0 == self.next.load(Ordering::Relaxed);
        let before = if continues { self.reads.load(Ordering::Relaxed) } else { 0 };
        let reads = if count < requested { 0 } else { before.saturating_add(1) };
        self.reads.store(reads, Ordering::Relaxed);
        self.next.store(offset.saturating_add(count).0, Ordering::Relaxed);
    }

    /// Records that the window was dropped or could not be taken: the next attempt takes longer.
    pub(super) fn back_off(&self) {
        self.has_window.store(false, Ordering::Relaxed);
        self.reads.store(0, Ordering::Relaxed);
        let required = self.required.load(Ordering::Relaxed).saturating_mul(BACKOFF);
        self.required.store(required, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Fetch, Pager, SnapshotSource, host};
    use foundation::SnapshotOffset;

    /// Nothing is fetched.
    struct Nowhere;

    impl Pager for Nowhere {
        fn start(&self, _: Arc<Fetch>) {}
        fn ask_keeper(&self, _: Arc<Fetch>) {}
        fn close(&self, _: Handle) {}
    }

    const FILES: [FileId; 3] = [FileId(1), FileId(2), FileId(3)];

    fn window(file: FileId) -> Window {
        let (len, offset) = (ByteCount(PAGE), FileOffset(0));
        let source = SnapshotSource::File { mount: 0, file: file.0, version: 1, offset };
        let (handle, end) = (Handle(file.0), SnapshotOffset(PAGE));
        let snapshot = Snapshot::new(Arc::new(Nowhere), handle, len, source, Vec::new(), end);
        Window { snapshot, start: FileOffset(0), trailing: Arc::from([]), to_end: true }
    }

    const PAGE: u64 = foundation::PAGE_BYTES as u64;

    /// Of each file, whether there is a window.
    fn found(ahead: &ReadAhead) -> [bool; 3] {
        FILES.map(|file| ahead.find(file, Handle(7)).is_some())
    }

    /// A mount that has a window of each file.
    fn full() -> ReadAhead {
        let ahead = ReadAhead::default();
        for file in FILES {
            let before = ahead.change_count(file).expect("nothing changes");
            assert!(ahead.keep(file, Handle(7), before, &window(file)));
        }
        ahead
    }

    #[test]
    fn a_change_at_a_path_leaves_files_that_it_was_not_of() {
        let _alone = host::exclusive();
        for what in [Changes::Names, Changes::Contents] {
            let ahead = full();
            let before = ahead.change_count(FILES[0]).unwrap();
            let change = ahead.begin_path_change(what).unwrap();
            assert_eq!(found(&ahead), [false; 3], "it may be of any file");
            assert!(ahead.change_count(FILES[0]).is_none());
            assert!(!ahead.keep(FILES[0], Handle(8), before, &window(FILES[0])));
            change.was_of([FILES[0], FILES[2]]);
            assert_eq!(found(&ahead), [false, true, false]);
            // A link was met: nothing was done.
            let change = ahead.begin_path_change(what).unwrap();
            change.was_of([FileId::NONE; 2]);
            assert_eq!(found(&ahead), [false, true, false]);
            // Without a reply, it may have been any file, and may be one yet.
            drop(ahead.begin_path_change(what).unwrap());
            assert_eq!(found(&ahead), [false; 3]);
            assert!(ahead.change_count(FILES[0]).is_some());
        }
    }

    #[test]
    fn a_change_of_a_file_leaves_others() {
        let _alone = host::exclusive();
        let ahead = full();
        let change = ahead.begin_change(FILES[1]).unwrap();
        assert_eq!(found(&ahead), [true, false, true]);
        assert!(ahead.change_count(FILES[1]).is_none() && ahead.change_count(FILES[0]).is_some());
        drop(change);
        assert_eq!(found(&ahead), [true, false, true]);
    }
}
