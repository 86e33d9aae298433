//! The panic handler: a message and a backtrace on COM2 and on the screen, then the end of the
//! machine.

use super::log::{LastLine, Line};
use super::{entry, power};
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Upper bound for the frames of a backtrace.
const MAX_FRAMES: usize = 32;
/// The lowest kernel address.
const KERNEL_START: u64 = 0xffff_8000_0000_0000;
/// Upper bound for the distance between two frames: above it, the chain is broken.
const MAX_FRAME_BYTES: u64 = 64 << 10;

/// The frame pointer to start from; 0 for the panicking function's own.
static FRAME: AtomicU64 = AtomicU64::new(0);

/// Makes the backtrace begin where an exception happened.
pub(super) fn set_frame(rbp: u64) {
    FRAME.store(rbp, Ordering::Relaxed);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    // A second panic comes from the report itself, so nothing more is printed.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        // `LastLine` never fails.
        let _ = writeln!(LastLine, "kernel panic: {info}");
        let _ = (entry::handlers().running)(&mut LastLine);
        let _ = writeln!(LastLine, "backtrace (newest first):");
        let mut rbp = FRAME.load(Ordering::Relaxed);
        if rbp == 0 {
            rbp = frame_pointer();
        }
        write_backtrace(rbp, &mut LastLine);
    }
    power::exit(power::PANIC)
}

/// The frame pointer of the running function.
#[inline(always)]
pub(super) fn frame_pointer() -> u64 {
    let rbp;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags))
    };
    rbp
}

/// Prints the chain of frame pointers in the log.
pub(super) fn backtrace(rbp: u64) {
    write_backtrace(rbp, &mut Line);
}

/// Writes the chain of frame pointers. Ends at a user address or an implausible frame.
fn write_backtrace(mut rbp: u64, out: &mut dyn Write) {
    for _ in 0..MAX_FRAMES {
        if rbp < KERNEL_START || !rbp.is_multiple_of(8) {
            return;
        }
        // SAFETY: an aligned kernel address from rbp. All code is built with frame pointers, so it
        // is a frame; if not, the fault causes a second panic, which ends the machine.
        let (next, address) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if address < KERNEL_START {
            return;
        }
        let _ = writeln!(out, "  {address:#x}");
        if next <= rbp || next - rbp > MAX_FRAME_BYTES {
            return;
        }
        rbp = next;
    }
}
