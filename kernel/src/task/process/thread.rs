//! A thread: registers, a kernel stack, and what is pending for it.

use super::Process;
use crate::arch::context::Context;
use crate::arch::fpu::FpuState;
use crate::arch::{self, Registers};
use crate::mem::Space;
use crate::mem::kernel::Stack;
use crate::sync::{Mutex, ThreadId, rank};
use crate::task::signal::{Pending, SignalSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use foundation::Errno;

/// What a thread is doing, as the scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RunState {
    /// Running, or waiting for its turn.
    Ready,
    /// Until somebody wakes it.
    Blocked,
    /// It will not run again.
    Dead,
}

/// An alternate signal stack: `stack_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    /// Lowest address.
    pub start: u64,
    /// Bytes; 0 if there is none.
    pub bytes: u64,
}

/// What concerns signals and is the thread's own.
#[derive(Debug, Default)]
pub struct ThreadSignals {
    /// What is not told now.
    pub blocked: SignalSet,
    /// What to block again once a handler was told (rt_sigsuspend and its like).
    pub restore: Option<SignalSet>,
    /// What it waits for (rt_sigtimedwait): that is taken, not told, whatever is done about it
    /// otherwise.
    pub awaited: SignalSet,
    /// What was sent to this thread alone.
    pub pending: Pending,
    /// Where handlers run that ask for it.
    pub alternate: AlternateStack,
}

/// The parts of a thread that only it touches while it runs, and only the scheduler while it does
/// not.
struct Machine {
    context: Context,
    fpu: FpuState,
    fs_base: u64,
    gs_base: u64,
}

/// A thread.
pub struct Thread {
    /// Its number, unique for ever.
    pub tid: u32,
    /// The process it is of.
    pub process: Arc<Process>,
    /// Signals.
    pub signals: Mutex<ThreadSignals, rank::ThreadSignals>,
    /// Where a zero is written, and a futex woken, when it ends (`CLONE_CHILD_CLEARTID`); 0 if
    /// nowhere.
    pub clear_child_tid: AtomicU64,
    space: Mutex<Option<Arc<Space>>, rank::ThreadSpace>,
    /// Taken out when the thread is dropped.
    stack: Option<Stack>,
    stack_top: u64,
    machine: UnsafeCell<Machine>,
    run: AtomicU8,
    woken: AtomicBool,
    notice: AtomicBool,
    ending: AtomicBool,
    status: AtomicI32,
}

// SAFETY: `machine` is used by the thread itself and, while it does not run, by the one CPU's
// scheduler: never by two at once.
unsafe impl Sync for Thread {}
// SAFETY: nothing in it belongs to a CPU; `machine` as above.
unsafe impl Send for Thread {}

/// What a new thread begins with.
pub struct Beginning {
    /// Registers of user mode.
    pub registers: Registers,
    /// Thread-local storage.
    pub fs_base: u64,
    /// The other segment base.
    pub gs_base: u64,
    /// Floating-point state.
    pub fpu: FpuState,
    /// Blocked signals.
    pub blocked: SignalSet,
}

impl Beginning {
    /// Of a program's first thread.
    pub fn program(registers: Registers) -> Result<Self, Errno> {
        let fpu = FpuState::initial().ok_or(Errno::ENOMEM)?;
        Ok(Self { registers, fs_base: 0, gs_base: 0, fpu, blocked: SignalSet::EMPTY })
    }

    /// Of a copy of the running thread, with these registers.
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
        })
    }
}

impl Thread {
    /// A thread that is not yet known to anyone.
    pub fn new(
        tid: u32,
        process: Arc<Process>,
        space: Arc<Space>,
        beginning: Beginning,
    ) -> Result<Arc<Self>, Errno> {
        let stack = take_stack()?;
        // SAFETY: the stack is fresh and ours.
        let context = unsafe { Context::starting(stack.top().0, &beginning.registers) };
        let machine = Machine {
            context,
            fpu: beginning.fpu,
            fs_base: beginning.fs_base,
            gs_base: beginning.gs_base,
        };
        let signals = ThreadSignals { blocked: beginning.blocked, ..ThreadSignals::default() };
        Ok(Arc::new(Self {
            tid,
            process,
            signals: Mutex::new(signals),
            clear_child_tid: AtomicU64::new(0),
            space: Mutex::new(Some(space)),
            stack_top: stack.top().0,
            stack: Some(stack),
            machine: UnsafeCell::new(machine),
            run: AtomicU8::new(RunState::Blocked as u8),
            woken: AtomicBool::new(false),
            notice: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            status: AtomicI32::new(0),
        }))
    }

    /// How `sync` names it.
    pub fn id(&self) -> ThreadId {
        ThreadId(u64::from(self.tid))
    }

    /// Its memory; none once it has ended.
    pub fn space(&self) -> Option<Arc<Space>> {
        self.space.lock().clone()
    }

