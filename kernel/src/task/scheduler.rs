//! The scheduler: one fair queue on one CPU ([`fair`] says who is next).
//!
//! The timer interrupts a thread at the end of its slice, only while others are ready, and when a
//! thread is woken by an interrupt and has had much less of the CPU. Each thread works at the
//! expense of its own share, a server of that of the client that it works for, too.
//!
//! A thread gives up the CPU only in [`block`], [`yield_now`] and [`finish`]; kernel code is never
//! preempted. There is no idle thread: a thread that blocks while no other is ready waits for
//! interrupts on its own stack.
//!
//! Lock: `QUEUE`; the table of threads is looked at under it.

use super::fair::{self, Contender, RunQueue};
use super::thread::RunState;
use super::{Process, Thread, family, mutants};
use crate::arch::{self, Alarm, Cycles, NEVER, clock, context::Context, usage};
use crate::mem::{Claim, fallible};
use crate::sync::{self, Interrupt, Mutex, Once, ThreadId, Turn, rank};
use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use foundation::Errno;

struct Queue {
    ready: RunQueue<Arc<Thread>>,
    /// The running thread, to which `CURRENT` points.
    running: Option<Arc<Thread>>,
    /// The thread that ran last and has ended. Dropped by the next thread, because its stack was in
    /// use until the switch.
    dead: Option<Arc<Thread>>,
}

static QUEUE: Mutex<Queue, rank::RunQueue> =
    Mutex::new(Queue { ready: RunQueue::new(), running: None, dead: None });
/// The running thread, for reading without a lock.
static CURRENT: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());
static SLICE_OVER: AtomicBool = AtomicBool::new(false);
/// Whether there is a thread in `dead`.
static HAS_DEAD: AtomicBool = AtomicBool::new(false);

/// How long a thread runs while others are ready.
pub const SLICE_NS: u64 = 1_000_000;
/// The least time between two looks at the CPU time of a process.
const LOOK_NS: u64 = 20_000;

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

/// The running thread, without a reference count of its own. For use in a system call, during which
/// the thread does not end.
#[inline]
pub(super) fn borrow_current() -> ManuallyDrop<Arc<Thread>> {
    let current = CURRENT.load(Ordering::Relaxed);
    debug_assert!(!current.is_null(), "no thread runs yet");
    // SAFETY: system calls come from threads only, so one runs, and the pointer is that of the
    // `Arc` in `running`. A thread ends before it returns to user mode, after the handler of its
    // system call, so that `Arc` outlives this one. This one is never dropped, so the count stays
    // right.
    ManuallyDrop::new(unsafe { Arc::from_raw(current) })
}

/// The running thread; `None` before the first one runs.
pub fn try_current_thread() -> Option<Arc<Thread>> {
    (!CURRENT.load(Ordering::Relaxed).is_null()).then(current_thread)
}

/// The rank of the running thread's claims for memory; that of the kernel before the first one
/// runs.
pub(super) fn claim() -> Claim {
    if CURRENT.load(Ordering::Relaxed).is_null() {
        return Claim::Kernel;
    }
    let thread = borrow_current();
    if thread.process.account.is_server() { Claim::FileServer } else { Claim::Program }
}

/// Reserves space for one more thread in the queue, so that waking needs no memory.
pub(super) fn reserve() -> Result<(), Errno> {
    let mut queue = QUEUE.lock();
    // The queue cannot hold more threads than exist, and each reserved its place when it was
    // created.
    let needed = places();
    let missing = needed.saturating_sub(queue.ready.others.len());
    Ok(fallible::reserve(&mut queue.ready.others, missing)?)
}

/// A thread has left the table: the queue releases the memory of a time with many more.
pub(super) fn release_reserve() {
    let needed = places();
    fallible::shrink_heap(&mut QUEUE.lock().ready.others, needed);
}

/// Threads for which the queue has space in any case.
const USUAL_THREADS: usize = 32;

/// Threads that the queue must have space for: all, and one that is being made.
fn places() -> usize {
    (super::family::thread_count() + 1).max(USUAL_THREADS)
}

/// Makes a waiting thread ready. For one that does not wait, the next wait ends at once.
pub fn wake(thread: &Arc<Thread>) {
    wake_owned(thread.clone());
}

fn wake_owned(thread: Arc<Thread>) {
    if !thread.is_blocked() {
        // One that is dead never looks.
        return thread.set_woken();
    }
    // While nobody runs, the thread may be the one that ran last. It does not run yet: what the CPU
    // has waited is not its time.
    let is_running = is_running() || mutants::charge_waiting();
    thread.set_run_state(RunState::Ready);
    if is_running {
        begin_slice();
    }
    let woken = QUEUE.lock().ready.wake(thread);
    // A program that wakes another one goes on: most of them wait soon.
    if arch::irq::is_serving()
        && is_running
        && fair::is_behind(woken, borrow_current().virtual_time())
    {
        end_slice();
    }
}

/// Waits until another thread or an interrupt wakes the running thread.
pub fn block() {
    // A thread that waits does not end.
    let me = borrow_current();
    if me.take_woken() {
        return;
    }
    me.set_run_state(RunState::Blocked);
    switch_away(Arc::as_ptr(&me));
    me.take_woken();
}

