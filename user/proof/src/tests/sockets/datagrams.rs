//! Sockets that keep the boundaries of what is sent.

use super::{
    DATAGRAM, DONT_WAIT, Message, NONBLOCKING, PEEK, STREAM, TRUNCATED, accept, address, bind,
    connect, listen, peer_name, receive, receive_from, reported, send, send_to, shut_down, socket,
};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, polled, raw};
use user::prelude::*;
use user::sys::abi;

#[guest_test]
fn unix_datagrams() -> Outcome {
    let (server, client) = (ok!(socket(DATAGRAM)), ok!(socket(DATAGRAM)));
    ok!(bind(server, b"server"));
    check_eq!(send(client, b"x", 0), Err(Errno::ENOTCONN));
    check_eq!(send_to(client, b"nameless", 0, b"server"), Ok(8));
    check_eq!(receive_from(server, 0), Ok((b"nameless".to_vec(), vec![])));
    ok!(bind(client, b"\0client"));
    check_eq!(send_to(client, b"named", 0, b"server"), Ok(5));
    check_eq!(send_to(client, b"", 0, b"server"), Ok(0));
    check_eq!(receive_from(server, PEEK), Ok((b"named".to_vec(), address(b"\0client"))));
    check_eq!(receive_from(server, 0), Ok((b"named".to_vec(), address(b"\0client"))));
    check_eq!(receive_from(server, 0), Ok((vec![], address(b"\0client"))));
    check_eq!(receive(server, DONT_WAIT), Err(Errno::EAGAIN));
    // The length of the whole, of which a part fits.
    ok!(send_to(client, b"longer", 0, b"server"));
    let mut message = Message::new(&[0; 3], &[]);
    message.name = vec![0; 110];
    check_eq!(message.receive(server, 0), Ok(3));
    check_eq!((message.flags(), &message.bytes[..]), (TRUNCATED, &b"lon"[..]));
    check_eq!(message.name, address(b"\0client"));
    check_eq!(listen(server, 1), Err(Errno::EOPNOTSUPP));
    check_eq!(accept(server), Err(Errno::EOPNOTSUPP));
    check_eq!(send_to(client, b"x", 0, b"missing"), Err(Errno::ENOENT));
    check_eq!(send_to(client, b"x", 0, b"\0missing"), Err(Errno::ECONNREFUSED));
    let stream = ok!(socket(STREAM));
    ok!(bind(stream, b"stream"));
    check_eq!(send_to(client, b"x", 0, b"stream"), Err(Errno::EPROTOTYPE));
    check_eq!(connect(client, b"stream"), Err(Errno::EPROTOTYPE));
    // Abstract names of different kinds have nothing to do with each other.
    let other = ok!(socket(STREAM));
    ok!(bind(other, b"\0client"));
    check_eq!(connect(ok!(socket(STREAM)), b"\0missing"), Err(Errno::ECONNREFUSED));
    Ok(())
}

#[guest_test]
fn unix_datagrams_connected() -> Outcome {
    let sockets: Vec<Fd> = ok!((0..3).map(|_| socket(DATAGRAM | NONBLOCKING)).collect());
    let [one, two, three] = sockets[..] else { return Err("three".into()) };
    ok!(bind(one, b"one"));
    ok!(bind(two, b"two"));
    check_eq!(connect(two, b"one"), Ok(0));
    check_eq!(peer_name(two), Ok(reported(b"one")));
    check_eq!(send(two, b"hello", 0), Ok(5));
    check_eq!(receive(one, 0), Ok(b"hello".to_vec()));
    // A connected one receives from its peer only.
    check_eq!(send_to(three, b"x", 0, b"two"), Err(Errno::EPERM));
    check_eq!(connect(three, b"two"), Err(Errno::EPERM));
    check_eq!(send_to(one, b"back", 0, b"two"), Ok(4));
    check_eq!(receive(two, 0), Ok(b"back".to_vec()));
    // The connection is dissolved by an address without a family.
    let nothing = [0u8; 2];
    let dissolve = raw(abi::__NR_connect, &[two.argument(), nothing.as_ptr() as usize, 2]);
    check_eq!(dissolve, Ok(0));
    check_eq!(peer_name(two), Err(Errno::ENOTCONN));
    check_eq!(send_to(three, b"free", 0, b"two"), Ok(4));
    check_eq!(receive(two, 0), Ok(b"free".to_vec()));
    // A receiver that is closed refuses, and then there is no connection.
    ok!(connect(two, b"one"));
    ok!(sys::close(one));
    check_eq!(send(two, b"x", 0), Err(Errno::ECONNREFUSED));
    check_eq!(send(two, b"x", 0), Err(Errno::ENOTCONN));
    check_eq!(send_to(two, b"x", 0, b"one"), Err(Errno::ECONNREFUSED));
    // Shut down.
    let [one, other] = ok!(sys::socketpair(DATAGRAM | NONBLOCKING));
    check_eq!(send(one, b"to the other", 0), Ok(12));
    ok!(shut_down(other, 0));
    check_eq!(send(one, b"x", 0), Err(Errno::EPIPE));
    ok!(shut_down(other, 1));
    check_eq!(send(other, b"x", 0), Err(Errno::EPIPE));
    check_eq!(receive(one, 0), Err(Errno::EAGAIN));
    Ok(())
}

