//! Entries of the lowest tables: what they hold, and their flags.

use crate::mem::{Frame, PAGE_SHIFT, PhysAddr, slot::SwapSlot};
use core::mem::ManuallyDrop;

bitflags::bitflags! {
    /// The bits of an entry that are not the address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryFlags: u64 {
        /// The CPU may use the entry.
        const PRESENT = 1 << 0;
        /// Stores are allowed.
        const WRITE = 1 << 1;
        /// Ring 3 may use the entry.
        const USER = 1 << 2;
        /// Set by the CPU when it used the entry.
        const ACCESSED = 1 << 5;
        /// Set by the CPU at a store.
        const DIRTY = 1 << 6;
        /// Other spaces share the table (software; only in what is read from a table, and in none).
        const SHARED_TABLE = 1 << 8;
        /// The contents belong to this space alone: neither the zero page, nor clean bytes of a
        /// snapshot (software).
        const PRIVATE = 1 << 9;
        /// The entry owns a reference to its frame (software; in every entry that maps a page).
        const HELD = 1 << 10;
        /// The page is swapped out: the address is that of its slot in the swap file, to which the
        /// entry owns a reference (software; with `PRIVATE` and nothing else).
        const SWAPPED = 1 << 11;
        /// No instruction is fetched from the page.
        const NO_EXECUTE = 1 << 63;
    }
}

pub(super) const ADDRESS_BITS: u64 = 0x000f_ffff_ffff_f000;

/// What an entry owned, once it is out of the table.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// A reference to a frame.
    Frame(Frame),
    /// A reference to a slot of the swap file.
    Slot(SwapSlot),
}

/// An entry that is not empty: it owns a reference to a frame or to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub(super) u64);

impl Entry {
    #[inline]
    pub(super) fn new(address: PhysAddr, flags: EntryFlags) -> Self {
        Self(address.0 | (flags | EntryFlags::HELD).bits())
    }

    #[inline]
    pub(super) fn swapped(slot: SwapSlot) -> Self {
        let flags = EntryFlags::SWAPPED | EntryFlags::PRIVATE;
        Self(u64::from(slot.into_raw()) << PAGE_SHIFT | flags.bits())
    }

    /// What the entry owned. Called once, with an entry that was just taken out of a table.
    #[inline]
    pub(super) fn into_held(self) -> Held {
        match self.slot() {
            Some(number) => Held::Slot(SwapSlot::from_raw(number)),
            // SAFETY: the entry was taken out of a table, and with it its reference.
            None => Held::Frame(unsafe { Frame::from_raw(self.address()) }),
        }
    }

    /// Whether the page is swapped out.
    #[inline]
    pub fn is_swapped(self) -> bool {
        self.0 & EntryFlags::SWAPPED.bits() != 0
    }

    /// The number of the page's slot, if it is swapped out.
    #[inline]
    pub fn slot(self) -> Option<u32> {
        self.is_swapped().then_some(((self.0 & ADDRESS_BITS) >> PAGE_SHIFT) as u32)
    }

    /// The frame's address. The page must not be swapped out.
    #[inline]
    pub fn address(self) -> PhysAddr {
        debug_assert!(!self.is_swapped(), "a slot is taken for a frame");
        PhysAddr(self.0 & ADDRESS_BITS)
    }

    /// The entry's flags.
    #[inline]
    pub fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_truncate(self.0)
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(self, flags: EntryFlags) -> bool {
        self.flags().contains(flags)
    }

    /// The frame, borrowed from the entry's own reference.
    #[inline]
    fn borrowed(self) -> ManuallyDrop<Frame> {
        // SAFETY: the entry owns a reference (that is what an `Entry` is), and keeps it: this one
        // is never dropped.
        ManuallyDrop::new(unsafe { Frame::from_raw(self.address()) })
    }

    /// Another reference to the frame. The page must not be swapped out.
    #[inline]
    pub fn frame(self) -> Frame {
        Frame::clone(&self.borrowed())
    }

    /// Whether anyone but this entry's space holds the frame; false for a swapped page.
    #[inline]
    pub fn is_shared(self) -> bool {
        !self.is_swapped() && (self.is_in_shared_table() || self.borrowed().is_shared())
    }

    /// Whether other spaces share the entry's table.
    #[inline]
    pub fn is_in_shared_table(self) -> bool {
        self.has(EntryFlags::SHARED_TABLE)
    }

    /// References to the frame besides the frame cache's, this entry's included; 0 for a swapped
    /// page.
    pub fn references(self) -> u64 {
        if self.is_swapped() { 0 } else { self.borrowed().references() }
    }

    /// Whether the entry maps the shared frame of zeros.
    #[inline]
    pub fn is_zero_page(self) -> bool {
        !self.is_swapped() && self.borrowed().is_zero_page()
    }
}
