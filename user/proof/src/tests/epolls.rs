//! epoll: what is reported, when, and for how long.

use core::ptr;
use core::time::Duration;
use proof::guest_test;
use proof::kit::{Outcome, checking_child, child, expect_success, file, raw};
use user::prelude::*;
use user::sys::{abi, net};

const IN: u32 = abi::EPOLLIN;
const OUT: u32 = abi::EPOLLOUT;
const ADD: u32 = abi::EPOLL_CTL_ADD;
const MOD: u32 = abi::EPOLL_CTL_MOD;
const DEL: u32 = abi::EPOLL_CTL_DEL;
/// ELOOP.
const TOO_DEEP: Errno = Errno(40);

/// `struct epoll_event`.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
struct Event {
    events: u32,
    data: u64,
}

fn create() -> Result<Fd> {
    raw(abi::__NR_epoll_create1, &[abi::O_CLOEXEC as usize]).map(|fd| Fd(fd as i32))
}

fn control(epoll: Fd, operation: u32, fd: Fd, events: u32) -> Result<()> {
    let event = Event { events, data: fd.0 as u64 };
    let address = (&raw const event).addr();
    let arguments = [epoll.argument(), operation as usize, fd.argument(), address];
    raw(abi::__NR_epoll_ctl, &arguments).map(drop)
}

/// At most `max` events, as events and descriptor.
fn wait(epoll: Fd, max: usize, timeout_ms: i32) -> Result<Vec<(u32, i32)>> {
    let mut found = vec![Event::default(); max];
    let address = found.as_mut_ptr().addr();
    let arguments = [epoll.argument(), address, max, timeout_ms as usize];
    let count = raw(abi::__NR_epoll_wait, &arguments)?;
    Ok(found[..count].iter().map(|event| (event.events, event.data as i32)).collect())
}

fn now(epoll: Fd) -> Result<Vec<(u32, i32)>> {
    wait(epoll, 16, 0)
}

#[guest_test]
fn epoll_levels_and_edges() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(0)));
    ok!(control(epoll, ADD, reader, IN));
    check_eq!(now(epoll), Ok(vec![]));
    ok!(sys::write(writer, b"abc"));
    for _ in 0..3 {
        check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    }
    // Changed to edges, it is reported once, and again after each write. A read is no edge.
    ok!(control(epoll, MOD, reader, IN | abi::EPOLLET));
    check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    check_eq!(now(epoll), Ok(vec![]));
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    check_eq!(now(epoll), Ok(vec![]));
    ok!(sys::write(writer, b"d"));
    check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    check_eq!(now(epoll), Ok(vec![]));
    // What is gone before anybody looks is not reported.
    ok!(sys::write(writer, b"e"));
    check_eq!(sys::read(reader, &mut [0; 16]), Ok(4));
    check_eq!(now(epoll), Ok(vec![]));
    ok!(control(epoll, DEL, reader, 0));
    ok!(sys::write(writer, b"f"));
    check_eq!(now(epoll), Ok(vec![]));
    Ok(())
}

/// A writer's edge: from no space to some.
#[guest_test]
fn epoll_writable() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(abi::O_NONBLOCK)));
    ok!(control(epoll, ADD, writer, OUT | abi::EPOLLET));
    check_eq!(now(epoll), Ok(vec![(OUT, writer.0)]));
    check_eq!(now(epoll), Ok(vec![]));
    while sys::write(writer, &[1; 4096]).is_ok() {}
    check_eq!(now(epoll), Ok(vec![]));
    let mut bytes = vec![0; 1 << 20];
    check!(ok!(sys::read(reader, &mut bytes)) > 4096);
    check_eq!(now(epoll), Ok(vec![(OUT, writer.0)]));
    check_eq!(now(epoll), Ok(vec![]));
    // A level is reported as long as it lasts.
    ok!(control(epoll, MOD, writer, OUT));
    check_eq!(now(epoll), Ok(vec![(OUT, writer.0)]));
    while sys::write(writer, &[1; 4096]).is_ok() {}
    check_eq!(now(epoll), Ok(vec![]));
    Ok(())
}

#[guest_test]
fn epoll_once() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(0)));
    ok!(control(epoll, ADD, reader, IN | abi::EPOLLONESHOT));
    ok!(sys::write(writer, b"abc"));
    check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    ok!(sys::write(writer, b"abc"));
    check_eq!(now(epoll), Ok(vec![]));
    // Disarmed, it reports no hang-up either.
    ok!(sys::close(writer));
    check_eq!(now(epoll), Ok(vec![]));
    ok!(control(epoll, MOD, reader, IN | abi::EPOLLONESHOT));
    check_eq!(now(epoll), Ok(vec![(IN | abi::EPOLLHUP, reader.0)]));
    check_eq!(now(epoll), Ok(vec![]));
    Ok(())
}

