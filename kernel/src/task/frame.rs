//! Signal frames: the state on the user's stack while a handler runs, and its restoration. The
//! layout is Linux's `struct rt_sigframe`, which C libraries and unwinders read.
#![forbid(unsafe_code)]

use super::signal::{Action, ActionFlags, SignalInfo, SignalSet};
use super::thread::AlternateStack;
use super::{Thread, send, word};
use crate::arch::fpu::{self, FpuState};
use crate::arch::{Registers, SIGNAL_FLAGS};
use crate::mem::{Space, UserAddr, UserSlice};
use foundation::{ByteCount, Errno};

/// Bytes below the stack pointer that a leaf function may use.
const RED_ZONE_BYTES: u64 = 128;
/// Alignment of the floating-point image (XSAVE's).
const FPU_ALIGN_BYTES: u64 = 64;
/// The return address, the context and the information.
const FRAME_BYTES: usize = 8 + CONTEXT_BYTES + SignalInfo::BYTES;
/// `ucontext_t`: flags, link, stack, registers, mask.
const CONTEXT_BYTES: usize = 16 + 24 + 256 + 8;
/// Where parts of `ucontext_t` begin.
const STACK: usize = 16;
const REGISTERS: usize = 40;
const MASK: usize = REGISTERS + 256;
/// Where parts of `struct sigcontext` begin.
const SEGMENTS: usize = REGISTERS + 18 * 8;
const TRAP_CODE: usize = SEGMENTS + 8;
const TRAP_CAUSE: usize = TRAP_CODE + 8;
const OLD_MASK: usize = TRAP_CAUSE + 8;
const FAULT_ADDRESS: usize = OLD_MASK + 8;
const FPU_POINTER: usize = FAULT_ADDRESS + 8;
/// `UC_FP_XSTATE`: the floating-point image is XSAVE's.
const HAS_XSTATE: u64 = 1;
/// `UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`: the stack segment is there.
const HAS_STACK_SEGMENT: u64 = 6;
/// Size of FXSAVE's image.
const LEGACY_FPU_BYTES: usize = 512;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: [u8; 4] = 0x4650_5845u32.to_le_bytes();
/// `SS_ONSTACK`, `SS_DISABLE` and `SS_AUTODISARM`, flags of an alternate stack.
const ON_STACK: u32 = 1;
const DISABLED: u32 = 2;
const DISARMS: u32 = 1 << 31;
/// A smaller alternate stack is refused (`MINSIGSTKSZ`).
const MIN_STACK_BYTES: u64 = 2048;
/// Flags that are cleared for a handler: direction, trap, resume.
const CLEARED_FLAGS: u64 = 0x400 | 0x100 | 0x1_0000;

