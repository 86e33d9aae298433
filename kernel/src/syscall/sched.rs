//! Scheduling of threads: policies, priorities, affinity (sched(7)), and the barrier of
//! membarrier(2).

use super::arguments::{half, word};
use crate::mem::{PAGE_BYTES, UserAddr};
use crate::sync::NICENESS;
use crate::task::policy::{Policy, RESET_ON_FORK, Scheduling};
use crate::task::{Current, Thread, find_thread, scheduler};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno};
use linux_raw_sys::general as linux;

/// The thread of a number, 0 for the caller. EINVAL for a negative one, ESRCH if there is none.
fn thread(current: &Current, tid: i32) -> Result<Arc<Thread>, Errno> {
    match u32::try_from(tid).map_err(|_| Errno::EINVAL)? {
        0 => Ok((*current.thread).clone()),
        tid => find_thread(tid).ok_or(Errno::ESRCH),
    }
}

/// The priority in a `struct sched_param`.
fn priority(current: &Current, parameters: UserAddr) -> Result<u32, Errno> {
    if parameters.is_null() {
        return Err(Errno::EINVAL);
    }
    Ok(u32::from_le_bytes(current.read(parameters)?))
}

/// Implements sched_setscheduler(2).
pub fn sched_setscheduler(
    current: &Current,
    tid: i32,
    policy: i32,
    parameters: UserAddr,
) -> Result<u64, Errno> {
    let policy = u32::try_from(policy).map_err(|_| Errno::EINVAL)?;
    let priority = priority(current, parameters)?;
    let thread = thread(current, tid)?;
    thread.scheduling.set(Scheduling::decode(policy, priority)?);
    Ok(0)
}

/// Implements sched_getscheduler(2).
pub fn sched_getscheduler(current: &Current, tid: i32) -> Result<u64, Errno> {
    Ok(thread(current, tid)?.scheduling.get().number().into())
}

/// Implements sched_setparam(2).
pub fn sched_setparam(current: &Current, tid: i32, parameters: UserAddr) -> Result<u64, Errno> {
    let priority = priority(current, parameters)?;
    let thread = thread(current, tid)?;
    let number = thread.scheduling.get().number();
    thread.scheduling.set(Scheduling::decode(number, priority)?);
    Ok(0)
}

/// Implements sched_getparam(2).
pub fn sched_getparam(current: &Current, tid: i32, parameters: UserAddr) -> Result<u64, Errno> {
    if parameters.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority = thread(current, tid)?.scheduling.get().priority;
    current.write(parameters, &priority.to_le_bytes())?;
    Ok(0)
}

/// Implements sched_get_priority_max(2).
pub fn sched_get_priority_max(_: &Current, policy: u32) -> Result<u64, Errno> {
    Ok((*Policy::of(policy)?.priorities().end()).into())
}

/// Implements sched_get_priority_min(2).
pub fn sched_get_priority_min(_: &Current, policy: u32) -> Result<u64, Errno> {
    Ok((*Policy::of(policy)?.priorities().start()).into())
}

/// sched_rr_get_interval(2): how long a thread runs while others are ready; 0 for `SCHED_FIFO`.
pub fn sched_rr_get_interval(
    current: &Current,
    tid: i32,
    interval: UserAddr,
) -> Result<u64, Errno> {
    let is_fifo = thread(current, tid)?.scheduling.get().policy == Policy::Fifo;
    let ns = if is_fifo { 0 } else { scheduler::SLICE_NS };
    current.write(interval, &super::time::timespec(ns))?;
    Ok(0)
}

/// Size of the first version of a `struct sched_attr`, in bytes, and of the one that is known.
const FIRST_BYTES: usize = 48;
const KNOWN_BYTES: usize = 56;
/// `SCHED_FLAG_RESET_ON_FORK`.
const FLAG_RESET: u64 = 1;

/// sched_setattr(2): policy, niceness or priority. E2BIG, with the size that is known, for a longer
/// structure that is not 0 behind it.
pub fn sched_setattr(
    current: &Current,
    tid: i32,
    attributes: UserAddr,
    flags: u32,
) -> Result<u64, Errno> {
    if attributes.is_null() || tid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let bytes = read_attributes(current, attributes)?;
    let (policy, flags) = (half(&bytes, 4), word(&bytes, 8));
    let (niceness, priority) = (half(&bytes, 16).cast_signed(), half(&bytes, 20));
    if flags & !FLAG_RESET != 0 || policy & RESET_ON_FORK != 0 {
        return Err(Errno::EINVAL);
    }
    let thread = thread(current, tid)?;
    let reset = if flags & FLAG_RESET == 0 { 0 } else { RESET_ON_FORK };
    let scheduling = Scheduling::decode(policy | reset, priority)?;
    thread.scheduling.set(scheduling);
    if matches!(scheduling.policy, Policy::Other | Policy::Batch) {
        thread.share.set_niceness(niceness.clamp(*NICENESS.start(), *NICENESS.end()));
    }
    Ok(0)
}

