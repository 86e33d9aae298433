//! The dispatcher: decodes and checks requests, and turns them into calls of a [`FileServer`].
//!
//! Owns the sessions: whether each was opened, which features were granted, and its handles. A
//! handle of another session, or one that was closed, is EBADF and never reaches the server. A
//! malformed message is EPROTO. When a session ends, its handles are closed.
//!
//! A request that may take memory for good begins only if the server's reserve of memory is
//! complete ([`Replenish`]). So small allocations do not fail within a request, and a shortage
//! finds nothing half done.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use foundation::{Errno, PAGE_BYTES};
use fsproto::{
    Allocate, ByteRange, CloneRange, Close, CountSpace, Features, GetAttr, GetStatFs, HEADER_BYTES,
    Handle, Header, HeaderFlags, Hello, Link, ListHoles, MAX_PAYLOAD, MAX_PIECES, MAX_RANGES,
    MAX_TARGET, MakeDir, MakeSymlink, Nothing, Op, Open, Path, Piece, Read, ReadAt, ReadDir,
    ReadLink, ReadRanges, Reader, Records, Remove, Rename, Request, SetAttr, Snapshot, Stat,
    StatFs, Sync, Tag, Welcome, Write, WriteFlags, closes, error_reply, grant, is_direct,
    mark_direct,
};

use crate::buffer::put_holes;
use crate::reply::{Reply, op_of, opened_by, plain, refuse, tag_of, walked, with_payload};
use crate::server::{FileServer, Payload, Replenish};
use crate::session::{ClientLimits, Kind, Session, check_pieces};

/// Identifies a session of a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// A server and its sessions.
pub struct Dispatcher<S> {
    server: S,
    sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    /// Whether the one session there is stays the only one.
    is_sole: bool,
    replenish: Replenish,
    limits: ClientLimits,
}

impl<S: FileServer> Dispatcher<S> {
    /// A dispatcher without sessions.
    pub fn new(server: S) -> Self {
        let replenish: Replenish = || Ok(());
        let limits = ClientLimits::default();
        let sessions = BTreeMap::new();
        Self { server, sessions, next_session: 1, is_sole: false, replenish, limits }
    }

    /// The same, with a reserve of memory that is replenished before each request.
    pub fn replenished_by(self, replenish: Replenish) -> Self {
        Self { replenish, ..self }
    }

    /// The same, with other limits for each session.
    pub fn limited_to(self, limits: ClientLimits) -> Self {
        Self { limits, ..self }
    }

