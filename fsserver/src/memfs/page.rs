//! Pages of file bytes, and the account of how many there are.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fsproto::{Errno, PAGE_BYTES};

use crate::buffer::Page as Bytes;

/// Where a page's bytes are.
enum Storage {
    /// In memory of its own, on a page border.
    Own(Box<[Bytes]>),
    /// In the archive that the tree was built from; fewer than a page at a file's end, zeros follow.
    Archive(&'static [u8]),
}

/// A page of a file. Clones share the bytes; whoever writes to a shared page copies it first.
#[derive(Clone)]
pub(super) struct Page(Arc<Storage>);

impl Page {
    /// The bytes; where they are fewer than a page, zeros follow.
    pub fn bytes(&self) -> &[u8] {
        match &*self.0 {
            Storage::Own(bytes) => bytes.first().map_or(&[], |page| &page.0),
            Storage::Archive(bytes) => bytes,
        }
    }

    /// Whether another file, or another place in this one, has it too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The bytes to write to, where they are this page's own and nobody shares them.
    fn bytes_mut(&mut self) -> Option<&mut [u8; PAGE_BYTES]> {
        match Arc::get_mut(&mut self.0)? {
            Storage::Own(bytes) => bytes.first_mut().map(|page| &mut page.0),
            Storage::Archive(_) => None,
        }
    }
}

/// Counts the pages in use. A shared page counts once, a page of the archive like any other.
#[derive(Debug)]
pub(super) struct PageAccount {
    /// Pages that there can be.
    pub capacity: u64,
    /// Pages that there are.
    pub used: u64,
}

impl PageAccount {
    /// ENOSPC unless so many more can be had.
    pub fn check(&self, pages: u64) -> Result<(), Errno> {
        let free = self.capacity.saturating_sub(self.used);
        if pages <= free { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// A page of the archive.
    pub fn archived(&mut self, bytes: &'static [u8]) -> Page {
        self.used += 1;
        Page(Arc::new(Storage::Archive(bytes)))
    }

    /// A new page that begins with `bytes`. The caller has checked that there is room.
    pub fn allocate(&mut self, bytes: &[u8]) -> Result<Page, Errno> {
        let mut page = Vec::new();
        page.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        page.push(Bytes([0; PAGE_BYTES]));
        if let Some(Bytes(space)) = page.first_mut() {
            space.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        }
        self.used += 1;
        Ok(Page(Arc::new(Storage::Own(page.into_boxed_slice()))))
    }

    /// Lets go of a page.
    pub fn release(&mut self, page: Page) {
        if !page.is_shared() {
            self.used = self.used.saturating_sub(1);
        }
    }

    /// Whether a write to this page needs one more page.
    pub fn write_needs(page: Option<&Page>) -> u64 {
        u64::from(page.is_none_or(Page::is_shared))
    }

    /// The page's bytes, to write to; copied first unless they are its own. The caller has checked that there is room.
    pub fn writable<'a>(&mut self, page: &'a mut Page) -> Result<&'a mut [u8; PAGE_BYTES], Errno> {
        if page.bytes_mut().is_none() {
            let copy = self.allocate(page.bytes())?;
            self.release(core::mem::replace(page, copy));
        }
        page.bytes_mut().ok_or(Errno::EIO)
    }
}
