//! Every way that user mode could try to get into the kernel, or to come back from it with more
//! permissions than before. Each is tried by a child, which must die or stay what it was.
//!
//! The code of a child is followed by `hlt`, which ends it with SIGSEGV where the CPU or the kernel
//! (Linux's too, which has a 32-bit system call) lets it pass.

use proof::guest_test;
use proof::kit::{Outcome, PAGE, in_child, raw};
use user::prelude::*;
use user::sys::{WaitStatus, abi};

const SEGV: i32 = abi::SIGSEGV as i32;
const ILL: i32 = abi::SIGILL as i32;
const TRAP: i32 = abi::SIGTRAP as i32;
const BUS: i32 = abi::SIGBUS as i32;

/// Where a child's code is: below 4 GiB, so that 32-bit code can be there, too.
const CODE: usize = 0x10_0000;
/// Offset of the code that a far transfer goes to.
const TARGET: usize = 0x800;
/// The page below the end of a program's half.
const LAST_PAGE: usize = 0x7fff_ffff_e000;
const HLT: u8 = 0xf4;
/// `mov eax, SYS_getpid; syscall; hlt`
const GETPID: [u8; 8] = [0xb8, abi::__NR_getpid as u8, 0, 0, 0, 0x0f, 0x05, HLT];
/// Any address in the kernel's half.
const KERNEL: u64 = 0xffff_8000_0010_0000;
/// An address that no page table can translate.
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;

/// Maps a page for code, filled with `hlt` behind what `parts` place there, by offset.
fn map_code(address: usize, parts: &[(usize, &[u8])]) -> bool {
    let access = (abi::PROT_READ | abi::PROT_WRITE | abi::PROT_EXEC) as usize;
    let flags = (abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_FIXED) as usize;
    let mapped = raw(abi::__NR_mmap, &[address, PAGE, access, flags, usize::MAX, 0]);
    if mapped != Ok(address) {
        return false;
    }
    let mut page = [HLT; PAGE];
    for (offset, bytes) in parts {
        page[*offset..*offset + bytes.len()].copy_from_slice(bytes);
    }
    // SAFETY: the page was just mapped, and nobody else uses it.
    unsafe { (address as *mut [u8; PAGE]).write(page) };
    true
}

/// How a child ends that runs this code, with `GETPID` at the target.
fn run(code: &[u8]) -> Outcome<WaitStatus> {
    in_child(|| {
        if !map_code(CODE, &[(0, code), (TARGET, &GETPID)]) {
            return 99;
        }
        // SAFETY: the child is meant to die of it.
        unsafe {
            core::arch::asm!("jmp {}", in(reg) CODE, in("rdi") 0, options(noreturn));
        }
    })
}

/// Fails unless a child that runs this code is ended by one of the signals.
fn dies(what: &str, code: &[u8], signals: &[i32]) -> Outcome {
    let status = run(code)?;
    check!(
        status.signal().is_some_and(|signal| signals.contains(&signal)),
        "{what}: status {:#x}",
        status.0
    );
    Ok(())
}

/// `push value`, sign-extended.
fn push(value: u32) -> [u8; 5] {
    let [a, b, c, d] = value.to_le_bytes();
    [0x68, a, b, c, d]
}

/// Code that sets flags by `popfq` before `then`.
fn with_flags(flags: u32, then: &[u8]) -> Vec<u8> {
    let mut code = vec![0xb8, abi::__NR_getpid as u8, 0, 0, 0, 0xb9, 0x2b, 0, 0, 0];
    code.extend_from_slice(&[0x9c, 0x81, 0x0c, 0x24]);
    code.extend_from_slice(&flags.to_le_bytes());
    code.push(0x9d);
    code.extend_from_slice(then);
    code
}

/// Whether the CPU has SMAP.
fn has_smap() -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 20 != 0
}

/// Far jumps and returns to each selector of the descriptor tables, then a system call from there.
fn segments() -> Outcome {
    let target = (CODE + TARGET) as u32;
    for selector in 0..14 * 8 {
        let mut code = vec![0x48, 0xb8];
        code.extend_from_slice(&(u64::from(selector) << 32 | u64::from(target)).to_le_bytes());
        code.extend_from_slice(&[0x50, 0xff, 0x2c, 0x24]);
        // Linux may have a segment for 32-bit code, where the system call is no instruction.
        dies(&format!("far jump to {selector:#x}"), &code, &[SEGV, ILL])?;
        // With SMAP, QEMU's returns fault for ever: they read the user's stack as the kernel would.
        if has_smap() {
            continue;
        }
        let mut code = push(selector).to_vec();
        code.extend_from_slice(&push(target));
        code.extend_from_slice(&[0x48, 0xcb]);
        dies(&format!("far return to {selector:#x}"), &code, &[SEGV])?;
        // The same by iretq, with the kernel's stack segment.
        let mut code = vec![0x48, 0x89, 0xe0, 0x6a, 0x18, 0x50, 0x9c];
        code.extend_from_slice(&push(selector));
        code.extend_from_slice(&push(target));
        code.extend_from_slice(&[0x48, 0xcf]);
        dies(&format!("iretq to {selector:#x}"), &code, &[SEGV])?;
    }
    // Data segments: a program may load its own, and keeps nothing by it.
    for load in [0xd8, 0xc0, 0xe0, 0xe8] {
        for selector in [0x2b, 0, 3] {
            let mut code = vec![0xb8, selector, 0, 0, 0, 0x8e, load];
            code.extend_from_slice(&GETPID);
            dies("a data segment", &code, &[SEGV])?;
        }
    }
    Ok(())
}

