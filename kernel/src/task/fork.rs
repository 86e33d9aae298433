//! fork, vfork, clone: new processes and threads.
#![forbid(unsafe_code)]

use super::process::Inheritance;
use super::signal::{MAX_SIGNAL, SIGCHLD, Signal};
use super::thread::InitialState;
use super::{Current, Process, Thread, family, mutants, pid_file, scheduler};
use crate::file::{Caller, IoCaller};
use crate::mem::{Account, Occupant, Space, USER_END, UserAddr, UserSlice};
use crate::sync::{Interrupt, Mutex};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::{ByteCount, Errno};

bitflags::bitflags! {
    /// Flags of clone; the lowest byte of its argument is the signal for the parent.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// Share the address space.
        const VM = 0x100;
        /// Share working directory and umask.
        const FS = 0x200;
        /// Share the descriptor table.
        const FILES = 0x400;
        /// Share signal actions; only together with `VM`.
        const SIGHAND = 0x800;
        /// Open the child as a file of the caller.
        const PIDFD = 0x1000;
        /// The parent waits until the child has called exec or ended.
        const VFORK = 0x4000;
        /// Make a child of the caller's parent.
        const PARENT = 0x8000;
        /// Make a thread of the same process.
        const THREAD = 0x1_0000;
        /// System V semaphores: there are none.
        const SYSVSEM = 0x4_0000;
        /// Set the FS base: thread-local storage.
        const SET_TLS = 0x8_0000;
        /// Write the child's number to the parent's memory.
        const PARENT_SET_TID = 0x10_0000;
        /// At the child's end, write a zero to its memory and wake a futex there.
        const CHILD_CLEAR_TID = 0x20_0000;
        /// Ignored, as on Linux.
        const DETACHED = 0x40_0000;
        /// The child may not be traced by force: nothing traces here.
        const UNTRACED = 0x80_0000;
        /// Write the child's number to its own memory.
        const CHILD_SET_TID = 0x100_0000;
        /// Share the scheduling of input and output: there is none.
        const IO = 0x8000_0000;
        /// Reset handlers in the child; clone3(2) only.
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// The part of clone's first argument that is a signal.
const EXIT_SIGNAL: u64 = 0xff;

/// What clone(2) is to make.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// What caller and child share, and further options.
    pub flags: CloneFlags,
    /// The signal at the child's end.
    pub exit_signal: Signal,
    /// The child's stack pointer; null: the caller's.
    pub stack: UserAddr,
    /// Where `PARENT_SET_TID` writes the number.
    pub parent_tid: UserAddr,
    /// Where `CHILD_SET_TID` writes the number and `CHILD_CLEAR_TID` a zero.
    pub child_tid: UserAddr,
    /// The FS base that `SET_TLS` sets.
    pub tls: UserAddr,
    /// Where `PIDFD` writes the descriptor.
    pub pidfd: UserAddr,
}

impl Request {
    /// The request of fork(2).
    pub fn fork() -> Self {
        Self { exit_signal: SIGCHLD, ..Self::default() }
    }

    /// The request of vfork(2).
    pub fn vfork() -> Self {
        Self { flags: CloneFlags::VM | CloneFlags::VFORK, ..Self::fork() }
    }

    /// Decodes clone's first argument. EINVAL for flags that this kernel does not have (name
    /// spaces, tracing) and for combinations that Linux refuses, too.
    pub fn decode(flags: u64) -> Result<Self, Errno> {
        // The other half of the register does not count.
        Self::checked(u64::from(flags as u32) & !EXIT_SIGNAL, Signal((flags & EXIT_SIGNAL) as u8))
    }

    /// A request with these flags, without the signal in them; EINVAL as for [`Self::decode`].
    pub fn checked(flags: u64, exit_signal: Signal) -> Result<Self, Errno> {
        let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let needs = |flag, needed| !flags.contains(flag) || flags.contains(needed);
        let sound = needs(CloneFlags::THREAD, CloneFlags::SIGHAND)
            && needs(CloneFlags::SIGHAND, CloneFlags::VM);
        let is_pidfd_sound = !flags.contains(CloneFlags::PIDFD)
            || !flags.intersects(CloneFlags::THREAD | CloneFlags::DETACHED);
        if !sound
            || !is_pidfd_sound
            || exit_signal > MAX_SIGNAL
            || flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND)
        {
            return Err(Errno::EINVAL);
        }
        Ok(Self { flags, exit_signal, ..Self::default() })
    }
}

