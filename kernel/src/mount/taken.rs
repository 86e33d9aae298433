//! The server's answer to a request for a snapshot, checked.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::mutant::{Mutant, active};
use foundation::{Errno, PAGE_BYTES};
use fsproto::{Handle, Hole, MAX_HOLES, Snapshotted, decode_holes};

use super::remote_file::RemoteFile;
use super::session::Payload;
use crate::mem::{Pager, Snapshot, Source};

const PAGE: u64 = PAGE_BYTES as u64;

/// A snapshot just taken: its length, the bytes of the fragments, and the object that stands for
/// its pages.
pub struct Taken {
    /// Bytes in all.
    pub length: u64,
    fragments: Vec<u8>,
    leading_bytes: usize,
    /// None where the fragments are all of it.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl Taken {
    /// Checks a reply. Where it is nonsense, the snapshot is closed and EIO returned.
    pub fn new(
        file: &RemoteFile,
        request: &fsproto::Snapshot,
        reply: &Snapshotted,
        payload: &Payload,
    ) -> Result<Self, Errno> {
        let source = if file.mount().is_trusted() {
            Source::File {
                mount: file.mount().id(),
                file: reply.file.0,
                version: reply.version.0,
                offset: request.offset,
            }
        } else {
            Source::Untrusted
        };
        let parts = Parts::parse(reply, payload);
        // Made before anything is refused: from here on, dropping it closes the handle.
        let snapshot = (reply.handle != Handle::NONE).then(|| {
            let holes = parts.as_ref().map(|parts| parts.holes.clone()).unwrap_or_default();
            let pager: Arc<dyn Pager> = file.mount().session().clone();
            let (length, holes_end) = (reply.length, reply.holes_end);
            Snapshot::new(pager, reply.handle, length, source, holes, holes_end)
        });
        let parts = parts?;
        let expected = match &snapshot {
            Some(_) => fragment_lengths(request, reply.length.0),
            None => (reply.length.0, 0),
        };
        let told = (u64::from(reply.leading_bytes), u64::from(reply.trailing_bytes));
        if (reply.length > request.length || told != expected) && !active(Mutant::BelieveServer) {
            return Err(Errno::EIO);
        }
        Ok(Self {
            length: reply.length.0,
            fragments: parts.fragments,
            leading_bytes: reply.leading_bytes as usize,
            snapshot,
        })
    }

    /// The bytes in front of the first whole page.
    pub fn head(&self) -> &[u8] {
        self.fragments.get(..self.leading_bytes).unwrap_or_default()
    }

    /// The bytes behind the last whole page.
    pub fn tail(&self) -> &[u8] {
        self.fragments.get(self.leading_bytes..).unwrap_or_default()
    }

    /// Whole pages in between.
    pub fn pages(&self) -> u64 {
        self.length.saturating_sub(self.fragments.len() as u64) / PAGE
    }

    /// The deliberate break of R1: fragments of the live file.
    pub fn reread_fragments(&mut self, file: &RemoteFile, offset: u64) -> Result<(), Errno> {
        let tail_at = self.length - self.tail().len() as u64;
        let (leading_bytes, trailing_bytes) = (self.leading_bytes as u32, self.tail().len() as u32);
        let read = |offset, length| {
            let (_, payload) = file
                .mount()
                .session()
                .call(&fsproto::Read { handle: file.handle(), offset, length }, &[])?;
            payload.to_vec()
        };
        let mut fragments = read(offset, leading_bytes)?;
        fragments.extend(read(offset + tail_at, trailing_bytes)?);
        fragments.resize(self.fragments.len(), 0);
        self.fragments = fragments;
        Ok(())
    }
}

/// The payload of a reply, taken apart.
struct Parts {
    fragments: Vec<u8>,
    holes: Vec<Hole>,
}

impl Parts {
    fn parse(reply: &Snapshotted, payload: &Payload) -> Result<Self, Errno> {
        let fragment_bytes = reply.leading_bytes as usize + reply.trailing_bytes as usize;
        let count = reply.holes as usize;
        if count > MAX_HOLES
            || fragment_bytes + count * Hole::BYTES != payload.len()
            || reply.holes_end.0 > reply.length.0
        {
            return Err(Errno::EIO);
        }
        let mut fragments = payload.to_vec()?;
        let list = fragments.get(fragment_bytes..).unwrap_or_default();
        let holes = decode_holes(list, 0..reply.holes_end.0).map_err(|_| Errno::EIO)?.collect();
        fragments.truncate(fragment_bytes);
        Ok(Self { fragments, holes })
    }
}

/// The lengths of the head and the tail fragment of `n` bytes, by the rule that
/// [`fsproto::Snapshot`] states.
fn fragment_lengths(request: &fsproto::Snapshot, n: u64) -> (u64, u64) {
    let misalignment = u64::from(request.misalignment);
    let head = (PAGE - misalignment) % PAGE;
    (head.min(n), (misalignment + n) % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_fragments_are_what_whole_pages_leave_over() {
        let request = |misalignment| fsproto::Snapshot { misalignment, ..Default::default() };
        assert_eq!(fragment_lengths(&request(0), 8192), (0, 0));
        assert_eq!(fragment_lengths(&request(0), 8193), (0, 1));
        assert_eq!(fragment_lengths(&request(4095), 4097), (1, 0));
        assert_eq!(fragment_lengths(&request(1), 8192), (4095, 1));
    }
}
