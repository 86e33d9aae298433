//! Stand-ins for the machine on the host.

/// Time, by the host's clock.
pub mod clock {
    use std::sync::OnceLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    /// Ticks per second, if there were any.
    pub const TICK_HZ: u64 = 100;

    static START: OnceLock<Instant> = OnceLock::new();

    /// Nanoseconds since the start.
    pub fn now_ns() -> u64 {
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn wall_ns() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
    }
}

/// Interrupt lines: there are none.
pub mod irq {
    /// Never called: there are no interrupts.
    pub fn register(_line: u8, _handler: fn()) {}
}

/// The end of the machine.
pub mod power {
    /// Ends the test that got here.
    pub fn off() -> ! {
        panic!("the machine was switched off")
    }

    /// Likewise.
    pub fn failed() -> ! {
        panic!("the machine failed")
    }

    /// Likewise.
    pub fn reset() -> ! {
        panic!("the machine was reset")
    }
}

/// The serial ports: there are none.
pub mod serial {
    use crate::arch::SerialPort;

    /// Never calls `input`.
    pub fn start(_input: fn(&[u8])) {}

    /// Discards the bytes.
    pub fn send(_port: SerialPort, _bytes: &[u8]) {}
}

/// Segment bases: there are none to set.
pub mod segments {
    /// Nothing to set.
    pub fn set_fs_base(_: u64) {}
    /// Nothing to read.
    pub fn fs_base() -> u64 {
        0
    }
    /// Nothing to set.
    pub fn set_gs_base(_: u64) {}
    /// Nothing to read.
    pub fn gs_base() -> u64 {
        0
    }
}

/// Floating-point state: an empty one.
pub mod fpu {
    use alloc::vec::Vec;

    /// The state of no registers.
    #[derive(Clone, Debug, Default)]
    pub struct FpuState(Vec<u8>);

    impl FpuState {
        /// The state at a program's start.
        pub fn initial() -> Option<Self> {
            Some(Self::default())
        }
        /// The image in memory.
        pub fn bytes(&self) -> &[u8] {
            &self.0
        }
        /// Takes over an image, if it is one.
        pub fn load(&mut self, bytes: &[u8]) -> bool {
            bytes.is_empty()
        }
        /// Fills it from the registers.
        pub fn save(&mut self) {}
        /// Fills the registers from it.
        pub fn restore(&self) {}
    }

    /// Bytes of a state.
    pub fn state_bytes() -> usize {
        0
    }
    /// The features that a state holds.
    pub fn features() -> u64 {
        0
    }
}

/// Switching between threads: a host test has only one.
pub mod context {
    /// What is kept of a thread that does not run.
    #[derive(Debug, Default)]
    pub struct Context;

    impl Context {
        /// A thread that will start.
        ///
        /// # Safety
        /// None is needed here.
        pub unsafe fn starting(_stack_top: u64, _registers: &super::super::Registers) -> Self {
            Self
        }

        /// Nothing to tell.
        ///
        /// # Safety
        /// None is needed here.
        pub unsafe fn backtrace(&self) {}
    }

    /// Cannot be.
    ///
    /// # Safety
    /// None is needed here.
    pub unsafe fn switch(_from: *mut Context, _to: *const Context, _stack_top: u64) {
        panic!("the host has no threads of the kernel's")
    }
    /// Nothing to tell.
    pub fn backtrace_here() {}
    /// Nothing to switch to.
    pub fn idle() {}
    /// Nothing is due.
    pub fn let_interrupts_in() {}
    /// Nothing to load.
    ///
    /// # Safety
    /// None is needed here.
    pub unsafe fn set_page_table(_: u64) {}
    /// The page table without user memory.
    pub fn kernel_page_table() -> u64 {
        0
    }
    /// Where the running thread's stack lies: unknown.
    pub fn registers(_stack_top: u64) -> *mut super::super::Registers {
        core::ptr::null_mut()
    }
}
