//! Waiting for many descriptors: poll and select.

use super::arguments::{half, limit, load, open_file, store, word};
use crate::file::{Caller, Fd, MAX_DESCRIPTORS, OpenFile, Ready, Status, wait_for_any};
use crate::mem::{UserAddr, fallible};
use crate::task::Current;
use crate::task::timer::Timeout;
use alloc::vec::Vec;
use foundation::Errno;

/// How long to wait.
pub(super) enum WaitLimit {
    /// Return at once.
    NoWait,
    Until(Timeout),
    Forever,
}

impl WaitLimit {
    /// From a duration in nanoseconds, or without limit.
    pub(super) fn for_ns(duration_ns: Option<u64>) -> Self {
        match duration_ns {
            None => Self::Forever,
            Some(0) => Self::NoWait,
            Some(duration_ns) => {
                Self::Until(Timeout::at(crate::arch::clock::now_ns().saturating_add(duration_ns)))
            }
        }
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::NoWait => true,
            Self::Until(timeout) => timeout.is_over(),
            Self::Forever => false,
        }
    }

    /// Waits until `count` is not 0, or until the time is over, which gives 0.
    fn wait(&self, mut count: impl FnMut() -> u64) -> Result<u64, Errno> {
        let look = || match count() {
            0 => self.is_over().then_some(0),
            found => Some(found),
        };
        Ok(wait_for_any(look)?)
    }
}

/// Size of a `struct pollfd`, in bytes: descriptor, requested events, returned events.
const POLL_BYTES: usize = 8;
/// `POLLNVAL`: no such descriptor.
const INVALID: u16 = 0x20;

/// The returned events: the requested ones that are present, and those that are always reported.
fn events(file: &OpenFile, wanted: u16) -> u16 {
    if file.status().contains(Status::PATH) {
        return INVALID;
    }
    file.object().poll().events() as u16 & (wanted | Ready::UNASKED.bits())
}

/// Implements poll(2).
pub fn poll(
    current: &dyn Caller,
    descriptors: UserAddr,
    count: u64,
    timeout_ms: i32,
) -> Result<u64, Errno> {
    let duration_ns = u64::try_from(timeout_ms).ok().map(|timeout_ms| timeout_ms * 1_000_000);
    poll_for(current, descriptors, count, duration_ns)
}

/// Implements ppoll(2).
pub fn ppoll(
    current: &Current,
    descriptors: UserAddr,
    count: u64,
    timeout: UserAddr,
    mask: UserAddr,
    mask_bytes: u64,
) -> Result<u64, Errno> {
    let duration_ns = duration(current, timeout, NS_PER_NS)?;
    with_mask(current, mask, mask_bytes, || poll_for(current, descriptors, count, duration_ns))
}

fn poll_for(
    current: &dyn Caller,
    address: UserAddr,
    count: u64,
    duration_ns: Option<u64>,
) -> Result<u64, Errno> {
    if count > limit(current) as u64 {
        return Err(Errno::EINVAL);
    }
    let mut polled = fallible::filled(0, count as usize * POLL_BYTES)?;
    load(current, address, &mut polled)?;
    // The open files are looked up once. Later changes of the descriptors have no effect.
    let entries = polled.chunks_exact(POLL_BYTES);
    let files = entries.map(|entry| open_file(current, Fd(half(entry, 0) as i32)).ok());
    let files = fallible::collect(files)?;
    let found = WaitLimit::for_ns(duration_ns).wait(|| {
        let entries = polled.chunks_exact_mut(POLL_BYTES).zip(&files);
        entries.map(|(entry, file)| u64::from(look(entry, file.as_deref()))).sum()
    })?;
    store(current, address, &polled)?;
    Ok(found)
}

/// Fills in the returned events of an entry. Returns whether there are any.
fn look(entry: &mut [u8], file: Option<&OpenFile>) -> bool {
    let negative = (half(entry, 0) as i32) < 0;
    let wanted = half(entry, 4) as u16;
    let found = match file {
        _ if negative => 0,
        None => INVALID,
        Some(file) => events(file, wanted),
    };
    entry.iter_mut().skip(6).zip(found.to_le_bytes()).for_each(|(to, from)| *to = from);
    found != 0
}

const NS_PER_NS: u64 = 1;
const NS_PER_US: u64 = 1000;

