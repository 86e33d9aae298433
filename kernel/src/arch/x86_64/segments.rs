//! Descriptor tables: the segments that long mode requires, the task state segment with the stacks
//! for traps, and the FS and GS bases of threads.

use super::cpu;
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::model_specific::{FsBase, GsBase, KernelGsBase};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// The kernel's code segment. Selectors are Linux's, because programs see them in signal frames.
pub(super) const KERNEL_CS: u16 = 0x10;
const KERNEL_SS: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x40;

/// Index of the interrupt stack for faults that cannot rely on the current stack.
pub(super) const FAULT_STACK_INDEX: u16 = 0;
const FAULT_STACK_BYTES: usize = 16 << 10;

#[repr(C, align(16))]
struct Tables {
    gdt: UnsafeCell<[u64; 10]>,
    tss: UnsafeCell<TaskStateSegment>,
    fault_stack: UnsafeCell<[u8; FAULT_STACK_BYTES]>,
}

// SAFETY: written at start, and later by the running CPU with interrupts off.
unsafe impl Sync for Tables {}

static TABLES: Tables = Tables {
    gdt: UnsafeCell::new([0; 10]),
    tss: UnsafeCell::new(TaskStateSegment::new()),
    fault_stack: UnsafeCell::new([0; FAULT_STACK_BYTES]),
};

fn selector(value: u16) -> SegmentSelector {
    SegmentSelector(value)
}

pub(super) unsafe fn start() {
    // SAFETY: called once, before anything else uses the tables. The descriptors are flat.
    unsafe {
        let tss = &mut *TABLES.tss.get();
        tss.interrupt_stack_table[usize::from(FAULT_STACK_INDEX)] =
            VirtAddr::from_ptr(TABLES.fault_stack.get()) + FAULT_STACK_BYTES as u64;
        // No I/O bitmap: its offset is beyond the limit, so programs may access no port.
        let Descriptor::SystemSegment(low, high) = Descriptor::tss_segment_unchecked(tss) else {
            unreachable!("a TSS takes two entries")
        };
        let gdt = &mut *TABLES.gdt.get();
        *gdt = [
            0,
            0,
            0x00af_9b00_0000_ffff, // kernel code
            0x00cf_9300_0000_ffff, // kernel data
            0,                     // no 32-bit code: it would enter the kernel by ways of its own
            0x00cf_f300_0000_ffff, // user data
            0x00af_fb00_0000_ffff, // user code
            0,
            low,
            high,
        ];
        let limit = (size_of_val(gdt) - 1) as u16;
        x86_64::instructions::tables::lgdt(&DescriptorTablePointer {
            limit,
            base: VirtAddr::from_ptr(gdt),
        });
        CS::set_reg(selector(KERNEL_CS));
        SS::set_reg(selector(KERNEL_SS));
        for set in [DS::set_reg, ES::set_reg, FS::set_reg] {
            set(selector(0));
        }
        // Loading GS clears its base.
        let base = GsBase::read();
        GS::set_reg(selector(0));
        GsBase::write(base);
        load_tss(selector(TSS_SELECTOR));
        core::arch::asm!("lldt {0:x}", in(reg) 0u16, options(nomem, nostack, preserves_flags));
    }
}

/// Sets the stack that system calls, and traps from user mode, switch to.
#[inline]
pub(super) fn set_kernel_stack(top: u64) {
    cpu::this().set_kernel_stack(top);
    // SAFETY: the CPU reads the field when a trap comes, and interrupts are off.
    unsafe { (*TABLES.tss.get()).privilege_stack_table[0] = VirtAddr::new_truncate(top) };
}

/// Sets the running thread's FS base, its thread-local storage.
#[inline]
pub fn set_fs_base(address: u64) {
    FsBase::write(VirtAddr::new_truncate(address));
}

/// The running thread's FS base. Only the kernel can set it, but a segment load by the program may
/// have cleared it.
#[inline]
pub fn fs_base() -> u64 {
    FsBase::read().as_u64()
}

/// Sets the running thread's GS base.
#[inline]
pub fn set_gs_base(address: u64) {
    KernelGsBase::write(VirtAddr::new_truncate(address));
}

/// The running thread's GS base.
#[inline]
pub fn gs_base() -> u64 {
    KernelGsBase::read().as_u64()
}
