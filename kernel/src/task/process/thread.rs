//! A thread: registers, a kernel stack, and pending signals.

use super::Process;
use super::cpu_time::CpuTime;
use super::timers::CpuTimes;
use crate::arch::context::Context;
use crate::arch::fpu::FpuState;
use crate::arch::{self, Cause, Cycles, Registers, usage};
use crate::mem::account::{Charge, Kind};
use crate::mem::kernel::{STACK_PAGES, Stack};
use crate::mem::{Claim, Occupant, Space, UserAddr, fallible};
use crate::sync::{self, Mutex, Share, ThreadId, Turn, rank};
use crate::task::WaitStatus;
use crate::task::fair::Contender;
use crate::task::policy::{Scheduling, SharedScheduling};
use crate::task::signal::{Pending, SignalSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use foundation::{ByteCount, Errno};

/// A thread's state for the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RunState {
    /// Running or in the queue.
    Ready,
    /// Waiting for a wake-up.
    Blocked,
    /// Ended; it never runs again.
    Dead,
}

/// An alternate signal stack (`stack_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    /// Its lowest address.
    pub start: UserAddr,
    /// Its size; 0 if there is none.
    pub bytes: ByteCount,
    /// Whether there is none while a handler runs on it (`SS_AUTODISARM`).
    pub disarms: bool,
}

/// A thread's own signal state.
#[derive(Debug, Default)]
pub struct ThreadSignals {
    /// The signal mask: these are not delivered.
    pub blocked: SignalSet,
    /// The mask to restore after the next delivery (rt_sigsuspend and others).
    pub restore: Option<SignalSet>,
    /// The set that rt_sigtimedwait waits for. Such a signal is taken, whatever its action is.
    pub awaited: SignalSet,
    /// Pending signals of this thread alone.
    pub pending: Pending,
    /// The stack for handlers with `SA_ONSTACK`.
    pub alternate: AlternateStack,
}

/// State that only the thread itself uses while it runs, and only the scheduler while it does not.
struct Machine {
    context: Context,
    fpu: FpuState,
    fs_base: u64,
    gs_base: u64,
}

/// Bytes that a thread takes besides its stack: itself, its floating-point state, its entries in
/// queues and its timer.
const BYTES: usize = 4096;

/// A thread of a process.
pub struct Thread {
    /// Its number; never reused.
    pub tid: u32,
    /// The process that it belongs to.
    pub process: Arc<Process>,
    /// Its own signal state.
    pub signals: Mutex<ThreadSignals, rank::ThreadSignals>,
    /// Its CPU time, until it last left the CPU.
    pub used: CpuTime,
    /// What it has had of the CPU, and its niceness.
    pub share: Arc<Share>,
    /// Its scheduling policy.
    pub scheduling: SharedScheduling,
    /// The turn of the client that it works for, if it is a server's, and the time-stamp counter
    /// when it got that.
    lent: UnsafeCell<(Option<Turn>, u64)>,
    /// Cycles that were charged when it returned a turn, and that are part of the next account.
    charged: AtomicU64,
    /// Where a zero is written, and a futex woken, at its end (`CLONE_CHILD_CLEARTID`); 0 for
    /// nowhere.
    pub clear_child_tid: AtomicU64,
    /// The address of the list of robust futexes; 0 for none.
    pub robust_list: AtomicU64,
    space: Mutex<Option<Occupant>, rank::ThreadSpace>,
    /// `None` only while the thread is being dropped.
    stack: Option<Stack>,
    stack_top: u64,
    machine: UnsafeCell<Machine>,
    run: AtomicU8,
    woken: AtomicBool,
    notice: AtomicBool,
    ending: AtomicBool,
    status: AtomicI32,
    /// The end of its wait that a signal interrupted, in nanoseconds since boot, in case the call
    /// is restarted; 0 for none.
    pub(in crate::task) restart_until: AtomicU64,
    /// How many processes had ended when it last found no memory.
    pub(in crate::task) ends_seen: AtomicU64,
    /// The thread behind this one in the queue that it waits in.
    behind: AtomicU32,
    _charge: Charge,
}

// SAFETY: `machine` and `lent` are used by the thread itself and, while it does not run, by the
// scheduler. With one CPU, that is never both at once.
unsafe impl Sync for Thread {}
// SAFETY: no field belongs to one CPU; for `machine` see above.
unsafe impl Send for Thread {}

