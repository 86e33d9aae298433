//! The server's reply to a request for a snapshot, validated.

use alloc::sync::Arc;
use alloc::vec::Vec;

use foundation::{ByteCount, Errno, PAGE_BYTES, PageCount};
use fsproto::{Handle, Hole, MAX_HOLES, Snapshotted, decode_holes};

use super::message::Payload;
use super::mutants;
use super::server_file::ServerFile;
use crate::mem::{Pager, Snapshot, SnapshotSource, fallible};

const PAGE: u64 = PAGE_BYTES as u64;

/// A new snapshot: its fragments as bytes, and the object from which its whole pages are fetched.
pub struct SnapshotReply {
    /// Length of fragments and pages together.
    pub length: ByteCount,
    /// The leading fragment, then the trailing one.
    pub(super) fragments: Vec<u8>,
    /// Bytes of the leading fragment.
    pub(super) leading_bytes: usize,
    /// The snapshot; none where the fragments are everything.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl SnapshotReply {
    /// Validates a reply. If it is invalid, closes the snapshot and returns EIO.
    pub fn new(
        file: &ServerFile,
        request: &fsproto::Snapshot,
        reply: &Snapshotted,
        payload: &Payload,
    ) -> Result<Self, Errno> {
        let source = if file.mount.is_trusted() {
            SnapshotSource::File {
                mount: file.mount.id(),
                file: reply.file.0,
                version: reply.version.0,
                offset: request.offset,
            }
        } else {
            SnapshotSource::Untrusted
        };
        let mut parts = Parts::parse(reply, payload);
        // Created before the checks: from here on, dropping it closes the handle.
        let snapshot = (reply.handle != Handle::NONE).then(|| {
            let holes = parts.as_mut().map(|parts| core::mem::take(&mut parts.holes));
            let holes = holes.unwrap_or_default();
            let pager: Arc<dyn Pager> = file.mount.session().clone();
            let (length, holes_end) = (reply.length, reply.holes_end);
            Snapshot::new(pager, reply.handle, length, source, holes, holes_end)
        });
        let parts = parts?;
        let expected = match &snapshot {
            Some(_) => fragment_lengths(request, reply.length.0),
            None => (reply.length.0, 0),
        };
        let lengths = (u64::from(reply.leading_bytes), u64::from(reply.trailing_bytes));
        if (reply.length > request.length || lengths != expected) && !mutants::believe_server() {
            return Err(Errno::EIO);
        }
        Ok(Self {
            length: reply.length,
            fragments: parts.fragments,
            leading_bytes: reply.leading_bytes as usize,
            snapshot,
        })
    }

    /// The bytes before the first whole page.
    pub fn leading(&self) -> &[u8] {
        self.fragments.get(..self.leading_bytes).unwrap_or_default()
    }

    /// The bytes after the last whole page.
    pub fn trailing(&self) -> &[u8] {
        self.fragments.get(self.leading_bytes..).unwrap_or_default()
    }

    /// The whole pages between the fragments.
    pub fn pages(&self) -> PageCount {
        self.length.saturating_sub(ByteCount::of_len(self.fragments.len())).whole_pages()
    }
}

/// The payload of a reply.
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
        let holes = decode_holes(list, 0..reply.holes_end.0).map_err(|_| Errno::EIO)?;
        let holes = fallible::collect(holes)?;
        fragments.truncate(fragment_bytes);
        Ok(Self { fragments, holes })
    }
}

/// The lengths of the leading and the trailing fragment of `n` bytes, by the rule in
/// [`fsproto::Snapshot`].
fn fragment_lengths(request: &fsproto::Snapshot, n: u64) -> (u64, u64) {
    let misalignment = u64::from(request.misalignment);
    let leading = (PAGE - misalignment) % PAGE;
    (leading.min(n), (misalignment + n) % PAGE)
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
