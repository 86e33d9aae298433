//! Options of sockets, and what ioctl(2) reports.

use super::{
    DATAGRAM, ENOPROTOOPT, NONBLOCKING, PACKET, STREAM, accept, bind, connect, listen, number,
    option, receive, send, set_option, socket,
};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, raw};
use user::prelude::*;
use user::sys::abi;

const REUSE_ADDRESS: usize = 2;
const TYPE: usize = 3;
const ERROR: usize = 4;
const SEND_BYTES: usize = 7;
const RECEIVE_BYTES: usize = 8;
const KEEP_ALIVE: usize = 9;
const LINGER: usize = 13;
const RECEIVE_TIME: usize = 20;
const SEND_TIME: usize = 21;
const ACCEPTS: usize = 30;
const PROTOCOL: usize = 38;
const DOMAIN: usize = 39;

#[guest_test]
fn unix_options() -> Outcome {
    for kind in [STREAM, DATAGRAM, PACKET] {
        let fd = ok!(socket(kind));
        check_eq!(number(fd, TYPE), Ok(kind));
        check_eq!(number(fd, DOMAIN), Ok(1));
        check_eq!(number(fd, PROTOCOL), Ok(0));
        check_eq!(number(fd, ERROR), Ok(0));
        check_eq!(number(fd, ACCEPTS), Ok(0));
    }
    let fd = ok!(socket(STREAM));
    for switch in [REUSE_ADDRESS, KEEP_ALIVE] {
        check_eq!(number(fd, switch), Ok(0));
        check_eq!(set_option(fd, switch, &7u32.to_le_bytes()), Ok(0));
        check_eq!(number(fd, switch), Ok(1));
        check_eq!(set_option(fd, switch, &0u64.to_le_bytes()), Ok(0));
        check_eq!(number(fd, switch), Ok(0));
    }
    ok!(bind(fd, b"\0options"));
    ok!(listen(fd, 1));
    check_eq!(number(fd, ACCEPTS), Ok(1));
    // Space: doubled, with a minimum.
    check_eq!(set_option(fd, SEND_BYTES, &10_000u32.to_le_bytes()), Ok(0));
    check_eq!(number(fd, SEND_BYTES), Ok(20_000));
    check_eq!(set_option(fd, RECEIVE_BYTES, &1u32.to_le_bytes()), Ok(0));
    check_eq!(number(fd, RECEIVE_BYTES), Ok(2304));
    check_eq!(set_option(fd, SEND_BYTES, &1u32.to_le_bytes()), Ok(0));
    check_eq!(number(fd, SEND_BYTES), Ok(4608));
    let linger = [1u32, 5].map(u32::to_le_bytes).concat();
    check_eq!(set_option(fd, LINGER, &linger), Ok(0));
    check_eq!(option(fd, LINGER), Ok(linger));
    // Errors.
    check_eq!(set_option(fd, 9999, &[0; 4]), Err(ENOPROTOOPT));
    check_eq!(option(fd, 9999), Err(ENOPROTOOPT));
    check_eq!(set_option(fd, TYPE, &[0; 4]), Err(ENOPROTOOPT));
    check_eq!(set_option(fd, REUSE_ADDRESS, &[0; 3]), Err(Errno::EINVAL));
    let set = |at: usize, length: usize| {
        raw(abi::__NR_setsockopt, &[fd.argument(), 1, REUSE_ADDRESS, at, length])
    };
    check_eq!(set(8, 4), Err(Errno::EFAULT));
    check_eq!(set(8, usize::MAX), Err(Errno::EINVAL));
    let other_level = raw(abi::__NR_getsockopt, &[fd.argument(), 6, 1, 8, 8]);
    check_eq!(other_level, Err(Errno::EOPNOTSUPP));
    let [one, _] = ok!(sys::pipe(0));
    check_eq!(option(one, TYPE), Err(Errno::ENOTSOCK));
    // A short place gets a part.
    let (mut bytes, mut length) = ([0xeeu8; 4], 2u32);
    let at = [bytes.as_mut_ptr() as usize, &raw mut length as usize];
    let part = raw(abi::__NR_getsockopt, &[fd.argument(), 1, TYPE, at[0], at[1]]);
    check_eq!((part, length, bytes), (Ok(0), 2, [1, 0, 0xee, 0xee]));
    Ok(())
}