/// The duration of a `struct timespec` or `struct timeval`, in nanoseconds; `unit_ns` is the unit
/// of the second field. `None`, without limit, for a null pointer.
pub(super) fn duration(
    current: &dyn Caller,
    address: UserAddr,
    unit_ns: u64,
) -> Result<Option<u64>, Errno> {
    if address.is_null() {
        return Ok(None);
    }
    let mut bytes = [0; 16];
    load(current, address, &mut bytes)?;
    let (seconds, rest) = (i64::from_le_bytes(word(&bytes, 0).to_le_bytes()), word(&bytes, 8));
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    if rest >= 1_000_000_000 / unit_ns {
        return Err(Errno::EINVAL);
    }
    Ok(Some(seconds.saturating_mul(1_000_000_000).saturating_add(rest * unit_ns)))
}

/// Runs a call with another signal mask, if there is one.
pub(super) fn with_mask(
    current: &Current,
    mask: UserAddr,
    mask_bytes: u64,
    call: impl FnOnce() -> Result<u64, Errno>,
) -> Result<u64, Errno> {
    if mask.is_null() {
        return call();
    }
    super::signal::with_mask(current, mask, mask_bytes, call)
}

/// Implements select(2).
pub fn select(
    current: &dyn Caller,
    count: i32,
    read: UserAddr,
    write: UserAddr,
    except: UserAddr,
    timeout: UserAddr,
) -> Result<u64, Errno> {
    let duration_ns = duration(current, timeout, NS_PER_US)?;
    select_for(current, count, [read, write, except], duration_ns)
}

/// pselect6(2). The sixth argument points to a pair: the address of a signal mask and its size.
pub fn pselect6(
    current: &Current,
    count: i32,
    read: UserAddr,
    write: UserAddr,
    except: UserAddr,
    timeout: UserAddr,
    mask: UserAddr,
) -> Result<u64, Errno> {
    let duration_ns = duration(current, timeout, NS_PER_NS)?;
    let mut pair = [0; 16];
    if !mask.is_null() {
        load(current, mask, &mut pair)?;
    }
    with_mask(current, UserAddr(word(&pair, 0)), word(&pair, 8), || {
        select_for(current, count, [read, write, except], duration_ns)
    })
}

/// Size of a descriptor set that select looks at, in bytes, at most.
const SET_BYTES: usize = MAX_DESCRIPTORS / 8;

/// The events that count for each of the three sets: a hang-up counts as readable, an error as
/// readable and writable.
const ASKED: [Ready; 3] = [
    Ready::READ.union(Ready::HANG_UP).union(Ready::ERROR),
    Ready::WRITE.union(Ready::ERROR),
    Ready::empty(),
];

fn select_for(
    current: &dyn Caller,
    count: i32,
    addresses: [UserAddr; 3],
    duration_ns: Option<u64>,
) -> Result<u64, Errno> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(MAX_DESCRIPTORS);
    // Sets are arrays of 64-bit words.
    let bytes = count.div_ceil(64) * 8;
    let mut asked = [[0u8; SET_BYTES]; 3];
    for (set, &address) in
        asked.iter_mut().zip(&addresses).filter(|(_, address)| !address.is_null())
    {
        load(current, address, set.get_mut(..bytes).unwrap_or_default())?;
    }
    let has = |set: &[u8; SET_BYTES], fd: usize| {
        set.get(fd / 8).is_some_and(|byte| byte & 1 << (fd % 8) != 0)
    };
    let mut files = Vec::new();
    for fd in (0..count).filter(|&fd| asked.iter().any(|set| has(set, fd))) {
        fallible::push(&mut files, (fd, open_file(current, Fd(fd as i32))?))?;
    }
    let mut found = [[0u8; SET_BYTES]; 3];
    let total = WaitLimit::for_ns(duration_ns).wait(|| {
        found = [[0; SET_BYTES]; 3];
        let mut total = 0;
        for (fd, file) in &files {
            let ready = file.object().poll();
            for ((set, found), counts) in asked.iter().zip(&mut found).zip(ASKED) {
                if has(set, *fd) && ready.intersects(counts) {
                    found.iter_mut().skip(fd / 8).take(1).for_each(|byte| *byte |= 1 << (fd % 8));
                    total += 1;
                }
            }
        }
        total
    })?;
    for (set, &address) in found.iter().zip(&addresses).filter(|(_, address)| !address.is_null()) {
        store(current, address, set.get(..bytes).unwrap_or_default())?;
    }
    Ok(total)
}
