//! Descriptor tables.

use super::OpenFile;
use crate::mem::account::{Account, Charge, Kind};
use crate::mem::fallible;
use crate::mem::{OutOfMemory, limits};
use crate::sync::{Interrupt, Mutex, rank, relax};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use foundation::Errno;

/// Descriptors of one process, at most.
pub const MAX_DESCRIPTORS: usize = limits::MAX_FILES as usize;

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

/// A process's descriptors. Copied by fork.
///
/// The table never drops files, because closing one may send a message: methods return what they
/// remove, and the caller drops it after unlocking.
#[derive(Default)]
pub struct FdTable {
    slots: Vec<Option<Descriptor>>,
    /// For the memory of `slots`; `None` for the table of the first process.
    charge: Option<Charge>,
}

impl FdTable {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), charge: None }
    }

    /// A copy, for which `account` pays.
    pub fn try_clone(&self, account: &Arc<Account>) -> Result<Self, OutOfMemory> {
        let bytes = self.slots.len() * size_of::<Option<Descriptor>>();
        let charge = Charge::take(account, Kind::Files, bytes)?;
        Ok(Self { slots: fallible::to_vec(&self.slots)?, charge: Some(charge) })
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

    /// Opens the lowest free descriptor of a range. EMFILE where there is none.
    pub fn insert(&mut self, descriptor: Descriptor, range: Range<usize>) -> Result<Fd, Errno> {
        let lowest = range.start;
        let free = self.slots.iter().skip(lowest).position(Option::is_none);
        let index = free.map_or(self.slots.len().max(lowest), |distance| lowest + distance);
        if index >= range.end {
            return Err(Errno::EMFILE);
        }
        *self.slot(index)? = Some(descriptor);
        Ok(Fd(index as i32))
    }

    /// Opens this descriptor, and returns the entry that it had before. EBADF where it is not below
    /// `limit`.
    pub fn replace(
        &mut self,
        fd: Fd,
        descriptor: Descriptor,
        limit: usize,
    ) -> Result<Option<Descriptor>, Errno> {
        let index = fd.index()?;
        if index >= limit.min(MAX_DESCRIPTORS) {
            return Err(Errno::EBADF);
        }
        Ok(self.slot(index)?.replace(descriptor))
    }

    /// Removes a descriptor, or EBADF.
    pub fn remove(&mut self, fd: Fd) -> Result<Descriptor, Errno> {
        self.slots.get_mut(fd.index()?).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// A copy without the descriptors that exec closes, for which `account` pays.
    pub fn for_exec(&self, account: &Arc<Account>) -> Result<Self, OutOfMemory> {
        let mut copy = self.try_clone(account)?;
        for slot in &mut copy.slots {
            // The original still has the file: nothing is closed here.
            drop(slot.take_if(|descriptor| descriptor.on_exec == OnExec::Close));
        }
        Ok(copy)
    }

    /// Removes the first descriptor from `first` to `last`, both included.
    #[must_use = "to be dropped after unlocking"]
    pub fn take_first(&mut self, first: u32, last: u32) -> Option<Descriptor> {
        let end = (last as usize).saturating_add(1).min(self.slots.len());
        self.slots.get_mut(first as usize..end)?.iter_mut().find_map(Option::take)
    }

    /// Sets what exec does to the descriptors from `first` to `last`, both included.
    pub fn set_range_on_exec(&mut self, first: u32, last: u32, on_exec: OnExec) {
        let end = (last as usize).saturating_add(1).min(self.slots.len());
        let slots = self.slots.get_mut(first as usize..end).unwrap_or_default();
        slots.iter_mut().flatten().for_each(|descriptor| descriptor.on_exec = on_exec);
    }

    /// One more than the largest descriptor that was ever open.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no descriptor was ever open.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All open descriptors, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Fd, &Descriptor)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((Fd(index as i32), slot.as_ref()?)))
    }

    /// Drops a process's reference to its table, with no lock held. The last one closes all
    /// descriptors, between which others run.
    pub fn release(files: Arc<Mutex<Self, rank::Descriptors>>) {
        let slots = Arc::into_inner(files).map(|table| table.into_inner().slots);
        for descriptor in slots.into_iter().flatten().flatten() {
            drop(descriptor);
            // A thread that ends goes on although it is killed.
            let _ = relax(Interrupt::Killable);
        }
    }

    fn slot(&mut self, index: usize) -> Result<&mut Option<Descriptor>, Errno> {
        if index >= MAX_DESCRIPTORS {
            return Err(Errno::EMFILE);
        }
        if index >= self.slots.len() {
            let more = index + 1 - self.slots.len();
            if let Some(charge) = &mut self.charge {
                charge.resize((index + 1) * size_of::<Option<Descriptor>>())?;
            }
            fallible::reserve(&mut self.slots, more)?;
            self.slots.resize_with(index + 1, || None);
        }
        self.slots.get_mut(index).ok_or(Errno::EMFILE)
    }
}
