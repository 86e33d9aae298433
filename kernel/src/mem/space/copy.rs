//! System calls reach a program's memory: by a walk of its tables and the direct map, resolving
//! what is missing as a fault would (F4).

use super::{
    Access, AddressSpace, FaultError, Space,
    fault::{Extent, Resolution, allows, base_flags},
};
use crate::mem::{
    Backing, Frame, PAGE_BYTES, Page, PageRange, Prot, UserAddr, UserSlice,
    page_table::{EntryFlags, Filler, Flush},
    phys::phys_to_virt,
};
use alloc::vec::Vec;
use foundation::{
    ByteCount, PageCount,
    mutant::{self, Mutant},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl Space {
    /// Fills `to` from a program's memory, or fails. May wait. `from` must be as long as `to`; what
    /// is longer is cut.
    pub fn copy_in(&self, from: UserSlice, to: &mut [u8]) -> Result<(), FaultError> {
        let wanted = from.len().min(to.len());
        if self.copy_in_prefix(from, to)? < wanted { Err(FaultError::Segv) } else { Ok(()) }
    }

    /// The same as far as memory reaches: says how many bytes came, and fails only where that is
    /// none (or the process is to die).
    pub fn copy_in_prefix(&self, from: UserSlice, to: &mut [u8]) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in from.take(to.len()).by_page() {
            let part = to.get_mut(done..done + piece.len()).unwrap_or_default();
            // Nearly always the page is there.
            if self
                .peek(|space| {
                    space.direct_for(piece, Access::Read).map(|from| copy_from_direct(from, part))
                })
                .is_some()
            {
                done += piece.len();
                continue;
            }
            match self.resolve(piece.addr().page(), Access::Read, Extent::Part, |space| {
                space.copy_piece_in(piece, part)
            }) {
                Ok(()) => done += piece.len(),
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// A frame with a copy of up to a page of a program's memory, and zeros behind it. All or an
    /// error.
    pub fn copy_frame(&self, from: UserSlice) -> Result<Frame, FaultError> {
        let mut frame = Frame::recycled(self.policy.claim())?;
        // A fresh frame has one owner.
        let bytes = frame.bytes_mut().ok_or(FaultError::OutOfMemory)?;
        let (copied, rest) = bytes.split_at_mut(from.len().min(PAGE_BYTES));
        self.copy_in(from, copied)?;
        rest.fill(0);
        Ok(frame)
    }

    /// Copies bytes into a program's memory as far as that reaches: says how many went, and fails
    /// only where that is none (or the process is to die). May wait.
    pub fn copy_out(&self, to: UserSlice, from: &[u8]) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in to.take(from.len()).by_page() {
            let part = from.get(done..done + piece.len()).unwrap_or_default();
            // The mutant overwrites part of the page without fetching the rest.
            let extent = if piece.len() == PAGE_BYTES || mutant::active(Mutant::DropPartialPage) {
                Extent::Whole
            } else {
                Extent::Part
            };
            let access =
                if mutant::active(Mutant::WriteSharedFrame) { Access::Read } else { Access::Write };
            if self
                .peek(|space| space.direct_for(piece, access).map(|to| copy_to_direct(to, part)))
                .is_some()
            {
                done += piece.len();
                continue;
            }
            match self.resolve(piece.addr().page(), access, extent, |space| {
                space.copy_piece_out(piece, part)
            }) {
                Ok(()) => done += piece.len(),
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Copies all of `from`, or fails.
    pub fn copy_out_all(&self, to: UserSlice, from: &[u8]) -> Result<(), FaultError> {
        if to.len() < from.len() || self.copy_out(to, from)? < from.len() {
            Err(FaultError::Segv)
        } else {
            Ok(())
        }
    }

    /// Writes zeros as far as memory reaches, like [`copy_out`](Self::copy_out).
    pub fn zero_out(&self, to: UserSlice) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in to.by_page() {
            match self.copy_out(piece, [0; PAGE_BYTES].get(..piece.len()).unwrap_or_default()) {
                Ok(bytes) => done += bytes,
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Reads a value at an address; it need not be aligned.
    pub fn read<T: FromBytes + IntoBytes>(&self, address: UserAddr) -> Result<T, FaultError> {
        let mut value = T::new_zeroed();
        let slice = slice_of::<T>(address)?;
        self.copy_in(slice, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a value at an address; it need not be aligned.
    pub fn write<T: IntoBytes + Immutable>(
        &self,
        address: UserAddr,
        value: &T,
    ) -> Result<(), FaultError> {
        let slice = slice_of::<T>(address)?;
        self.copy_out_all(slice, value.as_bytes())
    }

    /// A string that ends with a NUL, without it; `None` where there is none within `max` bytes.
    pub fn read_string(
        &self,
        address: UserAddr,
        max: usize,
    ) -> Result<Option<Vec<u8>>, FaultError> {
        const CHUNK: usize = 256;
        let mut string = Vec::new();
        while string.len() < max {
            let at =
                address.checked_add(ByteCount::of_len(string.len())).ok_or(FaultError::Segv)?;
            // Never beyond a page's end: the string may stop there, and nothing be mapped behind
            // it.
            let bytes = CHUNK.min(max - string.len()).min(PAGE_BYTES - at.offset_in_page());
            let slice =
                UserSlice::new(at, ByteCount::of_len(bytes)).map_err(|_| FaultError::Segv)?;
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

    /// Makes the pages of a slice usable one by one, waiting where it must, so that a `try_copy`
    /// soon after goes through. Says how many bytes from its start are.
    pub fn prepare(&self, slice: UserSlice, access: Access) -> Result<usize, FaultError> {
        let mut done = 0;
        for piece in slice.by_page() {
            match self.resolve(piece.addr().page(), access, Extent::Part, |_| ()) {
                Ok(()) => done += piece.len(),
                Err(error) => return prefix(done, error),
            }
        }
        Ok(done)
    }

    /// Copies from a program's memory without ever waiting, so that a spin lock may be held; says
    /// how many bytes came.
    pub fn try_copy_in(&self, from: UserSlice, to: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in from.take(to.len()).by_page() {
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
        for piece in to.take(from.len()).by_page() {
            let part = from.get(done..done + piece.len()).unwrap_or_default();
            if !self.try_piece(piece, Access::Write, |space| space.copy_piece_out(piece, part)) {
                break;
            }
            done += piece.len();
        }
        done
    }

    fn try_piece(
        &self,
        piece: UserSlice,
        access: Access,
        copy: impl FnOnce(&mut AddressSpace),
    ) -> bool {
        self.with(|space| {
            // A page that has to be fetched is not fetched here, so no fetch may be begun either.
            let entry = space.table.get(piece.addr().page());
            let usable = entry.map_or_else(
                || space.is_anonymous(piece.addr().page()),
                |entry| !entry.is_swapped(),
            ) && matches!(
                space.look(piece.addr().page(), access, Extent::Part, self, None),
                Ok(Resolution::Done)
            );
            if usable {
                copy(space);
            }
            usable
        })
    }

    /// Gives others the frames of whole pages, as they are now: every writable mapping of them
    /// becomes copy-on-write first (A8). May wait.
    pub fn lend(&self, range: PageRange) -> Result<Vec<Frame>, FaultError> {
        let mut frames = Vec::new();
        frames.try_reserve_exact(range.pages().to_usize()).map_err(|_| FaultError::OutOfMemory)?;
        while PageCount::of_len(frames.len()) < range.pages() {
            let lent = PageCount::of_len(frames.len());
            let rest = PageRange { start: range.start + lent, end: range.end };
            // The first page is made usable, and then all that are there already go along with it.
            self.resolve(rest.start, Access::Read, Extent::Part, |space| {
                space.lend(rest, &mut frames)
            })??;
        }
        Ok(frames)
    }

    /// Puts frames in the place of whole pages from `first` on, copy-on-write, as far as writable
    /// private memory reaches; says for how many pages.
    pub fn accept(&self, first: Page, frames: Vec<Frame>) -> Result<PageCount, FaultError> {
        let mut done = 0;
        let result = self.with(|space| space.accept(first, frames, &mut done));
        let done = result.map_or_else(|error| prefix(done, error), |()| Ok(done));
        done.map(PageCount::of_len)
    }
}

/// The range of a value at an address.
fn slice_of<T>(address: UserAddr) -> Result<UserSlice, FaultError> {
    UserSlice::new(address, ByteCount::of_len(size_of::<T>())).map_err(|_| FaultError::Segv)
}

/// What a transfer that stopped says: how far it came, if anywhere; but who is to die need not
/// know.
fn prefix(done: usize, error: FaultError) -> Result<usize, FaultError> {
    if done == 0 || error == FaultError::Killed { Err(error) } else { Ok(done) }
}

/// Copies from where a piece of a program's memory, as long as `to`, lies in the direct map.
fn copy_from_direct(from: *const u8, to: &mut [u8]) {
    // SAFETY: the frame is mapped under the lock that the caller holds, so it is not freed
    // meanwhile; the piece lies in one page. The program may write it at the same time (on another
    // CPU): it gets what it deserves, bytes.
    unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
}

/// Copies to where a piece of a program's memory, as long as `from`, lies in the direct map.
fn copy_to_direct(to: *mut u8, from: &[u8]) {
    // SAFETY: as above; the entry allows a store, so nobody relies on this frame's bytes.
    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
}

impl AddressSpace {
    /// Where a piece of a page that is mapped lies in the direct map.
    fn direct(&self, piece: UserSlice) -> Option<*mut u8> {
        let entry = self.table.get(piece.addr().page()).filter(|entry| !entry.is_swapped())?;
        let inside = piece.addr().offset_in_page();
        debug_assert!(inside + piece.len() <= PAGE_BYTES);
        // Within the frame's page: a piece never crosses a page border.
        Some(phys_to_virt(entry.address()).wrapping_add(inside))
    }

    /// The same, if the page can be accessed in this way as it is.
    fn direct_for(&self, piece: UserSlice, access: Access) -> Option<*mut u8> {
        let entry =
            self.table.get(piece.addr().page()).filter(|entry| allows(entry.flags(), access))?;
        Some(phys_to_virt(entry.address()).wrapping_add(piece.addr().offset_in_page()))
    }

    fn copy_piece_in(&mut self, piece: UserSlice, to: &mut [u8]) {
        if let Some(from) = self.direct(piece) {
            copy_from_direct(from, to);
        }
    }

    fn copy_piece_out(&mut self, piece: UserSlice, from: &[u8]) {
        if let Some(to) = self.direct(piece) {
            copy_to_direct(to, from);
        }
    }

    fn is_anonymous(&self, page: Page) -> bool {
        self.regions
            .find(page)
            .is_some_and(|(_, region)| !matches!(region.backing, Backing::Snapshot { .. }))
    }

    /// Lends the first page of a range, which is mapped, and those behind it in its region that are
    /// mapped too.
    fn lend(&mut self, range: PageRange, frames: &mut Vec<Frame>) -> Result<(), FaultError> {
        let (found, region) = self.regions.find(range.start).ok_or(FaultError::Segv)?;
        if matches!(region.backing, Backing::Shared { .. }) {
            // Its owners go on writing it.
            let entry = self.table.get(range.start).ok_or(FaultError::Segv)?;
            frames.push(entry.frame().duplicate(self.table.claim)?);
        } else {
            let stale = self.table.lend(range.intersect(found), |frame| frames.push(frame));
            self.flush.merge(stale);
        }
        Ok(())
    }

    fn accept(
        &mut self,
        first: Page,
        frames: Vec<Frame>,
        done: &mut usize,
    ) -> Result<(), FaultError> {
        let mut frames = frames.into_iter().peekable();
        while frames.peek().is_some() {
            let start = first + PageCount::of_len(*done);
            let (range, region) = self.regions.find_mut(start).ok_or(FaultError::Segv)?;
            if !region.prot.contains(Prot::WRITE)
                || matches!(region.backing, Backing::Shared { .. })
            {
                return Err(FaultError::Segv);
            }
            region.touched = true;
            let flags = base_flags(region.prot) | EntryFlags::PRIVATE;
            // One page at a time where an association may end, for the region may not be the same
            // after it.
            let pages = if region.associated.is_zero() { range.end - start } else { PageCount(1) };
            let mut was_private = true;
            let mut filler = Filler::new(&mut self.table, flags);
            let part = PageRange::new(start, pages);
            for (page, frame) in part.iter().zip(frames.by_ref().take(pages.to_usize())) {
                let writable =
                    if frame.is_shared() { EntryFlags::empty() } else { EntryFlags::WRITE };
                let old = filler.replace(page, frame, flags | writable)?;
                if let Some((_, old_flags)) = &old {
                    self.flush.merge(Flush::page(page));
                    was_private &= old_flags.contains(EntryFlags::PRIVATE);
                } else {
                    was_private = false;
                }
                *done += 1;
            }
            if !was_private {
                self.end_association(start);
            }
        }
        Ok(())
    }
}
