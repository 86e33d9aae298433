//! Descriptor tables.

use super::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// Descriptors of one process, at most (`RLIMIT_NOFILE`).
pub const MAX_DESCRIPTORS: usize = 1024;

/// A file descriptor as a program passes it: any number, whether or not it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fd(pub i32);

impl Fd {
    /// `AT_FDCWD`: means the working directory where a directory's descriptor is expected.
    pub const WORKING_DIRECTORY: Self = Self(linux_raw_sys::general::AT_FDCWD);

    /// As a position in the table; EBADF for a negative number.
    fn index(self) -> Result<usize, Errno> {
        usize::try_from(self.0).map_err(|_| Errno::EBADF)
    }

    /// As the result of a system call.
    pub fn result(self) -> u64 {
        self.0 as u64
    }
}

impl core::fmt::Display for Fd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// What exec does to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed (`FD_CLOEXEC`).
    Close,
}

impl OnExec {
    /// `Close` where a flag for it is set.
    pub fn close_if(flag: bool) -> Self {
        if flag { Self::Close } else { Self::Keep }
    }
}

/// An entry of a descriptor table.
#[derive(Clone)]
pub struct Descriptor {
    /// What it refers to; shared with duplicates.
    pub file: Arc<OpenFile>,
    /// Whether exec closes the descriptor.
    pub on_exec: OnExec,
}

/// A process's descriptors. Cloned by fork.
///
/// The table never drops files, because closing one may send a message: methods return what they
/// remove, and the caller drops it after unlocking.
#[derive(Clone, Default)]
pub struct FdTable {
    slots: Vec<Option<Descriptor>>,
}

impl FdTable {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The open file of a descriptor, or EBADF.
    pub fn get(&self, fd: Fd) -> Result<&Arc<OpenFile>, Errno> {
        self.descriptor(fd).map(|descriptor| &descriptor.file)
    }

    /// A descriptor's entry, or EBADF.
    pub fn descriptor(&self, fd: Fd) -> Result<&Descriptor, Errno> {
        self.slots.get(fd.index()?).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// Sets what exec does to a descriptor; EBADF where it is not open.
    pub fn set_on_exec(&mut self, fd: Fd, on_exec: OnExec) -> Result<(), Errno> {
        let slot = self.slots.get_mut(fd.index()?).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        slot.on_exec = on_exec;
        Ok(())
    }

    /// Opens the lowest free descriptor from `lowest` on. EMFILE where there is none.
    pub fn insert(&mut self, descriptor: Descriptor, lowest: usize) -> Result<Fd, Errno> {
        let free = self.slots.iter().skip(lowest).position(Option::is_none);
        let index = free.map_or(self.slots.len().max(lowest), |distance| lowest + distance);
        *self.slot(index)? = Some(descriptor);
        Ok(Fd(index as i32))
    }

    /// Opens this descriptor, and returns the entry that it had before. EBADF where it is out of
    /// range.
    pub fn replace(&mut self, fd: Fd, descriptor: Descriptor) -> Result<Option<Descriptor>, Errno> {
        let index = fd.index()?;
        if index >= MAX_DESCRIPTORS {
            return Err(Errno::EBADF);
        }
        Ok(self.slot(index)?.replace(descriptor))
    }

    /// Removes a descriptor, or EBADF.
    pub fn remove(&mut self, fd: Fd) -> Result<Descriptor, Errno> {
        self.slots.get_mut(fd.index()?).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// Removes all descriptors that exec closes.
    #[must_use = "to be dropped after unlocking"]
    pub fn take_close_on_exec(&mut self) -> Vec<Descriptor> {
        let closing = self.slots.iter_mut().filter(|slot| {
            slot.as_ref().is_some_and(|descriptor| descriptor.on_exec == OnExec::Close)
        });
        closing.filter_map(Option::take).collect()
    }

    /// Removes all descriptors from `first` to `last`, both included.
    #[must_use = "to be dropped after unlocking"]
    pub fn take_range(&mut self, first: u32, last: u32) -> Vec<Descriptor> {
        let end = (last as usize).saturating_add(1).min(self.slots.len());
        self.slots
            .get_mut(first as usize..end)
            .unwrap_or_default()
            .iter_mut()
            .filter_map(Option::take)
            .collect()
    }

    /// All open descriptors, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Fd, &Descriptor)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((Fd(index as i32), slot.as_ref()?)))
    }

    fn slot(&mut self, index: usize) -> Result<&mut Option<Descriptor>, Errno> {
        if index >= MAX_DESCRIPTORS {
            return Err(Errno::EMFILE);
        }
        if index >= self.slots.len() {
            self.slots.try_reserve(index + 1 - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize_with(index + 1, || None);
        }
        self.slots.get_mut(index).ok_or(Errno::EMFILE)
    }
}
