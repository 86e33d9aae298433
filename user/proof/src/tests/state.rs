//! The processor's state (x87, SSE and AVX registers) across switches, faults, and signal handlers.

use proof::guest_test;
use proof::kit::{Outcome, child};
use user::prelude::*;
use user::sys::abi;

/// The image that FXSAVE writes.
#[repr(C, align(16))]
struct Image([u8; 512]);

/// The offsets of the x87 and SSE registers in the image.
const X87: core::ops::Range<usize> = 32..160;
const SSE: core::ops::Range<usize> = 160..416;

/// Loads a pattern into all registers, makes a system call repeatedly, and compares the registers.
/// The compiler's own registers are restored, so that the test is the same on a target with and
/// without SSE code.
fn survives(pattern: u8, call: u32, arguments: [usize; 2], times: usize) -> bool {
    let (mut own, mut loaded, mut found) = (Image([0; 512]), Image([0; 512]), Image([0; 512]));
    // SAFETY: writes to the image alone.
    unsafe { core::arch::asm!("fxsave [{0}]", in(reg) &mut loaded) };
    // All eight x87 registers are in use, with ten bytes each; the next six are reserved.
    loaded.0[4] = 0xff;
    for (index, byte) in loaded.0[X87].iter_mut().enumerate() {
        *byte = if index % 16 < 10 { pattern.wrapping_mul(3).wrapping_add(index as u8) } else { 0 };
    }
    for (index, byte) in loaded.0[SSE].iter_mut().enumerate() {
        *byte = pattern.wrapping_add(index as u8);
    }
    // SAFETY: the state of the compiler's code is saved before and restored after; the calls do not
    // change memory.
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
#[guest_test]
fn state_over_switches() -> Outcome {
    let children = (1..5)
        .map(|index| {
            child(|| i32::from(!survives(index * 50, abi::__NR_sched_yield, [0; 2], 3000)))
        })
        .collect::<Outcome<Vec<_>>>()?;
    for child in children {
        check_eq!(ok!(sys::wait_for(child)).exit_code(), Some(0));
    }
    Ok(())
}

/// Overwrites all registers, as any handler may.
extern "C" fn ruin(_: i32) {
    let mut image = Image([0; 512]);
    // SAFETY: only registers that a function may change are changed, to valid values.
    unsafe {
        core::arch::asm!("fxsave [{0}]", in(reg) &mut image);
        image.0[X87].fill(0);
        image.0[SSE].fill(0xee);
        core::arch::asm!("fxrstor [{0}]", in(reg) &image);
    }
}

#[guest_test]
fn state_over_handlers() -> Outcome {
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, ruin, 0));
    let arguments = [sys::getpid() as usize, abi::SIGUSR1 as usize];
    check!(survives(77, abi::__NR_kill, arguments, 200));
    Ok(())
}

/// All AVX registers.
#[repr(C, align(32))]
struct Wide([u8; 512]);

/// Whether the processor has AVX and the kernel has enabled it.
fn has_wide_registers() -> bool {
    const OSXSAVE_AND_AVX: u32 = 1 << 27 | 1 << 28;
    if core::arch::x86_64::__cpuid(1).ecx & OSXSAVE_AND_AVX != OSXSAVE_AND_AVX {
        return false;
    }
    let enabled: u32;
    // SAFETY: OSXSAVE says that the instruction exists; it reads a register.
    unsafe { core::arch::asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _) };
    enabled & 6 == 6
}

