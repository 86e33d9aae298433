//! Malformed and hostile messages: the reply is an error, no server panics, and the session
//! continues.

mod common;

use common::wrapped::Tower;
use common::*;
use foundation::{ByteCount, Errno, FileOffset};
use fsproto::*;
use fsserver::{Dispatcher, FileServer, SessionId};
use proptest::prelude::*;

/// Sends a message and returns tag and status of the reply. Checks that there is a well-formed one.
fn ask<S: FileServer>(
    server: &SharedServer<S>,
    session: SessionId,
    header: &[u8; HEADER_BYTES],
    payload: &[u8],
) -> (Tag, Result<(), Errno>) {
    let mut dispatcher = server.borrow_mut();
    let reply = dispatcher.handle(session, header, payload);
    let (decoded, _) = Header::decode(&reply.header).expect("a reply that does not decode");
    let mark = if is_direct(header) { HeaderFlags::DIRECT } else { HeaderFlags::empty() };
    assert_eq!(decoded.flags, HeaderFlags::REPLY | mark);
    assert_eq!(decoded.payload_bytes as usize, reply.payload.len());
    assert_eq!(reply.payload.segments().map(<[u8]>::len).sum::<usize>(), reply.payload.len());
    (decoded.tag, decoded.result())
}

fn greeted<S: FileServer>(server: &SharedServer<S>) -> SessionId {
    let session = server.borrow_mut().open_session();
    let hello = Hello { version: VERSION, features: Features::all() };
    assert_eq!(ask(server, session, &hello.request(Tag(1), 0), &[]).1, Ok(()));
    session
}

#[test]
fn x5_a_session_begins_with_exactly_one_hello() {
    let server = memfs(10);
    let session = server.borrow_mut().open_session();
    assert_eq!(
        ask(&server, session, &GetStatFs {}.request(Tag(9), 0), &[]),
        (Tag(9), Err(Errno::EPROTO))
    );
    let hello = Hello { version: VERSION, features: Features::empty() };
    assert_eq!(
        ask(&server, session, &Hello { version: 0, ..hello }.request(Tag(2), 0), &[]).1,
        Err(Errno::EPROTO)
    );
    assert_eq!(ask(&server, session, &hello.request(Tag(3), 0), &[]).1, Ok(()));
    assert_eq!(ask(&server, session, &hello.request(Tag(4), 0), &[]).1, Err(Errno::EPROTO));
    assert_eq!(ask(&server, session, &GetStatFs {}.request(Tag(5), 0), &[]).1, Ok(()));
}

#[test]
fn x5_features_that_were_not_granted_are_refused() {
    let tower = Tower::new(10);
    let session = tower.wrapper.borrow_mut().open_session();
    let hello = Hello { version: VERSION, features: Features::SPARSE };
    assert_eq!(ask(&tower.wrapper, session, &hello.request(Tag(1), 0), &[]).1, Ok(()));
    let snapshot = Snapshot { handle: Handle::ROOT, length: ByteCount(1), ..Snapshot::default() };
    assert_eq!(
        ask(&tower.wrapper, session, &snapshot.request(Tag(2), 0), &[]).1,
        Err(Errno::EOPNOTSUPP)
    );
}