#[guest_test]
fn epoll_ends_of_peers() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(0)));
    // Both are reported although nobody asked for them.
    ok!(control(epoll, ADD, writer, 0));
    check_eq!(now(epoll), Ok(vec![]));
    ok!(sys::close(reader));
    check_eq!(now(epoll), Ok(vec![(abi::EPOLLERR, writer.0)]));
    ok!(sys::close(writer));
    let [one, two] = ok!(sys::socketpair(net::SOCK_STREAM));
    ok!(control(epoll, ADD, one, IN | abi::EPOLLRDHUP | abi::EPOLLET));
    check_eq!(now(epoll), Ok(vec![]));
    check_eq!(raw(abi::__NR_shutdown, &[two.argument(), 1]), Ok(0));
    check_eq!(now(epoll), Ok(vec![(IN | abi::EPOLLRDHUP, one.0)]));
    check_eq!(now(epoll), Ok(vec![]));
    ok!(sys::close(two));
    check_eq!(now(epoll), Ok(vec![(IN | abi::EPOLLRDHUP | abi::EPOLLHUP, one.0)]));
    Ok(())
}

/// An entry ends with the last descriptor of its open file, and not before.
#[guest_test]
fn epoll_entries_end() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(0)));
    ok!(sys::write(writer, b"abc"));
    ok!(control(epoll, ADD, reader, IN));
    let copy = ok!(sys::dup(reader));
    // The copy is another entry.
    ok!(control(epoll, ADD, copy, IN));
    check_eq!(ok!(now(epoll)).len(), 2);
    ok!(control(epoll, DEL, copy, 0));
    ok!(sys::close(reader));
    check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    check_eq!(control(epoll, DEL, reader, 0), Err(Errno::EBADF));
    // Another file with the same number is another entry.
    let [other, other_writer] = ok!(sys::pipe(0));
    check_eq!(other, reader);
    check_eq!(control(epoll, DEL, other, 0), Err(Errno::ENOENT));
    ok!(control(epoll, ADD, other, IN));
    ok!(sys::write(other_writer, b"x"));
    check_eq!(ok!(now(epoll)).len(), 2);
    ok!(sys::close(copy));
    check_eq!(now(epoll), Ok(vec![(IN, other.0)]));
    ok!(sys::close(other));
    check_eq!(now(epoll), Ok(vec![]));
    // A file that a child has open, too.
    let [reader, writer] = ok!(sys::pipe(0));
    ok!(control(epoll, ADD, reader, IN));
    let sleeper = child(|| {
        let _ = sys::sleep(Duration::from_secs(100));
        0
    })?;
    ok!(sys::write(writer, b"x"));
    ok!(sys::close(reader));
    check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    ok!(sys::kill(sleeper, abi::SIGKILL as i32));
    check_eq!(ok!(sys::wait_for(sleeper)).signal(), Some(abi::SIGKILL as i32));
    check_eq!(now(epoll), Ok(vec![]));
    Ok(())
}

