//! A mounted file server: the session with it and what it supports.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use foundation::Errno;
use foundation::counter::{self, Counter};
use fsproto::{
    Attr, Features, FileId, Handle, MAX_PATH, OpenFlags, Operation, Stat as GetStat, Walked,
    Welcome, agree, hello,
};

use super::handles::{HandleCharge, Handles};
use super::known::{Answer, Touches};
use super::message::Payload;
use super::read_ahead::{Changes, ReadAhead};
use super::{Session, mutants};
use crate::file::{FileSystemFigures, Stat, Tasks, Walk, tasks};
use crate::mem::{Frame, Snapshot, SnapshotSource};
use crate::sync::{Mutex, rank};

/// The features that this kernel supports.
const KNOWN_FEATURES: Features = Features::SNAPSHOT
    .union(Features::WRITE_REFERENCES)
    .union(Features::SPARSE)
    .union(Features::OPEN_UNLINKED)
    .union(Features::CLONE)
    .union(Features::SOLE)
    .union(Features::DIRECT)
    .union(Features::CLOSES)
    .union(Features::KEEP_TIMES)
    .union(Features::LEASE);

/// Device numbers (`st_dev`) of mounts begin behind those of the kernel's own file systems.
static NEXT_ID: AtomicU64 = AtomicU64::new(0x100);

/// A mounted file server.
pub struct Mount {
    id: u64,
    session: Arc<Session>,
    features: Features,
    handles: Arc<Handles>,
    trust: Trust,
    read_ahead: ReadAhead,
    /// As statfs(2) last got them.
    figures: Mutex<FileSystemFigures, rank::Figures>,
}

/// Whether a server is trusted to return the same bytes every time a page is requested (X3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Clean pages are dropped and fetched again, and writes may refer to snapshots.
    Trusted,
    /// Each page is fetched once.
    Untrusted,
}

/// Agrees with the server on version and features. Its answer has its root, and how many files can
/// be open on it. EIO where that fails.
pub(super) fn handshake(session: &Session) -> Result<(Features, Welcome), Errno> {
    let (welcome, _) = session.call(&hello(KNOWN_FEATURES), &[])?;
    let features = agree(KNOWN_FEATURES, &welcome).map_err(|_| Errno::EIO)?;
    Ok((features, welcome))
}

impl Mount {
    /// Opens a session with a trusted server. The session must already receive the connection's
    /// messages.
    pub fn new(session: Arc<Session>) -> Result<Arc<Self>, Errno> {
        Self::with_trust(session, Trust::Trusted)
    }

    /// The same for any server. From an untrusted one, features that need trust are ignored.
    pub fn with_trust(session: Arc<Session>, trust: Trust) -> Result<Arc<Self>, Errno> {
        let (mut features, welcome) = handshake(&session)?;
        if trust == Trust::Untrusted && !mutants::direct_untrusted() {
            features -= Features::DIRECT;
        }
        if trust == Trust::Untrusted {
            features -= Features::WRITE_REFERENCES | Features::SOLE | Features::LEASE;
        }
        if features.contains(Features::DIRECT) {
            session.open_direct(welcome.root);
        }
        if features.contains(Features::CLOSES) {
            session.carry_closes()?;
        }
        if features.contains(Features::SOLE) {
            // Without memory for it, each answer is asked for.
            let _ = session.table.lock().known.keep_answers();
        }
        let handles = Handles::new(welcome.files);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        session.set_device(id);
        let (read_ahead, figures) = (ReadAhead::new(id), Mutex::default());
        Ok(Arc::new(Self { id, session, features, handles, trust, read_ahead, figures }))
    }

    /// Keeps the server's figures for those who may not wait for it.
    pub(super) fn note_figures(&self, figures: FileSystemFigures) {
        *self.figures.lock() = figures;
    }

    /// The figures that were kept last, and the number of unanswered requests now. Nothing of a
    /// server that is gone.
    pub(super) fn known_figures(&self) -> FileSystemFigures {
        if self.session.is_gone() {
            return FileSystemFigures::default();
        }
        FileSystemFigures { requests: self.session.unanswered() as u64, ..*self.figures.lock() }
    }

    /// The device number (`st_dev`) of its files; never reused.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The features that server and kernel support.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Counts one more open file of it, for the process whose system call is running. ENFILE where
    /// that would leave too few to others.
    pub(super) fn charge_handle(&self) -> Result<HandleCharge, Errno> {
        self.handles.charge(tasks().and_then(Tasks::account))
    }

    /// The read-ahead snapshots of its files.
    pub fn read_ahead(&self) -> &ReadAhead {
        &self.read_ahead
    }

    /// Whether its files change only by this kernel's requests, so that they can be read ahead.
    pub fn is_sole(&self) -> bool {
        self.features.contains(Features::SOLE)
    }

    /// Whether the server is trusted.
    pub fn is_trusted(&self) -> bool {
        self.trust == Trust::Trusted
    }

    /// Whether a snapshot is on this server.
    pub fn is_pager_of(&self, snapshot: &Snapshot) -> bool {
        matches!(snapshot.source, SnapshotSource::File { mount, .. } if mount == self.id)
    }