    /// The file server that requests are passed to.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// The server, to change it.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    /// Adds a client, which must send `Hello` first.
    pub fn open_session(&mut self) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(id, Session { limits: self.limits, ..Session::default() });
        id
    }

    /// Opens a session that stays the only one, so it may be granted [`Features::SOLE`].
    pub fn open_sole_session(&mut self) -> SessionId {
        self.is_sole = true;
        self.open_session()
    }

    /// Adds a client that can only read what files held at a version, and changes nothing: a
    /// session besides it may be the [sole](Self::open_sole_session) one all the same.
    pub fn open_direct_session(&mut self) -> SessionId {
        let id = self.open_session();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.is_direct = true;
        }
        id
    }

    /// Ends a session and closes its handles.
    pub fn close_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for handle in session.handles.into_keys() {
            // No client is left to report an error to; the server has closed the handle in any
            // case.
            let _ = self.server.close(handle);
        }
        self.server.settle();
    }

    /// Carries out a request. Every message gets a reply.
    pub fn handle(
        &mut self,
        id: SessionId,
        header: &[u8; HEADER_BYTES],
        payload: &[u8],
    ) -> Reply<'_> {
        if !is_direct(header) {
            return self.answer(id, header, payload);
        }
        let mut reply = self.answer(id, header, payload);
        mark_direct(&mut reply.header);
        reply
    }

    fn answer(&mut self, id: SessionId, header: &[u8; HEADER_BYTES], payload: &[u8]) -> Reply<'_> {
        let Ok((decoded, fields)) = Header::decode(header) else {
            return refuse(op_of(header), tag_of(header), Errno::EPROTO);
        };
        if decoded.closes > 0
            && let Err(error) = self.close_besides(id, header)
        {
            return refuse(decoded.op, decoded.tag, error);
        }
        self.dispatch(id, &decoded, fields, payload)
            .unwrap_or_else(|error| refuse(decoded.op, decoded.tag, error))
    }

    /// Closes the handles in the last bytes of a request. EPROTO without the feature, EBADF for a
    /// handle that is not the session's; the request is then not carried out.
    #[inline(never)]
    fn close_besides(&mut self, id: SessionId, header: &[u8; HEADER_BYTES]) -> Result<(), Errno> {
        let session = self.sessions.get_mut(&id).ok_or(Errno::EPROTO)?;
        if !session.features.contains(Features::CLOSES) {
            return Err(Errno::EPROTO);
        }
        for handle in closes(header) {
            session.close(handle)?;
            // Nobody waits for its result; the server has closed the handle in any case.
            let _ = self.server.close(handle);
        }
        Ok(())
    }

    /// A reply could not be sent for want of memory, although the client is there: closes what the
    /// request has opened, and returns the header of the reply to send instead.
    pub fn unsent(
        &mut self,
        id: SessionId,
        reply: &[u8; HEADER_BYTES],
        error: Errno,
    ) -> [u8; HEADER_BYTES] {
        if let Some(handle) = opened_by(reply)
            && let Some(session) = self.sessions.get_mut(&id)
            && session.close(handle).is_ok()
        {
            // The first error is the one to report.
            let _ = self.server.close(handle);
        }
        let mut refusal = error_reply(op_of(reply), tag_of(reply), error);
        if is_direct(reply) {
            mark_direct(&mut refusal);
        }
        refusal
    }

    fn dispatch(
        &mut self,
        id: SessionId,
        header: &Header,
        mut fields: Reader<'_>,
        payload: &[u8],
    ) -> Result<Reply<'_>, Errno> {
        if header.payload_bytes as usize != payload.len()
            || !(header.flags - HeaderFlags::DIRECT).is_empty()
            || header.status != 0
        {
            return Err(Errno::EPROTO);
        }
        if Op::from_number(header.op).is_none() {
            return Err(Errno::ENOSYS);
        }
        let request = Request::decode(header.op, &mut fields).map_err(|_| Errno::EPROTO)?;
        let session = self.sessions.get_mut(&id).ok_or(Errno::EPROTO)?;
        let tag = header.tag;
        if header.flags.contains(HeaderFlags::DIRECT) && !session.is_direct {
            return Err(Errno::EPROTO);
        }
        let server = &mut self.server;
        if let Request::Hello(hello) = request {
            let is_sole = self.is_sole && server.is_steady();
            let sole = if is_sole { Features::SOLE } else { Features::empty() };
            return greet(server, session, tag, &hello, sole | Features::CLOSES);
        }
        if !session.greeted || session.is_direct != matches!(request, Request::ReadAt(_)) {
            return Err(Errno::EPROTO);
        }
        if let Err(error) = (self.replenish)() {
            check_growth(&request, error)?;
        }
        match request {
            Request::Open(request) => {
                session.check(request.dir)?;
                session.check_files()?;
                let walk = server.open(&request, Path::new(payload)?)?;
                session.assign(walk.reply.handle, Kind::Open);
                Ok(walked::<Open>(tag, walk))
            }
            Request::Close(request) => {
                session.close(request.handle)?;
                let closed = server.close(request.handle);
                // Who has another request closes with that.
                server.settle();
                closed?;
                Ok(plain::<Close>(tag, &Nothing {}))
            }
            Request::Write(request) => write(server, session, tag, &request, payload),
            Request::ReadRanges(request) => {
                read_ranges(server, session, tag, request.handle, payload)
            }
            Request::Snapshot(request) => snapshot(server, session, tag, &request),
            Request::Stat(_)
            | Request::MakeDir(_)
            | Request::Remove(_)
            | Request::Rename(_)
            | Request::Link(_)
            | Request::MakeSymlink(_) => names(server, session, tag, &request, payload),
            _ => on_handle(server, session, tag, &request),
        }
    }
}

/// Without a complete reserve: `error` for a request that may take memory for good. Others are
/// carried out, since they only read, or free memory.
fn check_growth(request: &Request, error: Errno) -> Result<(), Errno> {
    match request {
        // The client then reads by copying (R8).
        Request::Snapshot(_) => Err(Errno::EDQUOT),
        Request::Open(_)
        | Request::SetAttr(_)
        | Request::Write(_)
        | Request::MakeDir(_)
        | Request::Rename(_)
        | Request::Link(_)
        | Request::MakeSymlink(_)
        | Request::Allocate(_)
        | Request::CloneRange(_) => Err(error),
        _ => Ok(()),
    }
}

