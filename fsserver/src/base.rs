//! A session with a base: the file server that a wrapper sits on.
//!
//! Every reply is checked here. One that does not belong to the request that was sent is EPROTO.

use alloc::vec::Vec;
use core::ops::Range;

use foundation::Errno;
use fsproto::{
    ByteRange, Close, Features, FileId, Handle, Header, HeaderFlags, Hole, HolesListed, ListHoles,
    MAX_CLOSES, MAX_HOLES, MAX_PAYLOAD, MAX_RANGES, MAX_TARGET, Nothing, Operation, Read,
    ReadRanges, Records, Tag, Walked, Writer, add_closes, agree, hello,
};

use crate::buffer::zeros;
use crate::connection::Connection;
use crate::server::Walk;

/// A session with a base, with typed requests and replies.
#[derive(Debug)]
pub struct Base<C> {
    client: C,
    next_tag: u32,
    features: Features,
    root: FileId,
    files: Option<usize>,
    /// Where the target of a link is received. Kept, because clearing it would cost each walk.
    target: Vec<u8>,
    /// Handles that the next requests close, the first `waiting` of these.
    closing: [Handle; MAX_CLOSES],
    waiting: usize,
}

impl<C: Connection> Base<C> {
    /// Opens the session. `features` are those that the wrapper can use.
    pub fn connect(client: C, features: Features) -> Result<Self, Errno> {
        let mut base = Self {
            client,
            next_tag: 1,
            features: Features::empty(),
            root: FileId::NONE,
            files: None,
            target: zeros(MAX_TARGET)?,
            closing: [Handle::NONE; MAX_CLOSES],
            waiting: 0,
        };
        let usable = features | Features::CLOSES;
        let welcome = base.request(&hello(usable), &[])?;
        base.features = agree(usable, &welcome)?;
        base.root = welcome.root;
        base.files = (welcome.files > 0).then_some(welcome.files as usize);
        Ok(base)
    }

    /// The features granted.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Identifies the root directory.
    pub fn root(&self) -> FileId {
        self.root
    }

    /// Files that may be open on it at once, where it says so.
    pub fn max_files(&self) -> Option<usize> {
        self.files
    }

    /// The connection.
    pub fn client(&self) -> &C {
        &self.client
    }

