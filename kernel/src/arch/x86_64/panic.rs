//! What a bug of the kernel does: a message with a backtrace on COM2, and the end.

use super::log::Line;
use super::power;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Frames listed at most.
const MAX_FRAMES: usize = 32;
/// Where kernel addresses begin.
const KERNEL_START: u64 = 0xffff_8000_0000_0000;
/// A frame is never farther from the next than this: farther means a broken chain.
const MAX_FRAME_BYTES: u64 = 64 << 10;

/// The frame pointer to start from, if it is not the panicking function's own.
static FRAME: AtomicU64 = AtomicU64::new(0);

/// Has the backtrace begin where an exception happened.
pub(super) fn set_frame(rbp: u64) {
    FRAME.store(rbp, Ordering::Relaxed);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    // A second panic comes from the report itself: nothing is left to say.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        // The line takes everything, so there is no error to lose.
        let _ = writeln!(Line, "kernel panic: {info}\nbacktrace (newest first):");
        let mut rbp = FRAME.load(Ordering::Relaxed);
        if rbp == 0 {
            rbp = frame_pointer();
        }
        backtrace(rbp);
    }
    power::exit(power::PANIC)
}

/// The running function's frame.
#[inline(always)]
pub(super) fn frame_pointer() -> u64 {
    let rbp;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags))
    };
    rbp
}

/// Follows the chain of frame pointers. A user's, or anything that does not look like one of ours,
/// ends it.
pub(super) fn backtrace(mut rbp: u64) {
    for _ in 0..MAX_FRAMES {
        if rbp < KERNEL_START || !rbp.is_multiple_of(8) {
            return;
        }
        // SAFETY: an aligned kernel address that was in rbp: all code is built with frame pointers,
        // so it is a frame. Were it not, the fault would end in a second panic, which exits.
        let (next, address) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if address < KERNEL_START {
            return;
        }
        let _ = writeln!(Line, "  {address:#x}");
        if next <= rbp || next - rbp > MAX_FRAME_BYTES {
            return;
        }
        rbp = next;
    }
}
