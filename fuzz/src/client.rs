//! The kernel's side of the protocol with a hostile server, whose valid replies are changed by the
//! input.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES, SnapshotOffset};
use fsproto::{
    Attr, Close, FileId, FileKind, GetAttr, GetStatFs, HEADER_BYTES, Handle, Header, Hello,
    HolesListed, ListHoles, MAX_PAYLOAD, Nothing, Open, OpenFlags, Operation, Read, Request,
    SetAttr, Snapshot, Snapshotted, Stat, StatFs, Tag, VERSION, Version, Walked, Welcome, Write,
    Written,
};
use kernel::file::socket::{Message, Sender};
use kernel::file::{FileSystem, Io, OpenHow, UserBuffers, Walk, WritePosition};
use kernel::mem::{Backing, Placement, Prot, Space, UserAddr, UserSlice, host};
use kernel::mount::{Mount, MountedTree, Session, Transport};

const PAGE: usize = PAGE_BYTES;
const BASE: u64 = 0x1000_0000;
const BUFFER_PAGES: usize = 16;
const FILE_BYTES: u64 = 1 << 20;

/// The hostile server, which replies within the client's own call.
struct Liar {
    session: OnceLock<Weak<Session>>,
    /// The rest of the input, last byte first.
    input: Mutex<Vec<u8>>,
}

impl Liar {
    fn byte(&self) -> u8 {
        self.input.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop().unwrap_or(0)
    }

    /// What a server without faults replies to a request.
    fn valid_reply(tag: Tag, request: &Request) -> ([u8; HEADER_BYTES], Vec<u8>) {
        let attr = Attr {
            id: FileId(7),
            version: Version(1),
            size: ByteCount(FILE_BYTES),
            links: 1,
            mode: 0o644,
            kind: FileKind::Regular,
            ..Attr::default()
        };
        let walked = Walked { handle: Handle(5), attr, ..Walked::default() };
        let bytes = |length: usize| vec![0x5a; length.min(MAX_PAYLOAD)];
        match *request {
            Request::Hello(Hello { features, .. }) => (
                Hello::reply(
                    tag,
                    &Welcome { version: VERSION, features, root: FileId(1), files: 0 },
                    0,
                ),
                vec![],
            ),
            Request::Open(_) => (Open::reply(tag, &walked, 0), vec![]),
            Request::Stat(_) => {
                (Stat::reply(tag, &Walked { handle: Handle::NONE, ..walked }, 0), vec![])
            }
            Request::GetAttr(_) => (GetAttr::reply(tag, &attr, 0), vec![]),
            Request::SetAttr(_) => (SetAttr::reply(tag, &attr, 0), vec![]),
            Request::Read(Read { length, .. }) => {
                (Read::reply(tag, &Nothing {}, length as usize), bytes(length as usize))
            }
            Request::Snapshot(Snapshot { length, misalignment, .. }) => {
                let leading = (PAGE as u64 - u64::from(misalignment)) % PAGE as u64;
                let trailing = (u64::from(misalignment) + length.0) % PAGE as u64;
                let reply = Snapshotted {
                    handle: Handle(9),
                    length,
                    file: FileId(7),
                    version: Version(1),
                    leading_bytes: leading as u32,
                    trailing_bytes: trailing as u32,
                    holes_end: SnapshotOffset(length.0),
                    ..Snapshotted::default()
                };
                (Snapshot::reply(tag, &reply, 0), bytes((leading + trailing) as usize))
            }
            Request::Write(_) => (Write::reply(tag, &Written::default(), 0), vec![]),
            Request::GetStatFs(_) => (GetStatFs::reply(tag, &StatFs::default(), 0), vec![]),
            Request::ListHoles(ListHoles { offset, length, .. }) => (
                ListHoles::reply(
                    tag,
                    &HolesListed { holes_end: offset.saturating_add(length.0) },
                    0,
                ),
                vec![],
            ),
            _ => (Close::reply(tag, &Nothing {}, 0), vec![]),
        }
    }
}

