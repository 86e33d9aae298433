//! Reading ahead: who reads a file in order and in small pieces is answered from a snapshot of what
//! comes next, without a message for each piece.
//!
//! Owns what is kept for that, one snapshot for an open file, and knows which changes of files are
//! under way. Does not own frames: they are those of the frame cache.
//!
//! Invariant, which is what makes it honest (R1): what is kept of a file is what the file holds
//! now. The server has promised that its files change by this kernel's requests alone
//! ([`Features::SOLE`](fsproto::Features::SOLE)), in the order in which they are sent. Each request
//! that changes a file is announced first ([`Ahead::change`]): what is kept of the file goes before
//! the request is sent, and until its reply is there, nothing of the file is kept or answered.
//! Taking the snapshot moves the access time (X6); the reads that it answers would not move it
//! again before a day is over, as nothing has changed.
//!
//! Lock: `state`, never held while sending or waiting; snapshots are dropped after it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use foundation::counter::Counter;
use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, FileOffset, knob};
use foundation::{Errno, PAGE_BYTES, PageCount, SnapshotOffset};
use fsproto::{FileId, Handle};

use super::remote_file::RemoteFile;
use super::taken::Taken;
use crate::file::{Io, UserBuffers};
use crate::mem::{FaultError, Snapshot, page_of};
use crate::sync::{Mutex, rank};

const PAGE: u64 = PAGE_BYTES as u64;

/// Reads in order after which the next one is taken for one of many.
const FEW_READS: u32 = 2;
/// By how much more patient one gets each time that what was kept had to go unused.
const PATIENCE: u32 = 8;
/// Pages that come at a time: at the front of what is kept, and further on.
const FRONT_PAGES: u64 = 16;

/// The files of a mount that are read ahead.
#[derive(Default)]
pub struct Ahead {
    state: Mutex<State, rank::ReadAhead>,
}

#[derive(Default)]
struct State {
    /// Changes announced so far.
    begun: u64,
    /// Those under way: the file, or none where it may be any.
    changing: Vec<Option<FileId>>,
    kept: BTreeMap<(FileId, Handle), Kept>,
}

/// A part of a file, from a page border on.
#[derive(Clone)]
struct Kept {
    snapshot: Arc<Snapshot>,
    start: u64,
    /// Bytes behind the last whole page.
    tail: Arc<[u8]>,
    /// Whether the file ends where this does.
    to_end: bool,
}

impl Kept {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.snapshot.len.0)
    }

    /// How many of the bytes asked for there are, if that can be said.
    fn answers(&self, offset: u64, length: u64) -> Option<u64> {
        let left = self.end().saturating_sub(offset);
        (offset >= self.start && (length <= left || self.to_end)).then_some(length.min(left))
    }
}

impl State {
    fn is_changing(&self, file: FileId) -> bool {
        self.changing.iter().any(|changing| changing.is_none_or(|changing| changing == file))
            && !active(Mutant::StaleAhead)
    }
}

/// A change under way; it ends with this.
pub struct Change<'a> {
    ahead: &'a Ahead,
    file: Option<FileId>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.ahead.state.lock();
        if let Some(index) = state.changing.iter().position(|&changing| changing == self.file) {
            state.changing.swap_remove(index);
        }
    }
}

impl Ahead {
    /// A request is about to be sent that changes a file, or one that is not known. The change is
    /// under way until the result is dropped.
    pub fn change(&self, file: Option<FileId>) -> Result<Change<'_>, Errno> {
        let mut state = self.state.lock();
        state.changing.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        state.changing.push(file);
        state.begun += 1;
        let stale = match file {
            _ if active(Mutant::StaleAhead) || state.kept.is_empty() => BTreeMap::new(),
            None => core::mem::take(&mut state.kept),
            Some(file) => {
                let mut stale = state.kept.split_off(&(file, Handle(0)));
                let mut others = stale.split_off(&(FileId(file.0.saturating_add(1)), Handle(0)));
                state.kept.append(&mut others);
                stale
            }
        };
        drop(state);
        drop(stale);
        Ok(Change { ahead: self, file })
    }

    /// What is kept goes, of all files, so that the room which the server has set aside for it is
    /// free. Says whether there was any.
    pub fn let_go(&self) -> bool {
        let kept = core::mem::take(&mut self.state.lock().kept);
        !kept.is_empty()
    }

    /// A file is closed.
    pub fn forget(&self, file: FileId, handle: Handle) {
        let kept = self.state.lock().kept.remove(&(file, handle));
        drop(kept);
    }

    fn find(&self, file: &RemoteFile) -> Option<Kept> {
        let state = self.state.lock();
        if state.is_changing(file.id()) {
            None
        } else {
            state.kept.get(&(file.id(), file.handle())).cloned()
        }
    }

    /// How many changes were begun before now, unless one of this file is under way.
    fn quiet(&self, file: FileId) -> Option<u64> {
        let state = self.state.lock();
        (!state.is_changing(file)).then_some(state.begun)
    }

    /// Keeps what was asked for when `begun` changes had begun, unless there was one since.
    fn keep(&self, file: &RemoteFile, begun: u64, kept: &Kept) -> bool {
        let mut state = self.state.lock();
        let quiet = state.begun == begun || active(Mutant::StaleAhead);
        let old =
            if quiet { state.kept.insert((file.id(), file.handle()), kept.clone()) } else { None };
        drop(state);
        drop(old);
        quiet
    }
}