#[guest_test]
fn epoll_errors() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(0)));
    check_eq!(raw(abi::__NR_epoll_create1, &[1]), Err(Errno::EINVAL));
    check_eq!(raw(abi::__NR_epoll_create, &[0]), Err(Errno::EINVAL));
    ok!(sys::close(Fd(ok!(raw(abi::__NR_epoll_create, &[1])) as i32)));
    ok!(control(epoll, ADD, reader, IN));
    check_eq!(control(epoll, ADD, reader, IN), Err(Errno::EEXIST));
    check_eq!(control(epoll, MOD, writer, OUT), Err(Errno::ENOENT));
    check_eq!(control(epoll, DEL, writer, 0), Err(Errno::ENOENT));
    check_eq!(control(epoll, ADD, Fd(99), IN), Err(Errno::EBADF));
    check_eq!(control(Fd(99), ADD, reader, IN), Err(Errno::EBADF));
    check_eq!(control(reader, ADD, writer, IN), Err(Errno::EINVAL));
    check_eq!(control(epoll, ADD, epoll, IN), Err(Errno::EINVAL));
    check_eq!(control(epoll, 4, reader, IN), Err(Errno::EINVAL));
    let regular = file(b"f", b"x")?;
    let directory = ok!(sys::open(b".", abi::O_RDONLY, 0));
    let null = ok!(sys::open(b"/dev/null", abi::O_RDONLY, 0));
    let path = ok!(sys::open(b".", abi::O_PATH, 0));
    check_eq!(control(epoll, ADD, regular, IN), Err(Errno::EPERM));
    check_eq!(control(epoll, ADD, directory, IN), Err(Errno::EPERM));
    check_eq!(control(epoll, ADD, null, IN), Err(Errno::EPERM));
    check_eq!(control(epoll, ADD, path, IN), Err(Errno::EBADF));
    let no_event = [epoll.argument(), ADD as usize, writer.argument(), 0];
    check_eq!(raw(abi::__NR_epoll_ctl, &no_event), Err(Errno::EFAULT));
    let no_event = [epoll.argument(), DEL as usize, reader.argument(), 0];
    check_eq!(raw(abi::__NR_epoll_ctl, &no_event), Ok(0));
    let mut event = Event::default();
    let place = (&raw mut event).addr();
    let waited = |epoll: Fd, place: usize, max: i32| {
        raw(abi::__NR_epoll_wait, &[epoll.argument(), place, max as usize, 0])
    };
    check_eq!(waited(epoll, place, 0), Err(Errno::EINVAL));
    check_eq!(waited(epoll, place, -1), Err(Errno::EINVAL));
    check_eq!(waited(epoll, place, i32::MAX), Err(Errno::EINVAL));
    check_eq!(waited(reader, place, 1), Err(Errno::EINVAL));
    check_eq!(waited(Fd(99), place, 1), Err(Errno::EBADF));
    check_eq!(waited(epoll, 0, 1), Ok(0));
    ok!(sys::write(writer, b"x"));
    ok!(control(epoll, ADD, reader, IN | abi::EPOLLET));
    check_eq!(waited(epoll, 0, 1), Err(Errno::EFAULT));
    // What could not be delivered is reported again.
    check_eq!(now(epoll), Ok(vec![(IN, reader.0)]));
    check_eq!(sys::read(epoll, &mut [0; 16]), Err(Errno::EINVAL));
    check_eq!(sys::write(epoll, &[0; 16]), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn epoll_in_epoll() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let (inner, outer) = (ok!(create()), ok!(create()));
    ok!(control(inner, ADD, reader, IN));
    ok!(control(outer, ADD, inner, IN | abi::EPOLLET));
    let mut polled = [abi::pollfd { fd: inner.0, events: IN as i16, revents: 0 }];
    let none = Some(Duration::ZERO);
    check_eq!((now(outer), sys::poll_for(&mut polled, none)), (Ok(vec![]), Ok(0)));
    ok!(sys::write(writer, b"x"));
    check_eq!((now(outer), sys::poll_for(&mut polled, none)), (Ok(vec![(IN, inner.0)]), Ok(1)));
    check_eq!((now(outer), now(inner)), (Ok(vec![]), Ok(vec![(IN, reader.0)])));
    ok!(sys::write(writer, b"x"));
    check_eq!(now(outer), Ok(vec![(IN, inner.0)]));
    // Cycles of two and three.
    check_eq!(control(inner, ADD, outer, IN), Err(TOO_DEEP));
    let third = ok!(create());
    ok!(control(third, ADD, outer, IN));
    check_eq!(control(inner, ADD, third, IN), Err(TOO_DEEP));
    // A chain of five, made from either end.
    let mut chain = vec![ok!(create())];
    for length in 2..=6 {
        let next = ok!(create());
        let result = control(next, ADD, chain[length - 2], IN);
        check_eq!(result, if length <= 5 { Ok(()) } else { Err(TOO_DEEP) });
        chain.push(next);
    }
    let mut chain = vec![ok!(create())];
    for length in 2..=6 {
        let next = ok!(create());
        let result = control(chain[length - 2], ADD, next, IN);
        check_eq!(result, if length <= 5 { Ok(()) } else { Err(TOO_DEEP) });
        chain.push(next);
    }
    // A change at the end of the chain is seen at its beginning.
    ok!(control(chain[4], ADD, reader, IN));
    check_eq!(now(chain[0]), Ok(vec![(IN, chain[1].0)]));
    Ok(())
}

/// All that are ready get their turn, however few are asked for.
#[guest_test]
fn epoll_takes_turns() -> Outcome {
    let epoll = ok!(create());
    let pipes: Vec<_> =
        (0..20).map(|_| sys::pipe(0)).collect::<Result<_>>().map_err(|e| format!("{e:?}"))?;
    for [reader, _] in &pipes {
        ok!(control(epoll, ADD, *reader, IN));
    }
    let mut expected = vec![];
    for [reader, writer] in pipes.iter().step_by(4) {
        ok!(sys::write(*writer, b"x"));
        expected.push(reader.0);
    }
    let mut found = vec![];
    for _ in 0..5 {
        found.extend(ok!(wait(epoll, 1, -1)).iter().map(|event| event.1));
    }
    check_eq!(found, expected);
    Ok(())
}

