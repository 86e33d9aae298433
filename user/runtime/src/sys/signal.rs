//! Signal actions: default, ignored, or a handler.

use super::{Result, abi, call};
use core::time::Duration;

/// A handler, called with the signal's number on the thread's stack.
pub type Handler = extern "C" fn(i32);

/// The x86_64 kernel's layout of a signal action.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// The x86_64 kernel requires the address to which a handler returns.
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

/// Resets a signal to its default action.
pub fn signal_default(signal: i32) -> Result<()> {
    set(signal, 0, 0)
}

/// Has the kernel discard a signal.
pub fn signal_ignore(signal: i32) -> Result<()> {
    set(signal, 1, 0)
}

/// Installs `handler` for a signal; `flags` such as `SA_RESTART`.
pub fn signal_handle(signal: i32, handler: Handler, flags: u32) -> Result<()> {
    set(signal, handler as *const () as usize, flags)
}

/// Replaces the mask of blocked signals (bit n-1 for signal n). Returns the old mask.
pub fn signal_mask(blocked: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: the kernel reads one set and fills in the other.
    unsafe { call!(__NR_rt_sigprocmask, abi::SIG_SETMASK, &raw const blocked, &raw mut old, 8)? };
    Ok(old)
}

/// Waits until one of the entries is ready, while exactly the signals in `blocked` are blocked.
/// Returns the number of ready entries; EINTR after a signal that is handled.
pub fn poll(entries: &mut [abi::pollfd], blocked: u64) -> Result<usize> {
    let count = entries.len();
    // SAFETY: the kernel reads the mask and fills in the entries.
    unsafe { call!(__NR_ppoll, entries.as_mut_ptr(), count, 0usize, &raw const blocked, 8) }
}

/// Waits until one of the entries is ready, or for a time. Returns the number of ready entries.
pub fn poll_for(entries: &mut [abi::pollfd], time: Option<Duration>) -> Result<usize> {
    let count = entries.len();
    let time = time.map(|time| abi::__kernel_timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: the kernel reads the time and fills in the entries.
    unsafe { call!(__NR_ppoll, entries.as_mut_ptr(), count, time, 0usize, 8) }
}
