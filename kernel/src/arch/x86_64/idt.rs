//! The interrupt descriptor table, and the dispatch of traps.

use super::entry::{self, paranoid_stub, paranoid_stub_with_code, stub, stub_with_code};
use super::{cpu, irq, segments};
use crate::arch::{Cause, Exception, Registers, vector};
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::InterruptDescriptorTable;

struct Table(UnsafeCell<InterruptDescriptorTable>);

// SAFETY: written once, at start.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(InterruptDescriptorTable::new()));

pub(super) unsafe fn start() {
    // SAFETY: called once, before any trap.
    let table = unsafe { &mut *TABLE.0.get() };
    macro_rules! set {
        ($entry:expr, $stub:expr) => {
            // SAFETY: the stub pushes what `trap_common` expects of this vector.
            unsafe { $entry.set_handler_addr(VirtAddr::from_ptr($stub as *const ())) }
        };
    }
    set!(table.divide_error, stub::<0>);
    set!(table.debug, stub::<1>);
    let non_maskable = set!(table.non_maskable_interrupt, paranoid_stub::<2>);
    // SAFETY: the index is that of a stack with no other use.
    unsafe { non_maskable.set_stack_index(segments::FAULT_STACK_INDEX) };
    // Programs may raise these two by instructions (`int3`, `into`).
    set!(table.breakpoint, stub::<3>).set_privilege_level(x86_64::PrivilegeLevel::Ring3);
    set!(table.overflow, stub::<4>).set_privilege_level(x86_64::PrivilegeLevel::Ring3);
    set!(table.bound_range_exceeded, stub::<5>);
    set!(table.invalid_opcode, stub::<6>);
    set!(table.device_not_available, stub::<7>);
    let double_fault = set!(table.double_fault, paranoid_stub_with_code::<8>);
    // SAFETY: as above.
    unsafe { double_fault.set_stack_index(segments::FAULT_STACK_INDEX) };
    set!(table.invalid_tss, stub_with_code::<10>);
    set!(table.segment_not_present, stub_with_code::<11>);
    set!(table.stack_segment_fault, stub_with_code::<12>);
    set!(table.general_protection_fault, stub_with_code::<13>);
    set!(table.page_fault, stub_with_code::<14>);
    set!(table.x87_floating_point, stub::<16>);
    set!(table.alignment_check, stub_with_code::<17>);
    let machine_check = set!(table.machine_check, paranoid_stub::<18>);
    // SAFETY: as above.
    unsafe { machine_check.set_stack_index(segments::FAULT_STACK_INDEX) };
    set!(table.simd_floating_point, stub::<19>);
    macro_rules! lines {
        ($($vector:literal)*) => { $(set!(table[$vector], stub::<$vector>);)* };
    }
    lines!(32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);
    table.load();
}

/// Handles every trap: interrupts here, exceptions of user mode by the registered handlers.
pub(super) extern "C" fn trap(registers: *mut Registers) {
    if cpu::this().has_smap() {
        // Unlike a system call, a trap keeps the user's AC flag, which disables SMAP.
        // SAFETY: the CPU has the instruction.
        unsafe { core::arch::asm!("clac", options(nomem, nostack)) };
    }
    // Values are copied: a handler may change the registers of user mode.
    // SAFETY: the entry code passes the registers that it has just saved.
    let (cause, from_user, instruction) =
        unsafe { ((*registers).cause(), (*registers).from_user(), (*registers).rip) };
    let handlers = entry::handlers();
    match cause {
        Cause::Interrupt(vector) => {
            irq::serve(vector - irq::FIRST_VECTOR);
            if from_user {
                (handlers.interrupt)();
            }
        }
        Cause::Exception(vector::NON_MASKABLE) => (handlers.report)(),
        Cause::Exception(vector::PAGE_FAULT) if from_user => {
            // SAFETY: as above.
            let fault = unsafe { (*registers).page_fault(Cr2::read_raw()) };
            (handlers.page_fault)(fault);
        }
        Cause::Exception(vector)
            if from_user && !matches!(vector, vector::DOUBLE_FAULT | vector::MACHINE_CHECK) =>
        {
            (handlers.exception)(Exception { vector, instruction });
        }
        // SAFETY: as above; no handler runs.
        _ => kernel_fault(unsafe { &*registers }),
    }
}

/// An exception in the kernel is a bug of the kernel.
fn kernel_fault(registers: &Registers) -> ! {
    let (cause, code, address) = (registers.cause, registers.code, Cr2::read_raw());
    super::panic::set_frame(registers.rbp);
    panic!(
        "exception {cause} (code {code:#x}, cr2 {address:#x}) at {:#x}, rsp {:#x}: {registers:x?}",
        registers.rip, registers.rsp
    )
}