/// Negotiates a session's version and features.
fn greet<'a>(
    server: &mut impl FileServer,
    session: &mut Session,
    tag: Tag,
    hello: &Hello,
    more: Features,
) -> Result<Reply<'a>, Errno> {
    if session.greeted {
        return Err(Errno::EPROTO);
    }
    let terms = server.terms()?;
    let welcome = grant(hello, terms.features | more, terms.root)?;
    let files = u32::try_from(session.limits.files).unwrap_or(u32::MAX);
    session.greeted = true;
    session.features = welcome.features;
    Ok(plain::<Hello>(tag, &Welcome { files, ..welcome }))
}

/// Carries out a request on a path.
fn names<'a>(
    server: &'a mut impl FileServer,
    session: &Session,
    tag: Tag,
    request: &Request,
    payload: &[u8],
) -> Result<Reply<'a>, Errno> {
    match request {
        Request::Stat(request) => {
            session.check(request.dir)?;
            server.stat(request, Path::new(payload)?).map(|walk| walked::<Stat>(tag, walk))
        }
        Request::MakeDir(request) => {
            session.check(request.dir)?;
            server.make_dir(request, Path::new(payload)?).map(|walk| walked::<MakeDir>(tag, walk))
        }
        Request::Remove(request) => {
            session.check(request.dir)?;
            server.remove(request, Path::new(payload)?).map(|walk| walked::<Remove>(tag, walk))
        }
        Request::Rename(request) => {
            session.check(request.old_dir)?;
            session.check(request.new_dir)?;
            let (old, new) =
                payload.split_at_checked(request.old_bytes as usize).ok_or(Errno::EPROTO)?;
            server
                .rename(request, Path::new(old)?, Path::new(new)?)
                .map(|walk| walked::<Rename>(tag, walk))
        }
        Request::Link(request) => {
            session.check(request.handle)?;
            session.check(request.dir)?;
            server.link(request, Path::new(payload)?).map(|walk| walked::<Link>(tag, walk))
        }
        Request::MakeSymlink(request) => {
            session.check(request.dir)?;
            let (path, target) =
                payload.split_at_checked(request.path_bytes as usize).ok_or(Errno::EPROTO)?;
            let target = check_target(target)?;
            server
                .make_symlink(request, Path::new(path)?, target)
                .map(|walk| walked::<MakeSymlink>(tag, walk))
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Carries out a request on a handle.
fn on_handle<'a>(
    server: &'a mut impl FileServer,
    session: &Session,
    tag: Tag,
    request: &Request,
) -> Result<Reply<'a>, Errno> {
    match request {
        Request::GetAttr(request) => {
            session.check(request.handle)?;
            server.attributes(request.handle).map(|attr| plain::<GetAttr>(tag, &attr))
        }
        Request::SetAttr(request) => {
            session.check(request.handle)?;
            server.set_attributes(request).map(|attr| plain::<SetAttr>(tag, &attr))
        }
        Request::Read(request) => {
            session.check(request.handle)?;
            if request.length as usize > MAX_PAYLOAD {
                return Err(Errno::EINVAL);
            }
            server.read(request).map(|payload| with_payload::<Read>(tag, &Nothing {}, payload))
        }
        Request::ReadAt(request) => read_at(server, session, tag, request),
        Request::ReadDir(request) => {
            session.check(request.handle)?;
            let request = ReadDir { length: request.length.min(MAX_PAYLOAD as u32), ..*request };
            server
                .read_dir(&request)
                .map(|payload| with_payload::<ReadDir>(tag, &Nothing {}, payload))
        }
        Request::ReadLink(request) => {
            session.check(request.handle)?;
            server
                .read_link(request.handle)
                .map(|payload| with_payload::<ReadLink>(tag, &Nothing {}, payload))
        }
        Request::GetStatFs(_) => {
            let handles = session.handles.len() as u64;
            server.stat_fs().map(|info| plain::<GetStatFs>(tag, &StatFs { handles, ..info }))
        }
        Request::Sync(request) => {
            session.check(request.handle)?;
            server.sync(request.handle).map(|()| plain::<Sync>(tag, &Nothing {}))
        }
        Request::ListHoles(request) => {
            session.check(request.handle)?;
            let (listed, holes) = server.list_holes(request)?;
            let mut bytes = Vec::new();
            put_holes(&mut bytes, &holes)?;
            Ok(with_payload::<ListHoles>(tag, &listed, Payload::owned(bytes)))
        }
        Request::Allocate(request) => {
            session.check(request.handle)?;
            server.allocate(request).map(|attr| plain::<Allocate>(tag, &attr))
        }
        Request::CountSpace(request) => count_space(server, session, tag, request),
        Request::CloneRange(request) => {
            session.check(request.source)?;
            session.check(request.target)?;
            server.clone_range(request).map(|written| plain::<CloneRange>(tag, &written))
        }
        Request::Recall(_) | Request::Invalidate(_) => Err(Errno::EPROTO),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn read_at<'a>(
    server: &'a mut impl FileServer,
    session: &Session,
    tag: Tag,
    request: &ReadAt,
) -> Result<Reply<'a>, Errno> {
    if !session.features.contains(Features::DIRECT) {
        return Err(Errno::EOPNOTSUPP);
    }
    if request.length as usize > MAX_PAYLOAD {
        return Err(Errno::EINVAL);
    }
    server.read_at(request).map(|payload| with_payload::<ReadAt>(tag, &Nothing {}, payload))
}

