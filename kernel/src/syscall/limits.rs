//! Resource limits: getrlimit(2), setrlimit(2), prlimit64(2).

use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::mem::limits::{Limit, Limits};
use crate::task::{Current, find_process, word};
use foundation::Errno;

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

/// Implements getrlimit(2).
pub fn getrlimit(current: &Current, resource: u32, address: UserAddr) -> Result<u64, Errno> {
    write(current, &current.account().limits, resource, address).map(|()| 0)
}

/// Implements setrlimit(2).
pub fn setrlimit(current: &Current, resource: u32, address: UserAddr) -> Result<u64, Errno> {
    let limits = &current.account().limits;
    limits.load(resource)?;
    limits.set(resource, read(current, address)?).map(|()| 0)
}

/// Implements prlimit64(2).
pub fn prlimit64(
    current: &Current,
    pid: i32,
    resource: u32,
    new: UserAddr,
    old: UserAddr,
) -> Result<u64, Errno> {
    let account = match u32::try_from(pid).map_err(|_| Errno::ESRCH)? {
        0 => current.account().clone(),
        pid => find_process(pid).ok_or(Errno::ESRCH)?.account.clone(),
    };
    let before = account.limits.load(resource)?;
    let new = if new.is_null() { None } else { Some(read(current, new)?) };
    if !old.is_null() {
        write(current, &account.limits, resource, old)?;
    }
    match new {
        Some(new) if new != before => account.limits.set(resource, new).map(|()| 0),
        _ => Ok(0),
    }
}