/// Each vector by `int n`.
fn vectors() -> Outcome {
    for vector in 0..=255 {
        let expected = if vector == 3 { TRAP } else { SEGV };
        dies(&format!("int {vector:#x}"), &[0xcd, vector], &[expected])?;
    }
    dies("int3", &[0xcc], &[TRAP])?;
    // QEMU has no such instruction.
    dies("icebp", &[0xf1], &[TRAP, ILL])
}

/// Instructions that are not for programs, or that not every CPU has.
const PRIVILEGED: [(&str, &[u8]); 53] = [
    ("hlt", &[0xf4]),
    ("cli", &[0xfa]),
    ("sti", &[0xfb]),
    ("in al, 0x60", &[0xe4, 0x60]),
    ("out 0x80, al", &[0xe6, 0x80]),
    ("in al, dx", &[0xec]),
    ("out dx, al", &[0xee]),
    ("insb", &[0x6c]),
    ("outsb", &[0x6e]),
    ("rdmsr", &[0x0f, 0x32]),
    ("wrmsr", &[0x0f, 0x30]),
    ("rdpmc", &[0x0f, 0x33]),
    ("mov rax, cr0", &[0x0f, 0x20, 0xc0]),
    ("mov cr0, rax", &[0x0f, 0x22, 0xc0]),
    ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
    ("mov cr4, rax", &[0x0f, 0x22, 0xe0]),
    ("mov cr8, rax", &[0x44, 0x0f, 0x22, 0xc0]),
    ("mov rax, dr7", &[0x0f, 0x21, 0xf8]),
    ("mov dr7, rax", &[0x0f, 0x23, 0xf8]),
    ("mov dr0, rax", &[0x0f, 0x23, 0xc0]),
    ("lgdt", &[0x0f, 0x01, 0x14, 0x24]),
    ("lidt", &[0x0f, 0x01, 0x1c, 0x24]),
    ("lldt", &[0x0f, 0x00, 0xd0]),
    ("ltr", &[0x0f, 0x00, 0xd8]),
    ("lmsw", &[0x0f, 0x01, 0xf0]),
    ("clts", &[0x0f, 0x06]),
    ("invlpg", &[0x0f, 0x01, 0x3c, 0x24]),
    ("invd", &[0x0f, 0x08]),
    ("wbinvd", &[0x0f, 0x09]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("sysenter", &[0x0f, 0x34]),
    ("sysexit", &[0x0f, 0x35]),
    ("sysretq", &[0x48, 0x0f, 0x07]),
    ("sysretd", &[0x0f, 0x07]),
    ("xsetbv", &[0x0f, 0x01, 0xd1]),
    ("clac", &[0x0f, 0x01, 0xca]),
    ("stac", &[0x0f, 0x01, 0xcb]),
    ("vmcall", &[0x0f, 0x01, 0xc1]),
    ("vmrun", &[0x0f, 0x01, 0xd8]),
    ("vmmcall", &[0x0f, 0x01, 0xd9]),
    ("vmload", &[0x0f, 0x01, 0xda]),
    ("stgi", &[0x0f, 0x01, 0xdc]),
    ("clgi", &[0x0f, 0x01, 0xdd]),
    ("skinit", &[0x0f, 0x01, 0xde]),
    ("invlpga", &[0x0f, 0x01, 0xdf]),
    ("monitor", &[0x0f, 0x01, 0xc8]),
    ("mwait", &[0x0f, 0x01, 0xc9]),
    ("rsm", &[0x0f, 0xaa]),
    ("wrgsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd8]),
    ("wrfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd0]),
    ("invpcid", &[0x66, 0x0f, 0x38, 0x82, 0x04, 0x24]),
    ("xsaves", &[0x48, 0x0f, 0xc7, 0x2c, 0x24]),
    ("xrstors", &[0x48, 0x0f, 0xc7, 0x1c, 0x24]),
];

fn privileged() -> Outcome {
    for (name, code) in PRIVILEGED {
        dies(name, code, &[SEGV, ILL])?;
    }
    Ok(())
}

/// Flags that user mode can set, across each kind of entry.
fn flags() -> Outcome {
    const SINGLE_STEP: u32 = 0x100;
    /// A trap that is due at the return comes after one more instruction.
    const SYSCALL: [u8; 4] = [0x0f, 0x05, 0x90, HLT];
    const LOAD_NULL: [u8; 5] = [0x0f, 0x05, 0x8a, 0x07, HLT];
    let load_stack_segment = |then: &[u8]| [&[0x8e, 0xd1], then].concat();
    dies("single step, syscall", &with_flags(SINGLE_STEP, &SYSCALL), &[TRAP])?;
    dies("single step, int3", &with_flags(SINGLE_STEP, &[0xcc]), &[TRAP])?;
    dies("single step, int 0x20", &with_flags(SINGLE_STEP, &[0xcd, 0x20]), &[TRAP, SEGV])?;
    dies("single step, fault", &with_flags(SINGLE_STEP, &[0x8a, 0x07]), &[TRAP, SEGV])?;
    // Loading SS delays a pending trap by one instruction: into the entry.
    for then in [&SYSCALL[..], &[0xcc], &[0xcd, 0x80], &[0xf1], &[0x8a, 0x07]] {
        let code = with_flags(SINGLE_STEP, &load_stack_segment(then));
        dies("single step, mov ss", &code, &[TRAP, SEGV, ILL])?;
    }
    const OTHERS: [(&str, u32); 4] =
        [("AC", 0x4_0000), ("NT", 0x4000), ("DF", 0x400), ("IOPL and NT", 0x7000)];
    for (name, flags) in OTHERS {
        dies(name, &with_flags(flags, &LOAD_NULL), &[SEGV, BUS])?;
    }
    dies("IOPL, in", &with_flags(0x3000, &[0xec]), &[SEGV])
}

/// Instruction pointers at and beyond the end of the program's half.
fn addresses() -> Outcome {
    for address in [KERNEL, NON_CANONICAL, 1 << 47, u64::MAX, (1 << 47) - PAGE as u64] {
        let mut jump = vec![0x48, 0xb8];
        jump.extend_from_slice(&address.to_le_bytes());
        jump.extend_from_slice(&[0xff, 0xe0]);
        dies(&format!("a jump to {address:#x}"), &jump, &[SEGV, BUS])?;
        // A system call with the stack pointer there.
        jump.truncate(10);
        jump.extend_from_slice(&[0x48, 0x89, 0xc4]);
        jump.extend_from_slice(&GETPID);
        dies(&format!("a stack at {address:#x}"), &jump, &[SEGV, BUS])?;
    }
    // A system call that returns to the end of the program's half.
    let status = in_child(|| {
        let number: [u8; 5] = [0xb8, abi::__NR_getpid as u8, 0, 0, 0];
        let call = [0x0f, 0x05];
        if !map_code(LAST_PAGE, &[(PAGE - 7, &number), (PAGE - 2, &call)]) {
            return 99;
        }
        // SAFETY: the child is meant to die of it.
        unsafe {
            core::arch::asm!("jmp {}", in(reg) LAST_PAGE + PAGE - 7, options(noreturn));
        }
    })?;
    check_eq!(status.signal(), Some(SEGV), "a system call at the end");
    const SET: [usize; 2] = [0x1001, 0x1002];
    for (code, address) in SET.iter().flat_map(|code| [KERNEL, NON_CANONICAL].map(|at| (*code, at)))
    {
        let result = raw(abi::__NR_arch_prctl, &[code, address as usize]);
        check_eq!(result, Err(Errno::EPERM), "arch_prctl {code:#x}, {address:#x}");
    }
    Ok(())
}

/// Words of a signal frame's context: `ucontext_t` on the stack.
struct Frame([u64; 39]);

impl Frame {
    /// Indices of words: see `struct sigcontext`.
    const RSP: usize = 20;
    const RIP: usize = 21;
    const FLAGS: usize = 22;
    const SEGMENTS: usize = 23;
    const FPU: usize = 28;

    /// A frame that is correct.
    fn new() -> Self {
        let mut words = [0; 39];
        words[0] = 6;
        words[3] = 2;
        words[Self::RSP] = (CODE + PAGE - 256) as u64;
        words[Self::RIP] = CODE as u64;
        words[Self::FLAGS] = 0x202;
        words[Self::SEGMENTS] = 0x33 | 0x2b << 48;
        Self(words)
    }

    fn with(index: usize, value: u64) -> Self {
        let mut frame = Self::new();
        frame.0[index] = value;
        frame
    }
}

/// How a child ends that returns from a signal by this frame. Its code exits with the privileged
/// flags that it finds, shifted by 12.
fn sigreturn(frame: &Frame) -> Outcome<WaitStatus> {
    const EXIT: [u8; 18] =
        [0x9c, 0x5f, 0x81, 0xe7, 0, 0x70, 2, 0, 0xc1, 0xef, 12, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
    in_child(|| {
        if !map_code(CODE, &[(0, &EXIT)]) {
            return 99;
        }
        // SAFETY: the child continues in the frame or dies of it.
        unsafe {
            core::arch::asm!(
                "mov rsp, {}",
                "syscall",
                "hlt",
                in(reg) frame.0.as_ptr(),
                in("rax") abi::__NR_rt_sigreturn,
                options(noreturn)
            );
        }
    })
}

/// Frames that a program forged.
fn frames() -> Outcome {
    let check = |what: &str, frame: &Frame, signals: &[i32]| -> Outcome {
        let status = sigreturn(frame)?;
        let died = status.signal().is_some_and(|signal| signals.contains(&signal));
        check!(died || status.exit_code() == Some(0), "{what}: status {:#x}", status.0);
        Ok(())
    };
    check("a correct frame", &Frame::new(), &[])?;
    check("IOPL, NT and VM", &Frame::with(Frame::FLAGS, 0x2_7202), &[])?;
    check("no IF", &Frame::with(Frame::FLAGS, 0), &[])?;
    check("all flags", &Frame::with(Frame::FLAGS, u64::MAX), &[TRAP])?;
    for segments in [0, 0x10, 0x10 | 0x18 << 48, 0x23 | 0x2b << 48, 0x40 | 0x40 << 48, u64::MAX] {
        // Behind a return to 32-bit code, the system call is no instruction.
        check("segments", &Frame::with(Frame::SEGMENTS, segments), &[SEGV, BUS, ILL])?;
    }
    for address in [KERNEL, NON_CANONICAL, 1 << 47, (1 << 47) - PAGE as u64, u64::MAX] {
        let rip = sigreturn(&Frame::with(Frame::RIP, address))?;
        check_eq!(rip.signal(), Some(SEGV), "a return to {address:#x}");
        check("a stack", &Frame::with(Frame::RSP, address), &[SEGV, BUS])?;
        // Linux may go on with cleared registers.
        check("registers", &Frame::with(Frame::FPU, address & !63), &[SEGV])?;
    }
    for image in fpu_images() {
        let start = (image.as_ptr() as usize).next_multiple_of(64);
        check("an image", &Frame::with(Frame::FPU, start as u64), &[SEGV])?;
    }
    Ok(())
}

/// Images of the floating-point registers that the CPU would refuse, each with space to align it.
fn fpu_images() -> [Vec<u8>; 5] {
    const MXCSR: usize = 24;
    const EXTENSION: usize = 464;
    const HEADER: usize = 512;
    let size = match core::arch::x86_64::__cpuid(0).eax {
        13.. => core::arch::x86_64::__cpuid_count(13, 0).ebx,
        _ => 0,
    };
    let image = |put: &dyn Fn(&mut [u8])| {
        let mut bytes = vec![0; 2 * PAGE + 64];
        let start = (bytes.as_ptr() as usize).next_multiple_of(64) - bytes.as_ptr() as usize;
        let own = &mut bytes[start..];
        own[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        put(own);
        bytes
    };
    // As extended state, with Linux's marks of one.
    let extended = |own: &mut [u8]| {
        own[EXTENSION..EXTENSION + 4].copy_from_slice(b"SXPF");
        own[EXTENSION + 4..EXTENSION + 8].copy_from_slice(&(size + 4).to_le_bytes());
        own[EXTENSION + 8] = 3;
        own[EXTENSION + 16..EXTENSION + 20].copy_from_slice(&size.to_le_bytes());
        own[size as usize..size as usize + 4].copy_from_slice(b"EXPF");
    };
    [
        image(&|own| own[MXCSR..MXCSR + 4].fill(0xff)),
        image(&|own| own.fill(0xff)),
        image(&|own| {
            extended(own);
            own[HEADER..HEADER + 8].fill(0xff);
        }),
        image(&|own| {
            extended(own);
            own[HEADER + 8..HEADER + 16].fill(0xff);
        }),
        image(&|own| {
            extended(own);
            own[HEADER + 16..HEADER + 64].fill(0xff);
        }),
    ]
}

fn all() -> Outcome {
    segments()?;
    vectors()?;
    privileged()?;
    flags()?;
    addresses()?;
    frames()
}

/// Nothing but the declared entries leads from user mode into the kernel, on a CPU with every
/// protection.
#[guest_test]
fn doors() -> Outcome {
    all()
}

/// The same on a CPU without SMEP, SMAP and UMIP.
#[guest_test(cpu: "qemu64")]
fn doors_old_cpu() -> Outcome {
    all()
}
