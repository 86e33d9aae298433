//! Per-CPU state and control registers.
//!
//! In the kernel, the GS base always points to the running CPU's [`Cpu`]. Entry from and return to
//! user mode swap it (`swapgs`).

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr4, Cr4Flags};
use x86_64::registers::debug::Dr7;
use x86_64::registers::model_specific::{Efer, EferFlags, GsBase, KernelGsBase};

/// The state of one CPU. Entry code uses the offsets of the first four fields.
#[repr(C)]
pub struct Cpu {
    /// The user's stack pointer, while entry code switches stacks.
    user_rsp: UnsafeCell<u64>,
    /// The end of the running thread's kernel stack.
    kernel_stack: AtomicU64,
    /// The structure's own address.
    this: AtomicU64,
    /// Cycles in the kernel since [`Cpu::take_cycles`], less the time-stamp counter while the CPU
    /// is in the kernel; modulo 2^32.
    kernel_cycles: AtomicU32,
    /// The time-stamp counter at the last [`Cpu::take_cycles`].
    taken_at: AtomicU64,
    /// The page table that maps the kernel only.
    kernel_page_table: AtomicU64,
    /// Whether the CPU has SMAP.
    smap: AtomicBool,
}

// SAFETY: the cell is written and read by entry code only, on its own CPU, with interrupts off.
unsafe impl Sync for Cpu {}

/// Offset of `user_rsp`, for entry code.
pub(super) const USER_RSP: usize = offset_of!(Cpu, user_rsp);
/// Offset of `kernel_stack`, for entry code.
pub(super) const KERNEL_STACK: usize = offset_of!(Cpu, kernel_stack);
/// Offset of `kernel_cycles`, for entry code.
pub(super) const KERNEL_CYCLES: usize = offset_of!(Cpu, kernel_cycles);
const THIS: usize = offset_of!(Cpu, this);

static BOOT_CPU: Cpu = Cpu {
    user_rsp: UnsafeCell::new(0),
    kernel_stack: AtomicU64::new(0),
    this: AtomicU64::new(0),
    kernel_cycles: AtomicU32::new(0),
    taken_at: AtomicU64::new(0),
    kernel_page_table: AtomicU64::new(0),
    smap: AtomicBool::new(false),
};

/// The running CPU's state.
#[inline]
pub fn this() -> &'static Cpu {
    let address: u64;
    // SAFETY: GS points to a `Cpu` since `start`, and a `Cpu` is never dropped.
    unsafe {
        core::arch::asm!(
            "mov {}, gs:[{}]",
            out(reg) address,
            const THIS,
            options(nostack, preserves_flags, readonly)
        );
        &*(address as *const Cpu)
    }
}

impl Cpu {
    /// Sets the stack on which entries from user mode save registers.
    pub(super) fn set_kernel_stack(&self, top: u64) {
        self.kernel_stack.store(top, Ordering::Relaxed);
    }

    /// The cycles since the last call, and those of them in the kernel, where the CPU is now.
    #[inline]
    pub(super) fn take_cycles(&self, now: u64) -> (u64, u64) {
        let total = now.wrapping_sub(self.taken_at.load(Ordering::Relaxed));
        self.taken_at.store(now, Ordering::Relaxed);
        let low = now as u32;
        let kernel = self.kernel_cycles.load(Ordering::Relaxed).wrapping_add(low);
        self.kernel_cycles.store(low.wrapping_neg(), Ordering::Relaxed);
        (total, u64::from(kernel).min(total))
    }

    /// The cycles since the last [`take_cycles`](Self::take_cycles).
    #[inline]
    pub(super) fn cycles_since_taken(&self, now: u64) -> u64 {
        now.wrapping_sub(self.taken_at.load(Ordering::Relaxed))
    }

    /// The page table that maps the kernel only.
    pub(super) fn kernel_page_table(&self) -> u64 {
        self.kernel_page_table.load(Ordering::Relaxed)
    }

    /// Whether the CPU has SMAP.
    pub(super) fn has_smap(&self) -> bool {
        self.smap.load(Ordering::Relaxed)
    }
}

/// Enables every protection that this CPU has.
pub(super) unsafe fn start() {
    use core::arch::x86_64::__cpuid_count;
    let address = VirtAddr::from_ptr(&raw const BOOT_CPU);
    BOOT_CPU.this.store(address.as_u64(), Ordering::Relaxed);
    BOOT_CPU.kernel_page_table.store(Cr3::read().0.start_address().as_u64(), Ordering::Relaxed);
    // SAFETY: the base points to a static. Kernel pages are mapped with the permissions that they
    // need, and not for user mode.
    unsafe {
        GsBase::write(address);
        KernelGsBase::write(VirtAddr::zero());
        Efer::update(|flags| {
            flags.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS)
        });
        Cr0::update(|flags| {
            flags.insert(
                Cr0Flags::WRITE_PROTECT
                    | Cr0Flags::MONITOR_COPROCESSOR
                    | Cr0Flags::NUMERIC_ERROR
                    | Cr0Flags::ALIGNMENT_MASK,
            );
            flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
        });
        let features = __cpuid_count(7, 0);
        let mut wanted = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
            | Cr4Flags::OSFXSR
            | Cr4Flags::OSXMMEXCPT_ENABLE
            | Cr4Flags::PAGE_GLOBAL;
        wanted.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.ebx & 1 << 7 != 0);
        wanted.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.ebx & 1 << 20 != 0);
        wanted.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.ecx & 1 << 2 != 0);
        // Exactly these: whatever the firmware left on, such as RDPMC or WRGSBASE for programs, is
        // off. The depth of the page table cannot change any more.
        Cr4::update(|flags| *flags = wanted | (*flags & Cr4Flags::L5_PAGING));
        Dr7::write_raw(0);
        BOOT_CPU
            .smap
            .store(wanted.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION), Ordering::Relaxed);
    }
}