fn count_space<'a>(
    server: &'a mut impl FileServer,
    session: &Session,
    tag: Tag,
    request: &CountSpace,
) -> Result<Reply<'a>, Errno> {
    if !session.features.contains(Features::COUNT_SPACE) {
        return Err(Errno::EOPNOTSUPP);
    }
    session.check(request.handle)?;
    server.count_space(request).map(|counted| plain::<CountSpace>(tag, &counted))
}

fn read_ranges<'a>(
    server: &'a mut impl FileServer,
    session: &Session,
    tag: Tag,
    handle: Handle,
    payload: &[u8],
) -> Result<Reply<'a>, Errno> {
    if !session.features.contains(Features::READ_RANGES) {
        return Err(Errno::EOPNOTSUPP);
    }
    session.check(handle)?;
    let ranges = Records::<ByteRange>::decode(payload, MAX_RANGES).map_err(|_| Errno::EPROTO)?;
    let total: u64 = ranges.clone().map(|range| u64::from(range.length)).sum();
    if total > MAX_PAYLOAD as u64 {
        return Err(Errno::EINVAL);
    }
    let payload = server.read_ranges(handle, ranges)?;
    Ok(with_payload::<ReadRanges>(tag, &Nothing {}, payload))
}

fn snapshot<'a>(
    server: &'a mut impl FileServer,
    session: &mut Session,
    tag: Tag,
    request: &Snapshot,
) -> Result<Reply<'a>, Errno> {
    if !session.features.contains(Features::SNAPSHOT) {
        return Err(Errno::EOPNOTSUPP);
    }
    session.check(request.handle)?;
    session.check_snapshots()?;
    if request.misalignment as usize >= PAGE_BYTES {
        return Err(Errno::EINVAL);
    }
    let (reply, payload) = server.snapshot(request)?;
    session.assign(reply.handle, Kind::Snapshot);
    Ok(with_payload::<Snapshot>(tag, &reply, payload))
}

fn write<'a>(
    server: &'a mut impl FileServer,
    session: &mut Session,
    tag: Tag,
    request: &Write,
    payload: &[u8],
) -> Result<Reply<'a>, Errno> {
    session.check(request.handle)?;
    let (data, list) =
        payload.split_at_checked(request.data_bytes as usize).ok_or(Errno::EPROTO)?;
    let references = session.features.contains(Features::WRITE_REFERENCES);
    if !references && (!list.is_empty() || request.flags.contains(WriteFlags::SNAPSHOT)) {
        return Err(Errno::EOPNOTSUPP);
    }
    let pieces: Vec<Piece> =
        Records::decode(list, MAX_PIECES).map_err(|_| Errno::EPROTO)?.collect();
    check_pieces(session, &pieces, data.len())?;
    let mut request = *request;
    if session.check_snapshots().is_err() {
        request.flags.remove(WriteFlags::SNAPSHOT);
    }
    let written = server.write(&request, data, &pieces)?;
    session.assign(written.snapshot, Kind::Snapshot);
    Ok(plain::<Write>(tag, &written))
}

/// Checks the target of a symbolic link: 1 to [`MAX_TARGET`] bytes without NUL.
fn check_target(target: &[u8]) -> Result<&[u8], Errno> {
    match target {
        [] => Err(Errno::ENOENT),
        _ if target.len() > MAX_TARGET => Err(Errno::ENAMETOOLONG),
        _ if target.contains(&0) => Err(Errno::EINVAL),
        _ => Ok(target),
    }
}
