//! Power control: QEMU's isa-debug-exit, ACPI, and the keyboard controller.

use super::log::LastLine;
use crate::arch::acpi::{self, PowerOff};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::hlt;
use x86_64::instructions::port::Port;

const EXIT_PORT: u16 = 0xf4;
/// Exit code of an orderly power-off.
const OFF: u32 = 0x10;
/// Exit code of a kernel panic.
pub(super) const PANIC: u32 = 0x11;

/// Ends QEMU with a code. On a machine without that device, halts.
pub(super) fn exit(code: u32) -> ! {
    end_qemu(code);
    halt()
}

/// Returns on a machine without the device.
fn end_qemu(code: u32) {
    // SAFETY: the port ends QEMU or has no effect.
    unsafe { Port::new(EXIT_PORT).write(code) };
}

fn halt() -> ! {
    loop {
        hlt();
    }
}

/// The physical address of ACPI's root pointer, and the virtual one of physical address 0; 0 where
/// the loader has found no such pointer.
static ROOT: AtomicU64 = AtomicU64::new(0);
static OFFSET: AtomicU64 = AtomicU64::new(0);
/// In a control register: it is the system's, not the firmware's.
const SYSTEM_CONTROL: u16 = 1;
/// Reads of a register within which the firmware hands it over: a read takes about a microsecond,
/// and the firmware a few milliseconds.
const PATIENCE: usize = 1_000_000;

/// Notes where ACPI's tables begin.
///
/// # Safety
/// All physical memory below 4 GiB, and all that holds tables, is mapped at the offset.
pub unsafe fn set_tables(root: u64, physical_memory_offset: u64) {
    OFFSET.store(physical_memory_offset, Ordering::Relaxed);
    ROOT.store(root, Ordering::Relaxed);
}

/// Powers the machine off: by QEMU's device, else by ACPI, and halts where neither is there.
pub fn off() -> ! {
    end_qemu(OFF);
    if let Some(how) = how_to_switch_off() {
        switch_off(&how);
    }
    halt()
}

fn how_to_switch_off() -> Option<PowerOff> {
    let root = Some(ROOT.load(Ordering::Relaxed)).filter(|&root| root != 0)?;
    let offset = OFFSET.load(Ordering::Relaxed);
    acpi::power_off(root, &|address, bytes| {
        address.checked_add(bytes as u64).filter(|&end| end <= TABLES_END)?;
        // SAFETY: memory below 4 GiB is mapped, and nobody writes to the firmware's tables.
        Some(unsafe { core::slice::from_raw_parts((offset + address) as *const u8, bytes) })
    })
}

/// Firmware keeps tables below this.
const TABLES_END: u64 = 1 << 32;

fn switch_off(how: &PowerOff) {
    let Some((port, _)) = how.control[0] else { return };
    // SAFETY: the ports are those of the power management, as the firmware's tables say.
    let is_ours = || unsafe { Port::<u16>::new(port).read() } & SYSTEM_CONTROL != 0;
    if let Some((port, byte)) = how.enable.filter(|_| !is_ours()) {
        // SAFETY: as above.
        unsafe { Port::new(port).write(byte) };
        // A machine that does not answer is switched off all the same, or halts.
        let _ = (0..PATIENCE).find(|_| is_ours());
    }
    for (port, value) in how.control.into_iter().flatten() {
        // SAFETY: as above.
        unsafe { Port::new(port).write(value) };
    }
}

/// Stops after a fatal failure outside the kernel, for a reason that the log and the screen show.
/// QEMU's status is that of a panic.
pub fn failed(reason: fmt::Arguments<'_>) -> ! {
    // `LastLine` never fails.
    let _ = writeln!(LastLine, "{reason}");
    exit(PANIC)
}

/// Resets the machine by the keyboard controller.
pub fn reset() -> ! {
    // SAFETY: pulses the reset line.
    unsafe { Port::<u8>::new(0x64).write(0xfe) };
    loop {
        hlt();
    }
}
