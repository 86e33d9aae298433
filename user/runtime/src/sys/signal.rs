//! Signals: default, ignored, or handled by a plain function.

use super::{Result, abi, call};

/// A handler, called with the signal's number on the thread's own stack.
pub type Handler = extern "C" fn(i32);

/// The x86_64 kernel's own layout of a signal's action.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// The x86_64 kernel insists on being told where a handler returns to.
const SA_RESTORER: usize = 0x0400_0000;

#[unsafe(naked)]
extern "C" fn restorer() {
    core::arch::naked_asm!("mov eax, 15", "syscall", "ud2")
}

fn set(signal: i32, handler: usize, flags: u32) -> Result<()> {
    let action = Action {
        handler,
        flags: flags as usize | SA_RESTORER,
        restorer: restorer as *const () as usize,
        mask: 0,
    };
    // SAFETY: the kernel only reads the structure; handlers are functions of the right type.
    unsafe { call!(__NR_rt_sigaction, signal, &raw const action, 0, 8).map(drop) }
}

/// The signal does again what it does by default.
pub fn signal_default(signal: i32) -> Result<()> {
    set(signal, 0, 0)
}

/// The signal is dropped.
pub fn signal_ignore(signal: i32) -> Result<()> {
    set(signal, 1, 0)
}

/// The signal calls `handler`; `flags` such as `SA_RESTART`.
pub fn signal_handle(signal: i32, handler: Handler, flags: u32) -> Result<()> {
    set(signal, handler as *const () as usize, flags)
}

/// Replaces the set of blocked signals (bit n-1 for signal n); returns the old set.
pub fn signal_mask(blocked: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: the kernel reads one set and fills in the other.
    unsafe { call!(__NR_rt_sigprocmask, abi::SIG_SETMASK, &raw const blocked, &raw mut old, 8)? };
    Ok(old)
}
