//! The table of open handles that every server here keeps.

use alloc::collections::BTreeMap;

use fsproto::Handle;

/// Objects by handle. Handles are assigned in ascending order and never reused, so a stale one
/// names nothing. [`Handle::ROOT`] is never assigned.
#[derive(Debug)]
pub(crate) struct HandleTable<T> {
    objects: BTreeMap<Handle, T>,
    next: u64,
}

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), next: Handle::ROOT.0 + 1 }
    }
}

impl<T> HandleTable<T> {
    /// Assigns a new handle to an object.
    #[inline]
    pub fn insert(&mut self, object: T) -> Handle {
        let handle = Handle(self.next);
        self.next += 1;
        self.objects.insert(handle, object);
        handle
    }

    /// The object of a handle.
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        self.objects.get(&handle)
    }

    /// Closes a handle.
    #[inline]
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        self.objects.remove(&handle)
    }

    /// Closes the handles whose objects satisfy `predicate`, and returns the objects. Only mutants
    /// do this.
    #[inline]
    pub fn extract(&mut self, mut predicate: impl FnMut(&T) -> bool) -> alloc::vec::Vec<T> {
        self.objects
            .extract_if(.., |_, object| predicate(object))
            .map(|(_, object)| object)
            .collect()
    }
}