/// The initial state of a thread.
pub struct InitialState {
    /// Registers of user mode.
    pub registers: Registers,
    /// FS base: thread-local storage.
    pub fs_base: u64,
    /// The GS base.
    pub gs_base: u64,
    /// Floating-point state.
    pub fpu: FpuState,
    /// The signal mask.
    pub blocked: SignalSet,
    /// Its share of the CPU.
    pub share: Share,
    /// Its scheduling policy.
    pub scheduling: Scheduling,
}

impl InitialState {
    /// For a program's first thread.
    pub fn program(registers: Registers) -> Result<Self, Errno> {
        let fpu = FpuState::initial().ok_or(Errno::ENOMEM)?;
        let (blocked, share) = (SignalSet::EMPTY, Share::default());
        let scheduling = Scheduling::default();
        Ok(Self { registers, fs_base: 0, gs_base: 0, fpu, blocked, share, scheduling })
    }

    /// For a copy of the running thread, with these registers.
    pub fn copy(thread: &Thread, registers: Registers) -> Result<Self, Errno> {
        let mut fpu = FpuState::initial().ok_or(Errno::ENOMEM)?;
        fpu.save();
        let blocked = thread.signals.lock().blocked;
        Ok(Self {
            registers,
            fs_base: arch::segments::fs_base(),
            gs_base: arch::segments::gs_base(),
            fpu,
            blocked,
            share: Share::like(&thread.share),
            scheduling: thread.scheduling.get().inherited(),
        })
    }
}

impl Thread {
    /// A thread that is not yet in any table.
    pub fn new(
        tid: u32,
        process: Arc<Process>,
        space: Occupant,
        initial: InitialState,
    ) -> Result<Arc<Self>, Errno> {
        let bytes = STACK_PAGES.bytes().to_usize() + BYTES;
        let charge = Charge::take(&process.account, Kind::Threads, bytes)?;
        let stack = take_stack(space.policy.claim())?;
        // SAFETY: the stack is new and not used by anything else.
        let context = unsafe { Context::starting(stack.top().0, &initial.registers) };
        let machine = Machine {
            context,
            fpu: initial.fpu,
            fs_base: initial.fs_base,
            gs_base: initial.gs_base,
        };
        let signals = ThreadSignals { blocked: initial.blocked, ..ThreadSignals::default() };
        Ok(Arc::new(Self {
            tid,
            process,
            signals: Mutex::new(signals),
            used: CpuTime::default(),
            share: Arc::new(initial.share),
            scheduling: SharedScheduling::new(initial.scheduling),
            lent: UnsafeCell::new((None, 0)),
            charged: AtomicU64::new(0),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            restart_until: AtomicU64::new(0),
            ends_seen: AtomicU64::new(0),
            space: Mutex::new(Some(space)),
            stack_top: stack.top().0,
            stack: Some(stack),
            machine: UnsafeCell::new(machine),
            run: AtomicU8::new(RunState::Blocked as u8),
            woken: AtomicBool::new(false),
            notice: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            status: AtomicI32::new(0),
            behind: AtomicU32::new(0),
            _charge: charge,
        }))
    }

    /// The thread's name in `sync`.
    pub fn id(&self) -> ThreadId {
        ThreadId(u64::from(self.tid))
    }

    /// For the queue that the thread waits in: notes the thread behind this one.
    pub(in crate::task) fn set_behind(&self, tid: u32) {
        self.behind.store(tid, Ordering::Relaxed);
    }

    /// What [`set_behind`](Self::set_behind) noted last.
    pub(in crate::task) fn behind(&self) -> u32 {
        self.behind.load(Ordering::Relaxed)
    }

