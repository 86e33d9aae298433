//! Page-ins of a session: the requests of a fetch, and what their replies mean for it.
//!
//! A fetch takes at most three steps: the list of holes, if it is not known that far (R10), the
//! base (F9), and the server that has the snapshot, up to [`FETCH_TRIES`] times. Each reply
//! completes the fetch or begins the next step, in whatever context it arrives.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use foundation::counter::{self, Counter};
use foundation::{ByteCount, Errno, PageCount, SnapshotOffset};
use fsproto::{
    Features, Field, FileId, HEADER_BYTES, Handle, Header, HeaderFlags, Hole, HolesListed, Reader,
    Tag, agree, decode_holes, hello,
};

use super::in_flight::Owner;
use super::known::Touches;
use super::session::Session;
use super::{direct, message, mutants};
use crate::file::socket::Message;
use crate::mem::{Fetch, Frame, LentPages, Pager, Snapshot, Source, fallible};

/// Attempts of a page-in before its readers get SIGBUS (F5).
const FETCH_TRIES: u32 = 3;

impl Session {
    /// Opens the direct session, if there is one, with a base whose root directory must be `root`.
    /// From then on page-ins go there first.
    pub(super) fn open_direct(&self, root: FileId) {
        let opened = self.direct.as_ref().is_some_and(|direct| direct.is_with_base(root));
        self.asks_base.store(opened, Ordering::Relaxed);
    }

    /// Opens this session, a direct one. Returns whether it may be used.
    fn is_with_base(&self, root: FileId) -> bool {
        let Ok((welcome, _)) = self.call(&hello(Features::DIRECT), &[]) else { return false };
        agree(Features::DIRECT, &welcome) == Ok(Features::DIRECT)
            && welcome.root == root
            && self.peer_is_marked()
    }

    /// Requests the pages of a fetch; the reply completes it. If it is not known yet whether pages
    /// of a snapshot are holes, requests the list of holes first (R10).
    pub fn fetch(&self, fetch: Arc<Fetch>) {
        let Some(snapshot) = fetch.snapshot() else { return self.fetch_bytes(fetch, 1) };
        let from = snapshot.holes_end();
        if fetch.offset < from || mutants::ignore_holes() {
            return self.fetch_data(fetch);
        }
        let length = snapshot.len.0 - from.0;
        let request = fsproto::ListHoles {
            handle: snapshot.handle,
            offset: from.0,
            length: ByteCount(length),
        };
        if self.send_for(&request, || Owner::Holes { fetch: fetch.clone(), from }).is_err() {
            self.fetch_data(fetch);
        }
    }

    /// Requests the bytes of a fetch: from the base, if it may be asked.
    fn fetch_data(&self, fetch: Arc<Fetch>) {
        if let Some(direct) = &self.direct
            && self.asks_base.load(Ordering::Relaxed)
            && direct.peer_is_marked()
            && let Some(request) = direct::request(&fetch)
            && direct.send_for(&request, || Owner::Direct(fetch.clone())).is_ok()
        {
            return;
        }
        self.fetch_bytes(fetch, 1);
    }

    /// Requests the bytes of a fetch from the server that has the snapshot, or the file.
    pub(super) fn fetch_bytes(&self, fetch: Arc<Fetch>, tries: u32) {
        let length = fetch.pages.bytes().0 as u32;
        let (handle, offset) = (fetch.handle(), fetch.offset.0);
        let request = fsproto::Read { handle, offset, length };
        // A page-in changes nothing (X6). But the wrapper takes one of a mapped file for a read.
        let touches = match &fetch.source {
            Source::Snapshot(_) => Touches::Nothing,
            Source::File(file) => Touches::File(file.id()),
        };
        let owner = || Owner::Pages { fetch: fetch.clone(), tries };
        if let Err(error) = self.send_touching(touches, &request, owner) {
            fetch.complete(Err(error));
        }
    }

    /// Processes a reply whose payload is in the memory of the server, which is marked. False where
    /// it does not answer a fetch with its pages: then it has to come as a
    /// [`message`](Self::message).
    pub fn pages(&self, header: &[u8; HEADER_BYTES], lent: LentPages<'_>) -> bool {
        let Some((tag, fetch, from_base)) = self.awaiting(header, lent.pages()) else {
            return false;
        };
        let Some(frames) = lent.take() else { return false };
        if from_base {
            direct::count(&fetch);
        }
        counter::count(Counter::BytesReceived, HEADER_BYTES as u64 + lent.pages().bytes().0);
        fetch.complete(Ok(frames));
        // Of two replies to one request, the first one found it.
        let request = self.table.lock().remove(tag);
        drop((request, fetch));
        fallible::as_kernel(|| self.close_too_many());
        self.space.wake_all();
        true
    }