    /// Changes its memory and returns what it was; for the running thread.
    pub(in crate::task) fn replace_space(&self, space: Option<Arc<Space>>) -> Option<Arc<Space>> {
        let page_table =
            space.as_ref().map_or_else(arch::context::kernel_page_table, |space| space.cr3().0);
        // SAFETY: the table is a space's, which `self.space` keeps from now on, or the kernel's
        // own.
        unsafe { arch::context::set_page_table(page_table) };
        core::mem::replace(&mut *self.space.lock(), space)
    }

    /// Its registers in user mode, for the running thread in a system call or trap: changes take
    /// effect on return.
    ///
    /// The closure must not wait.
    pub(in crate::task) fn with_registers<T>(&self, change: impl FnOnce(&mut Registers) -> T) -> T {
        // SAFETY: the registers lie at the top of the running thread's own stack, and nobody else
        // refers to them meanwhile: entry code has passed on a raw pointer, and `change` cannot get
        // here again.
        unsafe { change(&mut *arch::context::registers(self.stack_top)) }
    }

    /// Where its stack stands in user mode, for the running thread in a system call.
    pub fn user_stack(&self) -> u64 {
        self.with_registers(|registers| registers.rsp)
    }

    /// Resets segment bases and floating-point state to a program's start; for the running thread.
    pub(in crate::task) fn reset_machine(&self, beginning: &Beginning) {
        arch::segments::set_fs_base(beginning.fs_base);
        arch::segments::set_gs_base(beginning.gs_base);
        beginning.fpu.restore();
    }

    /// Whether something is due before this thread returns to user mode: a signal, a stop, its end.
    pub fn has_notice(&self) -> bool {
        self.notice.load(Ordering::Acquire)
    }

    /// Says that something may be due. The thread sees it on its way to user mode;
    /// [`crate::task::scheduler::wake`] gets it out of a wait.
    pub fn notice(&self) {
        self.notice.store(true, Ordering::Release);
    }

    pub(in crate::task) fn clear_notice(&self) {
        self.notice.store(false, Ordering::Release);
    }

    /// Has this thread end on its way to user mode; `status` is the process's if it is the last.
    pub(in crate::task) fn set_ending(&self, status: i32) {
        self.status.store(status, Ordering::Relaxed);
        self.ending.store(true, Ordering::Release);
        self.notice();
    }

    /// The status with which this thread alone ended.
    pub(in crate::task) fn own_status(&self) -> i32 {
        self.status.load(Ordering::Relaxed)
    }

    /// Whether it is to end, alone or with its process.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) || self.process.is_ending()
    }

    /// What it is doing.
    pub fn run_state(&self) -> RunState {
        match self.run.load(Ordering::Acquire) {
            0 => RunState::Ready,
            1 => RunState::Blocked,
            _ => RunState::Dead,
        }
    }

    pub(in crate::task) fn set_run_state(&self, state: RunState) {
        self.run.store(state as u8, Ordering::Release);
    }

    /// Whether a wake-up came since the last look.
    pub(in crate::task) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub(in crate::task) fn set_woken(&self) {
        self.woken.store(true, Ordering::Release);
    }

    /// Writes to the log's line where this thread waits.
    ///
    /// # Safety
    /// It does not run.
    pub(in crate::task) unsafe fn backtrace(&self) {
        // SAFETY: the caller's promise.
        unsafe { (*self.machine.get()).context.backtrace() };
    }

    /// Goes on with `next` on this CPU; returns when this thread is switched to again.
    ///
    /// # Safety
    /// `self` runs, `next` is another one that is not running, and both are kept alive until they
    /// run again or are dead.
    pub(in crate::task) unsafe fn switch_to(&self, next: &Self) {
        // SAFETY: both machines are ours by the caller's promise.
        unsafe {
            let machine = self.machine.get();
            (*machine).fpu.save();
            (*machine).fs_base = arch::segments::fs_base();
            (*machine).gs_base = arch::segments::gs_base();
            next.resume_from(&raw mut (*machine).context);
        }
    }

    /// Goes on with this thread, leaving `from`.
    ///
    /// # Safety
    /// This thread is not running, and stays alive.
    pub(in crate::task) unsafe fn resume_from(&self, from: *mut Context) {
        let page_table = self
            .space
            .lock()
            .as_ref()
            .map_or_else(arch::context::kernel_page_table, |space| space.cr3().0);
        // SAFETY: the thread's own space lives as long as it is its own; the machine is ours by the
        // caller's promise.
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

/// Stacks of ended threads kept for the next ones: mapping one costs eight frames and entries.
const MAX_SPARE_STACKS: usize = 8;
static SPARE_STACKS: Mutex<Vec<Stack>, rank::SpareStacks> = Mutex::new(Vec::new());

fn take_stack() -> Result<Stack, Errno> {
    let spare = SPARE_STACKS.lock().pop();
    spare.map_or_else(|| Stack::new().map_err(|_| Errno::ENOMEM), Ok)
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut spare = SPARE_STACKS.lock();
        if spare.len() < MAX_SPARE_STACKS && spare.try_reserve(1).is_ok() {
            spare.extend(self.stack.take());
        }
    }
}
