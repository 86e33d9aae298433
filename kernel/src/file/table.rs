//! Descriptor tables.

use super::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use foundation::Errno;

/// Descriptors of one process, at most (`RLIMIT_NOFILE`).
pub const MAX_DESCRIPTORS: usize = 1024;

/// What a descriptor is.
#[derive(Clone)]
pub struct Descriptor {
    /// The open file.
    pub file: Arc<OpenFile>,
    /// Whether exec closes it.
    pub close_on_exec: bool,
}

/// A process's descriptors, by number. Cloned by fork.
///
/// Files are never dropped in here: whoever takes one out drops it after unlocking, for closing may
/// send a message.
#[derive(Clone, Default)]
pub struct FdTable {
    slots: Vec<Option<Descriptor>>,
}

impl FdTable {
    /// No descriptor.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The open file of a descriptor.
    pub fn get(&self, fd: i32) -> Result<&Arc<OpenFile>, Errno> {
        self.descriptor(fd).map(|descriptor| &descriptor.file)
    }

    /// A descriptor.
    pub fn descriptor(&self, fd: i32) -> Result<&Descriptor, Errno> {
        self.slots.get(index(fd)?).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    /// Sets whether exec closes a descriptor.
    pub fn set_close_on_exec(&mut self, fd: i32, close_on_exec: bool) -> Result<(), Errno> {
        let slot = self.slots.get_mut(index(fd)?).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        slot.close_on_exec = close_on_exec;
        Ok(())
    }

    /// Gives a file the lowest free number from `lowest` on.
    pub fn insert(&mut self, descriptor: Descriptor, lowest: usize) -> Result<i32, Errno> {
        let free = self.slots.iter().skip(lowest).position(Option::is_none);
        let at = free.map_or(self.slots.len().max(lowest), |distance| lowest + distance);
        *self.slot(at)? = Some(descriptor);
        Ok(at as i32)
    }

    /// Gives a file this number, and returns what had it before.
    pub fn replace(
        &mut self,
        fd: i32,
        descriptor: Descriptor,
    ) -> Result<Option<Descriptor>, Errno> {
        let at = index(fd)?;
        if at >= MAX_DESCRIPTORS {
            return Err(Errno::EBADF);
        }
        Ok(self.slot(at)?.replace(descriptor))
    }

    /// Takes a descriptor away.
    pub fn remove(&mut self, fd: i32) -> Result<Descriptor, Errno> {
        self.slots.get_mut(index(fd)?).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// Takes away what exec closes.
    #[must_use = "to be dropped after unlocking"]
    pub fn take_close_on_exec(&mut self) -> Vec<Descriptor> {
        let closing = self
            .slots
            .iter_mut()
            .filter(|slot| slot.as_ref().is_some_and(|descriptor| descriptor.close_on_exec));
        closing.filter_map(Option::take).collect()
    }

    /// Takes away what lies between two numbers, both included.
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

    /// Numbers and descriptors, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Descriptor)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(number, slot)| Some((number as i32, slot.as_ref()?)))
    }

    fn slot(&mut self, at: usize) -> Result<&mut Option<Descriptor>, Errno> {
        if at >= MAX_DESCRIPTORS {
            return Err(Errno::EMFILE);
        }
        if at >= self.slots.len() {
            self.slots.try_reserve(at + 1 - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize_with(at + 1, || None);
        }
        self.slots.get_mut(at).ok_or(Errno::EMFILE)
    }
}

fn index(fd: i32) -> Result<usize, Errno> {
    usize::try_from(fd).map_err(|_| Errno::EBADF)
}
