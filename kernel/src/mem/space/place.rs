//! Which memory is at an address: the identity that those who share it agree on.
#![forbid(unsafe_code)]

use super::Space;
use crate::mem::{Backing, Page, UserAddr};
use alloc::sync::Arc;

impl Space {
    /// The location of an address in shared memory: an id of the memory, and the byte within it.
    /// `None` for private memory.
    pub fn shared_place(&self, address: UserAddr) -> Option<(usize, u64)> {
        self.with(|state| {
            let (range, region) = state.regions.find(address.page())?;
            let (id, first) = match &region.backing {
                Backing::Shared { memory, first } => (Arc::as_ptr(memory) as usize, first),
                Backing::File { mapping, first } => (Arc::as_ptr(mapping.file()) as usize, first),
                _ => return None,
            };
            let page = first + (address.page() - range.start).0;
            Some((id, Page(page).start().0 + address.offset_in_page() as u64))
        })
    }
}
