//! System calls reach a program's memory: by a walk of its tables and the direct map, resolving what is missing as a fault would (F4).

use super::{
    Access, AddressSpace, FaultError, Space,
    fault::{Extent, Resolution},
};
use crate::mem::{
    Backing, Frame, PAGE_BYTES, Page, PageRange, Prot, UserSlice, VirtAddr,
    page_table::{EntryFlags, Flush},
    phys::phys_to_virt,
};
use alloc::vec::Vec;
use fsproto::mutant::{self, Mutant};
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl Space {
    /// Fills `to` from a program's memory, or fails. May wait. `from` must be as long as `to`; what is longer is cut.
    pub fn copy_in(&self, from: UserSlice, to: &mut [u8]) -> Result<(), FaultError> {
        let wanted = from.len().min(to.len());
        if self.copy_in_prefix(from, to)? < wanted { Err(FaultError::Segv) } else { Ok(()) }
    }

    /// The same as far as memory reaches: says how many bytes came, and fails only where that is none (or the process is to die).
    pub fn copy_in_prefix(&self, from: UserSlice, to: &mut [u8]) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in from.take(to.len()).pieces() {
            let part = to.get_mut(done..done + piece.len()).unwrap_or_default();
            match self.resolve(piece.addr().page(), Access::Read, Extent::Part, |space| space.copy_piece_in(piece, part)) {
                Ok(()) => done += piece.len(),
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Copies bytes into a program's memory as far as that reaches: says how many went, and fails only where that is none (or the process is to die). May wait.
    pub fn copy_out(&self, to: UserSlice, from: &[u8]) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in to.take(from.len()).pieces() {
            let part = from.get(done..done + piece.len()).unwrap_or_default();
            let extent = if piece.len() == PAGE_BYTES || mutant::active(Mutant::DropPartialPage) { Extent::Whole } else { Extent::Part };
            let access = if mutant::active(Mutant::WriteSharedFrame) { Access::Read } else { Access::Write };
            match self.resolve(piece.addr().page(), access, extent, |space| space.copy_piece_out(piece, part)) {
                Ok(()) => done += piece.len(),
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Copies all of `from`, or fails.
    pub fn copy_out_all(&self, to: UserSlice, from: &[u8]) -> Result<(), FaultError> {
        if to.len() < from.len() || self.copy_out(to, from)? < from.len() { Err(FaultError::Segv) } else { Ok(()) }
    }

    /// Writes zeros as far as memory reaches, like [`copy_out`](Self::copy_out).
    pub fn zero_out(&self, to: UserSlice) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in to.pieces() {
            match self.copy_out(piece, [0; PAGE_BYTES].get(..piece.len()).unwrap_or_default()) {
                Ok(bytes) => done += bytes,
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Reads a value at an address; it need not be aligned.
    pub fn read<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T, FaultError> {
        let mut value = T::new_zeroed();
        let slice = UserSlice::new(address, size_of::<T>() as u64).map_err(|_| FaultError::Segv)?;
        self.copy_in(slice, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a value at an address; it need not be aligned.
    pub fn write<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<(), FaultError> {
        let slice = UserSlice::new(address, size_of::<T>() as u64).map_err(|_| FaultError::Segv)?;
        self.copy_out_all(slice, value.as_bytes())
    }

    /// A string that ends with a NUL, without it; `None` where there is none within `max` bytes.
    pub fn read_string(&self, address: u64, max: usize) -> Result<Option<Vec<u8>>, FaultError> {
        const CHUNK: usize = 256;
        let mut string = Vec::new();
        while string.len() < max {
            let at = address.checked_add(string.len() as u64).ok_or(FaultError::Segv)?;
            // Never beyond a page's end: the string may stop there, and nothing be mapped behind it.
            let bytes = CHUNK.min(max - string.len()).min(PAGE_BYTES - VirtAddr(at).offset_in_page());
            let slice = UserSlice::new(at, bytes as u64).map_err(|_| FaultError::Segv)?;
            let mut chunk = [0; CHUNK];
            let chunk = chunk.get_mut(..bytes).unwrap_or_default();
            self.copy_in(slice, chunk)?;
            let end = chunk.iter().position(|&byte| byte == 0);
            string.try_reserve(CHUNK).map_err(|_| FaultError::OutOfMemory)?;
            string.extend_from_slice(chunk.get(..end.unwrap_or(bytes)).unwrap_or_default());
            if end.is_some() {
                return Ok(Some(string));
            }
        }
        Ok(None)
    }

    /// Makes the pages of a slice usable one by one, waiting where it must, so that a `try_copy` soon after goes through. Says how many bytes from its start are.
    pub fn prepare(&self, slice: UserSlice, access: Access) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in slice.pieces() {
            match self.resolve(piece.addr().page(), access, Extent::Part, |_| ()) {
                Ok(()) => done += piece.len(),
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Copies from a program's memory without ever waiting, so that a spin lock may be held; says how many bytes came.
    pub fn try_copy_in(&self, from: UserSlice, to: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in from.take(to.len()).pieces() {
            let part = to.get_mut(done..done + piece.len()).unwrap_or_default();
            if !self.try_piece(piece, Access::Read, |space| space.copy_piece_in(piece, part)) {
                break;
            }
            done += piece.len();
        }
        done
    }

    /// Copies into a program's memory without ever waiting; says how many bytes went.
    pub fn try_copy_out(&self, to: UserSlice, from: &[u8]) -> usize {
        let mut done = 0;
        for piece in to.take(from.len()).pieces() {
            let part = from.get(done..done + piece.len()).unwrap_or_default();
            if !self.try_piece(piece, Access::Write, |space| space.copy_piece_out(piece, part)) {
                break;
            }
            done += piece.len();
        }
        done
    }

    fn try_piece(&self, piece: UserSlice, access: Access, copy: impl FnOnce(&mut AddressSpace)) -> bool {
        self.with(|space| {
            // A page that has to be fetched is not fetched here, so no fetch may be begun either.
            let mapped = space.table.get(piece.addr().page()).is_some();
            let usable = (mapped || space.is_anonymous(piece.addr().page()))
                && matches!(space.look(piece.addr().page(), access, Extent::Part, self, None), Ok(Resolution::Done));
            if usable {
                copy(space);
            }
            usable
        })
    }

    /// Gives others the frames of whole pages, as they are now: every writable mapping of them becomes copy-on-write first (A8). May wait.
    pub fn lend(&self, range: PageRange) -> Result<Vec<Frame>, FaultError> {
        let mut frames = Vec::new();
        frames.try_reserve(range.pages() as usize).map_err(|_| FaultError::OutOfMemory)?;
        for page in range.iter() {
            frames.push(self.resolve(page, Access::Read, Extent::Part, |space| space.lend(page))??);
        }
        Ok(frames)
    }

    /// Puts frames in the place of whole pages from `first` on, copy-on-write, as far as writable private memory reaches; says for how many pages.
    pub fn accept(&self, first: Page, frames: Vec<Frame>) -> Result<usize, FaultError> {
        let mut done = 0;
        for frame in frames {
            let page = first + done as u64;
            match self.with(|space| space.accept(page, frame)) {
                Ok(()) => done += 1,
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }
}

/// What a transfer that stopped says: how far it came, if anywhere; but who is to die need not know.
fn prefix(done: usize, error: FaultError) -> Result<usize, FaultError> {
    if done == 0 || error == FaultError::Killed { Err(error) } else { Ok(done) }
}

impl AddressSpace {
    /// Where a piece of a page that is mapped lies in the direct map.
    fn direct(&self, piece: UserSlice) -> Option<*mut u8> {
        let entry = self.table.get(piece.addr().page())?;
        let inside = piece.addr().offset_in_page();
        debug_assert!(inside + piece.len() <= PAGE_BYTES);
        // Within the frame's page: a piece never crosses a page border.
        Some(phys_to_virt(entry.address()).wrapping_add(inside))
    }

    fn copy_piece_in(&mut self, piece: UserSlice, to: &mut [u8]) {
        if let Some(from) = self.direct(piece) {
            // SAFETY: the frame is mapped under this lock, so it is not freed meanwhile; the piece lies in one page. The program may write it at the same time
            // (on another CPU): it gets what it deserves, bytes.
            unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), piece.len().min(to.len())) };
        }
    }

    fn copy_piece_out(&mut self, piece: UserSlice, from: &[u8]) {
        if let Some(to) = self.direct(piece) {
            // SAFETY: as above; the entry was resolved for a store, so nobody relies on this frame's bytes.
            unsafe { to.copy_from_nonoverlapping(from.as_ptr(), piece.len().min(from.len())) };
        }
    }

    fn is_anonymous(&self, page: Page) -> bool {
        self.regions.find(page).is_some_and(|(_, region)| !matches!(region.backing, Backing::Snapshot { .. }))
    }

    fn lend(&mut self, page: Page) -> Result<Frame, FaultError> {
        let (entry, (_, region)) = self.table.get(page).zip(self.regions.find(page)).ok_or(FaultError::Segv)?;
        if matches!(region.backing, Backing::Shared { .. }) {
            // Its owners go on writing it.
            return Ok(entry.frame().duplicate(self.table.claim)?);
        }
        if entry.has(EntryFlags::WRITE) {
            self.table.set_flags(page, entry.flags() - EntryFlags::WRITE);
            self.flush.merge(Flush::page(page));
        }
        Ok(entry.frame())
    }

    fn accept(&mut self, page: Page, frame: Frame) -> Result<(), FaultError> {
        let (_, region) = self.regions.find(page).ok_or(FaultError::Segv)?;
        if !region.prot.contains(Prot::WRITE) || matches!(region.backing, Backing::Shared { .. }) {
            return Err(FaultError::Segv);
        }
        let was_private = self.table.get(page).is_some_and(|entry| entry.has(EntryFlags::PRIVATE));
        if self.table.unmap(page).is_some() {
            self.flush.merge(Flush::page(page));
        }
        if was_private {
            // Its association, if it had one, ended long ago.
            return self.install_again(page, frame);
        }
        self.install_private(page, frame)
    }
}