/// Lets the other ready threads run first.
pub fn yield_now() {
    let me = current_thread();
    SLICE_OVER.store(false, Ordering::Relaxed);
    let mut queue = QUEUE.lock();
    if queue.ready.is_empty() {
        return;
    }
    let me_pointer = Arc::as_ptr(&me);
    me.charge(usage::take());
    queue.ready.put_behind(me);
    drop(queue);
    switch_away(me_pointer);
}

/// The slice of the running thread is over: lets another one run that has had less of the CPU.
fn reschedule() {
    let me = current_thread();
    SLICE_OVER.store(false, Ordering::Relaxed);
    me.charge(usage::take());
    let mut queue = QUEUE.lock();
    if queue.ready.is_due(me.virtual_time()) {
        let me_pointer = Arc::as_ptr(&me);
        queue.ready.put_back(me);
        drop(queue);
        switch_away(me_pointer);
    }
}

/// Ends the running thread. The caller holds no other reference.
pub(super) fn finish(me: Arc<Thread>) -> ! {
    me.set_run_state(RunState::Dead);
    let pointer = Arc::as_ptr(&me);
    let unused = QUEUE.lock().dead.replace(me);
    HAS_DEAD.store(true, Ordering::Relaxed);
    drop(unused);
    switch_away(pointer);
    unreachable!("a dead thread was switched to")
}

/// Whether a thread runs, and not only waits for interrupts.
fn is_running() -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    // SAFETY: the running thread stays alive.
    !current.is_null() && unsafe { (*current).run_state() } == RunState::Ready
}

/// Another thread is ready: has the timer interrupt the running one, unless it does so anyway.
#[inline]
fn begin_slice() {
    if !clock::is_set(Alarm::Slice) {
        set_slice();
    }
}

#[inline(never)]
fn set_slice() {
    clock::set_alarm(Alarm::Slice, clock::now_ns() + SLICE_NS);
    // While a slice is under way, what is known of the running thread is not older than that.
    account();
}

/// The timer has interrupted: brings the account of the running thread up to date, to which those
/// that wake are compared.
pub(super) fn before_wakeups() {
    usage::measure();
    account();
}

/// The timer has interrupted: ends the slice, or has CPU time looked at, if it is time.
pub(super) fn interrupt(now_ns: u64) {
    if clock::deadline(Alarm::Slice) <= now_ns {
        let is_over = is_running() && !QUEUE.lock().ready.is_empty();
        clock::set_alarm(Alarm::Slice, if is_over { now_ns + SLICE_NS } else { NEVER });
        if is_over {
            end_slice();
        }
    }
    if clock::deadline(Alarm::CpuTime) <= now_ns {
        clock::set_alarm(Alarm::CpuTime, NEVER);
        current_thread().remind();
    }
}

/// Makes the running thread look for another one whose turn it is, before it returns to user mode
/// or where a long operation gives way.
fn end_slice() {
    SLICE_OVER.store(true, Ordering::Relaxed);
    borrow_current().remind();
}

/// Adds the CPU time since the last call to that of the running thread.
pub fn account() {
    if is_running() {
        let thread = borrow_current();
        thread.charge(usage::take());
        QUEUE.lock().ready.advance(thread.virtual_time());
    }
}

/// Has the timer interrupt when the running process may have used as much CPU time as is watched
/// for.
pub(super) fn watch_cpu_time(process: &Process) {
    if process.watches_cpu_time() {
        let left_ns = process.cpu_watch.left_ns(process.used.get(), process.cpu_limit());
        let thread = borrow_current();
        watch_after(left_ns.min(process.timers.left_cpu_ns(thread.cpu_times())));
    } else if clock::is_set(Alarm::CpuTime) {
        clock::set_alarm(Alarm::CpuTime, NEVER);
    }
}

/// Has the timer interrupt after so much CPU time of the running process.
pub(super) fn watch_after(left_ns: u64) {
    let at = match left_ns {
        NEVER => NEVER,
        left_ns => clock::now_ns().saturating_add(left_ns.max(LOOK_NS)),
    };
    clock::set_alarm(Alarm::CpuTime, at);
}

/// Whether the running thread has work to do before it returns to user mode.
#[inline]
pub fn is_work_due() -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    debug_assert!(!current.is_null(), "no thread runs yet");
    // SAFETY: user mode was entered by a thread, which stays alive while it runs.
    unsafe { (*current).has_notice() }
}

/// Before the return to user mode: yields if the time slice is over.
pub fn yield_if_due() {
    if SLICE_OVER.load(Ordering::Relaxed) {
        reschedule();
    }
}

