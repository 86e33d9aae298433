//! The table of pages: where the bytes of each are, and how many owners it has.

use alloc::vec::Vec;

use foundation::Errno;

use super::slab::Place;

/// Number of entries that are allocated together.
const CHUNK_ENTRIES: usize = 1024;

/// Bytes of memory that these take.
const CHUNK_BYTES: u64 = (CHUNK_ENTRIES * size_of::<Entry>() + 64) as u64;

/// The location of a page's bytes.
pub(super) enum Storage {
    /// None yet.
    None,
    /// The entry is free, and so is the next one in the list.
    Free(Option<u32>),
    /// In memory.
    Slab(Place),
    /// On the device, in this slot.
    Disk(u32),
    /// In the archive that the tree was built from. Less than a page at a file's end; zeros follow.
    Archive(&'static [u8]),
}

/// What is known of a page.
pub(super) struct Entry {
    pub users: u32,
    pub storage: Storage,
}

impl Entry {
    /// Whether one owner has the page, in memory or in a slot of the device.
    pub fn is_own(&self) -> bool {
        self.users == 1 && matches!(self.storage, Storage::Slab(_) | Storage::Disk(_))
    }
}

/// The entries of all pages, in chunks: they never move, and grow without a copy.
#[derive(Default)]
pub(super) struct Entries {
    chunks: Vec<Vec<Entry>>,
    /// The first free entry.
    free: Option<u32>,
    /// Number of entries in use.
    pub used: usize,
}

impl Entries {
    /// The entry with a number.
    #[inline]
    pub fn get(&self, entry: usize) -> Option<&Entry> {
        self.chunks.get(entry / CHUNK_ENTRIES)?.get(entry % CHUNK_ENTRIES)
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, entry: usize) -> Option<&mut Entry> {
        self.chunks.get_mut(entry / CHUNK_ENTRIES)?.get_mut(entry % CHUNK_ENTRIES)
    }

    /// Allocates memory for `more` entries. Returns the bytes that this took; ENOMEM.
    pub fn reserve(&mut self, more: usize) -> Result<u64, Errno> {
        let mut taken = 0;
        while self.chunks.len() * CHUNK_ENTRIES < self.used + more {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(CHUNK_ENTRIES).map_err(|_| Errno::ENOMEM)?;
            self.chunks.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.chunks.push(chunk);
            taken += CHUNK_BYTES;
        }
        Ok(taken)
    }

    /// Fills a free entry, for which memory was reserved.
    pub fn insert(&mut self, entry: Entry) -> Result<usize, Errno> {
        let number = match self.free {
            Some(number) => {
                let free = self.get_mut(number as usize).ok_or(Errno::EIO)?;
                let Storage::Free(next) = free.storage else { return Err(Errno::EIO) };
                *free = entry;
                self.free = next;
                number as usize
            }
            None => {
                // Without free entries those in use are the first ones.
                let number = self.used;
                self.chunks.get_mut(number / CHUNK_ENTRIES).ok_or(Errno::EIO)?.push(entry);
                number
            }
        };
        self.used += 1;
        Ok(number)
    }

    /// Frees an entry, and returns what it held.
    pub fn remove(&mut self, number: usize) -> Storage {
        let next = Storage::Free(self.free);
        let Some(entry) = self.get_mut(number) else { return Storage::None };
        let storage = core::mem::replace(&mut entry.storage, next);
        debug_assert!(!matches!(storage, Storage::Free(_)), "an entry is freed twice");
        self.free = Some(number as u32);
        self.used -= 1;
        storage
    }
}