/// Makes a thread or a process that continues after the caller's system call, with result 0.
/// Returns its number.
pub fn clone(current: &Current, request: &Request) -> Result<u32, Errno> {
    let flags = request.flags;
    if flags.contains(CloneFlags::PARENT) && current.pid() == super::INIT_PID {
        return Err(Errno::EINVAL);
    }
    crate::mem::ready::<Errno>(current.space().policy.claim())?;
    let tid = family::new_number(Some(current.pid()))?;
    let space = if flags.contains(CloneFlags::VM) {
        Occupant::new(current.space())
    } else {
        current.space().fork()?
    };
    let initial = initial_state(current, request)?;
    let is_thread = flags.contains(CloneFlags::THREAD);
    let process = if is_thread {
        current.process().clone()
    } else {
        let shares_space = flags.contains(CloneFlags::VM);
        let account =
            if shares_space { current.process().account.child() } else { space.account.clone() };
        copy_process(current, tid, request, account)?
    };
    let memory = Arc::clone(&space);
    let thread = Thread::new(tid, process.clone(), space, initial)?;
    if !flags.contains(CloneFlags::VM) || flags.contains(CloneFlags::VFORK) {
        // Another thread that runs in this memory needs a stack of its own.
        let alternate = current.thread.signals.lock().alternate;
        thread.signals.lock().alternate = alternate;
    }
    if flags.contains(CloneFlags::CHILD_CLEAR_TID) {
        thread.clear_child_tid.store(request.child_tid.0, Ordering::Relaxed);
    }
    write_numbers(current, &memory, request, tid)?;
    drop(memory);
    let opened = if flags.contains(CloneFlags::PIDFD) {
        Some(pid_file::install(current, &process, request.pidfd)?)
    } else {
        None
    };
    if let Err(error) = register(&process, &thread) {
        drop(opened.and_then(|fd| current.files().lock().remove(fd).ok()));
        return Err(error);
    }
    if !is_thread {
        let parent = if flags.contains(CloneFlags::PARENT) {
            family::relations(current.pid()).map(|own| own.parent)
        } else {
            None
        };
        family::add_process(&process, parent.unwrap_or(current.pid()), current.pid());
        crate::trace::inherit(current.pid(), process.pid);
    }
    scheduler::wake(&thread);
    if flags.contains(CloneFlags::VFORK) {
        // If the caller is killed meanwhile, the child keeps the memory, and this thread ends
        // before it returns to user mode.
        let _ =
            process.vfork_queue.wait(Interrupt::Killable, || process.is_vfork_done().then_some(()));
    }
    Ok(tid)
}

/// Adds a thread to the table and to its process.
fn register(process: &Process, thread: &Arc<Thread>) -> Result<(), Errno> {
    scheduler::reserve()?;
    family::add_thread(thread)?;
    process.add_thread(thread).inspect_err(|_| {
        if !mutants::keep_failed_thread() {
            family::remove_thread(thread.tid);
        }
    })
}

/// The caller's registers, with result 0, and what the request sets of them. EPERM for a thread
/// pointer that no program can have.
fn initial_state(current: &Current, request: &Request) -> Result<InitialState, Errno> {
    let mut registers = current.thread.with_registers(|registers| *registers);
    registers.rax = 0;
    if !request.stack.is_null() {
        registers.rsp = request.stack.0;
    }
    let mut initial = InitialState::copy(&current.thread, registers)?;
    if request.flags.contains(CloneFlags::SET_TLS) {
        if request.tls >= USER_END {
            return Err(Errno::EPERM);
        }
        initial.fs_base = request.tls.0;
    }
    Ok(initial)
}

fn copy_process(
    current: &Current,
    pid: u32,
    request: &Request,
    account: Arc<Account>,
) -> Result<Arc<Process>, Errno> {
    let parent = current.process();
    let files = parent.files().ok_or(Errno::ESRCH)?;
    let files = if request.flags.contains(CloneFlags::FILES) {
        files
    } else {
        Arc::new(Mutex::new(files.lock().try_clone(&account)?))
    };
    let context = &parent.context;
    let context = if request.flags.contains(CloneFlags::FS) {
        context.clone()
    } else {
        Arc::new(Mutex::new(context.lock().try_clone(&account)?))
    };
    let actions = if request.flags.contains(CloneFlags::SIGHAND) {
        parent.actions()
    } else {
        let mut actions = parent.with_actions(|actions| actions.clone());
        if request.flags.contains(CloneFlags::CLEAR_SIGHAND) {
            actions.reset_handlers();
        }
        Arc::new(Mutex::new(actions))
    };
    let identity = parent.identity.lock().clone();
    Process::new(
        pid,
        Inheritance {
            account,
            files,
            context,
            actions,
            identity,
            choices: parent.choices.inherited(),
            server: parent.is_server(),
            // A sibling ends as the caller does.
            exit_signal: if request.flags.contains(CloneFlags::PARENT) {
                parent.exit_signal()
            } else {
                request.exit_signal
            },
        },
    )
}

/// Writes the new thread's number where the caller wants it.
fn write_numbers(
    current: &Current,
    space: &Space,
    request: &Request,
    tid: u32,
) -> Result<(), Errno> {
    if request.flags.contains(CloneFlags::PARENT_SET_TID) {
        current.write(request.parent_tid, &tid.to_le_bytes())?;
    }
    if request.flags.contains(CloneFlags::CHILD_SET_TID) {
        let slice = UserSlice::new(request.child_tid, ByteCount(4))?;
        space.copy_out_all(slice, &tid.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_accepts_the_flags_of_c_libraries_and_refuses_invalid_ones() {
        // fork of glibc, a thread of glibc, posix_spawn.
        // And what shares actions without being a thread.
        for flags in [0x0120_0011, 0x003d_0f00, 0x4111, 0x0f11] {
            assert!(Request::decode(flags).is_ok(), "{flags:#x}");
        }
        assert_eq!(Request::decode(0x0120_0011).unwrap().exit_signal, SIGCHLD);
        // A thread without shared memory or actions; a name space; tracing; a signal past the last.
        for flags in [0x1_0000, 0x1_0800, 0x800, 0x2000_0000, 0x2000, 0x41] {
            assert_eq!(Request::decode(flags).err(), Some(Errno::EINVAL), "{flags:#x}");
        }
    }
}
