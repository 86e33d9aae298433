//! Who gets signals when a file becomes ready: the commands of fcntl(2) for that.

use super::arguments::{half, load, store};
use crate::file::signal_io::SignalIo;
use crate::file::{Caller, IoOwner, OpenFile, tasks};
use crate::mem::UserAddr;
use crate::task::signal::MAX_SIGNAL;
use alloc::sync::Arc;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// Bytes of a `struct f_owner_ex`: kind and number.
const OWNER_BYTES: usize = 8;
/// `F_OWNER_TID`, `F_OWNER_PID` and `F_OWNER_PGRP`.
const THREAD: u32 = 0;
const PROCESS: u32 = 1;
const GROUP: u32 = 2;

/// Carries out a command; EINVAL where it is none of these.
pub(super) fn command(
    current: &dyn Caller,
    file: &Arc<OpenFile>,
    command: u32,
    argument: u64,
) -> Result<u64, Errno> {
    file.require_not_path()?;
    match command {
        linux::F_SETOWN => {
            let number = argument as i32;
            let kind = if number < 0 { GROUP } else { PROCESS };
            if number == i32::MIN {
                return Err(Errno::EINVAL);
            }
            set(current, file, kind, number.unsigned_abs())
        }
        linux::F_GETOWN => Ok(match SignalIo::owner(file) {
            None => 0,
            Some(IoOwner::Thread(number) | IoOwner::Process(number)) => number.into(),
            Some(IoOwner::Group(number)) => u64::from(number).wrapping_neg(),
        }),
        linux::F_SETOWN_EX => {
            let mut bytes = [0; OWNER_BYTES];
            load(current, UserAddr(argument), &mut bytes)?;
            set(current, file, half(&bytes, 0), half(&bytes, 4))
        }
        linux::F_GETOWN_EX => {
            let (kind, number) = match SignalIo::owner(file) {
                None => (PROCESS, 0),
                Some(IoOwner::Thread(number)) => (THREAD, number),
                Some(IoOwner::Process(number)) => (PROCESS, number),
                Some(IoOwner::Group(number)) => (GROUP, number),
            };
            let bytes = u64::from(kind) | u64::from(number) << 32;
            store(current, UserAddr(argument), &bytes.to_le_bytes())
        }
        linux::F_SETSIG => {
            let signal = u8::try_from(argument).ok().filter(|&signal| signal <= MAX_SIGNAL.0);
            let signal = signal.ok_or(Errno::EINVAL)?;
            SignalIo::of(file, current.account())?.set_signal(signal);
            Ok(0)
        }
        linux::F_GETSIG => Ok(SignalIo::signal(file).into()),
        _ => Err(Errno::EINVAL),
    }
}

/// Changes who gets the signals: nobody for number 0. ESRCH where there is no such process.
fn set(current: &dyn Caller, file: &Arc<OpenFile>, kind: u32, number: u32) -> Result<u64, Errno> {
    let owner = match kind {
        THREAD => IoOwner::Thread(number),
        PROCESS => IoOwner::Process(number),
        GROUP => IoOwner::Group(number),
        _ => return Err(Errno::EINVAL),
    };
    if number != 0 && !tasks().is_some_and(|tasks| tasks.is_owner(owner)) {
        return Err(Errno::ESRCH);
    }
    SignalIo::of(file, current.account())?.set_owner((number != 0).then_some(owner));
    Ok(0)
}