/// How an open file is read.
#[derive(Debug)]
pub struct Order {
    /// Where the next read begins if they are in order.
    next: AtomicU64,
    /// Reads in order so far that got all they asked for.
    reads: AtomicU32,
    /// How many of them it takes.
    patience: AtomicU32,
    /// Something was kept.
    keeps: AtomicU32,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            reads: AtomicU32::new(0),
            patience: AtomicU32::new(FEW_READS),
            keeps: AtomicU32::new(0),
        }
    }
}

impl Order {
    fn is_due(&self, offset: u64) -> bool {
        offset == self.next.load(Ordering::Relaxed)
            && self.reads.load(Ordering::Relaxed) >= self.patience.load(Ordering::Relaxed)
    }

    /// A read got `count` of `asked` bytes.
    pub fn note(&self, offset: u64, asked: u64, count: u64) {
        let goes_on = offset == self.next.load(Ordering::Relaxed);
        let reads = if count < asked {
            0
        } else {
            if goes_on { self.reads.load(Ordering::Relaxed) } else { 0 }.saturating_add(1)
        };
        self.reads.store(reads, Ordering::Relaxed);
        self.next.store(offset.saturating_add(count), Ordering::Relaxed);
    }

    /// What was kept has gone, or could not be had: it takes longer until the next try.
    fn disappoint(&self) {
        self.keeps.store(0, Ordering::Relaxed);
        self.reads.store(0, Ordering::Relaxed);
        self.patience.store(
            self.patience.load(Ordering::Relaxed).saturating_mul(PATIENCE),
            Ordering::Relaxed,
        );
    }
}

/// Answers a small read from what is kept, or takes it now where it pays. Nothing where the server
/// is to be asked as ever.
pub(super) fn read(
    file: &RemoteFile,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
) -> Result<Option<u64>, Errno> {
    let length = to.remaining().0;
    if !file.mount().is_sole() || length == 0 {
        return Ok(None);
    }
    let order = file.order();
    let mut kept = None;
    if order.keeps.load(Ordering::Relaxed) != 0 {
        kept = file.mount().ahead().find(file);
        if kept.is_none() {
            order.disappoint();
        }
    }
    if kept.as_ref().is_none_or(|kept| kept.answers(offset, length).is_none()) {
        if !order.is_due(offset) {
            return Ok(None);
        }
        kept = take(file, offset)?;
    }
    let Some((kept, count)) =
        kept.and_then(|kept| kept.answers(offset, length).map(|count| (kept, count)))
    else {
        return Ok(None);
    };
    let done = copy(&kept, io, to, offset, count)?;
    io.space.counters.add(Counter::ReadsAhead, u64::from(done.is_some()));
    io.space.counters.add(Counter::BytesReadAhead, done.unwrap_or(0));
    Ok(done)
}

/// Takes a snapshot of what comes next, and keeps it.
fn take(file: &RemoteFile, offset: u64) -> Result<Option<Kept>, Errno> {
    let ahead = file.mount().ahead();
    let (most, start) = (knob::READ_AHEAD.get() / PAGE * PAGE, offset / PAGE * PAGE);
    let Some(begun) = ahead.quiet(file.id()).filter(|_| most > 0) else { return Ok(None) };
    let request = fsproto::Snapshot {
        handle: file.handle(),
        offset: FileOffset(start),
        length: ByteCount(most),
        misalignment: 0,
        inline_max: 0,
    };
    let taken = match file.mount().session().call(&request, &[]) {
        Ok((reply, payload)) => Taken::new(file, &request, &reply, &payload)?,
        Err(Errno::EINTR) => return Err(Errno::EINTR),
        Err(_) => {
            file.order().disappoint();
            return Ok(None);
        }
    };
    let Some(snapshot) = taken.snapshot.clone() else { return Ok(None) };
    let kept = Kept { to_end: snapshot.len.0 < most, snapshot, start, tail: taken.tail().into() };
    if !ahead.keep(file, begun, &kept) {
        file.order().disappoint();
        // It is of one instant within this call all the same.
        return Ok(Some(kept));
    }
    file.order().keeps.store(1, Ordering::Relaxed);
    Ok(Some(kept))
}

/// Copies from what is kept. Nothing where a page could not be had, and the server is to be asked
/// after all.
fn copy(
    kept: &Kept,
    io: &Io<'_>,
    to: &mut UserBuffers,
    offset: u64,
    count: u64,
) -> Result<Option<u64>, Errno> {
    let whole = kept.snapshot.len.0 / PAGE * PAGE;
    let mut done = 0;
    while done < count {
        let at = offset + done - kept.start;
        let (page, within) = (at / PAGE * PAGE, (at % PAGE) as usize);
        let frame;
        let bytes = if page < whole {
            let most = if page < FRONT_PAGES * PAGE {
                FRONT_PAGES
            } else {
                knob::FAULT_AROUND_MAX.get().max(1)
            };
            let pages = PageCount(most.min((whole - page) / PAGE));
            frame = match page_of(
                &kept.snapshot,
                SnapshotOffset(page),
                pages,
                &io.space.counters,
                io.space.policy.claim(),
            ) {
                Ok(frame) => frame,
                Err(FaultError::Killed) => return Err(Errno::EINTR),
                Err(_) => return Ok((done > 0).then_some(done)),
            };
            &frame.bytes()[..]
        } else {
            &kept.tail[..]
        };
        let part = bytes.get(within..).unwrap_or_default();
        let part = part.get(..part.len().min((count - done) as usize)).unwrap_or_default();
        let put = match to.put(io.space, part) {
            Err(error) if done == 0 => return Err(error),
            put => put.unwrap_or(0),
        };
        done += put as u64;
        if part.is_empty() || put < part.len() {
            break;
        }
    }
    Ok(Some(done))
}