/// A queue is limited: a sender waits until the receiver has received, or is closed.
#[guest_test]
fn unix_datagrams_wait() -> Outcome {
    let server = ok!(socket(DATAGRAM));
    ok!(bind(server, b"\0full"));
    let client = ok!(socket(DATAGRAM));
    ok!(connect(client, b"\0full"));
    let mut queued = 0;
    let error = loop {
        match send(client, &[queued as u8; 100], DONT_WAIT) {
            Ok(_) => queued += 1,
            Err(error) => break error,
        }
        check!(queued < 1 << 20);
    };
    check_eq!(error, Errno::EAGAIN);
    check_eq!(polled(client, abi::POLLOUT)?, 0);
    let waiting = checking_child(|| {
        check_eq!(send(client, b"waited", 0), Ok(6));
        Ok(())
    })?;
    let mut received = 0;
    loop {
        let bytes = ok!(receive(server, 0));
        if bytes == b"waited" {
            break;
        }
        received += 1;
    }
    check_eq!(received, queued);
    expect_success(waiting)?;
    while send(client, &[0; 100], DONT_WAIT).is_ok() {}
    let refused = checking_child(|| {
        ok!(sys::close(server));
        check_eq!(send(client, b"x", 0), Err(Errno::ECONNREFUSED));
        Ok(())
    })?;
    ok!(sys::sleep(core::time::Duration::from_millis(50)));
    ok!(sys::close(server));
    expect_success(refused)
}

/// sendmmsg(2) and recvmmsg(2).
#[guest_test]
fn unix_many_messages() -> Outcome {
    let [one, other] = ok!(sys::socketpair(DATAGRAM));
    let texts = [&b"one"[..], b"three", b"twelve"];
    let vectors: Vec<[usize; 2]> =
        texts.iter().map(|text| [text.as_ptr() as usize, text.len()]).collect();
    let header = |vector: &[usize; 2]| [0, 0, vector.as_ptr() as usize, 1, 0, 0, 0, 0];
    let mut headers: Vec<[usize; 8]> = vectors.iter().map(header).collect();
    let many = |call: u32, fd: Fd, headers: &mut Vec<[usize; 8]>, flags: usize| {
        raw(call, &[fd.argument(), headers.as_mut_ptr() as usize, headers.len(), flags, 0])
    };
    check_eq!(many(abi::__NR_sendmmsg, one, &mut headers, 0), Ok(3));
    check_eq!(headers.iter().map(|words| words[7]).collect::<Vec<_>>(), [3, 5, 6]);
    let mut space = [[0u8; 8]; 4];
    let vectors: Vec<[usize; 2]> =
        space.iter_mut().map(|bytes| [bytes.as_mut_ptr() as usize, 8]).collect();
    let mut headers: Vec<[usize; 8]> = vectors.iter().map(header).collect();
    const WAIT_FOR_ONE: usize = 0x10000;
    check_eq!(many(abi::__NR_recvmmsg, other, &mut headers, WAIT_FOR_ONE), Ok(3));
    check_eq!(headers.iter().map(|words| words[7]).collect::<Vec<_>>(), [3, 5, 6, 0]);
    check_eq!(&space[1][..5], b"three");
    let nothing = many(abi::__NR_recvmmsg, other, &mut headers, DONT_WAIT as usize);
    check_eq!(nothing, Err(Errno::EAGAIN));
    Ok(())
}
