//! The table of open handles that every server here keeps.

use alloc::vec::Vec;

use foundation::Errno;
use fsproto::Handle;

/// An entry of the table.
#[derive(Debug)]
enum Content<T> {
    Object(T),
    /// Free, and so is the next one in the list.
    Free(Option<u32>),
}

#[derive(Debug)]
struct Slot<T> {
    /// Number of objects that the slot has held.
    turn: u32,
    content: Content<T>,
}

/// Objects by handle. A handle consists of a slot of the table and the turn of the slot, so a stale
/// one names nothing. [`Handle::ROOT`] is never assigned.
#[derive(Debug)]
pub(crate) struct HandleTable<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
}

impl<T> Default for HandleTable<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: None }
    }
}

/// The handle of a slot. Slots count from the first number that is neither [`Handle::NONE`] nor
/// [`Handle::ROOT`].
fn handle_of(slot: u32, turn: u32) -> Handle {
    Handle(u64::from(turn) << 32 | (u64::from(slot) + Handle::ROOT.0 + 1))
}

/// The slot of a handle, and its turn.
fn slot_of(handle: Handle) -> Option<(usize, u32)> {
    let slot = (handle.0 & u64::from(u32::MAX)).checked_sub(Handle::ROOT.0 + 1)?;
    Some((slot as usize, (handle.0 >> 32) as u32))
}

impl<T> HandleTable<T> {
    /// Allocates memory for `slots` handles in all, so that assigning them takes none. ENOMEM.
    pub fn reserve(&mut self, slots: usize) -> Result<(), Errno> {
        let more = slots.saturating_sub(self.slots.len());
        self.slots.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)
    }

    /// Makes sure that a handle can be assigned. ENOMEM.
    #[inline]
    pub fn prepare(&mut self) -> Result<(), Errno> {
        if self.free.is_some() {
            return Ok(());
        }
        self.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)
    }

    /// Assigns a new handle to an object; the caller has [prepared](Self::prepare) that.
    #[inline]
    pub fn insert(&mut self, object: T) -> Handle {
        if let Some(number) = self.free
            && let Some(slot) = self.slots.get_mut(number as usize)
            && let Content::Free(next) = slot.content
        {
            self.free = next;
            slot.content = Content::Object(object);
            return handle_of(number, slot.turn);
        }
        self.slots.push(Slot { turn: 0, content: Content::Object(object) });
        handle_of(self.slots.len() as u32 - 1, 0)
    }

    /// The object of a handle.
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        let (number, turn) = slot_of(handle)?;
        match self.slots.get(number)? {
            Slot { turn: now, content: Content::Object(object) } if *now == turn => Some(object),
            _ => None,
        }
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let (number, turn) = slot_of(handle)?;
        match self.slots.get_mut(number)? {
            Slot { turn: now, content: Content::Object(object) } if *now == turn => Some(object),
            _ => None,
        }
    }

    /// Closes a handle.
    #[inline]
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        let (number, turn) = slot_of(handle)?;
        let slot = self.slots.get_mut(number)?;
        let content = core::mem::replace(&mut slot.content, Content::Free(self.free));
        // A slot is not used again once its turns are used up.
        if let Some(next) = turn.checked_add(1) {
            slot.turn = next;
            self.free = Some(number as u32);
        }
        match content {
            Content::Object(object) => Some(object),
            Content::Free(_) => None,
        }
    }

    /// Closes the handles whose objects satisfy `predicate`, and returns the objects. Only mutants
    /// do this.
    #[inline]
    pub fn extract(&mut self, mut predicate: impl FnMut(&T) -> bool) -> Vec<T> {
        let numbered =
            self.slots.iter().zip(0..).filter_map(|(slot, number)| match &slot.content {
                Content::Object(object) if predicate(object) => Some(handle_of(number, slot.turn)),
                _ => None,
            });
        let handles: Vec<Handle> = numbered.collect();
        handles.into_iter().filter_map(|handle| self.remove(handle)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_names_nothing() {
        let mut table = HandleTable::default();
        table.reserve(3).unwrap();
        let [one, two] = [1, 2].map(|object| table.insert(object));
        assert!(one != Handle::ROOT && one != Handle::NONE && one != two);
        assert_eq!((table.remove(one), table.remove(one), table.get(one)), (Some(1), None, None));
        let three = table.insert(3);
        assert_eq!((table.get(one), table.get(two), table.get(three)), (None, Some(&2), Some(&3)));
        assert_eq!(table.extract(|&object| object == 3), [3]);
        assert_eq!((table.get(three), table.get(two)), (None, Some(&2)));
        assert_eq!([Handle::ROOT, Handle::NONE].map(|handle| table.remove(handle)), [None, None]);
    }
}
