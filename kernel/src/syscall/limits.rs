//! Resource limits: getrlimit(2), setrlimit(2), prlimit64(2).

use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::mem::limits::{INFINITE, Limit, Limits};
use crate::task::{Current, Process, find_process, word};
use foundation::Errno;
use linux_raw_sys::general as linux;

/// Size of a `struct rlimit` in bytes.
const BYTES: usize = 16;

fn write(
    current: &Current,
    limits: &Limits,
    resource: u32,
    address: UserAddr,
) -> Result<(), Errno> {
    let Limit { soft, hard } = limits.load(resource)?;
    let mut bytes = [0; BYTES];
    let both = soft.to_le_bytes().into_iter().chain(hard.to_le_bytes());
    bytes.iter_mut().zip(both).for_each(|(to, from)| *to = from);
    current.write(address, &bytes)
}

fn read(current: &Current, address: UserAddr) -> Result<Limit, Errno> {
    let bytes: [u8; BYTES] = current.read(address)?;
    Ok(Limit { soft: word(&bytes, 0), hard: word(&bytes, 8) })
}

/// Sets a limit. That of CPU time takes effect at the next return to user mode.
fn set(process: &Process, resource: u32, limit: Limit) -> Result<u64, Errno> {
    process.account.limits.set(resource, limit)?;
    if resource == linux::RLIMIT_CPU {
        process.cpu_watch.activate();
        process.threads().for_each(|thread| thread.notice());
    }
    if resource == linux::RLIMIT_STACK
        && limit.soft != INFINITE
        && let Some(space) = process.space()
    {
        // The limit itself is set in any case.
        let _ = space.limit_stack(limit.soft);
    }
    Ok(0)
}

/// Implements getrlimit(2).
pub fn getrlimit(current: &Current, resource: u32, address: UserAddr) -> Result<u64, Errno> {
    write(current, &current.account().limits, resource, address).map(|()| 0)
}

/// Implements setrlimit(2).
pub fn setrlimit(current: &Current, resource: u32, address: UserAddr) -> Result<u64, Errno> {
    let process = current.process();
    process.account.limits.load(resource)?;
    set(process, resource, read(current, address)?)
}

/// Implements prlimit64(2).
pub fn prlimit64(
    current: &Current,
    pid: i32,
    resource: u32,
    new: UserAddr,
    old: UserAddr,
) -> Result<u64, Errno> {
    let process = match u32::try_from(pid).map_err(|_| Errno::ESRCH)? {
        0 => current.process().clone(),
        pid => find_process(pid).ok_or(Errno::ESRCH)?,
    };
    let limits = &process.account.limits;
    let before = limits.load(resource)?;
    let new = if new.is_null() { None } else { Some(read(current, new)?) };
    if !old.is_null() {
        write(current, limits, resource, old)?;
    }
    match new {
        Some(new) if new != before => set(&process, resource, new),
        _ => Ok(0),
    }
}
