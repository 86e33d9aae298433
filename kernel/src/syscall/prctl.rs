//! prctl(2) and personality(2): what a process chooses about itself, and the mark of servers (F8).

use super::mark;
use crate::mem::{UserAddr, failure};
use crate::task::signal::MAX_SIGNAL;
use crate::task::{Current, choices};
use core::sync::atomic::{AtomicBool, Ordering};
use foundation::{Errno, FAIL_CLAIM};
use linux_raw_sys::prctl as linux;

/// The arguments behind the option.
type Arguments = [u64; 4];

/// prctl(2). EINVAL for an option that does not exist here.
pub fn prctl(
    current: &Current,
    option: i32,
    second: u64,
    third: u64,
    fourth: u64,
    fifth: u64,
) -> Result<u64, Errno> {
    let arguments = [second, third, fourth, fifth];
    let process = current.process();
    match option.cast_unsigned() {
        linux::PR_SET_NAME => set_name(current, UserAddr(second)),
        linux::PR_GET_NAME => get_name(current, UserAddr(second)),
        linux::PR_SET_IO_FLUSHER if second == 1 => mark::set(current, third, fourth),
        // The mark of a server cannot be removed (F8).
        linux::PR_SET_IO_FLUSHER if second == 0 && !process.is_server() => Ok(0),
        linux::PR_SET_IO_FLUSHER if second == 0 => Err(Errno::EPERM),
        linux::PR_GET_IO_FLUSHER => Ok(process.is_server().into()),
        // In kernels for tests only. The result is small: a call makes few claims.
        _ if option == FAIL_CLAIM => {
            failure::arm(second as usize).map(|claims| claims as u64).ok_or(Errno::EINVAL)
        }
        option => choose(current, option, arguments),
    }
}

/// The options that set or read a choice of the process.
fn choose(current: &Current, option: u32, arguments: Arguments) -> Result<u64, Errno> {
    let choices = &current.process().choices;
    let [second, ..] = arguments;
    let write = |value: u32| current.write(UserAddr(second), &value.to_le_bytes()).map(|()| 0);
    match option {
        linux::PR_SET_DUMPABLE if second <= 1 => {
            choices.dumpable.store(second as u8, Ordering::Relaxed);
            Ok(0)
        }
        linux::PR_GET_DUMPABLE => Ok(choices.dumpable.load(Ordering::Relaxed).into()),
        linux::PR_SET_PDEATHSIG if second <= MAX_SIGNAL.0.into() => {
            choices.parent_death.store(second as u8, Ordering::Relaxed);
            Ok(0)
        }
        linux::PR_GET_PDEATHSIG => write(choices.parent_death.load(Ordering::Relaxed).into()),
        linux::PR_SET_KEEPCAPS if second <= 1 => set(&choices.keeps_capabilities, second),
        linux::PR_GET_KEEPCAPS => get(&choices.keeps_capabilities),
        linux::PR_SET_NO_NEW_PRIVS if arguments == [1, 0, 0, 0] => {
            set(&choices.no_new_privileges, 1)
        }
        linux::PR_GET_NO_NEW_PRIVS if arguments == [0; 4] => get(&choices.no_new_privileges),
        linux::PR_SET_CHILD_SUBREAPER => set(&choices.is_subreaper, second),
        linux::PR_GET_CHILD_SUBREAPER => write(choices.is_subreaper.load(Ordering::Relaxed).into()),
        linux::PR_SET_THP_DISABLE if no_more(arguments) => set(&choices.without_huge_pages, second),
        linux::PR_GET_THP_DISABLE if arguments == [0; 4] => get(&choices.without_huge_pages),
        linux::PR_SET_TIMERSLACK => {
            let slack_ns = if second.cast_signed() <= 0 { choices::USUAL_SLACK_NS } else { second };
            choices.timer_slack_ns.store(slack_ns, Ordering::Relaxed);
            Ok(0)
        }
        linux::PR_GET_TIMERSLACK => Ok(choices.timer_slack_ns.load(Ordering::Relaxed)),
        linux::PR_MCE_KILL => set_broken_memory(current, arguments),
        linux::PR_MCE_KILL_GET if arguments == [0; 4] => {
            Ok(choices.broken_memory.load(Ordering::Relaxed).into())
        }
        _ => fixed(option, arguments, write),
    }
}

