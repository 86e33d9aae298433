//! Processes and threads.
//!
//! Owns scheduling ([`scheduler`]), processes ([`Process`]) and threads ([`Thread`]), their
//! creation ([`fork`], [`exec`]) and end ([`exit`]), signals, timers and futexes. Does not own
//! memory, files, or the handling of traps. The layers below know it by the traits that [`start`]
//! registers.
//!
//! Invariants. A process is in the table from its creation until it is reaped. Its memory and
//! descriptors are released when its last thread ends. A thread's kernel stack is freed by the
//! thread that runs after it. Only a thread itself leaves the kernel on its stack, and there
//! signals are delivered ([`deliver`]); other threads only set a flag ([`Thread::notice`]) and wake
//! it.
//!
//! Locks are spin locks, in the order that [`rank`](crate::sync::rank) declares.

pub mod arguments;
pub mod current;
pub mod deliver;
mod due;
pub mod elf;
pub mod exec;
pub mod exit;
pub mod fair;
pub mod family;
pub mod fork;
pub mod frame;
pub mod futex;
pub mod host_name;
pub mod init;
pub mod kernel_threads;
mod load;
mod mutants;
pub mod oom;
pub mod pid_file;
pub mod policy;
pub mod posix_timer;
mod process;
pub mod report;
pub mod robust;
pub mod scheduler;
pub mod send;
mod sent;
pub mod signal;
pub mod signal_file;
mod status;
mod tasks;
pub mod timer;
pub mod timer_file;

pub use current::Current;
pub use family::{all_processes, find_process, find_thread};
pub use process::choices;
pub use process::cpu_time::CpuTimer;
pub use process::timers::{Notification, TimerClock};
pub use process::{INIT_PID, Identity, Process, Thread, thread};
pub use scheduler::current_thread;
pub use status::WaitStatus;

use crate::mem::heap;

/// Registers this layer with `sync`, `mem` and `file`.
pub fn start() {
    scheduler::start();
    heap::register_claim(scheduler::claim);
    tasks::start();
    timer::start();
    oom::start();
}

/// A little-endian word within bytes; 0 past their end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&word| u64::from_le_bytes(word))
}