    /// Its CPU time and that of its process, for timers.
    pub(in crate::task) fn cpu_times(&self) -> CpuTimes<'_> {
        CpuTimes { process: &self.process.used, thread: (self.tid, &self.used) }
    }

    /// Its address space; `None` once it has ended.
    pub fn space(&self) -> Option<Arc<Space>> {
        self.space.lock().as_deref().cloned()
    }

    /// Replaces the running thread's address space, and returns the old one, to be dropped with no
    /// lock held.
    pub(in crate::task) fn replace_space(&self, space: Option<Occupant>) -> Option<Occupant> {
        let page_table =
            space.as_ref().map_or_else(arch::context::kernel_page_table, |space| space.cr3().0);
        // SAFETY: the page table belongs to a space that `self.space` keeps from now on, or is the
        // kernel's own.
        unsafe { arch::context::set_page_table(page_table) };
        core::mem::replace(&mut *self.space.lock(), space)
    }

    /// The registers of user mode of the running thread, in a system call or trap. Changes take
    /// effect on return.
    ///
    /// The closure must not wait.
    pub(in crate::task) fn with_registers<T>(&self, change: impl FnOnce(&mut Registers) -> T) -> T {
        // SAFETY: the registers are at the top of the running thread's own stack, and no other
        // reference to them exists: entry code passes a raw pointer, and `change` cannot call this
        // function.
        unsafe { change(&mut *arch::context::registers(self.stack_top)) }
    }

    /// Why the running thread has entered the kernel, the last time from user mode.
    pub fn entry_cause(&self) -> Cause {
        self.with_registers(|registers| registers.cause())
    }

    /// Where user mode continues, for the running thread in a system call or exception.
    pub fn user_instruction(&self) -> UserAddr {
        UserAddr(self.with_registers(|registers| registers.rip))
    }

    /// The stack pointer of user mode, for the running thread in a system call.
    pub fn user_stack(&self) -> UserAddr {
        UserAddr(self.with_registers(|registers| registers.rsp))
    }

    /// Sets the running thread's segment bases and floating-point state to those of a program's
    /// start.
    pub(in crate::task) fn reset_machine(&self, initial: &InitialState) {
        arch::segments::set_fs_base(initial.fs_base);
        arch::segments::set_gs_base(initial.gs_base);
        initial.fpu.restore();
    }

    /// Whether work is due before this thread returns to user mode: a signal, a stop, its end.
    pub fn has_notice(&self) -> bool {
        self.notice.load(Ordering::Acquire)
    }

    /// Records that work may be due. The thread checks before it returns to user mode;
    /// [`crate::task::scheduler::wake`] ends a wait. Nothing more is handed to those that wait now.
    pub fn notice(&self) {
        sync::note_interruption();
        self.remind();
    }

    /// The same for the running thread, which does not wait.
    pub(in crate::task) fn remind(&self) {
        self.notice.store(true, Ordering::Release);
    }

    pub(in crate::task) fn clear_notice(&self) {
        self.notice.store(false, Ordering::Release);
    }

    /// Makes this thread end before it returns to user mode. `status` is that of the process, if
    /// this is its last thread.
    pub(in crate::task) fn set_ending(&self, status: WaitStatus) {
        self.status.store(status.0, Ordering::Relaxed);
        self.ending.store(true, Ordering::Release);
        self.notice();
    }

    /// The status that [`Self::set_ending`] got for this thread.
    pub(in crate::task) fn own_status(&self) -> WaitStatus {
        WaitStatus(self.status.load(Ordering::Relaxed))
    }

    /// Whether it is about to end, alone or with its process.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) || self.process.is_ending()
    }

    /// Whether a signal is pending that the thread does not block.
    pub(in crate::task) fn has_unblocked_signal(&self) -> bool {
        let own = self.signals.lock();
        let pending = own.pending.set().union(self.process.pending.lock().set());
        !pending.without(own.blocked).is_empty()
    }

    /// Adds CPU time that it has used, until now: to its account and to its share, and what it was
    /// for a client to both shares.
    #[inline]
    pub(in crate::task) fn charge(&self, cycles: Cycles) {
        self.used.add(cycles);
        self.process.used.add(cycles);
        let charged = self.charged.load(Ordering::Relaxed);
        let mut own = cycles.total;
        if charged != 0 {
            self.charged.store(0, Ordering::Relaxed);
            own = own.saturating_sub(charged);
        }
        if let (Some(client), since) = self.lent() {
            let part = own.min(arch::time_stamp().wrapping_sub(*since));
            self.share.charge_service(client, part);
            own -= part;
        }
        self.share.charge(own);
    }

    #[inline]
    fn lent(&self) -> &(Option<Turn>, u64) {
        // SAFETY: only `take_turn` and `return_turn` change it, which the running thread calls for
        // itself and which run no code of others; no reference is kept across them.
        unsafe { &*self.lent.get() }
    }

    /// From now on the running thread, one of a server, works for the client with this turn.
    /// Returns the one before.
    #[inline]
    pub(in crate::task) fn take_turn(&self, turn: Turn) -> Option<Turn> {
        let before = self.return_turn();
        // SAFETY: as for `lent`.
        unsafe { *self.lent.get() = (Some(turn), arch::time_stamp()) };
        before
    }

    /// From now on the running thread does not work for a client. Returns whose turn it had.
    #[inline]
    pub(in crate::task) fn return_turn(&self) -> Option<Turn> {
        // SAFETY: as for `lent`.
        let turn = unsafe { (*self.lent.get()).0.take() };
        if let Some(client) = &turn {
            let since_taken = arch::time_stamp().wrapping_sub(self.lent().1);
            let charged = self.charged.load(Ordering::Relaxed);
            let part = usage::pending().saturating_sub(charged).min(since_taken);
            self.share.charge_service(client, part);
            self.charged.store(charged + part, Ordering::Relaxed);
        }
        turn
    }

    /// Its state for the scheduler.
    pub fn run_state(&self) -> RunState {
        match self.run.load(Ordering::Acquire) {
            0 => RunState::Ready,
            1 => RunState::Blocked,
            _ => RunState::Dead,
        }
    }

    /// Whether it waits for a wake-up.
    #[inline]
    pub(in crate::task) fn is_blocked(&self) -> bool {
        self.run.load(Ordering::Acquire) == RunState::Blocked as u8
    }

    pub(in crate::task) fn set_run_state(&self, state: RunState) {
        self.run.store(state as u8, Ordering::Release);
    }

    /// Whether a wake-up has come since the last call.
    pub(in crate::task) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub(in crate::task) fn set_woken(&self) {
        self.woken.store(true, Ordering::Release);
    }

    /// Writes to the log the return addresses of where this thread waits.
    ///
    /// # Safety
    /// It does not run.
    pub(in crate::task) unsafe fn backtrace(&self) {
        // SAFETY: the caller's promise.
        unsafe { (*self.machine.get()).context.backtrace() };
    }

    /// Switches to `next` on this CPU. Returns when something switches back to this thread.
    ///
    /// # Safety
    /// `self` runs, `next` is another thread that does not run, and both are kept alive until they
    /// run again or have ended.
    pub(in crate::task) unsafe fn switch_to(&self, next: &Self) {
        // SAFETY: by the caller's promise, nothing else uses the two machines.
        unsafe {
            let machine = self.machine.get();
            (*machine).fpu.save();
            (*machine).fs_base = arch::segments::fs_base();
            (*machine).gs_base = arch::segments::gs_base();
            next.resume_from(&raw mut (*machine).context);
        }
    }

    /// Switches to this thread and saves the present context in `from`.
    ///
    /// # Safety
    /// This thread does not run, and stays alive.
    pub(in crate::task) unsafe fn resume_from(&self, from: *mut Context) {
        let page_table = self
            .space
            .lock()
            .as_ref()
            .map_or_else(arch::context::kernel_page_table, |space| space.cr3().0);
        // SAFETY: the thread keeps its space; by the caller's promise, nothing else uses the
        // machine.
        unsafe {
            arch::context::set_page_table(page_table);
            let machine = self.machine.get();
            arch::segments::set_fs_base((*machine).fs_base);
            arch::segments::set_gs_base((*machine).gs_base);
            (*machine).fpu.restore();
            arch::context::switch(from, &raw const (*machine).context, self.stack_top);
        }
    }
}

