//! x86_64: descriptor tables, entry code, thread switch, interrupt controllers, clock, serial
//! ports, keyboard.
//!
//! Other modules depend on the architecture in data only: `mem::page_table` by the format of
//! entries, `task::elf` and `task::exec` by what a program expects at its start, `task::frame` by
//! the layout of signal frames, `syscall` by numbers and structures.
//!
//! The kernel runs with interrupts off, except in [`context::idle`] and
//! [`context::serve_interrupts`]. So kernel code is never interrupted by a device in between.

pub mod clock;
pub mod context;
pub mod cpu;
mod entry;
pub mod fpu;
mod idt;
pub mod irq;
pub mod keyboard;
mod local_apic;
pub mod log;
mod panic;
pub mod power;
pub mod segments;
pub mod serial;
pub mod usage;

/// Sets up the CPU. After this, traps and the log work; interrupts stay off.
///
/// # Safety
/// Called once, before anything else, with interrupts off, on the loader's page tables.
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
        local_apic::start(physical_memory_offset);
        clock::start(physical_memory_offset);
    }
    usage::start();
}

/// Unmaps the lower half, which the loader used. From now on it belongs to programs.
///
/// # Safety
/// Nothing in the lower half is in use, and physical memory is mapped at the offset.
pub unsafe fn drop_lower_half(physical_memory_offset: u64) {
    const LOWER_ENTRIES: usize = 256;
    let root = context::kernel_page_table();
    // SAFETY: the top-level table in use is in physical memory; by the caller's promise its lower
    // half is unused.
    unsafe {
        ((physical_memory_offset + root) as *mut u64).write_bytes(0, LOWER_ENTRIES);
    }
    ::x86_64::instructions::tlb::flush_all();
}
