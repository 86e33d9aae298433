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
//! request that changes a file is announced first ([`ReadAhead::begin_change`]): that drops the
//! file's snapshots, and until its reply has arrived, none is kept or used. Taking a snapshot
//! updates the access time (X6); the reads that it answers would not update it again within a day,
//! as the file has not changed.
//!
//! Lock: `state`, never held while sending or waiting; snapshots are dropped after unlocking.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{FileId, Handle};

use super::mutants;
use crate::mem::{KeptFile, Snapshot, UserSlice, fallible, kept_file};
use crate::sync::{Mutex, rank};

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

/// A change in progress; ends when dropped.
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

    /// Announces a request that changes names and no contents. The change is in progress until the
    /// result is dropped.
    pub fn begin_name_change(&self) -> Result<Change<'_>, Errno> {
        self.begin(None)
    }

    /// Announces a request that changes `file`, or an unknown file (`None`). The change is in
    /// progress until the result is dropped.
    pub fn begin_change(&self, file: Option<FileId>) -> Result<Change<'_>, Errno> {
        let change = self.begin(file)?;
        if !mutants::run_old_program() {
            kept_file::forget(self.mount, file.map(|file| file.0));
        }
        Ok(change)
    }

    fn begin(&self, file: Option<FileId>) -> Result<Change<'_>, Errno> {
        let mut state = self.state.lock();
        fallible::push(&mut state.changing, file)?;
        state.begun += 1;
        let mut stale = state.take_stale(file);
        drop(state);
        while stale.is_some() {
            // Dropped while the lock is not held.
            drop(stale);
            stale = self.state.lock().take_stale(file);
        }
        Ok(Change { read_ahead: self, file })
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

/// Small reads that copy after one that was associated and touched at once: that one costs as much
/// as two, which is little of all of them together.
const COPIES: u32 = 32;

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
    /// Small reads that are still to be copied, because one that was associated was touched at
    /// once.
    copies: AtomicU32,
}

impl Default for ReadPattern {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            reads: AtomicU32::new(0),
            required: AtomicU32::new(FIRST_READS),
            has_window: AtomicBool::new(false),
            memory: AtomicU64::new(0),
            copies: AtomicU32::new(0),
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
        let copies = self.copies.load(Ordering::Relaxed);
        if before != buffer.addr().0 || copies > 0 {
            self.copies.store(copies.saturating_sub(1), Ordering::Relaxed);
            return false;
        }
        let touched = touched();
        self.copies.store(if touched { COPIES } else { 0 }, Ordering::Relaxed);
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
