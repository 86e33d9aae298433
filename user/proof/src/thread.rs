//! Threads that share everything: clone(2) with a stack of its own, and no more.
//!
//! There is no thread-local storage behind them. On a Linux host built with `std`, a thread's body
//! must therefore not allocate, print or panic; it works on atomics and system calls.

use crate::kit::{Named, Outcome};
use core::sync::atomic::{AtomicU32, Ordering};
use sys::abi;
use user::pages::Pages;
use user::prelude::*;

/// A thread's stack. Its lowest word is where the kernel says that the thread has ended.
const STACK_BYTES: usize = 64 << 10;

/// What a thread runs.
pub type Body = extern "C" fn(usize);

/// A thread, joined when dropped.
pub struct Thread {
    stack: Pages,
}

#[unsafe(naked)]
unsafe extern "C" fn clone_thread(flags: usize, stack_top: *mut usize, ended: *const u32) -> isize {
    // The child finds its body and argument on its stack, and never comes back.
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
        let mut stack = Pages::new(STACK_BYTES).named("a stack")?;
        let thread_flags = abi::CLONE_VM
            | abi::CLONE_FS
            | abi::CLONE_FILES
            | abi::CLONE_SIGHAND
            | abi::CLONE_THREAD
            | abi::CLONE_SYSVSEM
            | abi::CLONE_CHILD_CLEARTID;
        let ended = stack.as_mut_ptr();
        let top = ended as usize + STACK_BYTES - 16;
        // SAFETY: both words and the flag lie inside the fresh stack; the thread uses nothing else,
        // and the stack lives until it has ended.
        let result = unsafe {
            let top = top as *mut usize;
            top.write(body as *const () as usize);
            top.add(1).write(argument);
            ended.cast::<u32>().write(1);
            clone_thread(thread_flags as usize, top, ended.cast())
        };
        sys::check(result).named("clone")?;
        Ok(Thread { stack })
    }

    /// Waits until the thread has ended.
    pub fn join(self) {}
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: the kernel clears this word when the thread ends; it lies in the stack, which is
        // still there.
        let ended = unsafe { AtomicU32::from_ptr(self.stack.as_mut_ptr().cast()) };
        while ended.load(Ordering::Acquire) != 0 {
            let (wait, word) = (abi::FUTEX_WAIT as usize, core::ptr::from_ref(ended) as usize);
            // SAFETY: the kernel only looks at the word.
            let _ = unsafe { sys::syscall(abi::__NR_futex, [word, wait, 1, 0, 0, 0]) };
        }
    }
}
