//! A program with files on a server: production `snapfs` over production `memfs`, which answer in
//! the middle of the kernel's call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};

use foundation::{ByteCount, Errno};
use fsproto::{HEADER_BYTES, Handle, Open, OpenFlags, Path, Read, StatFs, Time};
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;
use fsserver::{Clock, Dispatcher, FileServer, LocalConnection, SessionId};
use kernel::file::devices::DeviceFileSystem;
use kernel::file::filesystem::{self, FileSystemType};
use kernel::file::host::HostProcess;
use kernel::file::mapped;
use kernel::file::namespace::{self, MountPoint};
use kernel::file::socket::{Message, Sender};
use kernel::mem::host::{self, RamSwap, failure};
use kernel::mem::{
    Backing, Claim, Frame, Placement, Prot, Space, UserAddr, UserSlice, frame, swap,
};
use kernel::mount::{Mount, MountedTree, Session, Transport};
use kernel::syscall::{io, memory};

pub const PAGE: u64 = 4096;
/// The program's memory.
pub const BASE: u64 = 0x10_0000;
pub const PAGES: u64 = 96;
/// A page behind those that are compared: for results that differ from world to world.
pub const UNCOMPARED: u64 = 98;
const MAPPED_PAGES: u64 = 100;

/// Files that the checks look at.
pub const NAMES: [&str; 5] = ["/a", "/b", "/c", "/d/e", "/l"];

pub struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Time {
        Time(0)
    }
}

type Base = Rc<RefCell<Dispatcher<Memfs<NoTime>>>>;
type Wrapper = Dispatcher<Snapfs<LocalConnection<Memfs<NoTime>>, NoTime>>;

struct Servers {
    base: Base,
    wrapper: Wrapper,
    server_side: SessionId,
    session: Weak<Session>,
    empty: StatFs,
}

thread_local! {
    /// Whether messages cannot be sent now.
    static SILENT: Cell<bool> = const { Cell::new(false) };
    static SERVERS: RefCell<Option<Servers>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut Servers) -> T) -> T {
    SERVERS.with_borrow_mut(|servers| act(servers.as_mut().expect("there is a world")))
}

/// The kernel's end of the connection.
struct End;

impl Transport for End {
    fn send(&self, message: Message) -> Result<(), Errno> {
        if SILENT.get() {
            return Err(Errno::EAGAIN);
        }
        let (session, reply) = failure::outside(|| {
            let (header, rest) = message.inline.split_first_chunk::<HEADER_BYTES>().expect("one");
            let mut payload = rest.to_vec();
            let mut left = message.frames_bytes;
            for frame in &message.frames {
                payload.extend_from_slice(&frame.bytes()[..left.min(PAGE as usize)]);
                left -= left.min(PAGE as usize);
            }
            with(|servers| {
                let reply = servers.wrapper.handle(servers.server_side, header, &payload);
                let payload = reply.payload.to_vec();
                (servers.session.upgrade(), message_of(&reply.header, &payload))
            })
        });
        if let Some(session) = session {
            session.message(reply, Sender::Server);
        }
        Ok(())
    }
}

/// As a socket brings it: what is small behind the header, whole pages as frames.
fn message_of(header: &[u8; HEADER_BYTES], payload: &[u8]) -> Message {
    let mut inline = header.to_vec();
    if payload.len() < PAGE as usize {
        inline.extend_from_slice(payload);
        return Message { inline: inline.into(), ..Message::default() };
    }
    let frame = |page| Frame::from_bytes(Claim::Kernel, page).expect("memory for a message");
    let frames = payload.chunks(PAGE as usize).map(frame).collect();
    Message { inline: inline.into(), frames, frames_bytes: payload.len() }
}

/// A program that can call the kernel.
pub struct World {
    pub process: HostProcess,
    mount: Arc<Mount>,
    /// Free frames when the world was empty.
    free: usize,
}

impl World {
    pub fn new() -> Self {
        Self::with_session(Wrapper::open_session)
    }

    /// One in which the kernel is the server's only client, and knows that.
    pub fn sole() -> Self {
        Self::with_session(Wrapper::open_sole_session)
    }

    fn with_session(open: fn(&mut Wrapper) -> SessionId) -> Self {
        first_mount();
        host::evict_all();
        let free = frame::stats().free;
        let mut server = Memfs::new(64 << 20, AccessTimes::Untouched, NoTime);
        let empty = server.stat_fs().expect("memfs returns its figures");
        let base = Rc::new(RefCell::new(Dispatcher::new(server)));
        let client = LocalConnection::new(base.clone());
        let mut wrapper = Dispatcher::new(Snapfs::new(client, NoTime).expect("it answers"));
        let server_side = open(&mut wrapper);
        let session = Arc::new(Session::new(Arc::new(End)));
        let connected = Arc::downgrade(&session);
        SERVERS.set(Some(Servers { base, wrapper, server_side, session: connected, empty }));
        let mount = Mount::new(session).expect("the server answers");
        let filesystem = Arc::new(MountedTree(mount.clone()));
        let point = MountPoint { path: b"/".to_vec(), source: b"world".to_vec(), filesystem };
        namespace::root().mount(point).expect("a place for a mount");
        let space = Space::new().expect("memory for a space");
        let bytes = ByteCount(MAPPED_PAGES * PAGE);
        let place = Placement::Fixed(UserAddr(BASE));
        space
            .map(place, bytes, Prot::READ | Prot::WRITE, Backing::Anonymous, "")
            .expect("memory for a region");
        Self { process: HostProcess::new(space), mount, free }
    }

