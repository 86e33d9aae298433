//! Switching between threads.

use super::{cpu, entry, segments};
use crate::arch::Registers;
use core::arch::naked_asm;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// What is kept of a thread that does not run: where its kernel stack stands. All else lies on that
/// stack.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Context {
    sp: u64,
}

/// Registers that a function call preserves, as `switch_stacks` pushes them, and where it returns
/// to.
const SWITCH_WORDS: u64 = 7;

impl Context {
    /// A thread that goes to user mode with `registers` when it is switched to for the first time.
    ///
    /// # Safety
    /// `stack_top` is the end of a mapped stack that nothing else uses, aligned to 16 bytes.
    pub unsafe fn starting(stack_top: u64, registers: &Registers) -> Self {
        let frame = self::registers(stack_top);
        let sp = frame as u64 - SWITCH_WORDS * 8;
        let entry: extern "C" fn() = entry::thread_entry;
        // SAFETY: both lie within the stack, which is ours by the caller's promise.
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
    /// Writes to the log's line where this thread waits: return addresses, newest first.
    ///
    /// # Safety
    /// The thread does not run, and its stack is still there.
    pub unsafe fn backtrace(&self) {
        // SAFETY: what `switch_stacks` pushed, by the caller's promise; the frame pointer is the
        // last before the return address.
        super::panic::backtrace(unsafe { *((self.sp + (SWITCH_WORDS - 2) * 8) as *const u64) });
    }
}

/// Writes to the log's line how this place was reached.
pub fn backtrace_here() {
    super::panic::backtrace(super::panic::frame_pointer());
}

/// Where the registers lie with which the thread of this stack entered the kernel.
pub fn registers(stack_top: u64) -> *mut Registers {
    (stack_top - size_of::<Registers>() as u64) as *mut Registers
}

/// Leaves the running thread and goes on with another; returns when somebody switches back.
///
/// # Safety
/// Both contexts stay where they are until then, `to` is one that is not running, and `stack_top`
/// is the end of its stack (0: it never sees user mode).
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

/// Serves the interrupts that are due. No lock is held.
pub fn let_interrupts_in() {
    x86_64::instructions::interrupts::enable();
    // Interrupts are taken only after the instruction that follows the enabling one.
    x86_64::instructions::nop();
    x86_64::instructions::interrupts::disable();
}

/// Waits for an interrupt. Here and in [`let_interrupts_in`] interrupts are on, and nowhere else in
/// the kernel.
pub fn idle() {
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
}

/// Loads a page table, if it is not the one in force.
///
/// # Safety
/// `address` is a top-level table that maps the kernel as all others do, and stays until another
/// one is loaded.
pub unsafe fn set_page_table(address: u64) {
    let (current, _) = Cr3::read();
    if current.start_address().as_u64() != address {
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(address));
        // SAFETY: the caller's promise.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    }
}

/// The page table that maps the kernel and no program.
pub fn kernel_page_table() -> u64 {
    cpu::this().kernel_page_table()
}
