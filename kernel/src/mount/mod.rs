//! The client side of the protocol: a file server's files as the kernel's.
//!
//! Owns: the connection ([`Session`]), the lazy read ([`read`]), the write by reference
//! ([`write`]), and the translation of names and attributes. Does not own: memory (`mem` maps what
//! a snapshot brings, and asks for pages through [`Pager`]), open files and paths (`file`).
//!
//! Invariants. Every handle that a server gives is owned by exactly one object here ([`RemoteFile`]
//! or a `Snapshot`), whose drop closes it. What a server says is checked before it is believed;
//! nonsense is EIO for the request it answers, and for nothing else.

mod ahead;
mod local;
mod parcel;
mod payload;
mod read;
mod remote_file;
mod session;
pub mod swap;
mod taken;
mod vectored;
mod write;

pub use ahead::Ahead;
pub use local::connect;
pub use remote_file::RemoteFile;
pub use session::{Carrier, Payload, Session};

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use foundation::Errno;
use foundation::mutant::{Mutant, active};
use fsproto::{
    Attr, Features, FileId, FileKind, Handle, MAX_PATH, OpenFlags, Operation, RenameFlags, Walked,
    agree, hello,
};

use crate::file::{FileObject, FileSystem, FileSystemFigures, Identity, OpenHow, Stat, Walk, fifo};
use crate::mem::{Fetch, Pager, Snapshot, Source};

/// What this kernel can make use of.
const KNOWN_FEATURES: Features = Features::SNAPSHOT
    .union(Features::WRITE_REFERENCES)
    .union(Features::SPARSE)
    .union(Features::OPEN_UNLINKED)
    .union(Features::CLONE)
    .union(Features::SOLE);

/// `f_type` of a mount: the letters "slth".
const MAGIC: u64 = 0x736c_7468;

static NEXT_ID: AtomicU64 = AtomicU64::new(0x100);

/// A file server's tree, mounted.
pub struct Mount {
    id: u64,
    session: Arc<Session>,
    features: Features,
    trust: Trust,
    ahead: Ahead,
}

/// Whether a server is believed to say the same bytes each time it is asked (X3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is: clean pages are let go of and asked for again, and what is written can refer to what
    /// was read.
    Trusted,
    /// It is not: each page is asked for once.
    Untrusted,
}

impl Mount {
    /// Opens a session on a connection to a trusted server. The session must already receive the
    /// connection's messages.
    pub fn new(session: Arc<Session>) -> Result<Arc<Self>, Errno> {
        Self::with_trust(session, Trust::Trusted)
    }

    /// The same with any server.
    pub fn with_trust(session: Arc<Session>, trust: Trust) -> Result<Arc<Self>, Errno> {
        let (welcome, _) = session.call(&hello(KNOWN_FEATURES), &[])?;
        let agreed = agree(KNOWN_FEATURES, &welcome).map_err(|_| Errno::EIO)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut features = agreed;
        features.set(
            Features::WRITE_REFERENCES,
            features.contains(Features::WRITE_REFERENCES) && trust == Trust::Trusted,
        );
        features.set(Features::SOLE, features.contains(Features::SOLE) && trust == Trust::Trusted);
        Ok(Arc::new(Self { id, session, features, trust, ahead: Ahead::default() }))
    }

    /// Its number, `st_dev` of its files; never given twice.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What the server can do, of what this kernel makes use of.
    pub fn features(&self) -> Features {
        self.features
    }

    /// What is read ahead of its files, and which of these are changing.
    pub fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// Whether its files change by this kernel's requests alone, so that they can be read ahead.
    pub fn is_sole(&self) -> bool {
        self.features.contains(Features::SOLE)
    }

    /// Whether the server is trusted.
    pub fn is_trusted(&self) -> bool {
        self.trust == Trust::Trusted
    }

    /// Whether a snapshot is this server's.
    pub fn is_pager_of(&self, snapshot: &Snapshot) -> bool {
        matches!(snapshot.source, Source::File { mount, .. } if mount == self.id)
    }

    /// Whether reads of its files may be lazy: the server has snapshots, and is marked as a server,
    /// so that its own progress never needs a page-in (F8).
    pub fn is_lazy(&self) -> bool {
        self.features.contains(Features::SNAPSHOT) && self.session.peer_is_marked()
    }