    /// The fetch that a reply with so many pages answers, with the tag of its request, and whether
    /// the base was asked.
    fn awaiting(
        &self,
        header: &[u8; HEADER_BYTES],
        pages: PageCount,
    ) -> Option<(Tag, Arc<Fetch>, bool)> {
        let (fields, _) = Header::decode(header).ok()?;
        let is_plain = fields.flags.contains(HeaderFlags::REPLY) && fields.status == 0;
        if !is_plain || u64::from(fields.payload_bytes) != pages.bytes().0 {
            return None;
        }
        let mut table = self.table.lock();
        let request = table.in_flight.get_mut(fields.tag)?;
        let (fetch, from_base) = match &request.owner {
            Owner::Direct(fetch) => (fetch, true),
            Owner::Pages { fetch, .. } => (fetch, false),
            _ => return None,
        };
        let is_its = fields.op == request.op as u16 && fetch.pages == pages;
        is_its.then(|| (fields.tag, fetch.clone(), from_base))
    }

    /// Completes a fetch, or repeats its request.
    pub(super) fn receive_pages(
        &self,
        fetch: Arc<Fetch>,
        tries: u32,
        status: Option<Result<(), Errno>>,
        message: Message,
    ) {
        let frames = match status {
            Some(Ok(())) if fetch.may_be_short() => {
                message::into_frames_up_to(message, fetch.pages.to_usize())
            }
            Some(Ok(())) => message::into_frames(message, fetch.pages.to_usize()),
            Some(Err(error)) => Err(error),
            None => Err(Errno::EIO),
        };
        match frames {
            Ok(frames) => fetch.complete(Ok(frames.into())),
            Err(_) if tries < FETCH_TRIES && !self.is_gone() => self.fetch_bytes(fetch, tries + 1),
            Err(error) => fetch.complete(Err(error)),
        }
    }

    /// Continues a fetch after the reply to its request for holes. Without a valid list, its pages
    /// are data.
    pub(super) fn receive_holes(
        &self,
        fetch: Arc<Fetch>,
        from: SnapshotOffset,
        answer: Option<(Reader<'_>, &Message)>,
    ) {
        let Some(snapshot) = fetch.snapshot() else { return self.fetch_data(fetch) };
        let (holes, end) = answer
            .and_then(|(reader, message)| parse_holes(reader, message, snapshot, from))
            .unwrap_or_default();
        snapshot.learn_holes(from, &holes, end);
        if snapshot.holes_end() <= fetch.offset {
            return self.fetch(fetch);
        }
        let all_holes =
            (0..fetch.pages.0).all(|page| snapshot.is_hole(fetch.offset + PageCount(page).bytes()));
        if all_holes {
            let zeros = fallible::collect((0..fetch.pages.0).map(|_| Frame::zero_page()));
            fetch.complete(zeros.map(Vec::into).map_err(Errno::from));
        } else {
            self.fetch_data(fetch);
        }
    }
}

impl Pager for Session {
    fn start(&self, fetch: Arc<Fetch>) {
        self.fetch(fetch);
    }

    fn ask_keeper(&self, fetch: Arc<Fetch>) {
        self.fetch_bytes(fetch, 1);
    }

    fn close(&self, handle: Handle) {
        Self::close(self, handle);
    }
}

/// The list of holes in a reply and the byte up to which it is complete; `None` if invalid.
fn parse_holes(
    mut reader: Reader<'_>,
    message: &Message,
    snapshot: &Snapshot,
    from: SnapshotOffset,
) -> Option<(Vec<Hole>, SnapshotOffset)> {
    let listed = HolesListed::get(&mut reader).ok()?;
    let mut bytes = fallible::with_capacity(message.len()).ok()?;
    message::parts(message).for_each(|part| bytes.extend_from_slice(part));
    let end = listed.holes_end.min(snapshot.len.0);
    let holes = fallible::collect(decode_holes(&bytes, from.0..end).ok()?).ok()?;
    Some((holes, SnapshotOffset(end)))
}
