//! Control data of messages in a program's memory: `struct cmsghdr`.

use super::arguments::{half, install, load, open_file, store, word};
use super::ipc::remove;
use crate::file::control::{CarriedFile, Control, Credentials, MAX_FILES};
use crate::file::{Caller, Fd, OnExec, OpenFile, tasks};
use crate::mem::{UserAddr, fallible};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno};

/// `SOL_SOCKET`, `SCM_RIGHTS` and `SCM_CREDENTIALS`.
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const CREDENTIALS: u32 = 2;
/// Bytes of a `struct cmsghdr`: length, level, type.
const HEADER_BYTES: usize = 16;
/// Bytes of a `struct ucred`.
const CREDENTIALS_BYTES: usize = 12;
/// Bytes of a descriptor.
const FD_BYTES: usize = 4;
/// Bytes of control data that are taken from a program (`optmem_max` of Linux). ENOBUFS beyond.
const MAX_BYTES: u64 = 20_480;

/// What a program sends beside bytes.
#[derive(Default)]
pub struct Sent {
    /// Open files.
    pub files: Vec<Arc<OpenFile>>,
    /// Credentials that it states.
    pub credentials: Option<Credentials>,
}

/// Where the next header begins.
fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// Decodes control data. EINVAL where they are malformed.
pub fn load_control(current: &dyn Caller, at: UserAddr, bytes: u64) -> Result<Sent, Errno> {
    let mut sent = Sent::default();
    if bytes < HEADER_BYTES as u64 {
        return Ok(sent);
    }
    if bytes > MAX_BYTES {
        return Err(Errno::ENOBUFS);
    }
    let mut data = fallible::filled(0, bytes as usize)?;
    load(current, at, &mut data)?;
    let mut rest = data.as_slice();
    while rest.len() >= HEADER_BYTES {
        let length = usize::try_from(word(rest, 0)).map_err(|_| Errno::EINVAL)?;
        let contents = rest.get(HEADER_BYTES..length).ok_or(Errno::EINVAL)?;
        if half(rest, 8) == SOL_SOCKET {
            match half(rest, 12) {
                SCM_RIGHTS => take_files(current, contents, &mut sent.files)?,
                CREDENTIALS => sent.credentials = Some(credentials(current, contents)?),
                _ => return Err(Errno::EINVAL),
            }
        }
        rest = rest.get(aligned(length)..).unwrap_or_default();
    }
    Ok(sent)
}

/// Looks up the descriptors of `SCM_RIGHTS`. EINVAL for more than a message may have.
fn take_files(
    current: &dyn Caller,
    contents: &[u8],
    files: &mut Vec<Arc<OpenFile>>,
) -> Result<(), Errno> {
    let count = contents.len() / FD_BYTES;
    if files.len() + count > MAX_FILES {
        return Err(Errno::EINVAL);
    }
    for index in 0..count {
        let fd = Fd(half(contents, index * FD_BYTES) as i32);
        fallible::push(files, open_file(current, fd)?)?;
    }
    Ok(())
}

/// The contents of `SCM_CREDENTIALS`. There is one user, who may state any numbers; ESRCH for a
/// process that does not exist.
fn credentials(current: &dyn Caller, contents: &[u8]) -> Result<Credentials, Errno> {
    if contents.len() != CREDENTIALS_BYTES {
        return Err(Errno::EINVAL);
    }
    let [pid, uid, gid] = [0, 4, 8].map(|at| half(contents, at));
    let exists = || tasks().is_none_or(|tasks| tasks.process(pid).is_some());
    if uid == u32::MAX || gid == u32::MAX {
        Err(Errno::EINVAL)
    } else if pid == current.pid() || exists() {
        Ok(Credentials { pid, uid, gid })
    } else {
        Err(Errno::ESRCH)
    }
}

/// The place for control data in a program's memory.
pub struct Place {
    /// Where the next ones go.
    pub at: UserAddr,
    /// Bytes that are left.
    pub left: u64,
    /// Some did not fit (`MSG_CTRUNC`).
    pub is_truncated: bool,
}

impl Place {
    /// Advances behind `bytes` of control data, with what aligns the next ones.
    fn skip(&mut self, bytes: usize) {
        let step = (aligned(bytes) as u64).min(self.left);
        self.at = UserAddr(self.at.0 + step);
        self.left -= step;
    }

    /// Stores control data with their header. EFAULT where there is no memory.
    fn put(&mut self, current: &dyn Caller, kind: u32, contents: &[u8]) -> Result<(), Errno> {
        let space = usize::try_from(self.left).unwrap_or(usize::MAX);
        if space < HEADER_BYTES {
            self.is_truncated = true;
            return Ok(());
        }
        let length = (HEADER_BYTES + contents.len()).min(space);
        self.is_truncated |= length < HEADER_BYTES + contents.len();
        let mut header = [0; HEADER_BYTES];
        let numbers = (length as u64).to_le_bytes();
        let kinds = [SOL_SOCKET.to_le_bytes(), kind.to_le_bytes()];
        let all = numbers.iter().chain(kinds.iter().flatten());
        header.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        store(current, self.at, &header)?;
        let behind = self.at.checked_add(ByteCount::of_len(HEADER_BYTES)).ok_or(Errno::EFAULT)?;
        store(current, behind, contents.get(..length - HEADER_BYTES).unwrap_or_default())?;
        self.skip(length);
        Ok(())
    }

    /// Delivers what came with a message: credentials to a socket that `wants` them, and files,
    /// which are opened at new descriptors, as many as there is space for.
    pub fn deliver(
        &mut self,
        current: &dyn Caller,
        control: Option<Box<Control>>,
        wants: bool,
        on_exec: OnExec,
    ) -> Result<(), Errno> {
        let known = control.as_ref().and_then(|control| control.credentials);
        if wants {
            let Credentials { pid, uid, gid } = known.unwrap_or(Credentials::UNKNOWN);
            let mut bytes = [0; CREDENTIALS_BYTES];
            let fields = [pid, uid, gid].map(u32::to_le_bytes);
            bytes.iter_mut().zip(fields.iter().flatten()).for_each(|(to, from)| *to = *from);
            self.put(current, CREDENTIALS, &bytes)?;
        }
        let mut control = control;
        let files = control.as_mut().map(|control| core::mem::take(&mut control.files));
        let files = files.unwrap_or_default();
        if files.is_empty() { Ok(()) } else { self.deliver_files(current, files, on_exec) }
    }

    fn deliver_files(
        &mut self,
        current: &dyn Caller,
        files: Vec<CarriedFile>,
        on_exec: OnExec,
    ) -> Result<(), Errno> {
        let space = self.left.saturating_sub(HEADER_BYTES as u64) as usize / FD_BYTES;
        let count = files.len();
        let mut bytes = [0; MAX_FILES * FD_BYTES];
        let mut installed = 0;
        let wanted = files.into_iter().take(space);
        for (CarriedFile { file, passage }, place) in wanted.zip(bytes.chunks_exact_mut(FD_BYTES)) {
            drop(passage);
            let Ok(fd) = install(current, file, on_exec) else { break };
            place.copy_from_slice(&(fd as u32).to_le_bytes());
            installed += 1;
        }
        self.is_truncated |= installed < count;
        let numbers = bytes.get(..installed * FD_BYTES).unwrap_or_default();
        if installed == 0 {
            return Ok(());
        }
        self.put(current, SCM_RIGHTS, numbers).inspect_err(|_| {
            for number in numbers.chunks_exact(FD_BYTES) {
                remove(current, half(number, 0).into());
            }
        })
    }
}
