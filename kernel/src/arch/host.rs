//! Replacements for the machine on the host, where tests and the simulation run.

/// Time, from the host's clock, or as a test sets it.
pub mod clock {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use crate::arch::{Alarm, NEVER};

    /// The interrupt line of the timer.
    pub const TIMER_LINE: u8 = 0;

    static START: OnceLock<Instant> = OnceLock::new();

    /// The time that a test has set; [`NEVER`] while it is the host's.
    static SET_NS: AtomicU64 = AtomicU64::new(NEVER);

    /// Nanoseconds since the start.
    pub fn now_ns() -> u64 {
        match SET_NS.load(Ordering::Relaxed) {
            NEVER => START.get_or_init(Instant::now).elapsed().as_nanos() as u64,
            set => set,
        }
    }

    /// Sets the time. From now on it stands still until it is set again.
    pub fn set_now_ns(now_ns: u64) {
        SET_NS.store(now_ns, Ordering::Relaxed);
    }

    /// Sets the time since 1970: not the host's.
    pub fn set_wall_ns(_: i64) {}

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn wall_ns() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
    }

    /// Never: the host has no timer interrupt.
    pub fn is_set(_alarm: Alarm) -> bool {
        false
    }

    /// Always [`NEVER`].
    pub fn deadline(_alarm: Alarm) -> u64 {
        NEVER
    }

    /// Sets nothing.
    pub fn set_alarm(_alarm: Alarm, _deadline_ns: u64) {}

    /// Does nothing.
    pub fn fired() {}

    /// Does nothing.
    pub fn set_exactly() {}
}

/// CPU time: the host accounts for none.
pub mod usage {
    use crate::arch::{Cycles, Spent};

    /// Does nothing.
    pub fn measure() {}

    /// Always nothing.
    pub fn take() -> Cycles {
        Cycles::default()
    }

    /// Always nothing.
    pub fn pending() -> u64 {
        0
    }

    /// As if a cycle took a nanosecond.
    pub fn spent(cycles: Cycles) -> Spent {
        let Cycles { total, system } = cycles;
        Spent { user_ns: total.saturating_sub(system), system_ns: system }
    }
}

/// Interrupt lines: the host has none.
pub mod irq {
    /// Always false: no line has a handler here.
    pub fn is_serving() -> bool {
        false
    }

    /// Does nothing: `_handler` is never called.
    pub fn register(_line: u8, _handler: fn()) {}
}

/// Power control, which fails tests.
pub mod power {
    /// Fails the test that calls it.
    pub fn off() -> ! {
        panic!("the machine was switched off")
    }

    /// Fails the test that calls it.
    pub fn failed(reason: core::fmt::Arguments<'_>) -> ! {
        panic!("the machine stopped: {reason}")
    }

    /// Fails the test that calls it.
    pub fn reset() -> ! {
        panic!("the machine was reset")
    }
}

/// The keyboard: the host has none.
pub mod keyboard {
    /// Never calls `_input`.
    pub fn start(_input: fn(&[u8])) -> bool {
        false
    }
}

/// The serial ports: the host has none.
pub mod serial {
    use crate::arch::SerialPort;

    /// Never calls `input`.
    pub fn start(_input: fn(SerialPort, &[u8])) {}

    /// Discards the bytes.
    pub fn send(_port: SerialPort, _bytes: &[u8]) {}
}

/// Segment bases: always 0.
pub mod segments {
    /// Ignores the base.
    pub fn set_fs_base(_: u64) {}
    /// The base, always 0.
    pub fn fs_base() -> u64 {
        0
    }
    /// Ignores the base.
    pub fn set_gs_base(_: u64) {}
    /// The base, always 0.
    pub fn gs_base() -> u64 {
        0
    }
}

/// Floating-point state: always empty.
pub mod fpu {
    use alloc::vec::Vec;

    /// No part of the image.
    pub const SOFTWARE_BYTES: core::ops::Range<usize> = 0..0;

    /// An empty state.
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
        /// There are none.
        pub fn software_bytes(&mut self) -> &mut [u8] {
            &mut []
        }
        /// Accepts an empty image only.
        pub fn load<E>(
            &mut self,
            bytes: usize,
            _: impl FnOnce(&mut [u8]) -> Result<(), E>,
        ) -> Result<bool, E> {
            Ok(bytes == 0)
        }
        /// Leaves the state empty.
        pub fn save(&mut self) {}
        /// Changes no registers.
        pub fn restore(&self) {}
    }

    /// Size of a state in bytes, always 0.
    pub fn state_bytes() -> usize {
        0
    }
    /// The features of a state, always none.
    pub fn features() -> u64 {
        0
    }
}

/// Switching between threads: not possible on the host.
pub mod context {
    /// The context of a thread that does not run.
    #[derive(Debug, Default)]
    pub struct Context;

    impl Context {
        /// A context that cannot be switched to.
        ///
        /// # Safety
        /// None is required here.
        pub unsafe fn starting(_stack_top: u64, _registers: &super::super::Registers) -> Self {
            Self
        }

        /// Does nothing.
        ///
        /// # Safety
        /// None is required here.
        pub unsafe fn backtrace(&self) {}
    }

    /// Fails the test that calls it.
    ///
    /// # Safety
    /// None is required here.
    pub unsafe fn switch(_from: *mut Context, _to: *const Context, _stack_top: u64) {
        panic!("the host has no threads of the kernel's")
    }
    /// Prints no backtrace.
    pub fn backtrace_here() {}
    /// Returns at once.
    pub fn idle() {}
    /// Returns at once: no interrupts exist.
    pub fn serve_interrupts() {}
    /// Does nothing.
    ///
    /// # Safety
    /// None is required here.
    pub unsafe fn set_page_table(_: u64) {}
    /// The page table of the kernel alone, always 0.
    pub fn kernel_page_table() -> u64 {
        0
    }
    /// The saved registers of a thread: always null.
    pub fn registers(_stack_top: u64) -> *mut super::super::Registers {
        core::ptr::null_mut()
    }
}
