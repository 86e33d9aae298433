//! Which address spaces map a file: those whose entries change with its pages. Nobody else is
//! looked at (M5).
//!
//! A space is entered under its own lock, before it has the region, and leaves when a visit finds
//! no region of the file, or with its end. Numbers of spaces ascend, so a child is behind its
//! parent: a visit in that order meets both, whenever the fork was.
#![forbid(unsafe_code)]

use super::FilePages;
use crate::mem::{OutOfMemory, PageRange, fallible};
use crate::sync::{Interrupt, Interrupted, relax};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// What is done to the entries of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// They become read-only.
    Protect,
    /// They become empty.
    Unmap,
}

/// An address space that maps files.
pub trait Mapper: Send + Sync {
    /// Changes the entries of a range of a file's pages. May wait for other threads; fails where
    /// the caller is killed.
    fn treat_file_pages(
        &self,
        file: &FilePages,
        pages: PageRange,
        how: Treatment,
    ) -> Result<(), Interrupted>;
}

/// Spaces by their numbers, ascending.
#[derive(Default)]
pub(super) struct Mappers(Vec<(u64, Weak<dyn Mapper>)>);

impl Mappers {
    fn add(&mut self, number: u64, space: &Weak<dyn Mapper>) -> Result<(), OutOfMemory> {
        if let Err(at) = self.0.binary_search_by_key(&number, |&(number, _)| number) {
            fallible::reserve(&mut self.0, 1)?;
            self.0.insert(at, (number, space.clone()));
        }
        Ok(())
    }

    fn remove(&mut self, number: u64) {
        if let Ok(at) = self.0.binary_search_by_key(&number, |&(number, _)| number) {
            self.0.remove(at);
        }
    }

    /// The first space with this number or a higher one.
    fn from(&self, number: u64) -> Option<(u64, Weak<dyn Mapper>)> {
        let at = self.0.partition_point(|&(other, _)| other < number);
        self.0.get(at).cloned()
    }
}

/// The files that a space may map, by their addresses, and under which number they know it.
pub(in crate::mem) struct MappedFiles {
    space: Weak<dyn Mapper>,
    number: u64,
    files: Vec<MappedFrom>,
}

/// A file, and the pages of the space among which all are that map it.
#[derive(Clone)]
struct MappedFrom {
    file: Weak<FilePages>,
    among: PageRange,
}

impl MappedFiles {
    /// Those of a new space.
    pub fn none(space: Weak<dyn Mapper>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { space, number, files: Vec::new() }
    }

    fn find(&self, file: *const FilePages) -> Result<usize, usize> {
        self.files.binary_search_by_key(&file, |mapped| mapped.file.as_ptr())
    }

    /// Enters the space with a file that it is about to map at these pages, or to move there.
    pub fn add(&mut self, file: &Arc<FilePages>, pages: PageRange) -> Result<(), OutOfMemory> {
        if let Ok(at) = self.find(Arc::as_ptr(file)) {
            if let Some(MappedFrom { among, .. }) = self.files.get_mut(at) {
                let (start, end) = (among.start.min(pages.start), among.end.max(pages.end));
                *among = PageRange { start, end };
            }
            return Ok(());
        }
        if self.files.len() == self.files.capacity() {
            // Those that nobody maps any more.
            self.files.retain(|mapped| mapped.file.strong_count() > 0);
        }
        let at = self.find(Arc::as_ptr(file)).unwrap_or_else(|at| at);
        fallible::reserve(&mut self.files, 1)?;
        file.inner.lock().mappers.add(self.number, &self.space)?;
        self.files.insert(at, MappedFrom { file: Arc::downgrade(file), among: pages });
        Ok(())
    }

    /// Enters a child with all files of its parent.
    pub fn add_all(&mut self, parent: &Self) -> Result<(), OutOfMemory> {
        for MappedFrom { file, among } in &parent.files {
            if let Some(file) = file.upgrade() {
                self.add(&file, *among)?;
            }
        }
        Ok(())
    }

    /// The pages among which all are that map a file.
    pub fn among(&self, file: &FilePages) -> Option<PageRange> {
        self.files.get(self.find(file).ok()?).map(|mapped| mapped.among)
    }

    /// The space does not map a file any more.
    pub fn remove(&mut self, file: &FilePages) {
        if let Ok(at) = self.find(file) {
            self.files.remove(at);
        }
        file.inner.lock().mappers.remove(self.number);
    }
}

impl Drop for MappedFiles {
    fn drop(&mut self) {
        for file in self.files.iter().filter_map(|mapped| mapped.file.upgrade()) {
            file.inner.lock().mappers.remove(self.number);
        }
    }
}

impl FilePages {
    /// Changes the entries of a range of pages in all spaces that map the file. May wait for other
    /// threads, and is called with no spin lock held; fails where the caller is killed.
    pub(super) fn treat(&self, range: PageRange, how: Treatment) -> Result<(), Interrupted> {
        let mut next = 0;
        loop {
            let Some((number, space)) = self.inner.lock().mappers.from(next) else {
                return Ok(());
            };
            next = number + 1;
            if let Some(space) = space.upgrade() {
                space.treat_file_pages(self, range, how)?;
            }
            relax(Interrupt::Killable)?;
        }
    }
}