    /// Sends a request whose reply has no payload. EPROTO where the reply is malformed.
    pub fn request<O: Operation>(
        &mut self,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<O::Reply, Errno> {
        match self.fetch(request, payload, &mut [])? {
            (reply, 0) => Ok(reply),
            _ => Err(Errno::EPROTO),
        }
    }

    /// Sends a request and writes the reply's payload to `into`. Returns the payload's length in
    /// bytes.
    pub fn fetch<O: Operation>(
        &mut self,
        request: &O,
        payload: &[&[u8]],
        into: &mut [u8],
    ) -> Result<(O::Reply, usize), Errno> {
        let tag = Tag(self.next_tag);
        self.next_tag = self.next_tag.wrapping_add(1);
        let payload_bytes = payload.iter().map(|part| part.len()).sum();
        if payload_bytes > MAX_PAYLOAD {
            return Err(Errno::EINVAL);
        }
        let mut header = request.request(tag, payload_bytes);
        let left = self.waiting.saturating_sub(O::CLOSES);
        if self.waiting > 0 {
            add_closes(&mut header, self.closing.get(left..self.waiting).unwrap_or_default());
        }
        let answer = self.client.call(&header, payload, into);
        // Otherwise nothing was sent, and the next request closes them.
        if matches!(answer, Ok(_) | Err(Errno::ENOTCONN | Errno::EPROTO)) {
            self.waiting = left;
        }
        let (header, received) = answer?;
        let (decoded, mut fields) = Header::decode(&header).map_err(|_| Errno::EPROTO)?;
        let answers =
            decoded.tag == tag && decoded.op == O::OP as u16 && decoded.flags == HeaderFlags::REPLY;
        if !answers || decoded.payload_bytes as usize != received || received > into.len() {
            return Err(Errno::EPROTO);
        }
        decoded.result()?;
        let reply = O::decode_reply(&mut fields).map_err(|_| Errno::EPROTO)?;
        Ok((reply, received))
    }

    /// Closes a handle, with one of the next requests if the base can do that.
    pub fn close(&mut self, handle: Handle) {
        match self.closing.get_mut(self.waiting) {
            Some(place) if self.features.contains(Features::CLOSES) => {
                *place = handle;
                self.waiting += 1;
            }
            // An error means that the base has lost the handle: it is closed in any case.
            _ => drop(self.request(&Close { handle }, &[])),
        }
    }

    /// Closes now what waits to be closed.
    pub fn close_waiting(&mut self) {
        if let Some(last) = self.waiting.checked_sub(1) {
            let handle = self.closing.get(last).copied().unwrap_or(Handle::NONE);
            self.waiting = last;
            let _ = self.request(&Close { handle }, &[]);
        }
    }

    /// Sends a request on a path.
    pub fn walk<O: Operation<Reply = Walked>>(
        &mut self,
        request: &O,
        payload: &[&[u8]],
    ) -> Result<Walk, Errno> {
        let mut space = core::mem::take(&mut self.target);
        let fetched = self.fetch(request, payload, &mut space);
        self.target = space;
        let (reply, length) = fetched?;
        let target = self.target.get(..length).unwrap_or_default();
        if length != usize::from(reply.link_bytes) || (length > 0 && reply.handle != Handle::NONE) {
            return Err(Errno::EPROTO);
        }
        Ok(Walk { reply, target: target.to_vec() })
    }

    /// Reads exactly `into.len()` bytes from `offset` on. EPROTO if the file has fewer: the caller
    /// knows its size.
    pub fn read_exact(
        &mut self,
        handle: Handle,
        mut offset: u64,
        into: &mut [u8],
    ) -> Result<(), Errno> {
        for part in into.chunks_mut(MAX_PAYLOAD) {
            let length = part.len();
            let (Nothing {}, received) =
                self.fetch(&Read { handle, offset, length: length as u32 }, &[], part)?;
            if received != length {
                return Err(Errno::EPROTO);
            }
            offset += length as u64;
        }
        Ok(())
    }

    /// Reads ranges of a file to `into`, one after the other: with one message for up to
    /// [`MAX_RANGES`] of them. Together they have at most `into.len()` bytes, and at most
    /// [`MAX_PAYLOAD`]. Needs [`Features::READ_RANGES`]. EPROTO if the file has fewer bytes.
    pub fn read_ranges(
        &mut self,
        handle: Handle,
        ranges: impl Iterator<Item = Range<u64>>,
        mut into: &mut [u8],
    ) -> Result<(), Errno> {
        let mut ranges = ranges.peekable();
        while ranges.peek().is_some() {
            let mut list = [0; MAX_RANGES * ByteRange::BYTES];
            let mut writer = Writer::new(&mut list);
            let mut total = 0;
            for range in ranges.by_ref().take(MAX_RANGES) {
                let length = u32::try_from(range.end - range.start).map_err(|_| Errno::EINVAL)?;
                let encoded = ByteRange { offset: range.start, length }.encode(&mut writer);
                encoded.map_err(|_| Errno::EINVAL)?;
                total += length as usize;
            }
            let used = writer.used();
            let (space, rest) =
                core::mem::take(&mut into).split_at_mut_checked(total).ok_or(Errno::EINVAL)?;
            let list = list.get(..used).unwrap_or_default();
            let (Nothing {}, received) = self.fetch(&ReadRanges { handle }, &[list], space)?;
            if received != total {
                return Err(Errno::EPROTO);
            }
            into = rest;
        }
        Ok(())
    }

    /// Lists the holes of a range, as many as one reply holds.
    pub fn list_holes(&mut self, request: &ListHoles) -> Result<(HolesListed, Vec<Hole>), Errno> {
        let mut list = [0; MAX_HOLES * Hole::BYTES];
        let (listed, length) = self.fetch(request, &[], &mut list)?;
        let holes = Records::<Hole>::decode(list.get(..length).unwrap_or_default(), MAX_HOLES)
            .map_err(|_| Errno::EPROTO)?
            .collect();
        Ok((listed, holes))
    }
}
