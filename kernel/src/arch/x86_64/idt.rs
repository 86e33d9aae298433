//! The interrupt descriptor table, and where traps are told apart.

use super::entry::{stub, stub_with_code};
use super::{cpu, irq, segments};
use crate::arch::{PageFault, Registers};
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::structures::idt::InterruptDescriptorTable;

struct Table(UnsafeCell<InterruptDescriptorTable>);

// SAFETY: written once, at start.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(InterruptDescriptorTable::new()));

const NON_MASKABLE: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;

unsafe extern "Rust" {
    /// An exception in user mode; `fault` with a page fault. Runs the work that is due before a
    /// return to user mode. Defined in `syscall::entry`.
    safe fn sloth_trap(registers: &mut Registers, fault: Option<PageFault>);
    /// An interrupt of user mode was served: time slices and signals. Defined in `syscall::entry`.
    safe fn sloth_interrupted(registers: &mut Registers);
    /// Somebody asks what all threads are doing (QEMU's command `nmi`). Defined in `task::report`.
    safe fn sloth_report();
}

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
    let non_maskable = set!(table.non_maskable_interrupt, stub::<2>);
    // SAFETY: the index is that of a stack that nothing else uses.
    unsafe { non_maskable.set_stack_index(segments::FAULT_STACK_INDEX) };
    // Programs may raise these two themselves (`int3`, `into`).
    set!(table.breakpoint, stub::<3>).set_privilege_level(x86_64::PrivilegeLevel::Ring3);
    set!(table.overflow, stub::<4>).set_privilege_level(x86_64::PrivilegeLevel::Ring3);
    set!(table.bound_range_exceeded, stub::<5>);
    set!(table.invalid_opcode, stub::<6>);
    set!(table.device_not_available, stub::<7>);
    let double_fault = set!(table.double_fault, stub_with_code::<8>);
    // SAFETY: as above.
    unsafe { double_fault.set_stack_index(segments::FAULT_STACK_INDEX) };
    set!(table.invalid_tss, stub_with_code::<10>);
    set!(table.segment_not_present, stub_with_code::<11>);
    set!(table.stack_segment_fault, stub_with_code::<12>);
    set!(table.general_protection_fault, stub_with_code::<13>);
    set!(table.page_fault, stub_with_code::<14>);
    set!(table.x87_floating_point, stub::<16>);
    set!(table.alignment_check, stub_with_code::<17>);
    let machine_check = set!(table.machine_check, stub::<18>);
    // SAFETY: as above.
    unsafe { machine_check.set_stack_index(segments::FAULT_STACK_INDEX) };
    set!(table.simd_floating_point, stub::<19>);
    macro_rules! lines {
        ($($vector:literal)*) => { $(set!(table[$vector], stub::<$vector>);)* };
    }
    lines!(32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);
    table.load();
}

/// All traps.
pub(super) extern "C" fn trap(registers: &mut Registers) {
    if cpu::this().has_smap() {
        // A trap, unlike a system call, leaves the user's AC flag on, and with it SMAP off.
        // SAFETY: the CPU has the instruction.
        unsafe { core::arch::asm!("clac", options(nomem, nostack)) };
    }
    let user = registers.from_user();
    match registers.cause {
        32..48 => {
            irq::serve((registers.cause - 32) as u8);
            if user {
                sloth_interrupted(registers);
            }
        }
        PAGE_FAULT if user => sloth_trap(registers, Some(registers.page_fault(Cr2::read_raw()))),
        NON_MASKABLE => sloth_report(),
        DOUBLE_FAULT | 18 => kernel_fault(registers),
        _ if user => sloth_trap(registers, None),
        _ => kernel_fault(registers),
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
