//! Writing the dirty pages of mapped files to their servers.
//!
//! A server may refuse a page: its disk fails. The page stays dirty and is tried again when the
//! file is synchronised or read, and from time to time (`writers`). Until then it is in nobody's
//! way (`mem::stores`).

use super::{EVERYTHING, MappedFile, after, start_of};
use crate::file::{FileObject, mutants};
use crate::mem::file_pages::Taken;
use crate::mem::{Frame, PageRange};
use crate::sync::{Interrupt, relax};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset, PageCount};
use fsproto::MAX_PAYLOAD;

/// Pages that one message carries at most.
const RUN_PAGES: usize = MAX_PAYLOAD / foundation::PAGE_BYTES;
/// Pages that are written back for one store that waits: enough to pay for the way there.
const WRITTEN_AT_ONCE: usize = 64;

/// Whether an error of a write says that the server does not take the page: not that memory is
/// short, or that the writer is being killed.
fn is_refusal(error: Errno) -> bool {
    !matches!(error, Errno::EINTR | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN)
}

impl MappedFile {
    /// Writes all dirty pages of a range to the file, as [`write_back`](Self::write_back) does.
    pub(super) fn write_all_back(
        &self,
        size: &mut Option<ByteCount>,
        range: PageRange,
    ) -> Result<(), Errno> {
        let mut all = usize::MAX;
        self.write_back(size, range, Taken::All, &mut all)
    }

    /// Writes up to `left` dirty pages of a range to the file, up to the file's end; `left` is
    /// reduced by their number. Where the server refuses some, the others are written all the same,
    /// and the first error is returned. `size` is what the file's lock protects.
    fn write_back(
        &self,
        size: &mut Option<ByteCount>,
        range: PageRange,
        taken: Taken,
        left: &mut usize,
    ) -> Result<(), Errno> {
        let mut batch = self.pages.begin_write_back(range, taken, *left)?;
        if batch.is_empty() {
            return Ok(());
        }
        let end = FileOffset::ZERO + self.size(size)?;
        let (mut most, mut result) = (RUN_PAGES, Ok(()));
        while let Some((first, frames)) = batch.next_run(most)? {
            relax(Interrupt::Killable)?;
            match self.write_run(start_of(first), &frames, end) {
                Ok(()) => {
                    batch.written(frames.len());
                    *left -= frames.len().min(*left);
                }
                // One of them is refused: which?
                Err(error) if is_refusal(error) && frames.len() > 1 && !self.is_lost() => most = 1,
                Err(error) if is_refusal(error) => {
                    if mutants::refused_is_written() {
                        batch.written(frames.len());
                        continue;
                    }
                    batch.refused(frames.len());
                    if result.is_ok() {
                        self.failures.note(error);
                        self.retry.begin();
                    }
                    result = result.and(Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        result
    }

    /// Whether the file's server is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.reader.is_lost()
    }

    /// Writes adjacent pages from `start` on, up to the end of the file.
    fn write_run(&self, start: FileOffset, frames: &[Frame], end: FileOffset) -> Result<(), Errno> {
        let all = PageCount::of_len(frames.len()).bytes();
        let length =
            if mutants::write_back_extends() { all } else { all.min(end.saturating_since(start)) };
        if length.is_zero() { Ok(()) } else { write_all(self.writer()?, start, frames, length) }
    }

    /// For a store that waits: writes some dirty pages of files of its server, which were not
    /// refused, of this file first.
    pub(super) fn write_some_back(&self) -> Result<(), Errno> {
        let share = &self.server.share;
        let (refused, mut left) = (share.refused(), WRITTEN_AT_ONCE);
        let mut result = self.write_some(&mut left, Taken::Fresh);
        let mut last = None;
        while left > 0
            && let Some(file) = after(self.identity.device, last)
        {
            last = Some(file.identity);
            if file.pages.dirty_pages() > 0 {
                result = result.and(file.write_some(&mut left, Taken::Fresh));
            }
            relax(Interrupt::Killable)?;
        }
        if share.is_exhausted() {
            // Only refused pages are left. Perhaps the server takes some of them now.
            result = self.write_some(&mut left, Taken::All);
            return if share.is_exhausted() { result.and(Err(Errno::EIO)) } else { Ok(()) };
        }
        // A page that was refused now makes way for others, too.
        let has_progress = left < WRITTEN_AT_ONCE || share.refused() > refused;
        if has_progress || share.has_space() { Ok(()) } else { result.and(Err(Errno::EIO)) }
    }

    fn write_some(&self, left: &mut usize, taken: Taken) -> Result<(), Errno> {
        let mut size = self.size.lock()?;
        self.write_back(&mut size, EVERYTHING, taken, left)
    }
}

/// Writes `length` bytes of adjacent pages. EIO where the server takes none of them.
fn write_all(
    writer: &Arc<dyn FileObject>,
    start: FileOffset,
    frames: &[Frame],
    length: ByteCount,
) -> Result<(), Errno> {
    let mut done = ByteCount::ZERO;
    while done < length {
        // A short write may end within a page: that page is written again.
        let whole = done.whole_pages();
        let rest = frames.get(whole.to_usize()..).unwrap_or_default();
        let written = writer.write_pages(start + whole.bytes(), rest, length - whole.bytes())?;
        let now = whole.bytes() + written;
        if now <= done {
            return Err(Errno::EIO);
        }
        done = now;
    }
    Ok(())
}