/// Makes the thread continue in a handler, with a frame on its stack to return by. EFAULT if the
/// stack has no space.
pub(super) fn push(
    thread: &Thread,
    info: SignalInfo,
    action: Action,
    saved_mask: SignalSet,
) -> Result<(), Errno> {
    if !action.flags().contains(ActionFlags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let registers = thread.with_registers(|registers| *registers);
    let alternate = thread.signals.lock().alternate;
    let mut sp = registers.rsp.wrapping_sub(RED_ZONE_BYTES);
    let mut is_alternate = alternate.contains(UserAddr(registers.rsp));
    if action.flags().contains(ActionFlags::ON_STACK) && !alternate.bytes.is_zero() && !is_alternate
    {
        sp = alternate.start.0.wrapping_add(alternate.bytes.0);
        is_alternate = true;
    }
    let mut state = FpuState::initial().ok_or(Errno::ENOMEM)?;
    state.save();
    let magic = describe(&mut state);
    let fpu_bytes = (state.bytes().len() + magic.len()) as u64;
    let fpu_at = sp.wrapping_sub(fpu_bytes) & !(FPU_ALIGN_BYTES - 1);
    // As after a call instruction, the stack is misaligned by the return address.
    let frame_at = (fpu_at.wrapping_sub(FRAME_BYTES as u64) & !15).wrapping_sub(8);
    if is_alternate && frame_at <= alternate.start.0 {
        // It would go past the end of the alternate stack.
        return Err(Errno::EFAULT);
    }
    let mut frame = [0; FRAME_BYTES];
    put(&mut frame, 0, action.restorer);
    let (context, rest) = frame.split_at_mut(8).1.split_at_mut(CONTEXT_BYTES);
    let has_xstate = if fpu::features() == 0 { 0 } else { HAS_XSTATE };
    put(context, 0, has_xstate | HAS_STACK_SEGMENT);
    let stack = alternate.to_bytes(UserAddr(registers.rsp));
    context.iter_mut().skip(STACK).zip(stack).for_each(|(to, from)| *to = from);
    put_registers(context, &registers);
    put(context, OLD_MASK, saved_mask.0);
    put(context, FAULT_ADDRESS, info.value);
    put(context, FPU_POINTER, fpu_at);
    put(context, MASK, saved_mask.0);
    rest.copy_from_slice(&info.to_bytes());

    let space = thread.space().ok_or(Errno::EFAULT)?;
    write(&space, fpu_at, state.bytes())?;
    write(&space, fpu_at.wrapping_add(state.bytes().len() as u64), magic)?;
    write(&space, frame_at, &frame)?;
    if alternate.disarms {
        thread.signals.lock().alternate = AlternateStack::default();
    }
    thread.with_registers(|registers| {
        registers.rip = action.handler;
        registers.rsp = frame_at;
        registers.rdi = u64::from(info.signal.0);
        registers.rdx = frame_at + 8;
        registers.rsi = frame_at + 8 + CONTEXT_BYTES as u64;
        registers.rax = 0;
        registers.rflags &= !CLEARED_FLAGS;
        registers.cause = INTERNAL;
        registers.sanitize();
    });
    Ok(())
}

/// A value of `cause` other than a system call's: nothing is restarted, and the return is by
/// `iret`.
const INTERNAL: u64 = 0x200;

/// rt_sigreturn(2): restores the state from the frame at the stack pointer. Returns the restored
/// rax, because a system call's result overwrites rax.
pub fn pop(thread: &Thread) -> Result<u64, Errno> {
    let space = thread.space().ok_or(Errno::EFAULT)?;
    let at = thread.with_registers(|registers| registers.rsp);
    let mut context = [0; CONTEXT_BYTES];
    read(&space, at, &mut context)?;
    let fpu = match word(&context, FPU_POINTER) {
        0 => FpuState::initial().ok_or(Errno::ENOMEM)?,
        address => read_fpu(&space, address)?,
    };
    fpu.restore();
    {
        let mut own = thread.signals.lock();
        own.blocked = SignalSet(word(&context, MASK)).without(SignalSet::UNBLOCKABLE);
        // As on Linux, one that is not valid is ignored.
        if let Ok(alternate) = AlternateStack::from_bytes(context.get(STACK..).unwrap_or_default())
        {
            own.alternate = alternate;
        }
    }
    send::recheck(thread);
    thread.with_registers(|registers| {
        take_registers(&context, registers);
        registers.cause = INTERNAL;
        registers.sanitize();
    });
    Ok(thread.with_registers(|registers| registers.rax))
}

impl AlternateStack {
    /// Size of a `stack_t`: address, flags of 32 bits, padding, length.
    pub const BYTES: usize = 24;

    /// Decodes a `stack_t`. EINVAL for flags that there are not, ENOMEM where it is too small.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Errno> {
        let (start, flags, length) =
            (word(bytes, 0), word(bytes, 8) as u32, ByteCount(word(bytes, 16)));
        match flags & !DISARMS {
            DISABLED => Ok(Self::default()),
            0 | ON_STACK if length.0 < MIN_STACK_BYTES => Err(Errno::ENOMEM),
            0 | ON_STACK => {
                let disarms = flags & DISARMS != 0;
                Ok(Self { start: UserAddr(start), bytes: length, disarms })
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The `stack_t` of a thread with this stack pointer.
    pub fn to_bytes(self, sp: UserAddr) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        put(&mut bytes, 0, self.start.0);
        put(&mut bytes, 8, u64::from(self.flags(sp)));
        put(&mut bytes, 16, self.bytes.0);
        bytes
    }

    /// Whether a thread with this stack pointer runs on this stack and must leave it first.
    pub fn contains(&self, sp: UserAddr) -> bool {
        !self.disarms && sp > self.start && sp.0 - self.start.0 <= self.bytes.0
    }

    /// `ss_flags`, for a thread with this stack pointer.
    fn flags(&self, sp: UserAddr) -> u32 {
        let disarms = if self.disarms { DISARMS } else { 0 };
        let state = match self.bytes {
            ByteCount::ZERO => DISABLED,
            _ if self.contains(sp) => ON_STACK,
            _ => 0,
        };
        state | disarms
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value.to_le_bytes()) {
        *to = from;
    }
}

/// The general registers in the order of `struct sigcontext`.
fn general(registers: &mut Registers) -> [&mut u64; 18] {
    let Registers {
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rdi,
        rsi,
        rbp,
        rbx,
        rdx,
        rax,
        rcx,
        rsp,
        rip,
        rflags,
        ..
    } = registers;
    [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags]
}

fn put_registers(context: &mut [u8], registers: &Registers) {
    let mut copy = *registers;
    for (index, register) in general(&mut copy).into_iter().enumerate() {
        put(context, REGISTERS + 8 * index, *register);
    }
    put(context, SEGMENTS, registers.cs | registers.ss << 48);
    let is_exception = registers.cause < 32;
    put(context, TRAP_CODE, if is_exception { registers.code } else { 0 });
    put(context, TRAP_CAUSE, if is_exception { registers.cause } else { 0 });
}

fn take_registers(context: &[u8], registers: &mut Registers) {
    let flags = registers.rflags;
    for (index, register) in general(registers).into_iter().enumerate() {
        *register = word(context, REGISTERS + 8 * index);
    }
    registers.rflags = (registers.rflags & SIGNAL_FLAGS) | (flags & !SIGNAL_FLAGS);
}

/// Says in the image which features it covers. Returns what follows it in a frame: a magic word
/// that marks the extended state as complete.
fn describe(state: &mut FpuState) -> &'static [u8] {
    let (features, bytes) = (fpu::features(), state.bytes().len() as u64);
    if features == 0 {
        return &[];
    }
    let words = state.software_bytes();
    put(words, 0, u64::from(MAGIC1) | (bytes + MAGIC2.len() as u64) << 32);
    put(words, 8, features);
    put(words, 16, bytes);
    &MAGIC2
}

fn read_fpu(space: &Space, address: u64) -> Result<FpuState, Errno> {
    let mut state = FpuState::initial().ok_or(Errno::ENOMEM)?;
    let mut words = [0; 24];
    read(space, address.wrapping_add(fpu::SOFTWARE_BYTES.start as u64), &mut words)?;
    let full_bytes = fpu::state_bytes();
    let mut is_full = fpu::features() != 0
        && word(&words, 0) as u32 == MAGIC1
        && word(&words, 16) as u32 as usize == full_bytes;
    if is_full {
        let mut magic = [0; MAGIC2.len()];
        read(space, address.wrapping_add(full_bytes as u64), &mut magic)?;
        is_full = magic == MAGIC2;
    }
    let bytes = if is_full { full_bytes } else { LEGACY_FPU_BYTES };
    let is_valid = state.load(bytes, |image| read(space, address, image))?;
    if is_valid { Ok(state) } else { Err(Errno::EFAULT) }
}

fn write(space: &Space, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    Ok(space
        .copy_out_all(UserSlice::new(UserAddr(address), ByteCount::of_len(bytes.len()))?, bytes)?)
}

fn read(space: &Space, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    Ok(space.copy_in(UserSlice::new(UserAddr(address), ByteCount::of_len(bytes.len()))?, bytes)?)
}