    /// Fills memory from page `page` on with `bytes`. Returns the address.
    pub fn put(&self, page: u64, bytes: &[u8]) -> UserAddr {
        let address = UserAddr(BASE + page * PAGE);
        let slice = UserSlice::new(address, ByteCount::of_len(bytes.len())).expect("an address");
        self.process.space.copy_out_all(slice, bytes).expect("memory for the bytes");
        address
    }

    /// Swaps out what can be swapped out.
    pub fn swap_out(&self) {
        swap::attach(RamSwap::new(), 1024).expect("memory for slots");
        // The first visits only mark pages as unused.
        while host::evict_pages(64) {}
        assert!(self.process.space.stats().swapped.0 > 0, "nothing was swapped out");
    }

    /// The program's memory; `None` for a page that is not readable.
    pub fn memory(&self) -> Vec<Option<Vec<u8>>> {
        let page = |page| {
            let slice = UserSlice::new(UserAddr(BASE + page * PAGE), ByteCount(PAGE)).ok()?;
            let mut bytes = vec![0; PAGE as usize];
            self.process.space.copy_in(slice, &mut bytes).ok().map(|()| bytes)
        };
        (0..PAGES).map(page).collect()
    }

    /// The bytes of a file on the base server, and its version at the wrapper; `None` where there
    /// is no file of this name.
    pub fn file(&self, name: &str) -> Option<(Vec<u8>, u64)> {
        with(|servers| {
            let open = Open { dir: Handle::ROOT, flags: OpenFlags::READ, mode: 0 };
            let path = || Path::new(name.trim_start_matches('/').as_bytes()).ok();
            let walk = servers.wrapper.server_mut().open(&open, path()?).ok()?;
            if walk.reply.handle == Handle::NONE {
                // A symbolic link.
                return None;
            }
            servers.wrapper.server_mut().close(walk.reply.handle).expect("it was open");
            let version = walk.reply.attr.version.0;
            let mut base = servers.base.borrow_mut();
            let handle = base.server_mut().open(&open, path()?).ok()?.reply.handle;
            let mut bytes = Vec::new();
            loop {
                let read = Read { handle, offset: bytes.len() as u64, length: 1 << 20 };
                let part = base.server_mut().read(&read).expect("memfs can be read").to_vec();
                if part.is_empty() {
                    break;
                }
                bytes.extend(part);
            }
            base.server_mut().close(handle).expect("it was open");
            Some((bytes, version))
        })
    }

    /// Runs `act` while no message can be sent.
    pub fn silently(act: impl FnOnce()) {
        SILENT.set(true);
        act();
        SILENT.set(false);
    }

    /// Requests that were not answered, and handles that were not closed yet.
    pub fn in_flight(&self) -> usize {
        self.mount.session().in_flight()
    }

    /// Ends the program, and asserts that nothing is kept.
    pub fn end(self, what: &str) {
        let Self { process, mount, free } = self;
        memory::munmap(&process, UserAddr(BASE), ByteCount(1 << 40)).expect("memory to unmap");
        // The kernel's writers are threads of the machine. A handle whose closing met the failure
        // is closed with the next message.
        mapped::write_what_is_due();
        io::sync(&process).expect("the server answers");
        drop(process);
        let (slots, unused) = swap::stats();
        assert_eq!(slots, unused, "{what}: slots are lost");
        if slots > 0 {
            swap::detach();
        }
        // What a case mounted, if it did.
        drop(namespace::root().unmount(b"/d"));
        namespace::root().unmount(b"/").expect("the last mount");
        // The CPU has nothing to do.
        kernel::mount::close_waiting();
        assert_eq!(mount.session().in_flight(), 0, "{what}: requests in flight");
        drop(mount);
        host::evict_all();
        let mut servers = SERVERS.take().expect("there is a world");
        let figures = servers.wrapper.server().figures();
        assert_eq!((figures.snapshots, figures.stored_pages), (0, 0), "{what}: {figures:?}");
        let now = servers.wrapper.server_mut().stat_fs().expect("the server has figures");
        assert_eq!(now.handles, servers.empty.handles, "{what}: handles at the server");
        assert_eq!(servers.session.strong_count(), 0, "{what}: the session is kept");
        drop(servers);
        assert_eq!(frame::stats().free, free, "{what}: frames are lost");
    }
}

/// Mounts an empty tree at the root for good, because the first mount there cannot be removed.
fn first_mount() {
    static FIRST: OnceLock<()> = OnceLock::new();
    static TYPES: [FileSystemType; 1] =
        [FileSystemType { name: b"devtmpfs", make: || Arc::new(DeviceFileSystem) }];
    FIRST.get_or_init(|| {
        filesystem::register_types(&TYPES);
        let filesystem = Arc::new(DeviceFileSystem);
        let point = MountPoint { path: b"/".to_vec(), source: b"none".to_vec(), filesystem };
        namespace::root().mount(point).expect("a place for a mount");
    });
}
