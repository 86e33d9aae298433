//! A program's memory and the oracle's copy of it: for each page whether it is mapped, its
//! permissions and its bytes.

use std::sync::Arc;

use foundation::ByteCount;
use kernel::mem::{Prot, Space, UserAddr, UserSlice};

use crate::mapping::{SLOTS, Slot};
use crate::model::Line;
use crate::script::{PAGE, Piece, WINDOW, WINDOW_PAGES};
use crate::wire;

/// A page as the oracle knows it.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub is_mapped: bool,
    pub permissions: Prot,
    /// The connection from which the page may still have to be fetched. If it is lost, the page may
    /// be lost (F6).
    pub from: Option<Line>,
}

impl Page {
    const NONE: Self = Self { is_mapped: false, permissions: Prot::empty(), from: None };
    const FRESH: Self =
        Self { is_mapped: true, permissions: Prot::READ.union(Prot::WRITE), from: None };

    fn allows(&self, permissions: Prot) -> bool {
        self.is_mapped && self.permissions.contains(permissions)
    }

    /// Whether it may be lost, because its connection is.
    pub fn may_be_lost(&self) -> bool {
        self.from.is_some_and(|line| !wire::is_up(line))
    }
}

/// An actor's window of an address space.
pub struct Memory {
    pub space: Arc<Space>,
    base: u64,
    pub bytes: Vec<u8>,
    pub pages: [Page; WINDOW_PAGES],
    /// The first byte of each page that is held outside the window.
    pub held: Vec<u8>,
    /// Files that are mapped shared.
    pub slots: [Option<Slot>; SLOTS],
}

impl Memory {
    /// The window of an actor, with nothing mapped. A page that is never mapped separates the
    /// windows of threads.
    pub fn new(space: Arc<Space>, actor: usize) -> Self {
        let base = 0x10_0000 + (actor * (WINDOW_PAGES + 1) * PAGE) as u64;
        Self {
            space,
            base,
            bytes: vec![0; WINDOW],
            pages: [Page::NONE; WINDOW_PAGES],
            held: Vec::new(),
            slots: [None; SLOTS],
        }
    }

    /// The memory of a forked child; `None` if there was no memory for it.
    pub fn fork(&self) -> Option<Self> {
        let space = self.space.fork().ok()?.into_space();
        let (bytes, held) = (self.bytes.clone(), self.held.clone());
        Some(Self { space, base: self.base, bytes, pages: self.pages, held, slots: self.slots })
    }

    /// The address of a byte of the window.
    pub fn address(&self, byte: usize) -> UserAddr {
        UserAddr(self.base + byte as u64)
    }

    /// A buffer for a system call.
    pub fn slice(&self, piece: Piece) -> UserSlice {
        UserSlice::new(self.address(piece.0), ByteCount::of_len(piece.1)).expect("a user address")
    }

    /// How many bytes from the start of these pieces have these permissions.
    pub fn reach(&self, pieces: &[Piece], permissions: Prot) -> usize {
        let mut reach = 0;
        for &Piece(start, length) in pieces {
            let allowed = |at: &usize| self.pages[at / PAGE].allows(permissions);
            let mut at = start;
            while at < start + length && allowed(&at) {
                at = (at / PAGE + 1) * PAGE;
            }
            let here = at.min(start + length) - start;
            reach += here;
            if here < length {
                break;
            }
        }
        reach
    }

    /// Whether any page of these pieces may be lost.
    pub fn may_be_lost(&self, pieces: &[Piece]) -> bool {
        let pages = |&Piece(start, length): &Piece| start / PAGE..(start + length).div_ceil(PAGE);
        pieces.iter().flat_map(pages).any(|page| self.pages[page].may_be_lost())
    }

    /// The first `length` bytes of these pieces.
    pub fn gather(&self, pieces: &[Piece], length: usize) -> Vec<u8> {
        let all =
            pieces.iter().flat_map(|&Piece(start, length)| &self.bytes[start..start + length]);
        all.take(length).copied().collect()
    }

    /// A read stored these bytes, from this connection.
    pub fn scatter(&mut self, pieces: &[Piece], mut bytes: &[u8], from: Line) {
        for &Piece(start, length) in pieces {
            let (here, rest) = bytes.split_at(length.min(bytes.len()));
            if here.is_empty() {
                break;
            }
            self.bytes[start..start + here.len()].copy_from_slice(here);
            for page in start / PAGE..(start + here.len()).div_ceil(PAGE) {
                let is_whole = start <= page * PAGE && (page + 1) * PAGE <= start + here.len();
                // A fragment is copied, so its page becomes private.
                self.pages[page].from = is_whole.then_some(from);
            }
            bytes = rest;
        }
    }

    /// The kernel stored these bytes, which are from no file.
    pub fn filled(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        self.bytes[start..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.pages[start / PAGE..end.div_ceil(PAGE)]
                .iter_mut()
                .for_each(|page| page.from = None);
        }
    }

    /// What was written may be backed by a snapshot from now on (W8).
    pub fn written(&mut self, pieces: &[Piece], mut length: usize, to: Line) {
        for &Piece(start, whole) in pieces {
            let here = whole.min(length);
            for page in start.div_ceil(PAGE)..(start + here) / PAGE {
                // A page that is backed by a snapshot of a lost connection may still be.
                if !self.pages[page].may_be_lost() {
                    self.pages[page].from = Some(to);
                }
            }
            length -= here;
        }
    }

    /// A byte was stored.
    pub fn stored(&mut self, at: usize, value: u8) {
        self.bytes[at] = value;
        self.pages[at / PAGE].from = None;
    }

    /// These pages were mapped and hold zeros.
    pub fn mapped(&mut self, first: usize, pages: usize) {
        self.zeroed(first, pages);
        self.pages[first..first + pages].fill(Page::FRESH);
    }

    /// These pages were filled with zeros.
    pub fn zeroed(&mut self, first: usize, pages: usize) {
        self.bytes[first * PAGE..(first + pages) * PAGE].fill(0);
        self.pages[first..first + pages].iter_mut().for_each(|page| page.from = None);
    }

    /// These pages were unmapped.
    pub fn unmapped(&mut self, first: usize, pages: usize) {
        self.pages[first..first + pages].fill(Page::NONE);
    }

    /// `old` pages from `first` on were moved to `to`, where there are now `new` pages.
    pub fn moved(&mut self, first: usize, old: usize, to: usize, new: usize) {
        let kept = old.min(new);
        let (pages, permissions) = (self.pages, self.pages[first].permissions);
        let bytes = self.bytes[first * PAGE..(first + kept) * PAGE].to_vec();
        self.unmapped(first, old);
        self.mapped(to, new);
        self.pages[to..to + new].iter_mut().for_each(|page| page.permissions = permissions);
        self.pages[to..to + kept].copy_from_slice(&pages[first..first + kept]);
        self.bytes[to * PAGE..(to + kept) * PAGE].copy_from_slice(&bytes);
    }
}