/// The options about what is the same for all processes.
fn fixed(
    option: u32,
    arguments: Arguments,
    write: impl Fn(u32) -> Result<u64, Errno>,
) -> Result<u64, Errno> {
    /// `CAP_LAST_CAP`.
    const LAST_CAPABILITY: u64 = 40;
    let [second, third, ..] = arguments;
    match option {
        // The time-stamp counter can be read.
        linux::PR_GET_TSC => write(linux::PR_TSC_ENABLE),
        linux::PR_SET_TSC if second == linux::PR_TSC_ENABLE.into() => Ok(0),
        linux::PR_GET_TIMING => Ok(linux::PR_TIMING_STATISTICAL.into()),
        linux::PR_SET_TIMING if second == linux::PR_TIMING_STATISTICAL.into() => Ok(0),
        linux::PR_GET_SECCOMP => Ok(0),
        linux::PR_GET_SECUREBITS => Ok(0),
        linux::PR_SET_SECUREBITS if second == 0 => Ok(0),
        linux::PR_SET_SECUREBITS => Err(Errno::EPERM),
        // All processes have all capabilities.
        linux::PR_CAPBSET_READ if second <= LAST_CAPABILITY => Ok(1),
        linux::PR_CAPBSET_DROP if second <= LAST_CAPABILITY => Err(Errno::EPERM),
        linux::PR_CAP_AMBIENT => ambient(second, third, LAST_CAPABILITY),
        _ => Err(Errno::EINVAL),
    }
}

/// There are no ambient capabilities.
fn ambient(operation: u64, capability: u64, last: u64) -> Result<u64, Errno> {
    match u32::try_from(operation).map_err(|_| Errno::EINVAL)? {
        linux::PR_CAP_AMBIENT_CLEAR_ALL if capability == 0 => Ok(0),
        linux::PR_CAP_AMBIENT_IS_SET | linux::PR_CAP_AMBIENT_LOWER if capability <= last => Ok(0),
        linux::PR_CAP_AMBIENT_RAISE if capability <= last => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn no_more(arguments: Arguments) -> bool {
    matches!(arguments, [_, 0, 0, 0])
}

fn set(choice: &AtomicBool, value: u64) -> Result<u64, Errno> {
    choice.store(value != 0, Ordering::Relaxed);
    Ok(0)
}

fn get(choice: &AtomicBool) -> Result<u64, Errno> {
    Ok(choice.load(Ordering::Relaxed).into())
}

fn set_broken_memory(
    current: &Current,
    [what, policy, rest @ ..]: Arguments,
) -> Result<u64, Errno> {
    let policies = u64::from(linux::PR_MCE_KILL_LATE)..=linux::PR_MCE_KILL_DEFAULT.into();
    let policy = match u32::try_from(what).map_err(|_| Errno::EINVAL)? {
        linux::PR_MCE_KILL_CLEAR if policy == 0 && rest == [0, 0] => {
            linux::PR_MCE_KILL_DEFAULT.into()
        }
        linux::PR_MCE_KILL_SET if policies.contains(&policy) && rest == [0, 0] => policy,
        _ => return Err(Errno::EINVAL),
    };
    current.process().choices.broken_memory.store(policy as u8, Ordering::Relaxed);
    Ok(0)
}

/// Bytes of a name, with the null byte.
const NAME_BYTES: usize = 16;

fn set_name(current: &Current, address: UserAddr) -> Result<u64, Errno> {
    use crate::file::IoCaller;
    let mut name = current.space().read_string(address, NAME_BYTES)?.unwrap_or_default();
    if name.is_empty() {
        // A longer name is truncated.
        name = current
            .read::<NAME_BYTES>(address)?
            .iter()
            .copied()
            .take_while(|&byte| byte != 0)
            .collect();
    }
    name.truncate(NAME_BYTES - 1);
    current.process().identity.lock().name = name;
    Ok(0)
}

fn get_name(current: &Current, address: UserAddr) -> Result<u64, Errno> {
    let mut bytes = [0; NAME_BYTES];
    for (to, from) in bytes.iter_mut().zip(current.process().identity.lock().name.iter()) {
        *to = *from;
    }
    current.write(address, &bytes)?;
    Ok(0)
}

/// personality(2): the value is kept, and changes nothing. Returns the old one.
pub fn personality(current: &Current, persona: u32) -> Result<u64, Errno> {
    let kept = &current.process().choices.personality;
    let before = match persona {
        u32::MAX => kept.load(Ordering::Relaxed),
        persona => kept.swap(persona, Ordering::Relaxed),
    };
    Ok(before.into())
}
