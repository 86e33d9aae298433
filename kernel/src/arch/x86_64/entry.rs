//! Entry code: assembly for the way from user mode into the kernel and back.
//!
//! Every entry saves the same [`Registers`] at the top of the thread's kernel stack. A system call
//! returns by `sysret` if only its result has changed: the callee-saved registers then still have
//! the user's values and are not loaded. Otherwise it returns by `iret`, like every trap.

use super::cpu::{KERNEL_STACK, USER_RSP};
use super::segments::KERNEL_CS;
use crate::arch::{Exception, Handlers, PageFault, Registers, ReturnPath, SavedRegisters};
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;

/// Offset of the saved code segment, whose privilege level is 3 if user mode was interrupted.
const CS: usize = offset_of!(Registers, cs);

/// The registered handlers. Entry code calls `system_call` and `thread_start` in place.
#[repr(transparent)]
struct Registered(UnsafeCell<Handlers>);

// SAFETY: written once, by `start`, before any entry from user mode.
unsafe impl Sync for Registered {}

static HANDLERS: Registered = {
    extern "C" fn system_call(_: SavedRegisters<'_>) -> ReturnPath {
        panic!("no handler is registered")
    }
    extern "C" fn thread_start() {
        panic!("no handler is registered")
    }
    fn page_fault(_: PageFault) {
        panic!("no handler is registered")
    }
    fn exception(_: Exception) {
        panic!("no handler is registered")
    }
    fn nothing() {}
    Registered(UnsafeCell::new(Handlers {
        system_call,
        thread_start,
        page_fault,
        exception,
        interrupt: nothing,
        report: nothing,
    }))
};

/// The handlers of the layers above.
#[inline]
pub(super) fn handlers() -> Handlers {
    // SAFETY: nothing writes after `start`.
    unsafe { *HANDLERS.0.get() }
}

pub(super) unsafe fn start(handlers: &Handlers) {
    // SAFETY: called once, before any entry from user mode.
    unsafe { *HANDLERS.0.get() = *handlers };
    const STAR: u32 = 0xc000_0081;
    /// `sysret` takes SS from this selector plus 8 and CS from this plus 16.
    const SYSRET_BASE: u64 = 0x23;
    // SAFETY: the selectors are those of the descriptor table; the entry point is defined below.
    unsafe { Msr::new(STAR).write(u64::from(KERNEL_CS) << 32 | SYSRET_BASE << 48) };
    LStar::write(VirtAddr::from_ptr(system_call_entry as *const ()));
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::NESTED_TASK
            | RFlags::IOPL_LOW
            | RFlags::IOPL_HIGH
            | RFlags::RESUME_FLAG,
    );
}

/// The target of `syscall`. rcx holds the user's rip, r11 its rflags; the stack pointer is still
/// the user's.
#[unsafe(naked)]
extern "C" fn system_call_entry() {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_rsp}], rsp",
        "mov rsp, gs:[{kernel_stack}]",
        "push {user_ss}",
        "push qword ptr gs:[{user_rsp}]",
        "push r11",
        "push {user_cs}",
        "push rcx",
        "push rax",
        "push {syscall}",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push rax",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov rdi, rsp",
        "call qword ptr [rip + {handlers} + {system_call}]",
        "test al, al",
        "jz {leave}",
        "add rsp, 6 * 8",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rax",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "mov rsp, [rsp + 5 * 8]",
        "swapgs",
        "sysretq",
        user_rsp = const USER_RSP,
        kernel_stack = const KERNEL_STACK,
        user_ss = const Registers::USER_SS,
        user_cs = const Registers::USER_CS,
        syscall = const Registers::SYSCALL,
        handlers = sym HANDLERS,
        system_call = const offset_of!(Handlers, system_call),
        leave = sym leave,
    )
}

/// Returns to user mode or to the kernel, as the registers on the stack say.
#[unsafe(naked)]
extern "C" fn leave() {
    naked_asm!(
        "test byte ptr [rsp + {cs}], 3",
        "jz 1f",
        "swapgs",
        "1:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rax",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "add rsp, 16",
        "iretq",
        cs = const CS,
    )
}

/// The first code of a new thread, with its registers on the stack.
#[unsafe(naked)]
pub(super) extern "C" fn thread_entry() {
    naked_asm!(
        "call qword ptr [rip + {handlers} + {thread_start}]",
        "jmp {leave}",
        handlers = sym HANDLERS,
        thread_start = const offset_of!(Handlers, thread_start),
        leave = sym leave,
    )
}

/// The common part of all traps. The stack holds the vector and an error code, below the words that
/// the CPU pushed.
#[unsafe(naked)]
extern "C" fn trap_common() {
    naked_asm!(
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push rax",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "cld",
        "test byte ptr [rsp + {cs}], 3",
        "jz 1f",
        "swapgs",
        "1:",
        "mov rdi, rsp",
        "call {trap}",
        "jmp {leave}",
        cs = const CS,
        trap = sym super::idt::trap,
        leave = sym leave,
    )
}

/// The entry point of a vector without an error code: pushes zero instead.
#[unsafe(naked)]
pub(super) extern "C" fn stub<const VECTOR: u8>() {
    naked_asm!(
        "push 0",
        "push {vector}",
        "jmp {common}",
        vector = const VECTOR as u64,
        common = sym trap_common,
    )
}

/// The entry point of a vector for which the CPU pushes an error code.
#[unsafe(naked)]
pub(super) extern "C" fn stub_with_code<const VECTOR: u8>() {
    naked_asm!(
        "push {vector}",
        "jmp {common}",
        vector = const VECTOR as u64,
        common = sym trap_common,
    )
}
