//! Writing the dirty pages of mapped files to their servers.
//!
//! A server may refuse a page: its disk is full, or fails. The page stays dirty and is tried again
//! when the file is synchronised or read, or when the server has taken another page. Until then it
//! is in nobody's way (`mem::stores`).

use super::{Fingerprints, MappedFile, after, fingerprint, start_of, with_memory};
use crate::file::{Identity, UserBuffers, WritePosition};
use crate::mem::stores::{Needed, Taken};
use crate::mem::write_back::WriteBack;
use crate::mem::{PAGE_BYTES, SharedMemory, Space, fallible};
use crate::sync::{Interrupt, relax};
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno, PageCount};

/// Pages that are written back for one store that waits: enough to pay for the way there.
const WRITTEN_AT_ONCE: usize = 64;

/// Does what a store to this memory waits for.
pub(super) fn serve_store(
    space: &Arc<Space>,
    memory: &SharedMemory,
    needed: Needed,
) -> Result<(), Errno> {
    let (identity, file) = with_memory(memory).ok_or(Errno::EIO)?;
    match needed {
        Needed::Space => write_some_back(space, identity, &file),
        Needed::Consent { page } => {
            file.ask(space, page)?;
            retry_refused(space, identity.device)
        }
    }
}

/// Writes some dirty pages of files of one server back, which it has not refused: of this file
/// first.
fn write_some_back(space: &Arc<Space>, identity: Identity, file: &MappedFile) -> Result<(), Errno> {
    let (refused, mut left) = (file.share.refused(), WRITTEN_AT_ONCE);
    let mut result = file.write_some_back(&mut left, space);
    let mut last = None;
    while left > 0
        && let Some((other, file)) = after(identity.device, last)
    {
        last = Some(other);
        if file.memory.dirty_pages() > 0 {
            result = result.and(file.write_some_back(&mut left, space));
        }
        relax(Interrupt::Killable)?;
    }
    // A page that was refused now makes way for others, too.
    let has_progress = left < WRITTEN_AT_ONCE || file.share.refused() > refused;
    if has_progress || file.share.has_space() { Ok(()) } else { result.and(Err(Errno::EIO)) }
}

/// The server has just taken a page: tries again what it has refused of one file, a single page at
/// first.
fn retry_refused(space: &Arc<Space>, device: u64) -> Result<(), Errno> {
    let mut last = None;
    while let Some((identity, file)) = after(device, last) {
        last = Some(identity);
        if file.memory.has_refused_pages() {
            let mut known = file.fingerprints.lock()?;
            for mut count in [1, WRITTEN_AT_ONCE] {
                // Whether that succeeds does not matter to the store.
                if file.write_back_up_to(&mut count, Taken::Refused, space, &mut known).is_err() {
                    break;
                }
            }
            break;
        }
        relax(Interrupt::Killable)?;
    }
    Ok(())
}

/// Whether an error of a write says that the server does not take the page: not that memory is
/// short, or that the writer is being killed.
fn is_refusal(error: Errno) -> bool {
    !matches!(error, Errno::EINTR | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN)
}

impl MappedFile {
    /// Writes dirty pages to the file, up to the file's end. Where the server refuses some, the
    /// others are written all the same, and the first error is returned.
    pub(super) fn write_back(
        &self,
        space: &Arc<Space>,
        known: &mut Fingerprints,
    ) -> Result<(), Errno> {
        let mut all = usize::MAX;
        self.write_back_up_to(&mut all, Taken::All, space, known)
    }

    /// Writes some dirty pages, which were not refused before; `left` is reduced by their number.
    fn write_some_back(&self, left: &mut usize, space: &Arc<Space>) -> Result<(), Errno> {
        self.write_back_up_to(left, Taken::Fresh, space, &mut *self.fingerprints.lock()?)
    }

    /// Writes the first `left` dirty pages, each once. `left` is reduced by their number. Once a
    /// page is refused, those that were refused before are not tried.
    fn write_back_up_to(
        &self,
        left: &mut usize,
        mut which: Taken,
        space: &Arc<Space>,
        known: &mut Fingerprints,
    ) -> Result<(), Errno> {
        let (mut next, mut size, mut result) = (0, None, Ok(()));
        while let Some(mut dirty) = WriteBack::begin(&self.memory, next, *left, which)? {
            while let Some(page) = dirty.next_page() {
                next = page + 1;
                relax(Interrupt::Killable)?;
                if which == Taken::Fresh && dirty.is_refused(page) {
                    // Taken before another one was refused.
                    dirty.refused(page);
                    continue;
                }
                match self.write_page(page, &mut size, space, known) {
                    Ok(()) => {
                        dirty.written(page);
                        *left -= 1;
                    }
                    Err(error) if is_refusal(error) && !self.object.is_lost() => {
                        dirty.refused(page);
                        if which == Taken::Refused {
                            return Err(error);
                        }
                        (which, result) = (Taken::Fresh, result.and(Err(error)));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        result
    }

    /// Writes a page to the file, unless the file has these bytes. `size` is that of the file, once
    /// it is known.
    fn write_page(
        &self,
        page: u64,
        size: &mut Option<ByteCount>,
        space: &Arc<Space>,
        known: &mut Fingerprints,
    ) -> Result<(), Errno> {
        let mut bytes = fallible::filled(0, PAGE_BYTES)?;
        self.memory.read(page, bytes.first_chunk_mut().ok_or(Errno::EIO)?)?;
        let found = fingerprint(&bytes);
        if known.get(page).unwrap_or_else(|| fingerprint(&[0; PAGE_BYTES])) == found {
            return Ok(());
        }
        let size = match size {
            Some(size) => *size,
            None => *size.insert(self.object.stat()?.size),
        };
        self.put(space, page, bytes, size)?;
        Ok(known.set(page, found)?)
    }

    /// Writes the bytes of a page of the file, which has `size` bytes.
    fn put(
        &self,
        space: &Arc<Space>,
        page: u64,
        mut bytes: Vec<u8>,
        size: ByteCount,
    ) -> Result<(), Errno> {
        let length = size.saturating_sub(PageCount(page).bytes()).to_usize().min(PAGE_BYTES);
        bytes.truncate(length);
        let mut from = UserBuffers::kernel_bytes(bytes);
        while !from.remaining().is_zero() {
            let at = start_of(page) + (ByteCount::of_len(length) - from.remaining());
            let at = WritePosition::At(at);
            if self.object.write(&Self::io(space), &mut from, at)?.bytes.is_zero() {
                return Err(Errno::EIO);
            }
        }
        Ok(())
    }

    /// Asks the server whether it will take a page that is about to be stored to: writes the page
    /// as it is, so that it has storage of its own.
    fn ask(&self, space: &Arc<Space>, page: u64) -> Result<(), Errno> {
        let _known = self.fingerprints.lock()?;
        let bytes = self.read_page(space, page)?;
        self.put(space, page, bytes, self.object.stat()?.size)?;
        self.memory.agree_to_store(page);
        Ok(())
    }
}
