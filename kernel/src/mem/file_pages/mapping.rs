//! A region's use of a mapped file.
#![forbid(unsafe_code)]

use super::{FilePages, wanted};
use crate::mem::PageRange;
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::Ordering;
use foundation::Errno;

/// The open file that was mapped. As on Linux, a mapping keeps it open.
pub trait Opened: Send + Sync {
    /// Whether pages of the mapping may be stored to: whether it was opened for writing.
    fn may_write(&self) -> bool;

    /// The failure of write-back that was reported to it last: see `file::mapped`.
    fn last_failure(&self) -> &core::sync::atomic::AtomicU64;
}

/// The use of a file's pages by what one mmap(2) has mapped: regions share it, and are as small as
/// others. The file knows how many there are.
#[derive(Clone)]
pub struct FileMapping(Arc<Mapping>);

struct Mapping {
    file: Arc<FilePages>,
    opened: Arc<dyn Opened>,
}

impl FileMapping {
    /// A mapping of a file by an open file of it.
    pub fn new(file: &Arc<FilePages>, opened: Arc<dyn Opened>) -> Self {
        file.mappings.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Mapping { file: file.clone(), opened }))
    }

    /// The file's pages.
    pub fn file(&self) -> &Arc<FilePages> {
        &self.0.file
    }

    /// The open file that was mapped.
    pub fn opened(&self) -> &dyn Opened {
        &*self.0.opened
    }

    /// Writes the dirty pages of a range to the file, and reports also what has failed and was not
    /// reported to the open file. May wait for the file's server.
    pub fn synchronise(&self, pages: PageRange) -> Result<(), Errno> {
        let keeper = self.0.file.keeper.upgrade().ok_or(Errno::EIO)?;
        let written = keeper.synchronise(pages);
        written.and(keeper.report(self.opened()))
    }

    /// Whether both are of the same open file.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.file, &other.0.file)
            && core::ptr::addr_eq(Arc::as_ptr(&self.0.opened), Arc::as_ptr(&other.0.opened))
    }
}

impl Deref for FileMapping {
    type Target = Arc<FilePages>;
    fn deref(&self) -> &Arc<FilePages> {
        &self.0.file
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.file.mappings.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.file.want_to_leave();
            wanted::wake();
        }
    }
}

impl FilePages {
    /// Whether some region maps the file.
    pub fn is_mapped(&self) -> bool {
        self.mappings.load(Ordering::Acquire) > 0
    }
}
