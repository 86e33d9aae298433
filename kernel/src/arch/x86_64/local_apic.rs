//! The CPU's local interrupt controller (Intel SDM, volume 3, chapter "APIC"): passes the
//! interrupts of the two 8259 controllers on, and nothing else.
//!
//! Firmware leaves it in different states: by BIOS it passes them on already, by UEFI it may not,
//! and its timer may run.

use super::irq;
use x86_64::registers::model_specific::Msr;

/// Where it is, and how its registers are accessed.
const BASE: u32 = 0x1b;
const ENABLED: u64 = 1 << 11;
/// Its registers are model-specific registers, and not in memory.
const X2APIC: u64 = 1 << 10;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The first of those registers.
const FIRST_REGISTER: u32 = 0x800;
/// Bytes from one register in memory to the next.
const REGISTER_BYTES: u64 = 16;
/// Registers: the vector of an interrupt that was withdrawn, the timer, the first input.
const SPURIOUS: u32 = 0x0f;
const TIMER: u32 = 0x32;
const INPUT_0: u32 = 0x35;
/// It passes interrupts at all.
const ACTIVE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
/// The vector comes from the 8259.
const EXTERNAL: u32 = 7 << 8;
/// The vector of line 15, for which an interrupt that was withdrawn is usual.
const SPURIOUS_VECTOR: u32 = irq::FIRST_VECTOR as u32 + 15;

/// Makes it pass interrupts on.
///
/// # Safety
/// Interrupts are off, and physical memory, including devices, is mapped at the offset.
pub(super) unsafe fn start(physical_memory_offset: u64) {
    // SAFETY: every x86_64 CPU has this register, and reading it changes nothing.
    let base = unsafe { Msr::new(BASE).read() };
    if base & ENABLED == 0 {
        // Then the 8259 reaches the CPU directly.
        return;
    }
    let set = |register: u32, value: u32| {
        if base & X2APIC != 0 {
            // SAFETY: in this mode the CPU has the register, and the value is valid for it.
            unsafe { Msr::new(FIRST_REGISTER + register).write(value.into()) };
        } else {
            let offset = (base & ADDRESS) + u64::from(register) * REGISTER_BYTES;
            // SAFETY: the registers are there, as the base says, and the caller has them mapped.
            unsafe { ((physical_memory_offset + offset) as *mut u32).write_volatile(value) };
        }
    };
    set(SPURIOUS, ACTIVE | SPURIOUS_VECTOR);
    set(TIMER, MASKED);
    set(INPUT_0, EXTERNAL);
}
