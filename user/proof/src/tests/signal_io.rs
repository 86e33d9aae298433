//! Signals when a descriptor becomes ready.

use core::time::Duration;
use proof::guest_test;
use proof::kit::{Outcome, file, raw};
use user::prelude::*;
use user::sys::{abi, net};

/// `FASYNC` and `FIOASYNC`.
const ASYNC: u32 = abi::FASYNC;
const REQUEST: usize = 0x5452;
/// `POLL_IN`.
const IN: i32 = 1;

/// Takes a pending signal of a set: its number, code, band and descriptor.
fn take(set: u64) -> Result<[i32; 4]> {
    let (mut info, time) = ([0i32; 32], [0u64, 0]);
    let place = info.as_mut_ptr().addr();
    let arguments = [(&raw const set).addr(), place, time.as_ptr().addr(), 8];
    raw(abi::__NR_rt_sigtimedwait, &arguments)?;
    Ok([info[0], info[2], info[4], info[6]])
}

fn flags(fd: Fd) -> Result<u32> {
    sys::fcntl(fd, abi::F_GETFL, 0).map(|flags| flags as u32)
}

fn set_flags(fd: Fd, flags: u32) -> Result<usize> {
    sys::fcntl(fd, abi::F_SETFL, flags as usize)
}

#[guest_test]
fn signals_of_ready_files() -> Outcome {
    let own = sys::getpid();
    let (io, other) = (1u64 << (abi::SIGIO - 1), 1u64 << 39);
    ok!(sys::signal_mask(io | other));
    let pipe = ok!(sys::pipe(0));
    let sockets = ok!(sys::socketpair(net::SOCK_STREAM));
    for [reader, writer] in [pipe, sockets] {
        ok!(sys::write(writer, b"x"));
        check_eq!(take(io), Err(Errno::EAGAIN));
        ok!(set_flags(reader, ASYNC));
        check_eq!(ok!(flags(reader)) & ASYNC, ASYNC);
        // Nobody is the owner yet.
        ok!(sys::write(writer, b"x"));
        check_eq!(take(io), Err(Errno::EAGAIN));
        ok!(sys::fcntl(reader, abi::F_SETOWN, own as usize));
        ok!(sys::write(writer, b"x"));
        check_eq!(ok!(take(io))[0], abi::SIGIO as i32);
        check_eq!(take(io), Err(Errno::EAGAIN));
        // Another signal, with information.
        ok!(sys::fcntl(reader, abi::F_SETSIG, 40));
        check_eq!(sys::fcntl(reader, abi::F_GETSIG, 0), Ok(40));
        ok!(sys::write(writer, b"x"));
        let events = (abi::POLLIN | abi::POLLRDNORM) as i32;
        let found = ok!(take(other));
        check_eq!((found[0], found[1], found[3]), (40, IN, reader.0));
        check_eq!(found[2] & events, events);
        ok!(set_flags(reader, 0));
        check_eq!(ok!(flags(reader)) & ASYNC, 0);
        ok!(sys::write(writer, b"x"));
        check_eq!(take(io | other), Err(Errno::EAGAIN));
        ok!(sys::close(reader));
        ok!(sys::close(writer));
    }
    Ok(())
}

#[guest_test]
fn owners_of_files() -> Outcome {
    let (own, group) = (sys::getpid(), ok!(raw(abi::__NR_getpgid, &[0])) as i32);
    let [reader, _] = ok!(sys::pipe(0));
    let owner = |fd: Fd| sys::fcntl(fd, abi::F_GETOWN, 0);
    let set = |number: i32| sys::fcntl(reader, abi::F_SETOWN, number as usize);
    check_eq!((owner(reader), sys::fcntl(reader, abi::F_GETSIG, 0)), (Ok(0), Ok(0)));
    check_eq!((set(own), owner(reader)), (Ok(0), Ok(own as usize)));
    check_eq!((set(i32::MAX - 7), owner(reader)), (Err(Errno::ESRCH), Ok(own as usize)));
    let mut pair = [9i32; 2];
    let place = pair.as_mut_ptr().addr();
    check_eq!(set(-group), Ok(0));
    check_eq!(sys::fcntl(reader, abi::F_GETOWN_EX, place), Ok(0));
    check_eq!(pair, [2, group]);
    for kind in 0..2 {
        pair = [kind, own];
        check_eq!(sys::fcntl(reader, abi::F_SETOWN_EX, (&raw const pair).addr()), Ok(0));
        check_eq!(owner(reader), Ok(own as usize));
    }
    pair = [3, own];
    let place = (&raw const pair).addr();
    check_eq!(sys::fcntl(reader, abi::F_SETOWN_EX, place), Err(Errno::EINVAL));
    check_eq!(sys::fcntl(reader, abi::F_SETOWN_EX, 0), Err(Errno::EFAULT));
    check_eq!((set(0), owner(reader)), (Ok(0), Ok(0)));
    check_eq!(sys::fcntl(reader, abi::F_SETSIG, 65), Err(Errno::EINVAL));
    // A file that is always ready sends none.
    let regular = file(b"f", b"x")?;
    check_eq!(set_flags(regular, ASYNC), Ok(0));
    check_eq!(ok!(flags(regular)) & ASYNC, 0);
    let counter = Fd(ok!(raw(abi::__NR_eventfd2, &[0, 0])) as i32);
    check_eq!(set_flags(counter, ASYNC), Ok(0));
    check_eq!(ok!(flags(counter)) & ASYNC, 0);
    let on = 1u32;
    let place = (&raw const on).addr();
    check_eq!(raw(abi::__NR_ioctl, &[regular.argument(), REQUEST, place]), Err(Errno::ENOTTY));
    check_eq!(raw(abi::__NR_ioctl, &[reader.argument(), REQUEST, place]), Ok(0));
    check_eq!(ok!(flags(reader)) & ASYNC, ASYNC);
    Ok(())
}

#[guest_test]
fn pipe_sizes_and_lengths() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let size = |bytes: usize| sys::fcntl(writer, abi::F_SETPIPE_SZ, bytes);
    check_eq!((size(0), size(5000), size(1 << 20)), (Ok(4096), Ok(8192), Ok(1 << 20)));
    check_eq!(size((1 << 31) + 1), Err(Errno::EINVAL));
    ok!(sys::write(writer, &[1; 5000]));
    check_eq!(size(4096), Err(Errno::EBUSY));
    for end in [reader, writer] {
        let mut length = 0u32;
        let place = (&raw mut length).addr();
        check_eq!(raw(abi::__NR_ioctl, &[end.argument(), 0x541b, place]), Ok(0));
        check_eq!(length, 5000);
    }
    Ok(())
}

/// The number of entries that poll(2) takes is limited by that of descriptors.
#[guest_test]
fn poll_within_limits() -> Outcome {
    let limit = abi::rlimit64 { rlim_cur: 10, rlim_max: 10 };
    let place = (&raw const limit).addr();
    ok!(raw(abi::__NR_prlimit64, &[0, abi::RLIMIT_NOFILE as usize, place, 0]));
    let mut entries = [abi::pollfd { fd: -1, events: 1, revents: 7 }; 11];
    let none = Some(Duration::ZERO);
    check_eq!(sys::poll_for(&mut entries, none), Err(Errno::EINVAL));
    check_eq!(sys::poll_for(&mut entries[..10], none), Ok(0));
    check_eq!((entries[9].revents, entries[10].revents), (0, 7));
    entries[0].fd = 99;
    check_eq!(sys::poll_for(&mut entries[..1], none), Ok(1));
    check_eq!(u32::from(entries[0].revents as u16), abi::POLLNVAL);
    Ok(())
}
