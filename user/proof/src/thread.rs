//! Threads that share everything: clone(2) with a stack, and no more.
//!
//! They have no thread-local storage. On a Linux host with `std`, a thread's body must therefore
//! not allocate, print or panic; it uses atomics and system calls only.

use crate::kit::{Named, Outcome};
use core::sync::atomic::{AtomicU32, Ordering};
use sys::abi;
use user::pages::Pages;
use user::prelude::*;

/// Bytes of a thread's stack. The kernel clears the lowest word when the thread ends.
const STACK_BYTES: usize = 64 << 10;

/// The body of a thread.
pub type Body = extern "C" fn(usize);

/// A thread, joined when dropped.
pub struct Thread {
    stack: Pages,
}

#[unsafe(naked)]
unsafe extern "C" fn clone_thread(flags: usize, stack_top: *mut usize, ended: *const u32) -> isize {
    // The child pops its body and argument from its stack and does not return.
    core::arch::naked_asm!(
        "mov r10, rdx",
        "xor edx, edx",
        "xor r8d, r8d",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "xor ebp, ebp",
        "pop rax",
        "pop rdi",
        "call rax",
        "xor edi, edi",
        "mov eax, 60",
        "syscall",
        "ud2",
        "2:",
        "ret",
    )
}

impl Thread {
    /// Starts a thread that runs `body(argument)`.
    pub fn start(body: Body, argument: usize) -> Outcome<Thread> {
        Self::try_start(body, argument).named("clone")
    }

    /// The same, with the error of the call that failed.
    pub fn try_start(body: Body, argument: usize) -> Result<Thread> {
        let mut stack = Pages::new(STACK_BYTES)?;
        let thread_flags = abi::CLONE_VM
            | abi::CLONE_FS
            | abi::CLONE_FILES
            | abi::CLONE_SIGHAND
            | abi::CLONE_THREAD
            | abi::CLONE_SYSVSEM
            | abi::CLONE_CHILD_CLEARTID;
        let ended = stack.as_mut_ptr();
        let top = ended as usize + STACK_BYTES - 16;
        // SAFETY: both words and the flag lie in the new stack, which only the thread uses and
        // which lives until the thread has ended.
        let result = unsafe {
            let top = top as *mut usize;
            top.write(body as *const () as usize);
            top.add(1).write(argument);
            ended.cast::<u32>().write(1);
            clone_thread(thread_flags as usize, top, ended.cast())
        };
        sys::check(result)?;
        Ok(Thread { stack })
    }

    /// Waits until the thread has ended.
    pub fn join(self) {}
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: the kernel clears this word when the thread ends; the stack that contains it
        // still exists.
        let ended = unsafe { AtomicU32::from_ptr(self.stack.as_mut_ptr().cast()) };
        while ended.load(Ordering::Acquire) != 0 {
            let (wait, word) = (abi::FUTEX_WAIT as usize, core::ptr::from_ref(ended) as usize);
            // SAFETY: the kernel only looks at the word.
            let _ = unsafe { sys::syscall(abi::__NR_futex, [word, wait, 1, 0, 0, 0]) };
        }
    }
}
