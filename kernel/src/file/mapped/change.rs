//! Changes of mapped files by write(2), truncation, allocation and holes.
//!
//! Under the file's lock: the pages of the change are taken out of all address spaces, those that
//! were stored to are written, the server changes the file, and the pages leave memory. Until the
//! last step, whoever touches such a page waits. So a store beside the changed bytes is kept, and
//! one to the bytes themselves comes before the change or after it.

use super::{MappedFile, find, pages_of};
use crate::file::{Identity, mutants};
use crate::mem::file_pages::Leaving;
use crate::mem::{Page, PageRange};
use foundation::{ByteCount, Errno, FileOffset};

/// Which bytes of a file a request changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// These, by a write or a hole.
    Bytes(FileOffset, ByteCount),
    /// So many behind the end.
    Append(ByteCount),
    /// All behind this length, which the file has from then on.
    Resize(ByteCount),
    /// None, but the file has this length at least.
    Extend(ByteCount),
}

/// Runs a request that changes a file. Whoever sends one calls this, with no program's memory to be
/// touched within.
pub fn change<T>(
    identity: Identity,
    extent: Extent,
    request: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match find(identity) {
        Some(file) => file.change(extent, request),
        None => request(),
    }
}

/// The pages of a change.
struct Affected {
    /// Those that leave memory.
    pages: PageRange,
    /// Those of them that are written before if they were stored to. The rest is truncated.
    kept: PageRange,
    /// The file's size after it, if that is known.
    size: Option<ByteCount>,
}

impl MappedFile {
    fn change<T>(
        &self,
        extent: Extent,
        request: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut size = self.size.lock()?;
        let Some(affected) = self.affected(extent, &mut size)? else { return request() };
        self.pages.begin_change(affected.pages)?;
        let written = self.write_all_back(&mut size, affected.kept);
        let result = written.and_then(|()| request());
        let leaving = if result.is_ok() { Leaving::All } else { Leaving::Clean };
        self.pages.end_change(affected.pages, leaving);
        *size = affected.size.filter(|_| result.is_ok());
        result
    }

    /// What a change means for the pages; `None` for nothing. Bytes of the last page behind the end
    /// of the file, which programs may have stored to, are no bytes of the file: when the file
    /// grows, that page is one of the change.
    fn affected(
        &self,
        extent: Extent,
        known: &mut Option<ByteCount>,
    ) -> Result<Option<Affected>, Errno> {
        let size = self.size(known)?;
        let end_of_file = FileOffset::ZERO + size;
        let (start, end, after) = match extent {
            Extent::Bytes(_, ByteCount::ZERO) | Extent::Append(ByteCount::ZERO) => return Ok(None),
            Extent::Bytes(start, bytes) => {
                let end = start.saturating_add(bytes);
                let start = if end > end_of_file { start.min(end_of_file) } else { start };
                (start, end, (end <= end_of_file).then_some(size))
            }
            Extent::Append(bytes) => (end_of_file, end_of_file.saturating_add(bytes), None),
            Extent::Extend(to) if to <= size => return Ok(None),
            Extent::Extend(to) | Extent::Resize(to) => {
                let start = FileOffset::ZERO + to.min(size);
                let pages = PageRange { end: Page(u64::MAX), ..pages_of(start, start) };
                let is_partial = start.within_page() != 0 && !mutants::lose_partial();
                let kept = u64::from(is_partial);
                let kept = PageRange { start: pages.start, end: Page(pages.start.0 + kept) };
                return Ok(Some(Affected { pages, kept, size: Some(to) }));
            }
        };
        let pages = pages_of(start, end);
        Ok(Some(Affected { pages, kept: pages, size: after }))
    }
}
