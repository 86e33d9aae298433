//! Connections: streams, and records.

use super::{
    DONT_WAIT, EISCONN, NO_SIGNAL, NONBLOCKING, PACKET, PEEK, STREAM, WAIT_ALL, accept, bind,
    connect, connection, listen, number, own_name, peer_name, receive, receive_from, reported,
    send, send_to, shut_down, socket,
};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, polled, raw, signal_of};
use user::prelude::*;
use user::sys::abi;

const IN: u32 = abi::POLLIN;
const OUT: u32 = abi::POLLOUT;
const HUP: u32 = abi::POLLHUP;
const READ_HANG_UP: u32 = 0x2000;
const ALL: u32 = IN | OUT | READ_HANG_UP;
const ERROR: usize = 4;

#[guest_test]
fn unix_stream_connects() -> Outcome {
    let [listener, client, server] = connection(STREAM, b"name")?;
    check_eq!(own_name(listener), Ok(reported(b"name")));
    check_eq!(own_name(server), Ok(reported(b"name")));
    check_eq!(peer_name(client), Ok(reported(b"name")));
    check_eq!(peer_name(server), Ok(vec![1, 0]));
    check_eq!(own_name(client), Ok(vec![1, 0]));
    check_eq!(send(client, b"question", 0), Ok(8));
    check_eq!(receive(server, 0), Ok(b"question".to_vec()));
    check_eq!(sys::write(server, b"answer"), Ok(6));
    check_eq!(receive_from(client, PEEK), Ok((b"answer".to_vec(), reported(b"name"))));
    let mut bytes = [0; 3];
    check_eq!(sys::read(client, &mut bytes), Ok(3));
    check_eq!(receive(client, 0), Ok(b"wer".to_vec()));
    check_eq!(receive(client, DONT_WAIT), Err(Errno::EAGAIN));
    check_eq!(connect(client, b"name"), Err(EISCONN));
    check_eq!(send_to(client, b"x", 0, b"name"), Err(EISCONN));
    check_eq!(listen(client, 1), Err(Errno::EINVAL));
    check_eq!(ok!(sys::fstat(client)).st_mode & abi::S_IFMT, abi::S_IFSOCK);
    check_eq!(ok!(sys::fstat(client)).st_mode & 0o777, 0o777);
    Ok(())
}

/// A server in another process accepts and answers several clients.
#[guest_test]
fn unix_stream_serves_processes() -> Outcome {
    let listener = ok!(socket(STREAM));
    ok!(bind(listener, b"server"));
    ok!(listen(listener, 3));
    let server = checking_child(|| {
        for _ in 0..8 {
            let client = ok!(accept(listener));
            let mut bytes = [0; 100_000];
            ok!(sys::read_full(client, &mut bytes));
            check!(bytes.iter().all(|&byte| byte == bytes[0]));
            ok!(sys::write_all(client, &bytes[..1]));
            ok!(sys::close(client));
        }
        Ok(())
    })?;
    for round in 0..8 {
        let client = ok!(socket(STREAM));
        ok!(connect(client, b"server"));
        ok!(sys::write_all(client, &[round; 100_000]));
        check_eq!(receive(client, WAIT_ALL), Ok(vec![round]));
        check_eq!(receive(client, 0), Ok(vec![]));
        ok!(sys::close(client));
    }
    expect_success(server)
}