/// The time in milliseconds that a call takes.
fn duration(call: impl FnOnce()) -> u128 {
    let now = || sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default();
    let start = now();
    call();
    (now() - start).as_millis()
}

#[guest_test]
fn unix_time_limits() -> Outcome {
    let limit = [0u64, 60_000].map(u64::to_le_bytes).concat();
    for kind in [STREAM, DATAGRAM, PACKET] {
        let [one, other] = ok!(sys::socketpair(kind));
        for which in [RECEIVE_TIME, SEND_TIME] {
            check_eq!(set_option(one, which, &limit), Ok(0));
            check_eq!(option(one, which), Ok(limit.clone()));
        }
        let mut result = Ok(vec![]);
        let waited = duration(|| result = receive(one, 0));
        check_eq!(result, Err(Errno::EAGAIN));
        check!((50..2000).contains(&waited), "{waited} ms");
        let mut result = Ok(0);
        let waited = duration(|| {
            while result.is_ok() {
                result = send(one, &[0; 4000], 0);
            }
        });
        check_eq!(result, Err(Errno::EAGAIN));
        check!((50..2000).contains(&waited), "{waited} ms");
        // What comes in time is received.
        let sender = checking_child(|| {
            ok!(sys::sleep(core::time::Duration::from_millis(20)));
            check_eq!(send(other, b"in time", 0), Ok(7));
            Ok(())
        })?;
        ok!(set_option(one, RECEIVE_TIME, &[60u64, 0].map(u64::to_le_bytes).concat()));
        check_eq!(receive(one, 0), Ok(b"in time".to_vec()));
        expect_success(sender)?;
    }
    // accept(2) and connect(2).
    let listener = ok!(socket(STREAM));
    ok!(bind(listener, b"\0limits"));
    ok!(listen(listener, 0));
    ok!(set_option(listener, RECEIVE_TIME, &limit));
    check_eq!(accept(listener), Err(Errno::EAGAIN));
    ok!(connect(ok!(socket(STREAM)), b"\0limits"));
    let late = ok!(socket(STREAM));
    ok!(set_option(late, SEND_TIME, &limit));
    check_eq!(connect(late, b"\0limits"), Err(Errno::EAGAIN));
    let bad = [0u64, 1_000_000].map(u64::to_le_bytes).concat();
    check_eq!(set_option(late, SEND_TIME, &bad), Err(Errno::EDOM));
    check_eq!(set_option(late, SEND_TIME, &bad[..8]), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn unix_queued_bytes() -> Outcome {
    const UNREAD: u32 = 0x5411;
    let readable = |fd| sys::ioctl_number(fd, sys::ioctl::FIONREAD);
    for (kind, all) in [(STREAM, 11), (DATAGRAM, 5), (PACKET, 11)] {
        let [one, other] = ok!(sys::socketpair(kind | NONBLOCKING));
        check_eq!((readable(other), sys::ioctl_number(one, UNREAD)), (Ok(0), Ok(0)));
        ok!(send(one, b"first", 0));
        ok!(send(one, b"second", 0));
        check_eq!(readable(other), Ok(all));
        check!(ok!(sys::ioctl_number(one, UNREAD)) >= 11);
        ok!(receive(other, 0));
        while receive(other, 0).is_ok() {}
        check_eq!((readable(other), sys::ioctl_number(one, UNREAD)), (Ok(0), Ok(0)));
    }
    let listener = ok!(socket(STREAM));
    ok!(bind(listener, b"\0queued"));
    ok!(listen(listener, 1));
    check_eq!(readable(listener), Err(Errno::EINVAL));
    Ok(())
}
