//! x86_64: the only code that knows the CPU.
//!
//! The kernel runs with interrupts off, except in [`context::idle`] and
//! [`context::let_interrupts_in`]: nothing here is ever entered twice on one CPU, but by a bug.

pub mod clock;
pub mod context;
pub mod cpu;
mod entry;
pub mod fpu;
mod idt;
pub mod irq;
pub mod log;
mod panic;
pub mod power;
pub mod segments;
pub mod serial;

/// Sets up the CPU. After this, traps work and the log speaks; interrupts stay off.
///
/// # Safety
/// Once, first thing, with interrupts off, on the page tables that the loader left.
pub unsafe fn start(physical_memory_offset: u64, handlers: &super::Handlers) {
    log::start();
    // SAFETY: the caller's promise: nothing ran before this.
    unsafe {
        cpu::start();
        segments::start();
        idt::start();
        entry::start(handlers);
        fpu::start();
        irq::start();
        clock::start(physical_memory_offset);
    }
}

/// Unmaps the lower half, where the loader was: it belongs to programs.
///
/// # Safety
/// Nothing there is used any more, and physical memory is mapped at the offset.
pub unsafe fn drop_lower_half(physical_memory_offset: u64) {
    const LOWER_ENTRIES: usize = 256;
    let root = context::kernel_page_table();
    // SAFETY: the top-level table in use lies in physical memory; its lower half is unused by the
    // caller's promise.
    unsafe {
        ((physical_memory_offset + root) as *mut u64).write_bytes(0, LOWER_ENTRIES);
    }
    ::x86_64::instructions::tlb::flush_all();
}