impl Transport for Liar {
    fn send(&self, message: Message) -> Result<(), Errno> {
        let header = message.inline.first_chunk().expect("a message starts with its header");
        let (fields, mut reader) =
            Header::decode(header).expect("the client's requests are well-formed");
        let request =
            Request::decode(fields.op, &mut reader).expect("the client's requests are well-formed");
        let (mut reply, mut payload) = Self::valid_reply(fields.tag, &request);
        // Operation and tag stay valid: the client would rightly wait forever for the right reply.
        reply[8..10].copy_from_slice(&fields.op.to_le_bytes());
        for _ in 0..self.byte() % 4 {
            let at = 16 + usize::from(self.byte()) % (HEADER_BYTES - 16);
            reply[at] = self.byte();
        }
        match self.byte() {
            1 => payload.truncate(usize::from(self.byte())),
            2 => payload.extend((0..self.byte()).map(|_| self.byte())),
            3 => reply[12] = self.byte(),
            _ => {}
        }
        let length = if self.byte() == 1 { u32::from(self.byte()) } else { payload.len() as u32 };
        reply[..4].copy_from_slice(&length.to_le_bytes());
        let inline = [&reply[..], &payload].concat();
        if let Some(session) = self.session.get().and_then(Weak::upgrade) {
            session
                .message(Message { inline: inline.into(), ..Message::default() }, Sender::Server);
        }
        Ok(())
    }
}

/// Opens, queries, reads and writes a file. The kernel must not panic, and a read must not return
/// more than was requested.
pub fn client(data: &[u8]) {
    let _alone = host::exclusive();
    let input = Mutex::new(data.iter().rev().copied().collect());
    let liar = Arc::new(Liar { session: OnceLock::new(), input });
    let session = Arc::new(Session::new(liar.clone()));
    let _ = liar.session.set(Arc::downgrade(&session));
    // The mount fails if the reply to `Hello` is invalid.
    if let Ok(mount) = Mount::new(session)
        && let Ok(space) = Space::new()
    {
        let at = Placement::Fixed(UserAddr(BASE));
        if space
            .map(
                at,
                ByteCount::of_len(BUFFER_PAGES * PAGE),
                Prot::READ | Prot::WRITE,
                Backing::Anonymous,
                "",
            )
            .is_ok()
        {
            use_files(&liar, &MountedTree(mount), &space);
        }
    }
}

fn use_files(liar: &Liar, tree: &MountedTree, space: &Arc<Space>) {
    let slice = |start: usize, length: usize| {
        UserSlice::new(UserAddr(BASE + start as u64), ByteCount::of_len(length))
            .expect("a user address")
    };
    let io = Io { space, caller: None, nonblocking: false };
    let _ = (tree.figures().is_ok(), tree.stat(b"f", OpenFlags::empty()).is_ok());
    let how = OpenHow { flags: OpenFlags::READ | OpenFlags::WRITE, mode: 0 };
    let Ok(Walk::Done(file)) = tree.open(b"f", how) else { return };
    for _ in 0..4 {
        let (start, pages) = (usize::from(liar.byte()) * 16, 1 + usize::from(liar.byte()) % 8);
        let (range, offset) = (slice(start, pages * PAGE), u64::from(liar.byte()) * 1000);
        match liar.byte() % 6 {
            0 | 1 => {
                if let Ok(count) = file.read(&io, &mut UserBuffers::one(range), FileOffset(offset))
                {
                    assert!(
                        count <= ByteCount::of_len(pages * PAGE),
                        "the read returned more than the buffer's length"
                    );
                }
            }
            2 => drop(space.copy_in(range, &mut vec![0; pages * PAGE])),
            3 => drop(file.write(
                &io,
                &mut UserBuffers::one(range),
                WritePosition::At(FileOffset(offset)),
            )),
            4 => drop(file.read_dir(offset, &mut |_| true)),
            _ => drop((file.stat(), file.read_link(), file.sync())),
        }
    }
}
