//! Device and descriptor requests.

use super::arguments::{load, open_file};
use crate::file::signal_io::set_async;
use crate::file::{Caller, Fd, OnExec, Status};
use crate::mem::UserAddr;
use foundation::Errno;
use linux_raw_sys::ioctl as request;

/// ioctl(2): requests about the descriptor are handled here, others by the object.
pub fn ioctl(current: &dyn Caller, fd: Fd, number: u32, argument: u64) -> Result<u64, Errno> {
    let file = open_file(current, fd)?;
    file.require_not_path()?;
    match number {
        request::FIOCLEX => current.files().lock().set_on_exec(fd, OnExec::Close).map(|()| 0),
        request::FIONCLEX => current.files().lock().set_on_exec(fd, OnExec::Keep).map(|()| 0),
        request::FIONBIO => {
            let mut on = [0; 4];
            load(current, UserAddr(argument), &mut on)?;
            let mut status = file.status();
            status.set(Status::NONBLOCKING, on != [0; 4]);
            file.set_status(status);
            Ok(0)
        }
        request::FIOASYNC => {
            let mut on = [0; 4];
            load(current, UserAddr(argument), &mut on)?;
            let is_known = set_async(&file, fd, on != [0; 4], current.account())?;
            if is_known { Ok(0) } else { Err(Errno::ENOTTY) }
        }
        request::TIOCGPTPEER => super::open::open_peer(current, &file, argument),
        number => file.object().ioctl(current, number, argument),
    }
}