#[guest_test]
fn epoll_waits() -> Outcome {
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(0)));
    ok!(control(epoll, ADD, reader, IN));
    let start = ok!(sys::clock(abi::CLOCK_MONOTONIC));
    check_eq!(wait(epoll, 1, 30), Ok(vec![]));
    check!(ok!(sys::clock(abi::CLOCK_MONOTONIC)) - start >= Duration::from_millis(30));
    let sender = checking_child(|| {
        ok!(sys::sleep(Duration::from_millis(20)));
        check_eq!(sys::write(writer, b"x"), Ok(1));
        Ok(())
    })?;
    check_eq!(wait(epoll, 1, -1), Ok(vec![(IN, reader.0)]));
    expect_success(sender)?;
    check_eq!(sys::read(reader, &mut [0]), Ok(1));
    // Of several processes that wait at one epoll, each gets an event in time.
    let waiters = [(); 3].map(|()| {
        checking_child(|| {
            check_eq!(wait(epoll, 1, -1), Ok(vec![(IN, reader.0)]));
            Ok(())
        })
    });
    ok!(sys::sleep(Duration::from_millis(10)));
    ok!(sys::write(writer, b"x"));
    for waiter in waiters {
        expect_success(waiter?)?;
    }
    Ok(())
}

extern "C" fn ignore(_: i32) {}

#[guest_test]
fn epoll_and_signals() -> Outcome {
    let epoll = ok!(create());
    let alarm = 1u64 << (abi::SIGALRM - 1);
    ok!(sys::signal_handle(abi::SIGALRM as i32, ignore, abi::SA_RESTART));
    ok!(raw(abi::__NR_alarm, &[1]));
    check_eq!(wait(epoll, 1, -1), Err(Errno::EINTR));
    // A mask for the time of the call: what was blocked ends it at once.
    ok!(sys::signal_mask(alarm));
    ok!(sys::kill(sys::getpid(), abi::SIGALRM as i32));
    let (mut event, none) = (Event::default(), 0u64);
    let place = (&raw mut event).addr();
    let masked = [epoll.argument(), place, 1, usize::MAX, (&raw const none).addr(), 8];
    check_eq!(raw(abi::__NR_epoll_pwait, &masked), Err(Errno::EINTR));
    let time = [0u64, 1_000_000];
    let timed = |time: &[u64; 2], mask: *const u64, bytes: usize| {
        let time = time.as_ptr().addr();
        raw(abi::__NR_epoll_pwait2, &[epoll.argument(), place, 1, time, mask.addr(), bytes])
    };
    check_eq!(timed(&time, ptr::null(), 0), Ok(0));
    check_eq!(timed(&[0, 1_000_000_000], ptr::null(), 0), Err(Errno::EINVAL));
    check_eq!(timed(&time, &raw const none, 4), Err(Errno::EINVAL));
    ok!(sys::kill(sys::getpid(), abi::SIGALRM as i32));
    check_eq!(timed(&time, &raw const alarm, 8), Ok(0));
    check_eq!(timed(&time, &raw const none, 8), Err(Errno::EINTR));
    Ok(())
}

/// One change wakes at least one of those that wait exclusively, and no event is lost.
#[guest_test]
fn epoll_exclusive() -> Outcome {
    const EXCLUSIVE: u32 = IN | abi::EPOLLEXCLUSIVE;
    let (epoll, [reader, writer]) = (ok!(create()), ok!(sys::pipe(abi::O_NONBLOCK)));
    let once = EXCLUSIVE | abi::EPOLLONESHOT;
    check_eq!(control(epoll, ADD, reader, once), Err(Errno::EINVAL));
    check_eq!(control(epoll, ADD, reader, EXCLUSIVE | abi::EPOLLRDHUP), Err(Errno::EINVAL));
    check_eq!(control(epoll, ADD, ok!(create()), EXCLUSIVE), Err(Errno::EINVAL));
    ok!(control(epoll, ADD, writer, OUT));
    check_eq!(control(epoll, MOD, writer, OUT | abi::EPOLLEXCLUSIVE), Err(Errno::EINVAL));
    ok!(control(epoll, DEL, writer, 0));
    ok!(control(epoll, ADD, reader, EXCLUSIVE));
    check_eq!(control(epoll, MOD, reader, IN), Err(Errno::EINVAL));
    let waiters = [(); 3].map(|()| {
        checking_child(|| {
            let epoll = ok!(create());
            ok!(control(epoll, ADD, reader, EXCLUSIVE));
            loop {
                check_eq!(wait(epoll, 1, -1), Ok(vec![(IN, reader.0)]));
                if sys::read(reader, &mut [0]) == Ok(1) {
                    return Ok(());
                }
            }
        })
    });
    for waiter in waiters {
        ok!(sys::sleep(Duration::from_millis(10)));
        ok!(sys::write(writer, b"x"));
        // Whoever it is: all three end after three bytes.
        waiter?;
    }
    for _ in 0..3 {
        check!(
            sys::wait(-1, 0)
                .is_ok_and(|ended| ended.is_some_and(|(_, status)| status.exit_code() == Some(0)))
        );
    }
    Ok(())
}
