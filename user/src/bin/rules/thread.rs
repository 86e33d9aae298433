//! Threads that share everything, to race with.
//!
//! A thread's body must not allocate, panic or use thread-local storage: on a Linux host it runs on
//! the maker's. It works on plain memory, through system calls and atomics.

use crate::kit::{Buffer, Named, Outcome, PAGE};
use crate::os;
use core::sync::atomic::{AtomicU32, Ordering};
use user::errno::Errno;
use user::sys::abi;

/// Enough for a body and the calls it makes.
const STACK_BYTES: usize = 16 * PAGE;

/// A running thread. Waited for when dropped.
pub struct Thread {
    stack: Buffer,
}

/// What a thread runs.
pub type Body = extern "C" fn(usize);

impl Thread {
    /// Starts a thread that runs `body(argument)`.
    pub fn start(body: Body, argument: usize) -> Outcome<Self> {
        let stack = Buffer::new(STACK_BYTES)?;
        // The lowest word of the stack becomes 0 when the thread has ended: the kernel clears it.
        let alive = stack.at(0);
        Self::alive(alive).store(1, Ordering::SeqCst);
        let flags = abi::CLONE_VM
            | abi::CLONE_FS
            | abi::CLONE_FILES
            | abi::CLONE_SIGHAND
            | abi::CLONE_THREAD
            | abi::CLONE_SYSVSEM
            | abi::CLONE_CHILD_CLEARTID;
        // SAFETY: the stack is fresh, and lives until the thread has ended.
        let id =
            unsafe { clone_thread(flags as usize, stack.at(STACK_BYTES), alive, body, argument) };
        if id < 0 {
            return Err(Errno(-id as u16)).named("clone");
        }
        Ok(Self { stack })
    }

    fn alive(addr: usize) -> &'static AtomicU32 {
        // SAFETY: a word of a mapping that the thread's owner keeps for as long as this is used.
        unsafe { AtomicU32::from_ptr(addr as *mut u32) }
    }

    /// Waits until it has ended.
    pub fn join(self) {}
}

impl Drop for Thread {
    fn drop(&mut self) {
        let addr = self.stack.at(0);
        loop {
            match Self::alive(addr).load(Ordering::SeqCst) {
                0 => break,
                value => os::futex_wait(addr, value),
            }
        }
    }
}

/// clone(2) with a stack of its own for the child, which runs `body(argument)` and ends.
///
/// # Safety
/// `top` must be the end of memory that nobody else uses until the thread has ended.
unsafe fn clone_thread(
    flags: usize,
    top: usize,
    alive: usize,
    body: Body,
    argument: usize,
) -> isize {
    extern "C" fn end() -> ! {
        os::exit_thread()
    }
    let id: isize;
    // SAFETY: the parent goes on behind the block; the child never leaves it, and has only what its
    // registers hold.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "call r14",
            "ud2",
            "2:",
            inlateout("rax") abi::__NR_clone as isize => id,
            in("rdi") flags,
            in("rsi") top,
            in("rdx") 0,
            in("r10") alive,
            in("r8") 0,
            in("r12") body,
            in("r13") argument,
            in("r14") end as extern "C" fn() -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    id
}
