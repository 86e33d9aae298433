//! Who runs: one queue, in turns, on one CPU.
//!
//! A thread gives up the CPU only in [`block`], [`yield_now`] and [`finish`]; kernel code is never
//! preempted. A thread that blocks while no other is ready waits for the interrupt right there, on
//! its own stack: there is no idle thread.
//!
//! Lock: `QUEUE`; the table of threads is looked at under it.

use super::thread::RunState;
use super::{Thread, find_thread, mutants};
use crate::arch::{self, context::Context};
use crate::sync::{self, Interrupt, Mutex, ThreadId, rank};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use foundation::Errno;

struct Queue {
    ready: VecDeque<Arc<Thread>>,
    /// The thread that runs; what `CURRENT` points to.
    running: Option<Arc<Thread>>,
    /// The thread that ran last and will never again: dropped when its stack is no longer stood on.
    dead: Option<Arc<Thread>>,
}

static QUEUE: Mutex<Queue, rank::RunQueue> =
    Mutex::new(Queue { ready: VecDeque::new(), running: None, dead: None });
/// The running thread, without a lock.
static CURRENT: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());
static SLICE_OVER: AtomicBool = AtomicBool::new(false);

/// The running thread.
///
/// # Panics
/// Before the first one runs.
#[inline]
pub fn current_thread() -> Arc<Thread> {
    let current = CURRENT.load(Ordering::Relaxed);
    assert!(!current.is_null(), "no thread runs yet");
    // SAFETY: the pointer is that of the `Arc` in `running`, which stays there while the thread
    // runs.
    unsafe {
        Arc::increment_strong_count(current);
        Arc::from_raw(current)
    }
}

/// The running thread, not counted as a reference: for the time of a system call, in which it does
/// not end.
#[inline]
pub(super) fn borrow_current() -> ManuallyDrop<Arc<Thread>> {
    let current = CURRENT.load(Ordering::Relaxed);
    assert!(!current.is_null(), "no thread runs yet");
    // SAFETY: in a system call there is a running thread; the pointer is that of the `Arc` in
    // `running`. A thread ends on its way to user mode, after its system call's handler, so that
    // one outlives this; and it is never dropped, so the count stays right.
    ManuallyDrop::new(unsafe { Arc::from_raw(current) })
}

/// The running thread, once there is one.
pub fn try_current_thread() -> Option<Arc<Thread>> {
    (!CURRENT.load(Ordering::Relaxed).is_null()).then(current_thread)
}

/// Room for one more thread in the queue, so that waking never needs memory.
pub(super) fn reserve() -> Result<(), Errno> {
    let mut queue = QUEUE.lock();
    // More threads than the queue has room for cannot exist: each reserved its place when it was
    // made.
    let needed = super::family::thread_count() + 1;
    let missing = needed.saturating_sub(queue.ready.len());
    queue.ready.try_reserve(missing).map_err(|_| Errno::ENOMEM)
}

/// Makes a thread ready, if it waits; otherwise its next wait ends at once.
pub fn wake(thread: &Arc<Thread>) {
    match thread.run_state() {
        RunState::Blocked => {
            thread.set_run_state(RunState::Ready);
            QUEUE.lock().ready.push_back(thread.clone());
        }
        RunState::Ready => thread.set_woken(),
        RunState::Dead => {}
    }
}

/// Lets others run until somebody wakes the running thread.
pub fn block() {
    let me = current_thread();
    if me.take_woken() {
        return;
    }
    me.set_run_state(RunState::Blocked);
    let me = pointer(me);
    switch_away(me);
    current_thread().take_woken();
}

/// Lets others have their turn.
pub fn yield_now() {
    let me = current_thread();
    SLICE_OVER.store(false, Ordering::Relaxed);
    let mut queue = QUEUE.lock();
    if queue.ready.is_empty() {
        return;
    }
    let me_pointer = Arc::as_ptr(&me);
    queue.ready.push_back(me);
    drop(queue);
    switch_away(me_pointer);
}

