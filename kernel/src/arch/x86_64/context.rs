//! Switching between threads.

use super::{cpu, entry, segments};
use crate::arch::Registers;
use core::arch::naked_asm;
use foundation::counter::{self, Counter};
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// The context of a thread that does not run: its kernel stack pointer. All other state is on that
/// stack.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Context {
    sp: u64,
}

/// Words that `switch_stacks` keeps on the stack: the callee-saved registers and the return
/// address.
const SWITCH_WORDS: u64 = 7;

impl Context {
    /// The context of a new thread, which enters user mode with `registers` at the first switch.
    ///
    /// # Safety
    /// `stack_top` is the end of a mapped stack that nothing else uses, aligned to 16 bytes.
    pub unsafe fn starting(stack_top: u64, registers: &Registers) -> Self {
        let frame = self::registers(stack_top);
        let sp = frame as u64 - SWITCH_WORDS * 8;
        let entry: extern "C" fn() = entry::thread_entry;
        // SAFETY: both ranges are within the stack, which the caller gives to this thread.
        unsafe {
            frame.write(*registers);
            (sp as *mut [u64; SWITCH_WORDS as usize]).write([
                0,
                0,
                0,
                0,
                0,
                0,
                entry as usize as u64,
            ]);
        }
        Self { sp }
    }
}

impl Context {
    /// Writes to the log where this thread waits: return addresses, newest first.
    ///
    /// # Safety
    /// The thread does not run, and its stack still exists.
    pub unsafe fn backtrace(&self) {
        // SAFETY: the caller promises that the stack holds what `switch_stacks` pushed. The frame
        // pointer is the last word before the return address.
        super::panic::backtrace(unsafe { *((self.sp + (SWITCH_WORDS - 2) * 8) as *const u64) });
    }
}

/// Writes to the log the return addresses of the caller.
pub fn backtrace_here() {
    super::panic::backtrace(super::panic::frame_pointer());
}

/// The saved registers of the thread with this stack.
pub fn registers(stack_top: u64) -> *mut Registers {
    (stack_top - size_of::<Registers>() as u64) as *mut Registers
}

/// Switches from the running thread to another. Returns when something switches back.
///
/// # Safety
/// Both contexts stay valid until then, the thread of `to` does not run, and `stack_top` is the end
/// of its stack (0: it never enters user mode).
pub unsafe fn switch(from: *mut Context, to: *const Context, stack_top: u64) {
    segments::set_kernel_stack(stack_top);
    // SAFETY: the caller's promise.
    unsafe { switch_stacks(from, to) }
}

#[unsafe(naked)]
unsafe extern "C" fn switch_stacks(from: *mut Context, to: *const Context) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, [rsi]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Serves pending interrupts. The caller holds no lock.
pub fn serve_interrupts() {
    x86_64::instructions::interrupts::enable();
    // Interrupts are taken only after the instruction that follows `sti`.
    x86_64::instructions::nop();
    x86_64::instructions::interrupts::disable();
}

/// Waits for an interrupt. Only here and in [`serve_interrupts`] the kernel runs with interrupts
/// on.
pub fn idle() {
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
}

/// Loads a page table, unless it is already loaded.
///
/// # Safety
/// `address` is a top-level table that maps the kernel like all others, and stays valid until
/// another one is loaded.
pub unsafe fn set_page_table(address: u64) {
    let (current, _) = Cr3::read();
    if current.start_address().as_u64() != address {
        counter::count(Counter::SpaceSwitches, 1);
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(address));
        // SAFETY: the caller's promise.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    }
}

/// The page table that maps the kernel and no program, by physical address.
pub fn kernel_page_table() -> u64 {
    cpu::this().kernel_page_table()
}