fn read_attributes(current: &Current, at: UserAddr) -> Result<[u8; KNOWN_BYTES], Errno> {
    let size = match u32::from_le_bytes(current.read(at)?) as usize {
        0 => FIRST_BYTES,
        size => size,
    };
    let too_big = || {
        let _ = current.write(at, &(KNOWN_BYTES as u32).to_le_bytes());
        Err(Errno::E2BIG)
    };
    if !(FIRST_BYTES..=PAGE_BYTES).contains(&size) {
        return too_big();
    }
    let mut bytes = [0; KNOWN_BYTES];
    let present = bytes.get_mut(..size.min(KNOWN_BYTES)).unwrap_or_default();
    current.read_into(at, present)?;
    for behind in KNOWN_BYTES..size {
        let address = at.checked_add(ByteCount::of_len(behind)).ok_or(Errno::EFAULT)?;
        if current.read::<1>(address)? != [0] {
            return too_big();
        }
    }
    Ok(bytes)
}

/// Implements sched_getattr(2).
pub fn sched_getattr(
    current: &Current,
    tid: i32,
    attributes: UserAddr,
    size: u32,
    flags: u32,
) -> Result<u64, Errno> {
    let size = size as usize;
    let is_sound = (FIRST_BYTES..=PAGE_BYTES).contains(&size) && flags == 0;
    if attributes.is_null() || tid < 0 || !is_sound {
        return Err(Errno::EINVAL);
    }
    let thread = thread(current, tid)?;
    let scheduling = thread.scheduling.get();
    let length = size.min(KNOWN_BYTES);
    let mut bytes = [0; KNOWN_BYTES];
    let flags = if scheduling.resets_on_fork { FLAG_RESET as u32 } else { 0 };
    let niceness = match scheduling.policy {
        Policy::Other | Policy::Batch => thread.share.niceness().cast_unsigned(),
        _ => 0,
    };
    let halves = [length as u32, scheduling.policy as u32, flags, 0, niceness, scheduling.priority];
    for (chunk, half) in bytes.chunks_exact_mut(4).zip(halves) {
        chunk.copy_from_slice(&half.to_le_bytes());
    }
    // No utilisation is bounded: from 0 to all of it.
    if let Some(most) = bytes.get_mut(52..56) {
        most.copy_from_slice(&1024u32.to_le_bytes());
    }
    current.write(attributes, bytes.get(..length).unwrap_or_default())?;
    Ok(0)
}

/// getcpu(2): the first CPU of the first node, the only one.
pub fn getcpu(current: &Current, cpu: UserAddr, node: UserAddr) -> Result<u64, Errno> {
    for address in [cpu, node].into_iter().filter(|address| !address.is_null()) {
        current.write(address, &[0; 4])?;
    }
    Ok(0)
}

/// membarrier(2). There is one CPU, on which a thread that does not run has no access under way:
/// the barrier is there already.
pub fn membarrier(current: &Current, command: u32, flags: u32) -> Result<u64, Errno> {
    use linux::membarrier_cmd as command_of;
    const GLOBAL: u32 = command_of::MEMBARRIER_CMD_GLOBAL as u32;
    const GLOBAL_EXPEDITED: u32 = command_of::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32;
    const REGISTER_GLOBAL: u32 = command_of::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32;
    const PRIVATE: u32 = command_of::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32;
    const REGISTER_PRIVATE: u32 = command_of::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;
    const SYNC: u32 = command_of::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u32;
    const REGISTER_SYNC: u32 =
        command_of::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u32;
    const ALL: u32 = GLOBAL
        | GLOBAL_EXPEDITED
        | REGISTER_GLOBAL
        | PRIVATE
        | REGISTER_PRIVATE
        | SYNC
        | REGISTER_SYNC;
    let choices = &current.process().choices;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        0 => Ok(ALL.into()),
        GLOBAL | GLOBAL_EXPEDITED | REGISTER_GLOBAL => Ok(0),
        REGISTER_PRIVATE | REGISTER_SYNC => {
            choices.barriers.fetch_or(command, core::sync::atomic::Ordering::Relaxed);
            Ok(0)
        }
        PRIVATE | SYNC => {
            // The command that registers follows that of the barrier.
            let registered = choices.barriers.load(core::sync::atomic::Ordering::Relaxed);
            if registered & command << 1 == 0 { Err(Errno::EPERM) } else { Ok(0) }
        }
        _ => Err(Errno::EINVAL),
    }
}