/// Ends the running thread. Whoever calls this holds nothing any more but `me`.
pub(super) fn finish(me: Arc<Thread>) -> ! {
    me.set_run_state(RunState::Dead);
    let pointer = Arc::as_ptr(&me);
    let unused = QUEUE.lock().dead.replace(me);
    drop(unused);
    switch_away(pointer);
    unreachable!("a dead thread was switched to")
}

/// The time slice of the running thread is over.
pub(super) fn end_slice() {
    SLICE_OVER.store(true, Ordering::Relaxed);
}

/// Whether the running thread has anything to do before it goes to user mode.
#[inline]
pub fn is_work_due() -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    debug_assert!(!current.is_null(), "no thread runs yet");
    // SAFETY: user mode was entered by a thread, which stays alive while it runs.
    SLICE_OVER.load(Ordering::Relaxed) || unsafe { (*current).has_notice() }
}

/// The tick found the running thread in user mode.
pub fn count_tick() {
    if SLICE_OVER.load(Ordering::Relaxed) {
        current_thread().process.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

/// On the way to user mode: lets others run, if the time slice is over.
pub fn yield_if_due() {
    if SLICE_OVER.load(Ordering::Relaxed) {
        yield_now();
    }
}

/// A thread's address. It stays valid: the table of threads, the queue, or the slot for the dead
/// hold the thread.
fn pointer(thread: Arc<Thread>) -> *const Thread {
    Arc::as_ptr(&thread)
}

/// Goes on with the next ready thread; waits for one if there is none. Holds no reference while it
/// is away: the thread may die meanwhile.
fn switch_away(me: *const Thread) {
    let next = loop {
        let mut queue = QUEUE.lock();
        if let Some(next) = queue.ready.pop_front() {
            let next_pointer = Arc::as_ptr(&next);
            CURRENT.store(next_pointer.cast_mut(), Ordering::Relaxed);
            let previous = queue.running.replace(next);
            drop(queue);
            // Never the last reference, except of a thread in `dead`, which has another one there.
            drop(previous);
            break next_pointer;
        }
        drop(queue);
        arch::context::idle();
    };
    if next != me {
        // SAFETY: `me` runs, and is held by the table of threads (or by `dead`); `next` is ready,
        // so it does not run, and `running` holds it.
        unsafe { (*me).switch_to(&*next) };
        finish_switch();
    }
}

/// Runs on a thread's stack when it was switched to: frees the one that ended before it.
pub fn finish_switch() {
    let dead = QUEUE.lock().dead.take();
    drop(dead);
}

/// Starts the first thread, leaving the boot stack for good.
pub fn run_first() -> ! {
    #[allow(clippy::default_constructed_unit_structs, reason = "a unit on the host only")]
    let mut boot = Context::default();
    let next = {
        let mut queue = QUEUE.lock();
        let Some(next) = queue.ready.pop_front() else { panic!("no thread to run") };
        let pointer = Arc::as_ptr(&next);
        CURRENT.store(pointer.cast_mut(), Ordering::Relaxed);
        queue.running = Some(next);
        pointer
    };
    // SAFETY: it has never run, and `running` holds it. Nobody switches back to `boot`.
    unsafe { (*next).resume_from(&raw mut boot) };
    unreachable!("the boot stack was switched to")
}

struct Hooks;

impl sync::Scheduler for Hooks {
    fn current(&self) -> ThreadId {
        current_thread().id()
    }

    fn block(&self) {
        block();
    }

    fn give_way(&self) {
        arch::context::let_interrupts_in();
        yield_now();
    }

    fn wake(&self, thread: ThreadId) {
        if let Some(thread) = u32::try_from(thread.0).ok().and_then(find_thread) {
            wake(&thread);
        }
    }

    fn interrupted(&self, by: Interrupt) -> bool {
        let thread = current_thread();
        match by {
            Interrupt::Killable => !mutants::not_killable() && thread.is_ending(),
            Interrupt::Signal => thread.is_ending() || super::send::has_unblocked(&thread),
        }
    }
}

/// Registers with `sync`.
pub(super) fn start() {
    static HOOKS: Hooks = Hooks;
    sync::register(&HOOKS);
}
