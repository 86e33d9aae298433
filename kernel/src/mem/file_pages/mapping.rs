//! A region's use of a mapped file.
#![forbid(unsafe_code)]

use super::{FilePages, wanted};
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::Ordering;

/// The open file that was mapped. As on Linux, a mapping keeps it open.
pub trait Opened: Send + Sync {
    /// Whether pages of the mapping may be stored to: whether it was opened for writing.
    fn may_write(&self) -> bool;

    /// The failure of write-back that was reported to it last: see `file::mapped`.
    fn last_failure(&self) -> &core::sync::atomic::AtomicU64;
}

/// A region's share in the pages of a file. The file knows how many there are.
pub struct FileMapping {
    file: Arc<FilePages>,
    opened: Arc<dyn Opened>,
}

impl FileMapping {
    /// A mapping of a file by an open file of it.
    pub fn new(file: &Arc<FilePages>, opened: Arc<dyn Opened>) -> Self {
        file.mappings.fetch_add(1, Ordering::Relaxed);
        Self { file: file.clone(), opened }
    }

    /// The file's pages.
    pub fn file(&self) -> &Arc<FilePages> {
        &self.file
    }

    /// The open file that was mapped.
    pub fn opened(&self) -> &dyn Opened {
        &*self.opened
    }

    /// Whether both are of the same open file.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
            && core::ptr::addr_eq(Arc::as_ptr(&self.opened), Arc::as_ptr(&other.opened))
    }
}

impl Clone for FileMapping {
    fn clone(&self) -> Self {
        Self::new(&self.file, self.opened.clone())
    }
}

impl Deref for FileMapping {
    type Target = Arc<FilePages>;
    fn deref(&self) -> &Arc<FilePages> {
        &self.file
    }
}

impl Drop for FileMapping {
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