/// Switches to the next ready thread, or waits until there is one. Holds no reference meanwhile:
/// the calling thread may have ended.
fn switch_away(me: *const Thread) {
    // SAFETY: `me` runs until the switch.
    unsafe { (*me).charge(usage::take()) };
    SLICE_OVER.store(false, Ordering::Relaxed);
    let next = loop {
        let mut queue = QUEUE.lock();
        if let Some(next) = queue.ready.take() {
            let next_pointer = Arc::as_ptr(&next);
            CURRENT.store(next_pointer.cast_mut(), Ordering::Relaxed);
            let others = !queue.ready.is_empty();
            let previous = queue.running.replace(next);
            drop(queue);
            if others {
                begin_slice();
            }
            // Never the last reference: a thread in `dead` has another one there.
            drop(previous);
            break next_pointer;
        }
        // SAFETY: as above.
        queue.ready.advance(unsafe { (*me).virtual_time() });
        drop(queue);
        if !AT_IDLE.get().is_some_and(|work| work()) {
            idle();
        }
    };
    if next != me {
        // SAFETY: `me` runs, and the table of threads or `dead` holds it. `next` was ready, so it
        // does not run, and `running` holds it.
        unsafe { (*me).switch_to(&*next) };
        finish_switch();
    } else {
        watch_cpu_time(&borrow_current().process);
    }
}

/// What is done before the CPU waits. Returns whether it did something, so that a thread may be
/// ready now. It never waits.
static AT_IDLE: Once<fn() -> bool> = Once::new();

/// Sets what is done before the CPU waits, once.
pub fn at_idle(work: fn() -> bool) {
    AT_IDLE.call_once(|| work);
}

/// Cycles for which the CPU has waited.
static IDLE_CYCLES: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds for which the CPU has waited.
pub fn idle_ns() -> u64 {
    usage::spent(Cycles { total: IDLE_CYCLES.load(Ordering::Relaxed), system: 0 }).user_ns
}

/// Waits for an interrupt. Nobody's time passes, and no slice.
fn idle() {
    clock::set_alarm(Alarm::Slice, NEVER);
    clock::set_alarm(Alarm::CpuTime, NEVER);
    clock::set_exactly();
    arch::context::idle();
    IDLE_CYCLES.fetch_add(usage::take().total, Ordering::Relaxed);
}

/// Called on a thread's stack after a switch to it: drops the thread that ended before it.
pub fn finish_switch() {
    if HAS_DEAD.load(Ordering::Relaxed) {
        HAS_DEAD.store(false, Ordering::Relaxed);
        let dead = QUEUE.lock().dead.take();
        drop(dead);
    }
    watch_cpu_time(&borrow_current().process);
}

/// Starts the first thread, and leaves the boot stack for good.
pub fn run_first() -> ! {
    usage::measure();
    let _ = usage::take();
    #[allow(clippy::default_constructed_unit_structs, reason = "a unit on the host only")]
    let mut boot = Context::default();
    let next = {
        let mut queue = QUEUE.lock();
        let Some(next) = queue.ready.take() else { panic!("no thread to run") };
        let pointer = Arc::as_ptr(&next);
        CURRENT.store(pointer.cast_mut(), Ordering::Relaxed);
        queue.running = Some(next);
        pointer
    };
    // SAFETY: the thread has never run, and `running` holds it. Nothing switches back to `boot`.
    unsafe { (*next).resume_from(&raw mut boot) };
    unreachable!("the boot stack was switched to")
}

fn thread_of(id: ThreadId) -> Option<Arc<Thread>> {
    u32::try_from(id.0).ok().and_then(family::any_thread)
}

struct Hooks;

impl sync::Scheduler for Hooks {
    fn current(&self) -> ThreadId {
        borrow_current().id()
    }

    fn try_current(&self) -> Option<ThreadId> {
        (!CURRENT.load(Ordering::Relaxed).is_null()).then(|| self.current())
    }

    fn block(&self) {
        block();
    }

    fn give_way(&self) {
        arch::context::serve_interrupts();
        yield_if_due();
    }

    fn pass_turn(&self) -> Option<Turn> {
        let thread = borrow_current();
        thread.return_turn().or_else(|| Some(thread.share.clone()))
    }

    fn return_turn(&self) {
        drop(borrow_current().return_turn());
    }

    fn take_turn(&self, turn: Turn) {
        let thread = borrow_current();
        if thread.process.is_server() && !mutants::keep_turn() {
            drop(thread.take_turn(turn));
        }
    }

    fn wake(&self, thread: ThreadId) {
        if let Some(thread) = thread_of(thread) {
            wake_owned(thread);
        }
    }

    fn link(&self, thread: ThreadId, behind: ThreadId) {
        if let (Some(thread), Ok(behind)) = (thread_of(thread), u32::try_from(behind.0)) {
            thread.set_behind(behind);
        }
    }

    fn linked(&self, thread: ThreadId) -> Option<ThreadId> {
        thread_of(thread).map(|thread| ThreadId(thread.behind().into()))
    }

    fn interrupted(&self, by: Interrupt) -> bool {
        let thread = borrow_current();
        // Whoever ends a thread or sends it a signal that it does not block sets this.
        if !thread.has_notice() {
            return false;
        }
        match by {
            Interrupt::Killable => !mutants::not_killable() && thread.is_ending(),
            Interrupt::Signal => thread.is_ending() || thread.has_unblocked_signal(),
        }
    }
}

/// Registers the scheduler with `sync`.
pub(super) fn start() {
    static HOOKS: Hooks = Hooks;
    sync::register(&HOOKS);
}
