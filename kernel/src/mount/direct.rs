//! Page-ins that go past the wrapper (F9): a session with the wrapper's base, on the wrapper's own
//! connection.
//!
//! Where nobody changes a file, the wrapper has nothing to add to a page-in, and its hop is half of
//! the cost. So the kernel asks the base itself, which has one request for that
//! ([`fsproto::ReadAt`]): the bytes that a file held at a version. The base answers only if it is
//! certain of them. In every other case, loss of the session, refusal and invalid replies included,
//! the wrapper is asked, as if there were no such session. So it can cost a message, and never
//! changes a byte.
//!
//! A mount uses it only if the server is trusted (X3), the wrapper says that its files have the
//! base's ids and versions ([`Features::DIRECT`](fsproto::Features::DIRECT)), both have the same
//! root, and the base is marked as a server (F8).
//!
//! Owns the meaning of request and reply; the session is one as any other
//! ([`Session`](super::Session)), and its transport is in `local`.

use alloc::sync::Arc;

use foundation::counter::Counter;
use foundation::{ByteCount, Errno};
use fsproto::{FileId, ReadAt, Version};

use super::message;
use crate::file::socket::Message;
use crate::mem::{Fetch, SnapshotSource};

/// The request for the pages of a fetch, unless its snapshot names no version of a file.
pub(super) fn request(fetch: &Fetch) -> Option<ReadAt> {
    let SnapshotSource::File { file, version, offset, .. } = fetch.snapshot()?.source else {
        return None;
    };
    let offset = offset.checked_add(ByteCount(fetch.offset.0))?;
    let length = fetch.pages.bytes().0 as u32;
    Some(ReadAt { file: FileId(file), version: Version(version), offset, length })
}

/// Counts a fetch that the base answered.
pub(super) fn count(fetch: &Fetch) {
    fetch.count(Counter::FetchesDirect, 1);
    fetch.count(Counter::BytesDirect, fetch.pages.bytes().0);
}

/// The base has answered, or will not: completes the fetch, or asks the server that has the
/// snapshot.
pub(super) fn complete(fetch: &Arc<Fetch>, answer: Result<Message, Errno>) {
    let stale = matches!(answer, Err(Errno::ESTALE));
    let frames = answer.and_then(|message| message::into_frames(message, fetch.pages.to_usize()));
    match frames {
        Ok(frames) => {
            count(fetch);
            fetch.complete(Ok(frames.into()));
        }
        Err(_) => {
            fetch.count(Counter::FetchesStale, u64::from(stale));
            fetch.ask_keeper();
        }
    }
}
