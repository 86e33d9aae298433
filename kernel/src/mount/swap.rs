//! The swap file: a file without a name on a server that keeps it outside this machine's memory
//! (Q3).
//!
//! The kernel makes the file itself, so that nobody else can have it open. The server has to be
//! marked (F8): what it needs to answer must never be swapped.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use foundation::mutant::{Mutant, active};
use foundation::{ByteCount, Errno, FileOffset, PAGE_BYTES};
use fsproto::{
    Allocate, AllocateMode, Features, Field, GetStatFs, Handle, OpenFlags, Read, Reader, Write,
    WriteFlags, Written,
};

use super::local::open_session;
use super::{KNOWN_FEATURES, Session, payload};
use crate::file::socket::{Endpoint, Message};
use crate::mem::{Frame, frame, swap};

const PAGE: u64 = PAGE_BYTES as u64;
/// How many times the machine's memory the swap file may hold; its table takes 4 bytes of memory a
/// page.
const MAX_SHARE: usize = 16;

/// An open file of a session.
struct SwapFile {
    session: Arc<Session>,
    handle: Handle,
}

/// Opens a session with the server at the other end, and from then on puts pages there. EPERM where
/// the server is not marked, EBUSY where there is a swap file already.
pub fn attach(endpoint: Arc<Endpoint>) -> Result<(), Errno> {
    let session = open_session(endpoint)?;
    let (welcome, _) = session.call(&fsproto::hello(KNOWN_FEATURES), &[])?;
    let features = fsproto::agree(KNOWN_FEATURES, &welcome).map_err(|_| Errno::EIO)?;
    if !session.peer_is_marked() {
        return Err(Errno::EPERM);
    }
    if !features.contains(Features::SPARSE | Features::OPEN_UNLINKED) {
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::UNNAMED;
    let (opened, _) =
        session.call(&fsproto::Open { dir: Handle::ROOT, flags, mode: 0o600 }, &[b""])?;
    let (room, _) = session.call(&GetStatFs {}, &[])?;
    let most = frame::stats().total.saturating_mul(MAX_SHARE).min(u32::MAX as usize);
    let slots = u32::try_from(room.blocks_free).unwrap_or(u32::MAX).min(most as u32);
    log::info!("swap: {} MiB", (u64::from(slots) * PAGE) >> 20);
    swap::attach(Arc::new(SwapFile { session, handle: opened.handle }), slots)
        .map_err(|_| Errno::EBUSY)
}

impl swap::Store for SwapFile {
    fn write(&self, first: u32, frames: &[Frame], transfer: swap::Transfer) {
        let request = Write {
            handle: self.handle,
            offset: FileOffset(u64::from(first) * PAGE),
            flags: WriteFlags::empty(),
            data_bytes: (frames.len() * PAGE_BYTES) as u32,
        };
        self.session.transfer(&request, frames, transfer);
    }

    fn read(&self, first: u32, pages: usize, transfer: swap::Transfer) {
        let request = Read {
            handle: self.handle,
            offset: u64::from(first) * PAGE,
            length: (pages * PAGE_BYTES) as u32,
        };
        self.session.transfer(&request, &[], transfer);
    }

    fn punch(&self, slots: Range<usize>, transfer: swap::Transfer) {
        let (offset, length) = (slots.start as u64 * PAGE, slots.len() as u64 * PAGE);
        self.session.transfer(
            &Allocate {
                handle: self.handle,
                offset: FileOffset(offset),
                length: ByteCount(length),
                mode: AllocateMode::PunchHole,
            },
            &[],
            transfer,
        );
    }
}

/// Completes a transfer with the server's answer, `None` if that makes no sense.
pub(super) fn complete(
    transfer: swap::Transfer,
    answer: Option<(Result<(), Errno>, Reader<'_>, Message)>,
) {
    let (status, mut reader, message) = match answer {
        Some(answer) => answer,
        None => return transfer.complete(Err(Errno::EIO)),
    };
    let pages = transfer.pages();
    let result = status.and_then(|()| match &transfer {
        swap::Transfer::In(_) => payload::into_frames(message, pages),
        swap::Transfer::Out(_) => {
            let written = Written::get(&mut reader).map_err(|_| Errno::EIO)?;
            if written.length == ByteCount((pages * PAGE_BYTES) as u64)
                || active(Mutant::BelieveServer)
            {
                Ok(Vec::new())
            } else {
                Err(Errno::ENOSPC)
            }
        }
        swap::Transfer::Punch(_) => Ok(Vec::new()),
    });
    transfer.complete(result);
}
