//! Processes, time, and the machine.

use super::{Result, abi, c_string, call};
use alloc::vec::Vec;
use core::time::Duration;
use foundation::Errno;

/// The names that `uname` returns.
pub type Names = linux_raw_sys::system::new_utsname;

/// The figures that `sysinfo` returns.
pub type SystemInfo = linux_raw_sys::system::sysinfo;

/// The status of a child, as wait4(2) returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub i32);

impl WaitStatus {
    /// The exit status, if the child exited.
    pub fn exit_code(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some((self.0 >> 8) & 0xff)
    }

    /// The signal that ended the child, if one did.
    pub fn signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        (signal != 0 && signal != 0x7f).then_some(signal)
    }

    /// The signal that stopped the child, if one did.
    pub fn stopped(self) -> Option<i32> {
        (self.0 & 0xff == 0x7f).then_some((self.0 >> 8) & 0xff)
    }

    /// The status in a shell's `$?`.
    pub fn shell_status(self) -> i32 {
        self.exit_code().or(self.signal().map(|signal| 128 + signal)).unwrap_or(128)
    }
}

/// Ends the process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { call!(__NR_exit_group, status) };
    }
}

/// Forks: returns `None` in the child, the child's id in the parent.
pub fn fork() -> Result<Option<i32>> {
    // SAFETY: parent and child have separate memory. No other thread of the program can hold a
    // lock.
    let id = unsafe { call!(__NR_fork)? };
    Ok((id != 0).then_some(id as i32))
}

/// Replaces the program. Returns only on failure.
pub fn execve(path: &[u8], args: &[&[u8]], environment: &[&[u8]]) -> Errno {
    let run = || -> Result<()> {
        let path = c_string(path)?;
        let strings =
            |list: &[&[u8]]| list.iter().map(|item| c_string(item)).collect::<Result<Vec<_>>>();
        let (args, environment) = (strings(args)?, strings(environment)?);
        let vector = |list: &[alloc::ffi::CString]| -> Vec<*const core::ffi::c_char> {
            list.iter().map(|item| item.as_ptr()).chain([core::ptr::null()]).collect()
        };
        let (args, environment) = (vector(&args), vector(&environment));
        // SAFETY: two null-terminated vectors of strings, which outlive the call.
        unsafe { call!(__NR_execve, path.as_ptr(), args.as_ptr(), environment.as_ptr()).map(drop) }
    };
    run().err().unwrap_or(Errno::EINVAL)
}

/// Waits for a child; `id` as in waitpid. Returns `None` with `WNOHANG` if no child has changed.
pub fn wait(id: i32, options: u32) -> Result<Option<(i32, WaitStatus)>> {
    let mut status = 0i32;
    loop {
        // SAFETY: the kernel fills in the status.
        match unsafe { call!(__NR_wait4, id, &raw mut status, options, 0) } {
            Ok(0) => return Ok(None),
            Ok(child) => return Ok(Some((child as i32, WaitStatus(status)))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until one child has ended.
pub fn wait_for(id: i32) -> Result<WaitStatus> {
    wait(id, 0)?.map(|(_, status)| status).ok_or(Errno::ECHILD)
}

macro_rules! simple_calls {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:ident($($argument:ident: $type:ty),*) -> $result:ty;
    )*) => {
        $($(#[$doc])*
        pub fn $name($($argument: $type),*) -> Result<$result> {
            // SAFETY: touches no memory.
            unsafe { call!($number $(, $argument)*).map(|value| value as $result) }
        })*
    };
}

simple_calls! {
    /// Sends a signal.
    kill = __NR_kill(id: i32, signal: i32) -> i32;
    /// Moves a process into a process group; 0 is the calling process and its own group.
    setpgid = __NR_setpgid(id: i32, group: i32) -> i32;
    /// Starts a session without a controlling terminal.
    setsid = __NR_setsid() -> i32;
    /// Yields the processor.
    sched_yield = __NR_sched_yield() -> i32;
    /// Operations on the process itself.
    prctl = __NR_prctl(
        operation: u32,
        first: usize,
        second: usize,
        third: usize,
        fourth: usize
    ) -> usize;
    /// Sets the permission bits that new files do not get. Returns the old mask.
    umask = __NR_umask(mask: u32) -> u32;
    /// Restarts or powers off the machine.
    reboot = __NR_reboot(magic: u32, magic2: u32, command: u32) -> i32;
}

/// This process's id.
pub fn getpid() -> i32 {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_getpid).unwrap_or(0) as i32 }
}

/// The parent's id.
pub fn getppid() -> i32 {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_getppid).unwrap_or(0) as i32 }
}

/// The soft and the hard limit of a resource (`RLIMIT_*`).
pub fn limit(resource: u32) -> Result<[u64; 2]> {
    let mut limit = [0; 2];
    // SAFETY: the kernel fills in two numbers.
    unsafe { call!(__NR_getrlimit, resource, limit.as_mut_ptr())? };
    Ok(limit)
}

/// Sets the soft and the hard limit of a resource.
pub fn set_limit(resource: u32, limit: [u64; 2]) -> Result<()> {
    // SAFETY: the kernel reads two numbers.
    unsafe { call!(__NR_setrlimit, resource, limit.as_ptr()).map(drop) }
}

/// Powers the machine off. Returns only on failure.
pub fn power_off() -> Errno {
    let off =
        reboot(abi::LINUX_REBOOT_MAGIC1, abi::LINUX_REBOOT_MAGIC2, abi::LINUX_REBOOT_CMD_POWER_OFF);
    off.err().unwrap_or(Errno::EINVAL)
}

/// The system's name and version.
pub fn uname() -> Result<Names> {
    // SAFETY: plain numbers, for which zero is a value; the kernel fills them in.
    unsafe {
        let mut names: Names = core::mem::zeroed();
        call!(__NR_uname, &raw mut names)?;
        Ok(names)
    }
}

/// The kernel's newest log messages, one a line.
pub fn kernel_log() -> Result<Vec<u8>> {
    const READ_ALL: usize = 3;
    const SIZE_BUFFER: usize = 10;
    // SAFETY: touches no memory.
    let bytes = unsafe { call!(__NR_syslog, SIZE_BUFFER, 0usize, 0usize)? };
    let mut text = alloc::vec![0; bytes];
    // SAFETY: the kernel fills in the text.
    let count = unsafe { call!(__NR_syslog, READ_ALL, text.as_mut_ptr(), bytes)? };
    text.truncate(count);
    Ok(text)
}

/// Figures on memory and uptime.
pub fn sysinfo() -> Result<SystemInfo> {
    // SAFETY: plain numbers, for which zero is a value; the kernel fills them in. The flexible tail
    // has no length, but Linux's structure is padded to 112 bytes, and so is this one.
    unsafe {
        let mut info: SystemInfo = core::mem::zeroed();
        call!(__NR_sysinfo, &raw mut info)?;
        Ok(info)
    }
}

/// Reads a clock, `CLOCK_REALTIME` or `CLOCK_MONOTONIC`.
pub fn clock(id: u32) -> Result<Duration> {
    let mut time = abi::__kernel_timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the structure.
    unsafe { call!(__NR_clock_gettime, id, &raw mut time)? };
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Sleeps for `time`, or until a signal handler has run.
pub fn sleep(time: Duration) -> Result<()> {
    let time = abi::__kernel_timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // SAFETY: the kernel only reads the structure.
    unsafe { call!(__NR_nanosleep, &raw const time, 0).map(drop) }
}
