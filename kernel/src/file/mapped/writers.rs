//! The kernel's writers: they write files that nobody maps any more, dirty pages that are in the
//! way when memory is short, and after a while what a server has refused.
//!
//! A writer serves one server at a time, and each server has one writer at most. So one that does
//! not answer holds up its own writer, and the others go on (X9), as long as there are not more
//! silent servers with mapped files than [`MAX_WRITERS`].

use super::{EVERYTHING, FILES, Identity, MappedFile};
use crate::arch::clock;
use crate::file::mutants;
use crate::mem::wanted::WRITERS;
use crate::sync::{Interrupt, Once};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use foundation::Errno;

/// The kernel's writers at most.
pub const MAX_WRITERS: usize = 8;

/// Writers that there are from the start: for the root's server, and for another one.
const FIRST_WRITERS: usize = 2;

/// Writers so far. Each stays.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Makes one more writer.
type Spawn = fn() -> Result<(), Errno>;

static SPAWN: Once<Spawn> = Once::new();

/// Makes the first writers, and more by the same function when there is need for them. A writer is
/// a thread that calls [`write_what_is_due`] and [`await_work`], again and again.
pub fn begin_writers(spawn: Spawn) -> Result<(), Errno> {
    SPAWN.call_once(|| spawn);
    have_writers(FIRST_WRITERS)
}

/// References to a file that only its writer has found: the table's, and the writer's.
const HELD_BY_WRITER: usize = 2;

const SECOND_NS: u64 = 1_000_000_000;
/// The longest time between two attempts to write what a server refused.
const MAX_DELAY_S: u64 = 30;
/// No attempt is due.
const NEVER: u64 = u64::MAX;

/// When what a server refused is tried again.
pub(super) struct Retry {
    /// Nanoseconds since boot.
    at_ns: AtomicU64,
    delay_s: AtomicU64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { at_ns: AtomicU64::new(NEVER), delay_s: AtomicU64::new(1) }
    }
}

impl Retry {
    /// Pages were refused: they are tried after 1, 2, 4 … 30 s.
    pub(super) fn begin(&self) {
        let delay_s = self.delay_s.load(Ordering::Relaxed);
        self.delay_s.store((2 * delay_s).min(MAX_DELAY_S), Ordering::Relaxed);
        self.at_ns.store(clock::now_ns() + delay_s * SECOND_NS, Ordering::Relaxed);
        WRITERS.wake_all();
    }

    /// Nothing is refused.
    fn end(&self) {
        self.delay_s.store(1, Ordering::Relaxed);
        self.at_ns.store(NEVER, Ordering::Relaxed);
    }

    fn at_ns(&self) -> u64 {
        self.at_ns.load(Ordering::Relaxed)
    }
}

/// Makes another writer if a file of this device would be on one server more than there are
/// writers. Before there is anything that makes writers, there are none.
pub(super) fn ensure(device: u64) -> Result<(), Errno> {
    let (mut servers, mut last) = (1, device);
    for &Identity { device: other, .. } in FILES.lock().keys() {
        if other != device && other != last {
            (servers, last) = (servers + 1, other);
        }
    }
    have_writers(servers.min(MAX_WRITERS))
}

/// Makes writers until there are so many.
fn have_writers(wanted: usize) -> Result<(), Errno> {
    let Some(spawn) = SPAWN.get() else { return Ok(()) };
    while COUNT.load(Ordering::Relaxed) < wanted {
        COUNT.fetch_add(1, Ordering::Relaxed);
        spawn().inspect_err(|_| {
            COUNT.fetch_sub(1, Ordering::Relaxed);
        })?;
    }
    Ok(())
}

/// Writes what is due on servers that no other writer serves. Returns when, in nanoseconds since
/// boot, something of theirs will be due that is not yet.
pub fn write_what_is_due() -> u64 {
    while let Some(file) = next_due() {
        file.write_and_leave();
        file.server.is_served.store(false, Ordering::Release);
    }
    next_retry_ns()
}

/// When something will be tried again on a server that no writer serves: a writer looks at the
/// files of its server itself when it has finished.
fn next_retry_ns() -> u64 {
    let files = FILES.lock();
    let is_free = |file: &&Arc<MappedFile>| !file.server.is_served.load(Ordering::Acquire);
    files.values().filter(is_free).map(|file| file.retry.at_ns()).min().unwrap_or(NEVER)
}

/// Waits until there is something to do, or to be done earlier than at `next_ns`, or `is_time` says
/// that it is time.
pub fn await_work(next_ns: u64, is_time: impl Fn() -> bool) {
    let ready = || (is_time() || is_any_due() || next_retry_ns() < next_ns).then_some(());
    // Nobody can interrupt it.
    let _ = WRITERS.wait(Interrupt::Killable, ready);
}

fn is_due(file: &MappedFile) -> bool {
    !file.server.is_served.load(Ordering::Acquire)
        && (file.pages.is_to_leave() || file.retry.at_ns() <= clock::now_ns())
}

fn is_any_due() -> bool {
    FILES.lock().values().any(|file| is_due(file))
}

/// A file that is due, whose server the caller serves from now on.
fn next_due() -> Option<Arc<MappedFile>> {
    let files = FILES.lock();
    let file = files.values().find(|file| is_due(file))?;
    file.server.is_served.store(true, Ordering::Release);
    Some(file.clone())
}

impl MappedFile {
    /// Writes the file's dirty pages, and drops it if nobody maps it. Pages that could not be
    /// written stay for the next attempt, unless the server is gone.
    fn write_and_leave(self: &Arc<Self>) {
        self.pages.take_leaves();
        self.end_recalled_lease();
        let mut is_written = false;
        if let Ok(mut size) = self.size.lock() {
            // Unless there is another failure, nothing is tried again.
            self.retry.at_ns.store(NEVER, Ordering::Relaxed);
            is_written = self.write_all_back(&mut size, EVERYTHING).is_ok();
            if self.is_lost() {
                self.give_up();
                is_written = true;
            }
        }
        if is_written {
            self.retry.end();
        } else if self.retry.at_ns() == NEVER {
            // Memory was short.
            self.retry.begin();
        }
        self.leave();
    }

    /// The server is gone: what was stored cannot be kept.
    fn give_up(&self) {
        let lost = self.pages.drop_pages();
        if lost > 0 && !mutants::lose_silently() {
            self.failures.note(Errno::EIO);
            let path = self.path.escape_ascii();
            log::warn!("{path}: its file server is gone; {lost} pages that were stored are lost");
        }
    }

    /// Leaves the table if nobody maps the file and nothing is to be written. Others may have found
    /// it there, to change the file, and must meet all who map it: it stays until later then.
    fn leave(self: &Arc<Self>) {
        let mut files = FILES.lock();
        let is_unmapped = !self.pages.is_mapped()
            && self.pages.dirty_pages() == 0
            && self.recall.lock().is_none();
        let is_unused = is_unmapped && Arc::strong_count(self) == HELD_BY_WRITER;
        if is_unmapped && !is_unused {
            self.retry.begin();
        }
        let gone = if is_unused { files.remove(&self.identity) } else { None };
        super::COUNT.store(files.len(), Ordering::Relaxed);
        drop(files);
        drop(gone);
    }
}