#[test]
fn x5_headers_that_do_not_match_their_message() {
    let server = memfs(10);
    let session = greeted(&server);
    let too_short = Stat { dir: Handle::ROOT, flags: OpenFlags::empty() }.request(Tag(7), 5);
    assert_eq!(ask(&server, session, &too_short, b"1234"), (Tag(7), Err(Errno::EPROTO)));
    let a_reply = GetStatFs::reply(Tag(8), &StatFs::default(), 0);
    assert_eq!(ask(&server, session, &a_reply, &[]), (Tag(8), Err(Errno::EPROTO)));
    let from_server = Recall { handle: Handle::ROOT }.request(Tag(9), 0);
    assert_eq!(ask(&server, session, &from_server, &[]), (Tag(9), Err(Errno::EPROTO)));
    let mut unknown = GetStatFs {}.request(Tag(10), 0);
    unknown[8] = 200;
    assert_eq!(ask(&server, session, &unknown, &[]), (Tag(10), Err(Errno::ENOSYS)));
    let mut overlong = GetStatFs {}.request(Tag(11), 0);
    overlong[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(ask(&server, session, &overlong, &[]), (Tag(11), Err(Errno::EPROTO)));
}

#[test]
fn x5_handles_that_a_request_closes_besides() {
    let server = memfs(10);
    let session = greeted(&server);
    let open = Open { dir: Handle::ROOT, flags: CREATE, mode: 0 }.request(Tag(1), 1);
    for _ in 0..4 {
        assert_eq!(ask(&server, session, &open, b"a").1, Ok(()));
    }
    let look = |handle: u64, closed: &[u64]| {
        let closed: Vec<Handle> = closed.iter().copied().map(Handle).collect();
        let mut header = GetAttr { handle: Handle(handle) }.request(Tag(2), 0);
        add_closes(&mut header, &closed);
        ask(&server, session, &header, &[]).1
    };
    // They are closed first.
    assert_eq!(look(1, &[2]), Ok(()));
    assert_eq!(look(2, &[]), Err(Errno::EBADF));
    assert_eq!(look(3, &[3]), Err(Errno::EBADF));
    // One that is not the session's ends the request; what was before it is closed.
    assert_eq!(look(1, &[4, 2]), Err(Errno::EBADF));
    assert_eq!(look(4, &[]), Err(Errno::EBADF));
    assert_eq!(look(1, &[]), Ok(()));
    // Who has not asked for the feature cannot use it.
    let plain = server.borrow_mut().open_session();
    let hello = Hello { version: VERSION, features: Features::empty() };
    assert_eq!(ask(&server, plain, &hello.request(Tag(3), 0), &[]).1, Ok(()));
    let mut header = GetStatFs {}.request(Tag(4), 0);
    add_closes(&mut header, &[Handle(1)]);
    assert_eq!(ask(&server, plain, &header, &[]), (Tag(4), Err(Errno::EPROTO)));
    assert_eq!(look(1, &[]), Ok(()));
}

#[test]
fn x5_pieces_must_add_up() {
    let server = memfs(10);
    let session = greeted(&server);
    let open = Open { dir: Handle::ROOT, flags: CREATE, mode: 0 };
    assert_eq!(ask(&server, session, &open.request(Tag(1), 1), b"a").1, Ok(()));
    let write = Write {
        handle: Handle(1),
        offset: FileOffset(0),
        flags: WriteFlags::empty(),
        data_bytes: 5,
    };
    assert_eq!(ask(&server, session, &write.request(Tag(2), 4), b"1234").1, Err(Errno::EPROTO));
    // Bytes behind the data are a list of pieces, which this server does not support.
    assert_eq!(
        ask(&server, session, &write.request(Tag(2), 6), b"123456").1,
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(ask(&server, session, &write.request(Tag(2), 5), b"12345").1, Ok(()));
}

#[test]
fn x5_lists_of_ranges_are_checked() {
    let server = memfs(300);
    let mut other = Files::of(&server);
    let handle = other.create("a", &pattern(1, MAX_PAYLOAD));
    let session = greeted(&server);
    let open = Open { dir: Handle::ROOT, flags: OpenFlags::READ, mode: 0 };
    assert_eq!(ask(&server, session, &open.request(Tag(1), 1), b"a").1, Ok(()));
    let read = |handle, ranges: &[(u64, u32)], less: usize| {
        let range = |&(offset, length)| ByteRange { offset, length }.to_bytes();
        let list: Vec<u8> = ranges.iter().flat_map(range).collect();
        let list = &list[..list.len() - less];
        ask(&server, session, &ReadRanges { handle }.request(Tag(2), list.len()), list).1
    };
    let whole = MAX_PAYLOAD as u32;
    let mine = Handle(handle.0 + 1);
    assert_eq!(read(mine, &[], 0), Ok(()));
    assert_eq!(read(mine, &[(whole.into(), 0), (1, whole - 1), (0, 1)], 0), Ok(()));
    assert_eq!(read(mine, &[(0, 1); MAX_RANGES], 0), Ok(()));
    assert_eq!(read(mine, &[(0, 1); MAX_RANGES + 1], 0), Err(Errno::EPROTO));
    assert_eq!(read(mine, &[(0, 1)], 1), Err(Errno::EPROTO));
    for beyond in [&[(1, whole)][..], &[(0, 1), (u64::MAX, 1)], &[(0, whole), (0, 1)]] {
        assert_eq!(read(mine, beyond, 0), Err(Errno::EINVAL));
    }
    assert_eq!(read(mine, &[(0, u32::MAX); MAX_RANGES], 0), Err(Errno::EINVAL));
    assert_eq!(read(handle, &[(0, 1)], 0), Err(Errno::EBADF), "a handle of another session");
}

#[test]
fn x5_handles_run_out_before_memory_does() {
    let mut dispatcher = Dispatcher::new(memfs_of(10));
    let session = dispatcher.open_session();
    let hello = Hello { version: VERSION, features: Features::all() };
    dispatcher.handle(session, &hello.request(Tag(0), 0), &[]);
    let open = Open { dir: Handle::ROOT, flags: OpenFlags::READ, mode: 0 }.request(Tag(1), 0);
    for _ in 0..fsserver::MAX_OPEN_FILES {
        assert_eq!(
            Header::decode(&dispatcher.handle(session, &open, &[]).header).unwrap().0.status,
            0
        );
    }
    assert_eq!(
        Header::decode(&dispatcher.handle(session, &open, &[]).header).unwrap().0.status,
        Errno::ENFILE.0
    );
}

fn memfs_of(pages: u64) -> fsserver::memfs::Memfs<TestClock> {
    fsserver::memfs::Memfs::new(
        pages * 4096,
        fsserver::memfs::AccessTimes::Relative,
        TestClock::default(),
    )
}

/// An almost valid header: the operation exists, the numbers are small or extreme.
fn near_header() -> impl Strategy<Value = ([u8; HEADER_BYTES], Vec<u8>)> {
    let number = prop_oneof![
        0_u64..6,
        0_u64..6,
        any::<u64>(),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        (0_u64..20).prop_map(|page| page * 4096)
    ];
    let fields = prop::collection::vec(number, 14);
    let payload = prop_oneof![
        Just(Vec::new()),
        Just(b"a".to_vec()),
        Just(b"ab".to_vec()),
        Just(b"d/a".to_vec()),
        prop::collection::vec(any::<u8>(), 0..100),
        prop::collection::vec(any::<u8>(), 8192..8200),
    ];
    (1_u16..27, fields, any::<u8>(), payload).prop_map(|(op, fields, shift, payload)| {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8..10].copy_from_slice(&op.to_le_bytes());
        // Most fields have 8 bytes, some have 4; both patterns occur.
        let mut at = 16;
        for (index, field) in fields.iter().enumerate() {
            let length = if index < 8 && shift & (1 << index) != 0 { 4 } else { 8 };
            if let Some(space) = header.get_mut(at..at + length) {
                space.copy_from_slice(&field.to_le_bytes()[..length]);
            }
            at += length;
        }
        (header, payload)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn x5_no_message_makes_a_server_panic(
        messages in prop::collection::vec(near_header(), 1..200),
    ) {
        let tower = Tower::new(50);
        let mut files = Files::of(&tower.wrapper);
        files.make_dir("d").unwrap();
        let session = greeted(&tower.wrapper);
        for (header, payload) in &messages {
            let _ = ask(&tower.wrapper, session, header, payload);
        }
        // Other sessions still work.
        let handle = files.create("ours", b"bytes");
        prop_assert_eq!(files.read_all(handle).unwrap(), b"bytes");
    }

    #[test]
    fn x5_no_bytes_make_a_server_panic(
        header in prop::array::uniform32(any::<[u8; 4]>()),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let server = memfs(10);
        let session = greeted(&server);
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&header.concat());
        let _ = ask(&server, session, &bytes, &payload);
        bytes[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[9..16].fill(0);
        bytes[8] %= 30;
        let _ = ask(&server, session, &bytes, &payload);
    }
}