    /// Carries out a request that changes a file. Where there is no room for that, what is read
    /// ahead goes first: it must not be what took the room (Q1).
    fn change<O: Operation>(
        &self,
        file: FileId,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<(O::Reply, Payload), Errno> {
        let _change = self.ahead.change(Some(file))?;
        match self.session.call(request, payload) {
            Err(Errno::ENOSPC) if !active(Mutant::AheadKeepsRoom) && self.ahead.let_go() => {
                self.session.call(request, payload)
            }
            answer => answer,
        }
    }

    /// A request that names a file by a path: where the walk ended, or at which link it stopped.
    fn walk<O: Operation<Reply = Walked>>(
        &self,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<Walk<(Handle, Attr)>, Errno> {
        if payload.iter().any(|path| path.len() > MAX_PATH) {
            return Err(Errno::ENAMETOOLONG);
        }
        let (walked, link) = self.session.call(request, payload)?;
        if walked.link_bytes == 0 {
            return Ok(Walk::Done((walked.handle, walked.attr)));
        }
        let target = link.to_vec()?;
        let which = usize::from(walked.which);
        let walked_bytes = usize::from(walked.walked_bytes);
        let honest = target.len() == usize::from(walked.link_bytes)
            && payload.get(which).is_some_and(|path| walked_bytes <= path.len());
        if honest {
            Ok(Walk::Link { which, walked: walked_bytes, target })
        } else {
            Err(Errno::EIO)
        }
    }
}

/// `Done` with something else in it.
fn map_done<T, U>(walk: Walk<T>, map: impl FnOnce(T) -> U) -> Walk<U> {
    match walk {
        Walk::Done(value) => Walk::Done(map(value)),
        Walk::Link { which, walked, target } => Walk::Link { which, walked, target },
    }
}

impl Pager for Session {
    fn start(&self, fetch: Arc<Fetch>) {
        self.fetch(fetch);
    }

    fn close(&self, handle: Handle) {
        Self::close(self, handle);
    }
}

/// The mount as a file system: what `file::Namespace` holds.
pub struct MountedTree(pub Arc<Mount>);

impl FileSystem for MountedTree {
    fn type_name(&self) -> &'static str {
        "sloth"
    }

    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
        let request = fsproto::Open { dir: Handle::ROOT, flags: how.flags, mode: how.mode.into() };
        let truncates = how.flags.contains(OpenFlags::TRUNCATE);
        let _change = if truncates { Some(self.0.ahead.change(None)?) } else { None };
        Ok(match self.0.walk(&request, &[path])? {
            Walk::Done((Handle::NONE, _)) => return Err(Errno::EIO),
            Walk::Done((handle, attr)) => {
                let file = Arc::new(RemoteFile::new(self.0.clone(), handle, &attr));
                let is_pipe = attr.kind == FileKind::Pipe;
                Walk::Done(if is_pipe {
                    fifo::Node::new(file, Identity { device: self.0.id, inode: attr.id.0 })
                } else {
                    file
                })
            }
            Walk::Link { which, walked, target } => Walk::Link { which, walked, target },
        })
    }

    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno> {
        let walk = self.0.walk(&fsproto::Stat { dir: Handle::ROOT, flags }, &[path])?;
        Ok(map_done(walk, |(_, attr)| Stat::from_attr(&attr, self.0.id)))
    }

    fn make_dir(&self, path: &[u8], mode: u16) -> Result<Walk<()>, Errno> {
        let walk =
            self.0.walk(&fsproto::MakeDir { dir: Handle::ROOT, mode: mode.into() }, &[path])?;
        Ok(map_done(walk, drop))
    }

    fn remove(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<()>, Errno> {
        // A file that loses a name or gets one has another change time, and the next read then
        // moves its access time.
        let _change = self.0.ahead.change(None)?;
        let walk = self.0.walk(&fsproto::Remove { dir: Handle::ROOT, flags }, &[path])?;
        Ok(map_done(walk, drop))
    }

    fn rename(&self, old: &[u8], new: &[u8], flags: RenameFlags) -> Result<Walk<()>, Errno> {
        let request = fsproto::Rename {
            old_dir: Handle::ROOT,
            new_dir: Handle::ROOT,
            old_bytes: old.len() as u32,
            flags,
        };
        let _change = self.0.ahead.change(None)?;
        Ok(map_done(self.0.walk(&request, &[old, new])?, drop))
    }

    fn link(&self, existing: &Arc<dyn FileObject>, new: &[u8]) -> Result<Walk<()>, Errno> {
        let pipe = crate::file::downcast::<fifo::Node>(existing);
        let existing = pipe.as_ref().map_or(existing, |pipe| pipe.file());
        let file = crate::file::downcast::<RemoteFile>(existing)
            .filter(|file| file.mount().id == self.0.id)
            .ok_or(Errno::EXDEV)?;
        let _change = self.0.ahead.change(Some(file.id()))?;
        let walk =
            self.0.walk(&fsproto::Link { handle: file.handle(), dir: Handle::ROOT }, &[new])?;
        Ok(map_done(walk, drop))
    }

    fn make_symlink(&self, path: &[u8], target: &[u8]) -> Result<Walk<()>, Errno> {
        let request = fsproto::MakeSymlink { dir: Handle::ROOT, path_bytes: path.len() as u32 };
        Ok(map_done(self.0.walk(&request, &[path, target])?, drop))
    }

    fn figures(&self) -> Result<FileSystemFigures, Errno> {
        let (store, _) = self.0.session.call(&fsproto::GetStatFs {}, &[])?;
        Ok(FileSystemFigures {
            magic: MAGIC,
            blocks: store.blocks,
            blocks_free: store.blocks_free,
            files: store.files,
            files_free: store.files_free,
            bytes_rescued: store.bytes_rescued.0,
            bytes_elided: store.bytes_elided.0,
            bytes_cloned: store.bytes_cloned.0,
            handles: [store.handles, store.base_handles],
            snapshots: [store.snapshots, store.pages_kept.0],
            requests: self.0.session.in_flight() as u64,
        })
    }

    fn sync(&self) -> Result<(), Errno> {
        self.0.session.call(&fsproto::Sync { handle: Handle::ROOT }, &[]).map(drop)
    }
}
