//! Signals: sending, blocking, catching and waiting.

use super::time::read_time;
use crate::arch::clock;
use crate::file::IoCaller;
use crate::mem::UserAddr;
use crate::sync::{Interrupt, WaitQueue, relax};
use crate::task::signal::{
    Action, FIRST_REALTIME, MAX_SIGNAL, SIGCHLD, SIGSEGV, Signal, SignalInfo, SignalSet,
};
use crate::task::thread::AlternateStack;
use crate::task::timer::Timeout;
use crate::task::{Current, all_processes, family, find_thread, frame, oom, posix_timer, send};
use foundation::Errno;

/// Size of a signal set, in bytes. Every call passes the size of its sets.
const SET_BYTES: u64 = 8;

pub(super) fn check_set(bytes: u64) -> Result<(), Errno> {
    if bytes == SET_BYTES { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Checks a signal number, which may be 0.
pub(super) fn number(signal: i32) -> Result<Signal, Errno> {
    let signal = u8::try_from(signal).ok().map(Signal);
    signal.filter(|&signal| signal <= MAX_SIGNAL).ok_or(Errno::EINVAL)
}

pub(super) fn read_set(current: &Current, address: UserAddr) -> Result<SignalSet, Errno> {
    Ok(SignalSet(u64::from_le_bytes(current.read(address)?)).without(SignalSet::UNBLOCKABLE))
}

/// Implements rt_sigaction(2).
pub fn rt_sigaction(
    current: &Current,
    signal: i32,
    new: UserAddr,
    old: UserAddr,
    set_bytes: u64,
) -> Result<u64, Errno> {
    check_set(set_bytes)?;
    let signal = number(signal)?;
    if signal == Signal::NONE || (!new.is_null() && SignalSet::UNBLOCKABLE.contains(signal)) {
        return Err(Errno::EINVAL);
    }
    let process = current.process();
    let wanted = if new.is_null() { None } else { Some(Action::from_bytes(&current.read(new)?)) };
    let before = process.with_actions(|actions| actions.get(signal));
    if !old.is_null() {
        current.write(old, &before.to_bytes())?;
    }
    if let Some(action) = wanted {
        process.with_actions(|actions| actions.set(signal, action));
        if signal == SIGCHLD || action.handler == Action::IGNORE {
            // A signal that becomes ignored is no longer pending.
            let ignored = process.ignored();
            if ignored.contains(signal) {
                let set = SignalSet::of(signal);
                process.pending.lock().remove(set);
                for thread in process.threads() {
                    thread.signals.lock().pending.remove(set);
                }
                posix_timer::schedule_again(process);
            }
        }
    }
    Ok(0)
}

/// Implements rt_sigprocmask(2).
pub fn rt_sigprocmask(
    current: &Current,
    how: u32,
    new: UserAddr,
    old: UserAddr,
    set_bytes: u64,
) -> Result<u64, Errno> {
    check_set(set_bytes)?;
    let wanted = if new.is_null() { None } else { Some(read_set(current, new)?) };
    let before = current.thread.signals.lock().blocked;
    let after = match (wanted, how) {
        (None, _) => before,
        (Some(set), 0) => before.union(set),
        (Some(set), 1) => before.without(set),
        (Some(set), 2) => set,
        _ => return Err(Errno::EINVAL),
    };
    if !old.is_null() {
        current.write(old, &before.0.to_le_bytes())?;
    }
    current.thread.signals.lock().blocked = after;
    send::recheck(&current.thread);
    Ok(0)
}

/// rt_sigreturn(2): returns from a handler. The result is the interrupted code's rax.
pub fn rt_sigreturn(current: &Current) -> Result<u64, Errno> {
    match oom::insist(|| frame::pop(&current.thread)) {
        Ok(rax) => Ok(rax),
        Err(_) => {
            send::force(&current.thread, SignalInfo::kernel(SIGSEGV));
            Ok(0)
        }
    }
}

/// Implements rt_sigpending(2).
pub fn rt_sigpending(current: &Current, set: UserAddr, set_bytes: u64) -> Result<u64, Errno> {
    if set_bytes > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let own = current.thread.signals.lock().pending.set();
    let pending = own.union(current.process().pending.lock().set());
    let blocked = current.thread.signals.lock().blocked;
    current.write(set, &(pending.0 & blocked.0).to_le_bytes())?;
    Ok(0)
}

/// Implements rt_sigsuspend(2).
pub fn rt_sigsuspend(current: &Current, mask: UserAddr, set_bytes: u64) -> Result<u64, Errno> {
    with_mask(current, mask, set_bytes, || pause(current))
}

/// rt_sigtimedwait(2): takes a pending signal of a set, or waits for one; EAGAIN when the time is
/// over.
pub fn rt_sigtimedwait(
    current: &Current,
    set: UserAddr,
    info: UserAddr,
    timeout: UserAddr,
    set_bytes: u64,
) -> Result<u64, Errno> {
    check_set(set_bytes)?;
    let wanted = read_set(current, set)?;
    let duration_ns = if timeout.is_null() { None } else { Some(read_time(current, timeout)?) };
    let timer =
        duration_ns.map(|duration_ns| Timeout::at(clock::now_ns().saturating_add(duration_ns)));
    current.thread.signals.lock().awaited = wanted;
    let taken = WaitQueue::new().wait(Interrupt::Signal, || match take_of(current, wanted) {
        Some(taken) => Some(Ok(taken)),
        None => timer.as_ref().is_some_and(Timeout::is_over).then_some(Err(Errno::EAGAIN)),
    });
    current.thread.signals.lock().awaited = SignalSet::EMPTY;
    let taken = taken??;
    if !info.is_null() {
        current.write(info, &taken.to_bytes())?;
    }
    Ok(taken.signal.0.into())
}

/// Removes and returns a pending signal of a set, the thread's own ones first.
fn take_of(current: &Current, wanted: SignalSet) -> Option<SignalInfo> {
    let others = SignalSet(!wanted.0);
    let own = current.thread.signals.lock().pending.take(others);
    let taken = own.or_else(|| current.process().pending.lock().take(others))?;
    Some(posix_timer::delivered(current.process(), taken))
}

/// The information that a program passes with a signal. Only to itself it may claim the kernel or
/// kill(2) as the origin; else EPERM.
pub(super) fn program_info(
    current: &Current,
    pid: i32,
    signal: i32,
    info: UserAddr,
) -> Result<SignalInfo, Errno> {
    let info = SignalInfo::from_bytes(number(signal)?, &current.read(info)?);
    let pretends = info.code >= 0 || info.code == SignalInfo::TKILL;
    if pretends && pid.unsigned_abs() != current.thread.tid { Err(Errno::EPERM) } else { Ok(info) }
}

/// Implements rt_sigqueueinfo(2).
pub fn rt_sigqueueinfo(
    current: &Current,
    pid: i32,
    signal: i32,
    info: UserAddr,
) -> Result<u64, Errno> {
    let info = program_info(current, pid, signal, info)?;
    let process = u32::try_from(pid).ok().and_then(family::process_of).ok_or(Errno::ESRCH)?;
    if info.signal >= FIRST_REALTIME {
        process.pending.lock().make_room(&process.account)?;
    }
    if info.signal != Signal::NONE {
        send::to_process(&process, info);
    }
    Ok(0)
}

/// Implements rt_tgsigqueueinfo(2).
pub fn rt_tgsigqueueinfo(
    current: &Current,
    pid: i32,
    tid: i32,
    signal: i32,
    info: UserAddr,
) -> Result<u64, Errno> {
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = program_info(current, pid, signal, info)?;
    let thread = find_thread(tid.unsigned_abs())
        .filter(|thread| thread.process.pid == pid.unsigned_abs())
        .ok_or(Errno::ESRCH)?;
    if info.signal >= FIRST_REALTIME {
        thread.signals.lock().pending.make_room(&thread.process.account)?;
    }
    if info.signal != Signal::NONE {
        send::to_thread(&thread, info);
    }
    Ok(0)
}

/// restart_syscall(2). On Linux it continues some interrupted calls; here nothing is ever left to
/// continue.
pub fn restart_syscall(_: &Current) -> Result<u64, Errno> {
    Err(Errno::EINTR)
}

/// Runs a call that waits, with another signal mask. A signal that interrupts it is delivered with
/// that mask. If the call ends otherwise, the mask ends with it, and a signal that it admitted
/// stays pending.
pub(super) fn with_mask(
    current: &Current,
    mask: UserAddr,
    set_bytes: u64,
    call: impl FnOnce() -> Result<u64, Errno>,
) -> Result<u64, Errno> {
    check_set(set_bytes)?;
    let mask = read_set(current, mask)?;
    {
        let mut own = current.thread.signals.lock();
        own.restore = Some(own.blocked);
        own.blocked = mask;
    }
    current.thread.notice();
    let result = call();
    if result != Err(Errno::EINTR) {
        let mut own = current.thread.signals.lock();
        if let Some(mask) = own.restore.take() {
            own.blocked = mask;
        }
    }
    result
}

/// Implements pause(2).
pub fn pause(_: &Current) -> Result<u64, Errno> {
    WaitQueue::new().wait(Interrupt::Signal, || None::<u64>)?;
    Ok(0)
}

/// Implements sigaltstack(2).
pub fn sigaltstack(current: &Current, new: UserAddr, old: UserAddr) -> Result<u64, Errno> {
    let sp = current.thread.user_stack();
    let before = current.thread.signals.lock().alternate;
    let wanted: Option<[u8; AlternateStack::BYTES]> =
        if new.is_null() { None } else { Some(current.read(new)?) };
    if let Some(wanted) = wanted {
        if !before.bytes.is_zero() && before.contains(sp) {
            return Err(Errno::EPERM);
        }
        current.thread.signals.lock().alternate = AlternateStack::from_bytes(&wanted)?;
    }
    if !old.is_null() {
        current.write(old, &before.to_bytes(sp))?;
    }
    Ok(0)
}

/// kill(2): sends a signal to a process, a group, or all processes.
pub fn kill(current: &Current, pid: i32, signal: i32) -> Result<u64, Errno> {
    let info = SignalInfo {
        signal: number(signal)?,
        code: SignalInfo::USER,
        pid: current.pid(),
        ..SignalInfo::default()
    };
    match pid {
        1.. => {
            let process = family::process_of(pid.unsigned_abs()).ok_or(Errno::ESRCH)?;
            if info.signal != Signal::NONE {
                send::to_process(&process, info);
            }
        }
        -1 => {
            let others = all_processes().filter(|process| {
                let is_own = process.pid == current.pid();
                // Servers are in place of what a kernel is spared by its programs.
                !is_own && process.pid != crate::task::INIT_PID && !process.is_server()
            });
            let mut found = false;
            for process in others {
                found = true;
                if info.signal != Signal::NONE {
                    send::to_process(&process, info);
                    // All get it, even if it ends this process, too.
                    let _ = relax(Interrupt::Killable);
                }
            }
            if !found {
                return Err(Errno::ESRCH);
            }
        }
        i32::MIN => return Err(Errno::ESRCH),
        _ => {
            let group = if pid == 0 { current.pgid() } else { pid.unsigned_abs() };
            let exists = if info.signal == Signal::NONE {
                crate::task::family::session_of_group(group).is_some()
            } else {
                let members = crate::task::family::group(group);
                let sent = members.map(|member| {
                    send::to_process(&member, info);
                    let _ = relax(Interrupt::Killable);
                });
                sent.count() > 0
            };
            if !exists {
                return Err(Errno::ESRCH);
            }
        }
    }
    Ok(0)
}

fn kill_thread(current: &Current, pid: Option<i32>, tid: i32, signal: i32) -> Result<u64, Errno> {
    let info = SignalInfo {
        signal: number(signal)?,
        code: SignalInfo::TKILL,
        pid: current.pid(),
        ..SignalInfo::default()
    };
    if tid <= 0 || pid.is_some_and(|pid| pid <= 0) {
        return Err(Errno::EINVAL);
    }
    let thread = find_thread(tid.unsigned_abs()).ok_or(Errno::ESRCH)?;
    if pid.is_some_and(|pid| thread.process.pid != pid.unsigned_abs()) {
        return Err(Errno::ESRCH);
    }
    if info.signal != Signal::NONE {
        send::to_thread(&thread, info);
    }
    Ok(0)
}

/// Implements tkill(2).
pub fn tkill(current: &Current, tid: i32, signal: i32) -> Result<u64, Errno> {
    kill_thread(current, None, tid, signal)
}

/// Implements tgkill(2).
pub fn tgkill(current: &Current, pid: i32, tid: i32, signal: i32) -> Result<u64, Errno> {
    kill_thread(current, Some(pid), tid, signal)
}