#[guest_test]
fn unix_stream_ends() -> Outcome {
    ok!(sys::signal_ignore(abi::SIGPIPE as i32));
    let [listener, client, server] = connection(STREAM, b"\0ends")?;
    check_eq!(polled(client, ALL)?, OUT);
    check_eq!(polled(listener, ALL)?, 0);
    // The other side sends no more.
    ok!(send(server, b"last", 0));
    ok!(shut_down(server, 1));
    check_eq!(polled(client, ALL)?, IN | OUT | READ_HANG_UP);
    check_eq!(send(server, b"x", 0), Err(Errno::EPIPE));
    check_eq!(receive(client, 0), Ok(b"last".to_vec()));
    check_eq!(receive(client, 0), Ok(vec![]));
    check_eq!(send(client, b"still", 0), Ok(5));
    check_eq!(receive(server, 0), Ok(b"still".to_vec()));
    ok!(shut_down(server, 0));
    check_eq!(send(client, b"x", NO_SIGNAL), Err(Errno::EPIPE));
    check_eq!(polled(client, ALL)?, IN | OUT | HUP | READ_HANG_UP);
    check_eq!(shut_down(client, 3), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn unix_stream_reset() -> Outcome {
    for kind in [STREAM, PACKET] {
        // What the other side has not read is lost, and it is reported once.
        let [one, other] = ok!(sys::socketpair(kind));
        ok!(send(one, b"unread", 0));
        ok!(send(other, b"answer", 0));
        ok!(sys::close(other));
        check_eq!(polled(one, ALL)? & (IN | HUP | abi::POLLERR), IN | HUP | abi::POLLERR);
        let (answer, reset) = (Ok(b"answer".to_vec()), Err(Errno::ECONNRESET));
        let expected = if kind == STREAM { [answer, reset] } else { [reset, answer] };
        check_eq!([receive(one, 0), receive(one, 0)], expected);
        check_eq!(receive(one, 0), Ok(vec![]));
        let [one, other] = ok!(sys::socketpair(kind));
        ok!(send(one, b"unread", 0));
        ok!(sys::close(other));
        check_eq!(number(one, ERROR), Ok(104));
        check_eq!(number(one, ERROR), Ok(0));
        check_eq!(receive(one, 0), Ok(vec![]));
    }
    // A connection that was never accepted.
    let (listener, client) = (ok!(socket(STREAM)), ok!(socket(STREAM)));
    ok!(bind(listener, b"\0reset"));
    ok!(listen(listener, 1));
    ok!(connect(client, b"\0reset"));
    check_eq!(polled(listener, ALL)?, IN);
    ok!(send(client, b"x", 0));
    ok!(sys::close(listener));
    check_eq!(receive(client, 0), Err(Errno::ECONNRESET));
    check_eq!(connect(ok!(socket(STREAM)), b"\0reset"), Err(Errno::ECONNREFUSED));
    Ok(())
}

/// SIGPIPE is for streams that are broken, unless the sender does not want it.
#[guest_test]
fn unix_pipe_signal() -> Outcome {
    let broken = |kind: u32, flags: u32| {
        signal_of(|| {
            let pair = sys::socketpair(kind);
            if let Ok([one, other]) = pair {
                let _ = sys::close(other);
                let _ = send(one, b"x", flags);
            }
        })
    };
    check_eq!(broken(STREAM, 0)?, Some(abi::SIGPIPE as i32));
    check_eq!(broken(STREAM, NO_SIGNAL)?, None);
    check_eq!(broken(PACKET, 0)?, None);
    Ok(())
}

#[guest_test]
fn unix_backlog() -> Outcome {
    let listener = ok!(socket(STREAM | NONBLOCKING));
    ok!(bind(listener, b"\0backlog"));
    check_eq!(accept(listener), Err(Errno::EINVAL));
    ok!(listen(listener, 1));
    check_eq!(accept(listener), Err(Errno::EAGAIN));
    let clients: Vec<Fd> = ok!((0..3).map(|_| socket(STREAM | NONBLOCKING)).collect());
    check_eq!(connect(clients[0], b"\0backlog"), Ok(0));
    check_eq!(connect(clients[1], b"\0backlog"), Ok(0));
    check_eq!(connect(clients[2], b"\0backlog"), Err(Errno::EAGAIN));
    // One who waits gets the place that becomes free.
    let waiting = checking_child(|| {
        let client = ok!(socket(STREAM));
        ok!(connect(client, b"\0backlog"));
        check_eq!(receive(client, 0), Ok(b"third".to_vec()));
        Ok(())
    })?;
    ok!(sys::sleep(core::time::Duration::from_millis(50)));
    let accepted = ok!(accept(listener));
    ok!(send(clients[0], b"first", 0));
    check_eq!(receive(accepted, 0), Ok(b"first".to_vec()));
    ok!(accept(listener));
    let third = loop {
        match accept(listener) {
            Err(Errno::EAGAIN) => ok!(sys::sleep(core::time::Duration::from_millis(5))),
            accepted => break ok!(accepted),
        }
    };
    ok!(send(third, b"third", 0));
    expect_success(waiting)?;
    // Nobody is accepted after a shut-down.
    ok!(shut_down(listener, 0));
    check_eq!(accept(listener), Err(Errno::EAGAIN));
    check_eq!(connect(clients[2], b"\0backlog"), Err(Errno::ECONNREFUSED));
    Ok(())
}

#[guest_test]
fn unix_records() -> Outcome {
    let [_, client, server] = connection(PACKET, b"records")?;
    check_eq!(send(client, b"first", 0), Ok(5));
    check_eq!(send(client, b"second one", 0), Ok(10));
    let mut bytes = [0; 3];
    check_eq!(sys::read(server, &mut bytes), Ok(3));
    check_eq!(receive(server, 0), Ok(b"second one".to_vec()));
    // The name of the receiver is not looked at.
    check_eq!(send_to(client, b"third", 0, b"nowhere"), Ok(5));
    let mut byte = [0u8];
    let arguments = [server.argument(), byte.as_mut_ptr() as usize, 1, 0x20, 0, 0];
    check_eq!(raw(abi::__NR_recvfrom, &arguments), Ok(5));
    ok!(sys::close(client));
    check_eq!(receive(server, 0), Ok(vec![]));
    check_eq!(send(server, b"x", 0), Err(Errno::EPIPE));
    Ok(())
}

#[guest_test]
fn unix_unconnected() -> Outcome {
    let (stream, packets) = (ok!(socket(STREAM)), ok!(socket(PACKET)));
    check_eq!(polled(stream, ALL)?, OUT | HUP);
    check_eq!(send(stream, b"x", 0), Err(Errno::ENOTCONN));
    check_eq!(send(packets, b"x", 0), Err(Errno::ENOTCONN));
    check_eq!(receive(stream, 0), Err(Errno::EINVAL));
    check_eq!(receive(packets, 0), Err(Errno::ENOTCONN));
    check_eq!(peer_name(stream), Err(Errno::ENOTCONN));
    check_eq!(send_to(stream, b"x", 0, b"name"), Err(Errno::EOPNOTSUPP));
    check_eq!(listen(stream, 1), Err(Errno::EINVAL));
    check_eq!(accept(stream), Err(Errno::EINVAL));
    check_eq!(shut_down(stream, 2), Ok(0));
    // Another kind does not connect.
    ok!(bind(packets, b"other kind"));
    ok!(listen(packets, 1));
    let other = ok!(socket(STREAM));
    check_eq!(connect(other, b"other kind"), Err(Errno::EPROTOTYPE));
    Ok(())
}
