//! Niceness: getpriority(2), setpriority(2).

use crate::file::IoCaller;
use crate::sync::NICENESS;
use crate::task::{Current, Thread, all_processes, family, find_thread};
use alloc::sync::Arc;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// Calls `visit` with each thread that `which` and `who` name; 0 is the caller's own. EINVAL for an
/// unknown kind, ESRCH where there is none. All users are root.
fn for_each(
    current: &Current,
    which: u32,
    who: i32,
    mut visit: impl FnMut(&Thread),
) -> Result<(), Errno> {
    let mut found = false;
    let mut visit = |thread: Arc<Thread>| {
        found = true;
        visit(&thread);
    };
    match (which, who) {
        (linux::PRIO_PROCESS, 0) => visit((*current.thread).clone()),
        (linux::PRIO_PROCESS, _) => find_thread(who.unsigned_abs()).into_iter().for_each(visit),
        (linux::PRIO_PGRP, _) => {
            let group = if who == 0 { current.pgid() } else { who.unsigned_abs() };
            family::group(group).for_each(|process| process.threads().for_each(&mut visit));
        }
        (linux::PRIO_USER, 0) => {
            all_processes().for_each(|process| process.threads().for_each(&mut visit));
        }
        (linux::PRIO_USER, _) => {}
        _ => return Err(Errno::EINVAL),
    }
    if found { Ok(()) } else { Err(Errno::ESRCH) }
}

/// getpriority(2): 20 minus the least niceness.
pub fn getpriority(current: &Current, which: u32, who: i32) -> Result<u64, Errno> {
    let mut least = *NICENESS.end();
    for_each(current, which, who, |thread| least = least.min(thread.share.niceness()))?;
    Ok((20 - least).unsigned_abs().into())
}

/// setpriority(2). `RLIMIT_NICE` does not apply to root, as on Linux.
pub fn setpriority(current: &Current, which: u32, who: i32, niceness: i32) -> Result<u64, Errno> {
    for_each(current, which, who, |thread| thread.share.set_niceness(niceness))?;
    Ok(0)
}