/// Kernel stacks of ended threads that are kept for new ones: mapping one costs eight frames and
/// page-table entries.
const MAX_SPARE_STACKS: usize = 8;
static SPARE_STACKS: Mutex<Vec<Stack>, rank::SpareStacks> = Mutex::new(Vec::new());

fn take_stack(claim: Claim) -> Result<Stack, Errno> {
    let spare = SPARE_STACKS.lock().pop();
    spare.map_or_else(|| Stack::new(claim).map_err(|_| Errno::ENOMEM), Ok)
}

impl Contender for Thread {
    /// A server that works for a client has its turn by the share that has had less: what the other
    /// one has had does not matter, since it pays little.
    #[inline]
    fn virtual_time(&self) -> u64 {
        let own = self.share.virtual_time();
        self.lent().0.as_ref().map_or(own, |lent| lent.virtual_time().min(own))
    }

    #[inline]
    fn raise_to(&self, virtual_time: u64) {
        self.share.raise_to(virtual_time);
        if let Some(lent) = &self.lent().0 {
            lent.raise_to(virtual_time);
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut spare = SPARE_STACKS.lock();
        if spare.len() < MAX_SPARE_STACKS && fallible::reserve(&mut *spare, 1).is_ok() {
            spare.extend(self.stack.take());
        }
    }
}
