//! Entry code: assembly for the way from user mode into the kernel and back.
//!
//! Every entry saves the same [`Registers`] at the top of the thread's kernel stack. A system call
//! returns by `sysret` if only its result has changed: the callee-saved registers then still have
//! the user's values and are not loaded. Otherwise it returns by `iret`, like every trap. Both ways
//! read the time-stamp counter, for the account of CPU time (`usage`).
//!
//! # Every way from user mode into the kernel
//!
//! | instruction or event | entry | why it is safe |
//! |---|---|---|
//! | `syscall` | [`system_call_entry`] | `SFMASK` clears IF, TF, DF, AC, NT and IOPL; nothing touches memory before `swapgs` and the switch of stacks |
//! | `syscall` in 32-bit code | [`refuse`] | there is no 32-bit code segment (`segments`), so no program gets there; the entry only returns ENOSYS |
//! | `sysenter` | none | `IA32_SYSENTER_CS` is 0: general protection fault |
//! | far call, far jump | none | no call gate and no task gate; no local descriptor table; the global one has a single user code segment |
//! | `int3`, `int 3`, `int 4` | [`stub`] | the only gates that user mode may name; each saves all registers |
//! | any other `int n` | general protection fault | the gate's privilege level is 0, or the gate is absent |
//! | exception, interrupt | [`stub`], [`stub_with_code`] | interrupt gates; the CPU clears IF, TF, NT and RF, `trap_common` clears DF, `trap` clears AC |
//! | NMI, machine check, double fault | [`paranoid_stub`], [`paranoid_stub_with_code`] | may interrupt the first or last instructions of the kernel, so they have a stack of their own and look at the GS base itself |
//! | `in`, `out` | none | IOPL is 0 and the TSS has no I/O bitmap |
//!
//! Ways back: `sysret` and `iret` load only selectors that are constants here or were set by
//! [`Registers::sanitize`], flags without IOPL and NT, and an instruction pointer below
//! [`USER_END`](crate::arch::USER_END), which is canonical.

use super::cpu::{KERNEL_CYCLES, KERNEL_STACK, USER_RSP};
use super::segments::KERNEL_CS;
use crate::arch::{Exception, Handlers, PageFault, Registers, ReturnPath, SavedRegisters};
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::offset_of;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;

/// The model-specific register that holds the GS base.
const GS_BASE: u32 = 0xc000_0101;
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
    fn no_process(_: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
    fn no_screen(_: &str) {}
    Registered(UnsafeCell::new(Handlers {
        system_call,
        thread_start,
        page_fault,
        exception,
        interrupt: nothing,
        report: nothing,
        running: no_process,
        show: no_screen,
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
    const CSTAR: u32 = 0xc000_0083;
    /// Code segment, stack pointer and instruction pointer of SYSENTER.
    const SYSENTER: [u32; 3] = [0x174, 0x175, 0x176];
    /// `sysret` takes SS from this selector plus 8 and CS from this plus 16.
    const SYSRET_BASE: u64 = 0x23;
    // SAFETY: the selectors are those of the descriptor table; the entry point is defined below.
    unsafe { Msr::new(STAR).write(u64::from(KERNEL_CS) << 32 | SYSRET_BASE << 48) };
    LStar::write(VirtAddr::from_ptr(system_call_entry as *const ()));
    // SAFETY: 32-bit code would enter at a function that only returns; SYSENTER is switched off.
    unsafe {
        Msr::new(CSTAR).write(refuse as *const () as u64);
        for register in SYSENTER {
            Msr::new(register).write(0);
        }
    }
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

/// Instructions that save the general registers of a trap, below its cause and code.
macro_rules! save_registers {
    () => {
        "push rdi; push rsi; push rdx; push rcx; push rax; push r8; push r9; push r10; push r11
        push rbx; push rbp; push r12; push r13; push r14; push r15"
    };
}

/// Instructions that load all registers from the stack and return.
macro_rules! restore_registers {
    () => {
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop r11; pop r10; pop r9; pop r8
        pop rax; pop rcx; pop rdx; pop rsi; pop rdi; add rsp, 16; iretq"
    };
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
        save_registers!(),
        "rdtsc",
        "sub gs:[{kernel_cycles}], eax",
        "mov rdi, rsp",
        "call qword ptr [rip + {handlers} + {system_call}]",
        "test al, al",
        "jz {leave}",
        "rdtsc",
        "add gs:[{kernel_cycles}], eax",
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
        kernel_cycles = const KERNEL_CYCLES,
        user_ss = const Registers::USER_SS,
        user_cs = const Registers::USER_CS,
        syscall = const Registers::SYSCALL,
        handlers = sym HANDLERS,
        system_call = const offset_of!(Handlers, system_call),
        leave = sym leave,
    )
}

/// The target of `syscall` in 32-bit code: returns ENOSYS, with the user's stack pointer unused.
#[unsafe(naked)]
extern "C" fn refuse() {
    naked_asm!("mov eax, -38", "sysret")
}

/// Returns to user mode or to the kernel, as the registers on the stack say.
#[unsafe(naked)]
extern "C" fn leave() {
    naked_asm!(
        "test byte ptr [rsp + {cs}], 3",
        "jz 1f",
        "rdtsc",
        "add gs:[{kernel_cycles}], eax",
        "swapgs",
        "1:",
        restore_registers!(),
        cs = const CS,
        kernel_cycles = const KERNEL_CYCLES,
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
        save_registers!(),
        "cld",
        "test byte ptr [rsp + {cs}], 3",
        "jz 1f",
        "swapgs",
        "rdtsc",
        "sub gs:[{kernel_cycles}], eax",
        "1:",
        "mov rdi, rsp",
        "call {trap}",
        "jmp {leave}",
        cs = const CS,
        kernel_cycles = const KERNEL_CYCLES,
        trap = sym super::idt::trap,
        leave = sym leave,
    )
}

/// The common part of traps that may interrupt an entry or a return, when the GS base is still or
/// already the user's. The saved code segment says nothing then, so the base itself decides: the
/// kernel's is negative, and a program cannot set a negative one.
#[unsafe(naked)]
extern "C" fn paranoid_common() {
    naked_asm!(
        save_registers!(),
        "cld",
        "mov ecx, {gs_base}",
        "rdmsr",
        "mov ebx, edx",
        "test ebx, ebx",
        "js 1f",
        "swapgs",
        "1:",
        "mov rdi, rsp",
        "call {trap}",
        "test ebx, ebx",
        "js 2f",
        "swapgs",
        "2:",
        restore_registers!(),
        gs_base = const GS_BASE,
        trap = sym super::idt::trap,
    )
}

/// As [`stub`], for a trap that may interrupt an entry or a return.
#[unsafe(naked)]
pub(super) extern "C" fn paranoid_stub<const VECTOR: u8>() {
    naked_asm!(
        "push 0",
        "push {vector}",
        "jmp {common}",
        vector = const VECTOR as u64,
        common = sym paranoid_common,
    )
}

/// As [`stub_with_code`], for a trap that may interrupt an entry or a return.
#[unsafe(naked)]
pub(super) extern "C" fn paranoid_stub_with_code<const VECTOR: u8>() {
    naked_asm!(
        "push {vector}",
        "jmp {common}",
        vector = const VECTOR as u64,
        common = sym paranoid_common,
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
