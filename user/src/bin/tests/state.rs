//! The processor's state: x87 and SSE registers over switches, faults, and signal handlers.

use crate::kit::{Outcome, child};
use user::prelude::*;
use user::sys::abi;

pub const TESTS: crate::Table = &[("state_over_switches", over_switches), ("state_over_handlers", over_handlers)];

/// An image as FXSAVE makes it.
#[repr(C, align(16))]
struct Image([u8; 512]);

/// Where the x87 registers lie in it, and where the SSE registers.
const X87: core::ops::Range<usize> = 32..160;
const SSE: core::ops::Range<usize> = 160..416;

/// Loads a pattern into all registers, makes a system call so many times, and looks at what is in the registers then. The compiler's own use of
/// the registers is put back, so that this is the same on a target that has none and on one that has.
fn survives(pattern: u8, call: u32, arguments: [usize; 2], times: usize) -> bool {
    let (mut own, mut loaded, mut found) = (Image([0; 512]), Image([0; 512]), Image([0; 512]));
    // SAFETY: writes to the image alone.
    unsafe { core::arch::asm!("fxsave [{0}]", in(reg) &mut loaded) };
    // All eight x87 registers in use, each with ten bytes of its own; the six behind them are reserved.
    loaded.0[4] = 0xff;
    for (index, byte) in loaded.0[X87].iter_mut().enumerate() {
        *byte = if index % 16 < 10 { pattern.wrapping_mul(3).wrapping_add(index as u8) } else { 0 };
    }
    for (index, byte) in loaded.0[SSE].iter_mut().enumerate() {
        *byte = pattern.wrapping_add(index as u8);
    }
    // SAFETY: the state of the compiler's code is saved before and restored after; the calls are such as change no memory.
    unsafe {
        core::arch::asm!(
            "fxsave [{own}]",
            "fxrstor [{loaded}]",
            "2:",
            "mov eax, {call:e}",
            "syscall",
            "mov ecx, 2000",
            "3:",
            "dec ecx",
            "jnz 3b",
            "dec {times}",
            "jnz 2b",
            "fxsave [{found}]",
            "fxrstor [{own}]",
            own = in(reg) &mut own,
            loaded = in(reg) &loaded,
            found = in(reg) &mut found,
            call = in(reg) call,
            times = inout(reg) times => _,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            out("rax") _,
            out("rcx") _,
            out("r11") _,
        );
    }
    found.0[X87] == loaded.0[X87] && found.0[SSE] == loaded.0[SSE]
}

/// Processes with different patterns take turns.
fn over_switches() -> Outcome {
    let children =
        (1..5).map(|index| child(|| i32::from(!survives(index * 50, abi::__NR_sched_yield, [0; 2], 3000)))).collect::<Outcome<Vec<_>>>()?;
    for child in children {
        check_eq!(ok!(sys::wait_for(child)).exit_code(), Some(0));
    }
    Ok(())
}

/// Ruins all registers, as any handler may.
extern "C" fn ruin(_: i32) {
    let mut image = Image([0; 512]);
    // SAFETY: registers that a function may change are changed, to values that they may have.
    unsafe {
        core::arch::asm!("fxsave [{0}]", in(reg) &mut image);
        image.0[X87].fill(0);
        image.0[SSE].fill(0xee);
        core::arch::asm!("fxrstor [{0}]", in(reg) &image);
    }
}

fn over_handlers() -> Outcome {
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, ruin, 0));
    let arguments = [sys::getpid() as usize, abi::SIGUSR1 as usize];
    check!(survives(77, abi::__NR_kill, arguments, 200));
    Ok(())
}