    /// Whether its files may be read lazily: the server supports snapshots, and is marked as a
    /// server, so that its own progress never needs a page-in (F8).
    pub fn is_lazy(&self) -> bool {
        self.features.contains(Features::SNAPSHOT) && self.session.peer_is_marked()
    }

    /// Sends a request that changes a file. On ENOSPC, drops the read-ahead snapshots, because they
    /// reserve space on the server, and tries once more (Q1).
    pub(super) fn change<O: Operation>(
        &self,
        file: FileId,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<(O::Reply, Payload), Errno> {
        let _change = self.read_ahead.begin_change(file)?;
        self.send_change(file, request, payload)
    }

    /// The same for a change that was announced.
    pub(super) fn send_change<O: Operation>(
        &self,
        file: FileId,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<(O::Reply, Payload), Errno> {
        self.change_by(file, |touches| self.session.call_touching(touches, request, payload))
    }

    /// The same with whole pages as payload, which are not copied.
    pub(super) fn change_pages<O: Operation>(
        &self,
        file: FileId,
        request: &O,
        pages: &[Frame],
    ) -> Result<(O::Reply, Payload), Errno> {
        let _change = self.read_ahead.begin_change(file)?;
        self.change_by(file, |touches| self.session.call_with_pages(touches, request, pages))
    }

    fn change_by<T>(
        &self,
        file: FileId,
        send: impl Fn(Touches) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let touches = Touches::File(file);
        match send(touches) {
            Err(Errno::ENOSPC) if !mutants::ahead_keeps_room() && self.read_ahead.drop_all() => {
                send(touches)
            }
            answer => answer,
        }
    }

    /// What is known of a path (`known`), without a message or an allocation. `None` where the
    /// server has to be asked, or a link followed.
    pub(super) fn known_stat(&self, path: &[u8], flags: OpenFlags) -> Option<Result<Stat, Errno>> {
        let table = self.session.table.lock();
        let stat = match table.known.find(path, flags)? {
            Answer::Found(attr) => Ok(Stat::from_attr(attr, self.id)),
            Answer::Failed(error) => Err(*error),
            Answer::Link(_) => return None,
        };
        drop(table);
        counter::count(Counter::StatsKnown, 1);
        Some(stat)
    }

    /// The attributes of the file at a path; `flags` may hold `NO_FOLLOW` and `DIRECTORY`. Without
    /// a message where they are known.
    pub(super) fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Attr>, Errno> {
        let table = self.session.table.lock();
        let (known, since) = (table.known.find(path, flags).copied(), table.known.moment());
        drop(table);
        if let Some(known) = known {
            counter::count(Counter::StatsKnown, 1);
            return match known {
                Answer::Found(attr) => Ok(Walk::Done(attr)),
                Answer::Failed(error) => Err(error),
                Answer::Link(link) => Ok(link.walk()?),
            };
        }
        let request = GetStat { dir: Handle::ROOT, flags };
        let walk = self.walk(&request, &[path]).map(|walk| walk.map(|walked| walked.attr));
        if let Some(since) = since
            && let Some(answer) = Answer::of(&walk, flags)
        {
            self.session.table.lock().known.note(since, path, answer);
        }
        walk
    }

    /// Sends a request that names a file by a path. Returns what was found, or the symbolic link at
    /// which the walk stopped.
    pub(super) fn walk<O: Operation<Reply = Walked>>(
        &self,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<Walk<Walked>, Errno> {
        self.walk_touching(Touches::by(O::OP), request, payload)
    }

    /// Sends a request that removes or moves names.
    pub(super) fn change_names<O: Operation<Reply = Walked>>(
        &self,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<Walk<()>, Errno> {
        // A change of names is one of the change time, after which the next read updates the access
        // time: read-ahead data of the file cannot be used.
        let change = self.read_ahead.begin_path_change(Changes::Names)?;
        let walk = self.walk(request, payload)?;
        let files = match &walk {
            Walk::Done(walked) => [walked.attr.id, walked.displaced],
            Walk::Link { .. } => [FileId::NONE; 2],
        };
        change.was_of(files);
        Ok(walk.map(drop))
    }

    /// The same for a request of which more is known than its operation says.
    pub(super) fn walk_touching<O: Operation<Reply = Walked>>(
        &self,
        touches: Touches,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<Walk<Walked>, Errno> {
        if payload.iter().any(|path| path.len() > MAX_PATH) {
            return Err(Errno::ENAMETOOLONG);
        }
        let (walked, link) = self.session.call_touching(touches, request, payload)?;
        if walked.link_bytes == 0 {
            return Ok(Walk::Done(walked));
        }
        let target = link.to_vec()?;
        let which = usize::from(walked.which);
        let walked_bytes = usize::from(walked.walked_bytes);
        let is_valid = target.len() == usize::from(walked.link_bytes)
            && payload.get(which).is_some_and(|path| walked_bytes <= path.len());
        if is_valid {
            Ok(Walk::Link { which, walked: walked_bytes, target })
        } else {
            Err(Errno::EIO)
        }
    }
}
