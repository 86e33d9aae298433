//! The system call futex(2).

use super::time::{monotonic, read_time};
use crate::arch::clock;
use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::task::{Current, find_thread, futex as futexes, robust};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// futex(2): waits for a word of memory to change, and wakes waiters.
pub fn futex(
    current: &Current,
    address: UserAddr,
    operation: u32,
    value: u32,
    timeout: u64,
    second: UserAddr,
    value3: u32,
) -> Result<u64, Errno> {
    const WAIT: u32 = 0;
    const WAKE: u32 = 1;
    const REQUEUE: u32 = 3;
    const COMPARE_REQUEUE: u32 = 4;
    const WAIT_BITSET: u32 = 9;
    const WAKE_BITSET: u32 = 10;
    const PRIVATE: u32 = 128;
    const REALTIME: u32 = 256;
    let space = current.space();
    match operation & !(PRIVATE | REALTIME) {
        WAIT => {
            let deadline = if timeout == 0 {
                None
            } else {
                Some(clock::now_ns().saturating_add(read_time(current, UserAddr(timeout))?))
            };
            futexes::wait(space, address, value, u32::MAX, deadline).map(|()| 0)
        }
        WAIT_BITSET => {
            let absolute =
                if timeout == 0 { None } else { Some(read_time(current, UserAddr(timeout))?) };
            let deadline =
                absolute.map(|time| if operation & REALTIME == 0 { time } else { monotonic(time) });
            futexes::wait(space, address, value, value3, deadline).map(|()| 0)
        }
        WAKE => Ok(futexes::wake(space, address, value, u32::MAX).into()),
        WAKE_BITSET if value3 != 0 => Ok(futexes::wake(space, address, value, value3).into()),
        // The fourth argument is a count here, not an address.
        REQUEUE => Ok(futexes::requeue(space, address, second, value, timeout as u32)?.into()),
        COMPARE_REQUEUE => {
            if u32::from_le_bytes(current.read(address)?) != value3 {
                return Err(Errno::EAGAIN);
            }
            Ok(futexes::requeue(space, address, second, value, timeout as u32)?.into())
        }
        WAKE_BITSET => Err(Errno::EINVAL),
        _ => Err(Errno::ENOSYS),
    }
}

/// set_robust_list(2): what the C library's list of robust futexes is for the running thread.
pub fn set_robust_list(current: &Current, head: UserAddr, bytes: u64) -> Result<u64, Errno> {
    if bytes != robust::HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    current.thread.robust_list.store(head.0, Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2): the list of a thread, 0 for the running one.
pub fn get_robust_list(
    current: &Current,
    tid: u32,
    head: UserAddr,
    bytes: UserAddr,
) -> Result<u64, Errno> {
    let thread = match tid {
        0 => Arc::clone(&current.thread),
        tid => find_thread(tid).ok_or(Errno::ESRCH)?,
    };
    current.write(head, &thread.robust_list.load(Ordering::Relaxed).to_le_bytes())?;
    current.write(bytes, &robust::HEAD_BYTES.to_le_bytes())?;
    Ok(0)
}
