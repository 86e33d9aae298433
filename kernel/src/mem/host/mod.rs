//! Memory on the host, for tests and the simulation: a pool of pages instead of the machine's, a
//! fake MMU, and host threads instead of the scheduler.

pub mod failure;
pub mod mmu;
mod swap_device;

pub use swap_device::{RamSwap, SwapAnswers};

use super::{Frame, Page, frame, kept_file, kernel, phys};
use crate::sync::{self, Interrupt, Scheduler, ThreadId};
use alloc::alloc::{Layout, alloc_zeroed};
use foundation::PageCount;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, Thread},
};

/// Frames of the pool: 64 MiB.
pub const POOL_FRAMES: usize = 16 * 1024;

/// Addresses for pages that the kernel maps: 256 MiB, which cost the host nothing until they are
/// touched.
pub(in crate::mem) const AREA_PAGES: PageCount = PageCount(1 << 16);
/// The largest run of the heap is aligned to its size.
const AREA_ALIGN: usize = 64 << 20;

/// The frames of the pages that the kernel has mapped. Their bytes are not in the pool.
static MAPPED: Mutex<BTreeMap<Page, Frame>> = Mutex::new(BTreeMap::new());

pub(in crate::mem) fn keep_mapped(page: Page, frame: Frame) {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner).insert(page, frame);
}

pub(in crate::mem) fn drop_mapped(page: Page) {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner).remove(&page);
}

/// Makes the pool, once for the process, and registers a scheduler that blocks host threads.
pub fn init() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        sync::register(&HOST);
        let bytes = POOL_FRAMES * super::PAGE_BYTES;
        let layout =
            Layout::from_size_align(bytes, super::PAGE_BYTES).unwrap_or_else(|_| unreachable!());
        // SAFETY: the layout is not empty. The pool lives as long as the process.
        let pool = unsafe { alloc_zeroed(layout) };
        assert!(!pool.is_null());
        phys::set_offset(pool as u64);
        // SAFETY: nobody else uses the pool.
        unsafe { frame::init(core::slice::from_ref(&(0..bytes as u64)), 0) };
        let area = Layout::from_size_align(AREA_PAGES.bytes().to_usize(), AREA_ALIGN)
            .unwrap_or_else(|_| unreachable!());
        // SAFETY: the layout is not empty. The area lives as long as the process.
        kernel::set_area(unsafe { alloc_zeroed(area) } as u64);
        super::register_shrinkers();
    });
}

/// Makes the pool and locks out other tests of this process: for tests that count frames or run out
/// of them. With the feature `mutants`, the environment variable `MUTANT` names the mutant that is
/// active.
pub fn exclusive() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    init();
    #[cfg(feature = "mutants")]
    foundation::mutant::choose(
        std::env::var("MUTANT").ok().as_deref().and_then(foundation::mutant::Mutant::from_name),
    );
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Evicts up to `pages` mapped pages of any spaces, as if memory were short: clean ones are
/// unmapped, private ones are written to the swap file if one is attached (`swap::attach`). Returns
/// whether any were evicted; pages used since the last call may only be marked as unused. May wait
/// for the swap file; no lock may be held.
pub fn evict_pages(pages: usize) -> bool {
    super::reclaim::evict_some(pages).unwrap_or(false)
}

/// Frees some frames that only the cache holds.
pub fn evict(frames: usize) {
    super::cache::evict(frames);
}

/// Frees all frames that only the cache holds, or what is kept of programs' files.
pub fn evict_all() {
    kept_file::drop_all();
    evict(usize::MAX);
}

/// From now on programs can take `frames` more frames, or all of them: a shortage for a test.
pub fn leave_to_programs(frames: Option<usize>) {
    frame::leave_to_programs(frames);
}

struct HostThreads {
    threads: Mutex<BTreeMap<u64, Thread>>,
    links: Mutex<BTreeMap<u64, ThreadId>>,
    killed: Mutex<Vec<u64>>,
}

static HOST: HostThreads = HostThreads {
    threads: Mutex::new(BTreeMap::new()),
    links: Mutex::new(BTreeMap::new()),
    killed: Mutex::new(Vec::new()),
};

thread_local! {
    static ME: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let me = NEXT.fetch_add(1, Ordering::Relaxed);
        HOST.threads.lock().unwrap_or_else(PoisonError::into_inner).insert(me, thread::current());
        me
    };
}

/// Marks one thread as killed, so that its waits end, or none.
pub fn kill(thread: Option<ThreadId>) {
    sync::note_interruption();
    let mut killed = HOST.killed.lock().unwrap_or_else(PoisonError::into_inner);
    killed.clear();
    killed.extend(thread.map(|thread| thread.0));
    drop(killed);
    if let Some(thread) = thread {
        HOST.wake(thread);
    }
}

/// The calling thread, as wait queues know it.
pub fn current() -> ThreadId {
    HOST.current()
}

impl Scheduler for HostThreads {
    fn current(&self) -> ThreadId {
        ThreadId(ME.with(|&me| me))
    }
    fn block(&self) {
        thread::park();
    }
    fn wake(&self, thread: ThreadId) {
        if let Some(thread) =
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).get(&thread.0)
        {
            thread.unpark();
        }
    }
    fn link(&self, thread: ThreadId, behind: ThreadId) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(thread.0, behind);
    }
    fn linked(&self, thread: ThreadId) -> Option<ThreadId> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).get(&thread.0).copied()
    }
    fn interrupted(&self, _: Interrupt) -> bool {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.current().0)
    }
}
