//! epoll and eventfd.

use super::arguments::{half, install, load, only, open_file, word};
use super::poll::{WaitLimit, duration, with_mask};
use crate::file::epoll::{Epoll, Interest};
use crate::file::eventfd::{EventCounter, Takes};
use crate::file::{Caller, Fd, FileObject, OnExec, OpenFile, Status, downcast};
use crate::mem::{UserAddr, UserSlice};
use crate::task::Current;
use alloc::sync::Arc;
use foundation::{ByteCount, Errno};
use linux_raw_sys::general as linux;

/// Size of a `struct epoll_event` in bytes, which is packed: events, data.
const EVENT_BYTES: usize = 12;
/// More events would not fit into memory whose size is an `int`.
const MAX_EVENTS: i32 = i32::MAX / EVENT_BYTES as i32;

/// `EFD_SEMAPHORE`, `EFD_CLOEXEC` and `EFD_NONBLOCK`: the last two are those of open(2).
const SEMAPHORE: u32 = 1;

/// Installs an object without a name that is open for reading and writing.
pub(super) fn install_nameless(
    current: &dyn Caller,
    object: Arc<dyn FileObject>,
    flags: u32,
) -> Result<u64, Errno> {
    let mut status = Status::READ | Status::WRITE;
    status.set(Status::NONBLOCKING, flags & linux::O_NONBLOCK != 0);
    let file = OpenFile::nameless(object, status, current.account())?;
    install(current, file, OnExec::close_if(flags & linux::O_CLOEXEC != 0))
}

/// epoll_create(2). The size is a hint of old, which has to be positive.
pub fn epoll_create(current: &dyn Caller, size: i32) -> Result<u64, Errno> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    epoll_create1(current, 0)
}

/// Implements epoll_create1(2).
pub fn epoll_create1(current: &dyn Caller, flags: u32) -> Result<u64, Errno> {
    only(flags, linux::EPOLL_CLOEXEC)?;
    install_nameless(current, Epoll::new(), flags)
}

/// The epoll of an open file; EINVAL for others.
fn epoll_of(file: &OpenFile) -> Result<Arc<Epoll>, Errno> {
    downcast(file.object()).ok_or(Errno::EINVAL)
}

/// Implements epoll_ctl(2).
pub fn epoll_ctl(
    current: &dyn Caller,
    epoll: Fd,
    operation: u32,
    fd: Fd,
    event: UserAddr,
) -> Result<u64, Errno> {
    let mut bytes = [0; EVENT_BYTES];
    if operation != linux::EPOLL_CTL_DEL {
        load(current, event, &mut bytes)?;
    }
    let interest = Interest { events: half(&bytes, 0), data: word(&bytes, 4) };
    let (own, file) = (open_file(current, epoll)?, open_file(current, fd)?);
    own.require_not_path()?;
    file.require_not_path()?;
    let mut can_wait = false;
    file.object().notifiers(&mut |_, _| can_wait = true);
    if !can_wait {
        return Err(Errno::EPERM);
    }
    let epoll = epoll_of(&own)?;
    if Arc::ptr_eq(&own, &file) {
        return Err(Errno::EINVAL);
    }
    match operation {
        linux::EPOLL_CTL_ADD => epoll.add(fd, &file, interest, current.account())?,
        linux::EPOLL_CTL_MOD => epoll.modify(fd, &file, interest)?,
        linux::EPOLL_CTL_DEL => epoll.remove(fd, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Implements epoll_wait(2).
pub fn epoll_wait(
    current: &dyn Caller,
    epoll: Fd,
    events: UserAddr,
    max: i32,
    timeout_ms: i32,
) -> Result<u64, Errno> {
    wait(current, epoll, (events, max), milliseconds(timeout_ms))
}

/// Implements epoll_pwait(2).
pub fn epoll_pwait(
    current: &Current,
    epoll: Fd,
    events: UserAddr,
    max: i32,
    timeout_ms: i32,
    mask: UserAddr,
    mask_bytes: u64,
) -> Result<u64, Errno> {
    let duration_ns = milliseconds(timeout_ms);
    with_mask(current, mask, mask_bytes, || wait(current, epoll, (events, max), duration_ns))
}

/// Implements epoll_pwait2(2).
pub fn epoll_pwait2(
    current: &Current,
    epoll: Fd,
    events: UserAddr,
    max: i32,
    timeout: UserAddr,
    mask: UserAddr,
    mask_bytes: u64,
) -> Result<u64, Errno> {
    let duration_ns = duration(current, timeout, 1)?;
    with_mask(current, mask, mask_bytes, || wait(current, epoll, (events, max), duration_ns))
}

/// A time of epoll and poll in nanoseconds; `None`, without limit, for a negative one.
fn milliseconds(timeout_ms: i32) -> Option<u64> {
    u64::try_from(timeout_ms).ok().map(|timeout_ms| timeout_ms * 1_000_000)
}

fn wait(
    current: &dyn Caller,
    epoll: Fd,
    (events, max): (UserAddr, i32),
    duration_ns: Option<u64>,
) -> Result<u64, Errno> {
    if max <= 0 || max > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    let events = UserSlice::new(events, ByteCount(max as u64 * EVENT_BYTES as u64))?;
    let own = open_file(current, epoll)?;
    let epoll = epoll_of(&own)?;
    let sink = |index: usize, events_found: u32, data: u64| {
        let mut bytes = [0; EVENT_BYTES];
        let (first, rest) = bytes.split_at_mut(size_of::<u32>());
        first.copy_from_slice(&events_found.to_le_bytes());
        rest.copy_from_slice(&data.to_le_bytes());
        let place = events.skip(index * EVENT_BYTES).take(EVENT_BYTES);
        Ok(current.space().copy_out_all(place, &bytes)?)
    };
    let limit = WaitLimit::for_ns(duration_ns);
    let look = || match epoll.take(max as usize, sink) {
        Ok(0) => limit.is_over().then_some(Ok(0)),
        found => Some(found.map(|count| count as u64)),
    };
    epoll.wait(look)?
}

/// Implements eventfd(2).
pub fn eventfd(current: &dyn Caller, count: u32) -> Result<u64, Errno> {
    eventfd2(current, count, 0)
}

/// eventfd2(2), with flags.
pub fn eventfd2(current: &dyn Caller, count: u32, flags: u32) -> Result<u64, Errno> {
    only(flags, SEMAPHORE | linux::O_CLOEXEC | linux::O_NONBLOCK)?;
    let takes = if flags & SEMAPHORE != 0 { Takes::One } else { Takes::All };
    install_nameless(current, EventCounter::new(count, takes), flags)
}
