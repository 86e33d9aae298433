//! The registers of user mode, as a thread had them when it entered the kernel.
//!
//! They are at the top of its kernel stack, in the order in which entry code pushes them. The entry
//! code in `x86_64` depends on every field.

use core::marker::PhantomData;

/// The end of user addresses. The last page below the non-canonical range is excluded: a system
/// call instruction at its end would return to a non-canonical address, and `sysret` would fault in
/// the kernel.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// The bits of RFLAGS that a program may change: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC, ID; never
/// IF, IOPL, NT or VM.
pub const SIGNAL_FLAGS: u64 = 0x0025_0dd5;

/// Registers of user mode, saved on entry.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the registers' own names")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Why the kernel was entered: a vector, or [`Registers::SYSCALL`].
    pub cause: u64,
    /// The exception's error code, or the system call's number.
    pub code: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Why the kernel was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// By a system call of this number.
    Syscall(u64),
    /// By an exception of this vector (0 to 31).
    Exception(u8),
    /// By an interrupt of this vector.
    Interrupt(u8),
}

/// The vectors of exceptions (Intel SDM, volume 3, table 6-1).
#[allow(missing_docs, reason = "the manual's names")]
pub mod vector {
    pub const DIVIDE_ERROR: u8 = 0;
    pub const DEBUG: u8 = 1;
    pub const NON_MASKABLE: u8 = 2;
    pub const BREAKPOINT: u8 = 3;
    pub const INVALID_OPCODE: u8 = 6;
    pub const DOUBLE_FAULT: u8 = 8;
    pub const STACK_FAULT: u8 = 12;
    pub const PAGE_FAULT: u8 = 14;
    pub const X87_ERROR: u8 = 16;
    pub const ALIGNMENT_CHECK: u8 = 17;
    pub const MACHINE_CHECK: u8 = 18;
    pub const SIMD_ERROR: u8 = 19;
}

/// What a faulting instruction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserAccess {
    /// A load from memory.
    Load,
    /// A store to memory.
    Store,
    /// An instruction fetch.
    Fetch,
}

/// What the CPU reports about a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that was accessed (CR2).
    pub address: u64,
    /// Whether a page was mapped that does not permit the access.
    pub present: bool,
    /// How the address was accessed.
    pub access: UserAccess,
}

impl Registers {
    /// The value of `cause` on entry by a system call.
    pub const SYSCALL: u64 = 0x100;
    /// The user's code segment. Linux's number, because programs see it in signal frames.
    pub const USER_CS: u64 = 0x33;
    /// The user's data segment. Linux's number, too.
    pub const USER_SS: u64 = 0x2b;
    /// The interrupt flag, always set in user mode, and bit 1, which the CPU always sets.
    pub const USER_FLAGS: u64 = 0x202;

    /// The registers of a starting program: all zero except these.
    pub fn start(rip: u64, rsp: u64) -> Self {
        Self {
            rip,
            rsp,
            cs: Self::USER_CS,
            ss: Self::USER_SS,
            rflags: Self::USER_FLAGS,
            ..Self::default()
        }
    }

    /// Why the kernel was entered.
    pub fn cause(&self) -> Cause {
        match self.cause {
            Self::SYSCALL => Cause::Syscall(self.code),
            vector @ 0..32 => Cause::Exception(vector as u8),
            vector => Cause::Interrupt(vector as u8),
        }
    }

    /// Whether user mode was interrupted, and not the kernel.
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// Decodes the error code of a page fault at `address`.
    pub fn page_fault(&self, address: u64) -> PageFault {
        const PRESENT: u64 = 1;
        const WRITE: u64 = 1 << 1;
        const FETCH: u64 = 1 << 4;
        let access = if self.code & WRITE != 0 {
            UserAccess::Store
        } else if self.code & FETCH != 0 {
            UserAccess::Fetch
        } else {
            UserAccess::Load
        };
        PageFault { address, present: self.code & PRESENT != 0, access }
    }

    /// Makes registers that a program wrote (in a signal frame) safe to return to: segments and
    /// privileged flags keep the kernel's values, and the instruction pointer is no kernel address.
    pub fn sanitize(&mut self) {
        self.cs = Self::USER_CS;
        self.ss = Self::USER_SS;
        self.rflags = (self.rflags & SIGNAL_FLAGS) | Self::USER_FLAGS;
        if self.rip >= USER_END {
            // Faults in user mode, as a jump to the address would have done.
            self.rip = USER_END;
        }
    }
}

/// The registers that the running thread saved on entry by a system call, at the top of its kernel
/// stack.
///
/// Having one proves:
/// - the running thread is in a system call, and these are its registers of user mode;
/// - they stay in place for `'a`, until the system call returns.
///
/// Values are copied in and out, and no reference exists between two accesses, because a handler
/// may replace all registers (exec, sigreturn).
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct SavedRegisters<'a>(*mut Registers, PhantomData<&'a ()>);

impl SavedRegisters<'_> {
    /// The number of the system call.
    #[inline]
    pub fn number(self) -> u64 {
        // SAFETY: the type's invariant.
        unsafe { (*self.0).code }
    }

    /// An argument of the system call as it is, by its index from 0 to 5.
    #[inline]
    pub fn argument(self, index: usize) -> u64 {
        // SAFETY: the type's invariant.
        unsafe {
            match index {
                0 => (*self.0).rdi,
                1 => (*self.0).rsi,
                2 => (*self.0).rdx,
                3 => (*self.0).r10,
                4 => (*self.0).r8,
                _ => (*self.0).r9,
            }
        }
    }

    /// The system call's result, as the program gets it.
    #[inline]
    pub fn result(self) -> u64 {
        // SAFETY: the type's invariant.
        unsafe { (*self.0).rax }
    }

    /// Sets the system call's result.
    #[inline]
    pub fn set_result(self, result: u64) {
        // SAFETY: the type's invariant.
        unsafe { (*self.0).rax = result };
    }

    /// Whether these are still the registers of a system call: sigreturn and exec put others in
    /// their place.
    #[inline]
    pub fn are_of_system_call(self) -> bool {
        // SAFETY: the type's invariant.
        unsafe { (*self.0).cause == Registers::SYSCALL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_frame_gains_nothing() {
        let mut forged = Registers {
            cs: 0x10,
            ss: 0x18,
            rflags: u64::MAX,
            rip: 0xffff_ffff_8000_0000,
            ..Registers::default()
        };
        forged.sanitize();
        assert_eq!((forged.cs, forged.ss), (0x33, 0x2b));
        assert_eq!(forged.rflags & 0x3000, 0, "IOPL");
        assert_ne!(forged.rflags & 0x200, 0, "IF");
        assert!(forged.rip <= USER_END);
    }
}