/// As [`survives`], for AVX. Between system calls it touches the pages of `touched` one by one.
fn wide_survives(pattern: u8, call: u32, arguments: [usize; 2], touched: &[u8]) -> bool {
    let (mut own, mut loaded, mut found) = (Image([0; 512]), Wide([0; 512]), Wide([0; 512]));
    for (index, byte) in loaded.0.iter_mut().enumerate() {
        *byte = pattern.wrapping_add(index as u8).wrapping_mul(7);
    }
    let times = touched.len() / 4096;
    // SAFETY: as above; a call need not preserve the upper halves. All loads are in the slice.
    unsafe {
        core::arch::asm!(
            "fxsave [{own}]",
            "vmovdqu ymm0, [{loaded} + 0]; vmovdqu ymm1, [{loaded} + 32]",
            "vmovdqu ymm2, [{loaded} + 64]; vmovdqu ymm3, [{loaded} + 96]",
            "vmovdqu ymm4, [{loaded} + 128]; vmovdqu ymm5, [{loaded} + 160]",
            "vmovdqu ymm6, [{loaded} + 192]; vmovdqu ymm7, [{loaded} + 224]",
            "vmovdqu ymm8, [{loaded} + 256]; vmovdqu ymm9, [{loaded} + 288]",
            "vmovdqu ymm10, [{loaded} + 320]; vmovdqu ymm11, [{loaded} + 352]",
            "vmovdqu ymm12, [{loaded} + 384]; vmovdqu ymm13, [{loaded} + 416]",
            "vmovdqu ymm14, [{loaded} + 448]; vmovdqu ymm15, [{loaded} + 480]",
            "2:",
            "mov eax, {call:e}",
            "syscall",
            "mov cl, [{touched}]",
            "add {touched}, 4096",
            "mov ecx, 2000",
            "3:",
            "dec ecx",
            "jnz 3b",
            "dec {times}",
            "jnz 2b",
            "vmovdqu [{found} + 0], ymm0; vmovdqu [{found} + 32], ymm1",
            "vmovdqu [{found} + 64], ymm2; vmovdqu [{found} + 96], ymm3",
            "vmovdqu [{found} + 128], ymm4; vmovdqu [{found} + 160], ymm5",
            "vmovdqu [{found} + 192], ymm6; vmovdqu [{found} + 224], ymm7",
            "vmovdqu [{found} + 256], ymm8; vmovdqu [{found} + 288], ymm9",
            "vmovdqu [{found} + 320], ymm10; vmovdqu [{found} + 352], ymm11",
            "vmovdqu [{found} + 384], ymm12; vmovdqu [{found} + 416], ymm13",
            "vmovdqu [{found} + 448], ymm14; vmovdqu [{found} + 480], ymm15",
            "vzeroupper",
            "fxrstor [{own}]",
            own = in(reg) &mut own,
            loaded = in(reg) &loaded,
            found = in(reg) &mut found,
            call = in(reg) call,
            times = inout(reg) times => _,
            touched = inout(reg) touched.as_ptr() => _,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            out("rax") _,
            out("rcx") _,
            out("r11") _,
        );
    }
    found.0 == loaded.0
}

/// Overwrites all AVX registers with their upper halves.
extern "C" fn ruin_wide(_: i32) {
    let mut own = Image([0; 512]);
    // SAFETY: the lower halves are restored; a call need not preserve the upper ones.
    unsafe {
        core::arch::asm!(
            "fxsave [{0}]",
            "vpcmpeqb xmm0, xmm0, xmm0",
            "vpcmpeqb xmm1, xmm1, xmm1",
            "vpcmpeqb xmm2, xmm2, xmm2",
            "vpcmpeqb xmm3, xmm3, xmm3",
            "vpcmpeqb xmm4, xmm4, xmm4",
            "vpcmpeqb xmm5, xmm5, xmm5",
            "vpcmpeqb xmm6, xmm6, xmm6",
            "vpcmpeqb xmm7, xmm7, xmm7",
            "vpcmpeqb xmm8, xmm8, xmm8",
            "vpcmpeqb xmm9, xmm9, xmm9",
            "vpcmpeqb xmm10, xmm10, xmm10",
            "vpcmpeqb xmm11, xmm11, xmm11",
            "vpcmpeqb xmm12, xmm12, xmm12",
            "vpcmpeqb xmm13, xmm13, xmm13",
            "vpcmpeqb xmm14, xmm14, xmm14",
            "vpcmpeqb xmm15, xmm15, xmm15",
            "fxrstor [{0}]",
            in(reg) &mut own,
        );
    }
}

/// Several processes compute with all AVX registers while pages arrive, signals are handled, and
/// others run.
#[guest_test]
fn state_wide_registers() -> Outcome {
    if !has_wide_registers() {
        return Ok(());
    }
    let bytes = vec![9u8; 300 * 4096];
    let fd = proof::kit::file(b"f", &bytes)?;
    ok!(sys::signal_handle(abi::SIGUSR1 as i32, ruin_wide, 0));
    let run = |index: u8| {
        let mut buffer = vec![0; bytes.len()];
        let is_read = sys::pread(fd, &mut buffer, FileOffset::ZERO) == Ok(bytes.len());
        let (first, second) = buffer.split_at(150 * 4096);
        let itself = [sys::getpid() as usize, abi::SIGUSR1 as usize];
        let is_right = wide_survives(index * 40, abi::__NR_sched_yield, [0; 2], first)
            && wide_survives(index * 50, abi::__NR_kill, itself, second);
        i32::from(!(is_read && is_right))
    };
    let children = (1..5).map(|index| child(|| run(index))).collect::<Outcome<Vec<_>>>()?;
    for child in children {
        check_eq!(ok!(sys::wait_for(child)).exit_code(), Some(0));
    }
    Ok(())
}
