//! The servers: the archive that memfs starts with, and messages of a hostile client.

use std::cell::RefCell;
use std::rc::Rc;

use fsproto::{
    Features, GetStatFs, HEADER_BYTES, Header, HeaderFlags, Nothing, Operation, Tag, Time, hello,
};
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;
use fsserver::{Dispatcher, FileServer, LocalConnection};

const CAPACITY_BYTES: u64 = 1 << 20;

fn now() -> Time {
    Time(0)
}

fn memfs() -> Memfs<fn() -> Time> {
    Memfs::new(CAPACITY_BYTES, AccessTimes::Untouched, now as fn() -> Time)
}

/// An archive; afterwards the server must still reply.
pub fn archive(data: &[u8]) {
    let leaked: &'static mut [u8] = Box::leak(data.to_vec().into_boxed_slice());
    let start: *mut [u8] = leaked;
    // SAFETY: nothing else refers to the bytes until they are freed below.
    let bytes: &'static [u8] = unsafe { &*start };
    let mut server = memfs();
    let _ = server.add_archive(bytes);
    converse(&mut Dispatcher::new(server), &[]);
    // SAFETY: the pointer is from `Box::leak`, and the server, its only user, has been dropped.
    drop(unsafe { Box::from_raw(start) });
}

/// Messages to memfs.
pub fn server(data: &[u8]) {
    converse(&mut Dispatcher::new(memfs()), data);
}

/// Messages to the wrapper, with memfs as its base.
pub fn wrapper(data: &[u8]) {
    let base = LocalConnection::new(Rc::new(RefCell::new(Dispatcher::new(memfs()))));
    if let Ok(wrapper) = Snapfs::new(base, now) {
        converse(&mut Dispatcher::new(wrapper), data);
    }
}

/// Opens a session, sends the messages that `data` describes, and checks that the server still
/// replies to a valid request.
fn converse(dispatcher: &mut Dispatcher<impl FileServer>, data: &[u8]) {
    let session = dispatcher.open_session();
    let hello = hello(Features::all());
    let mut ask = |header: &[u8; HEADER_BYTES], payload: &[u8]| {
        let reply = dispatcher.handle(session, header, payload);
        let (decoded, _) = Header::decode(&reply.header).expect("a reply that does not decode");
        assert!(decoded.flags.contains(HeaderFlags::REPLY));
        assert_eq!(
            decoded.payload_bytes as usize,
            reply.payload.segments().map(<[u8]>::len).sum::<usize>()
        );
        decoded.result()
    };
    assert_eq!(ask(&hello.request(Tag(1), 0), &[]), Ok(()));
    let mut rest = data;
    // A byte for the operation, one for the length of the fields, one for that of the payload.
    while let [op, fields_bytes, payload_bytes, after @ ..] = rest {
        let (fields, after) =
            after.split_at(after.len().min(usize::from(*fields_bytes) % (HEADER_BYTES - 16 + 1)));
        let (payload, after) = after.split_at(after.len().min(usize::from(*payload_bytes)));
        let header = Header {
            op: u16::from(*op),
            tag: Tag(2),
            payload_bytes: payload.len() as u32,
            ..Header::default()
        };
        let mut bytes = header.encode(&Nothing {});
        bytes[16..16 + fields.len()].copy_from_slice(fields);
        // The request may fail; the server must reply.
        let _ = ask(&bytes, payload);
        rest = after;
    }
    assert_eq!(ask(&GetStatFs {}.request(Tag(3), 0), &[]), Ok(()));
    dispatcher.close_session(session);
}
