//! Copies between the kernel and a program's memory: by a walk of the page tables and the direct
//! map, resolving what is missing as a fault would (F4).

use super::mutants;
use super::{
    Access, FaultError, Space, SpaceState,
    access::allows,
    resolution::{Coverage, PageRequest, Resolution},
};
use crate::mem::{
    Backing, Frame, PAGE_BYTES, Page, UserAddr, UserSlice, fallible, phys::phys_to_virt, reclaim,
};
use alloc::vec::Vec;
use foundation::ByteCount;
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl Space {
    /// Fills `to` from a program's memory, or fails. `from` must be as long as `to`; a longer range
    /// is cut. May wait.
    pub fn copy_in(&self, from: UserSlice, to: &mut [u8]) -> Result<(), FaultError> {
        let wanted = from.len().min(to.len());
        if self.copy_in_prefix(from, to)? < wanted { Err(FaultError::Segv) } else { Ok(()) }
    }

    /// As [`copy_in`](Self::copy_in), as far as memory reaches. Returns the number of bytes copied;
    /// an error only for none, or where the process is to be killed.
    #[inline]
    pub fn copy_in_prefix(&self, from: UserSlice, to: &mut [u8]) -> Result<usize, FaultError> {
        let from = from.take(to.len());
        // Nearly always it is little, and the page is mapped.
        if from.is_in_one_page()
            && self.copy_mapped_in(from, to.get_mut(..from.len()).unwrap_or_default())
        {
            return Ok(from.len());
        }
        self.copy_in_by_page(from, to)
    }

    #[inline(never)]
    fn copy_in_by_page(&self, from: UserSlice, to: &mut [u8]) -> Result<usize, FaultError> {
        let mut done = 0;
        for part in from.by_page() {
            let bytes = to.get_mut(done..done + part.len()).unwrap_or_default();
            if self.copy_mapped_in(part, bytes) {
                done += part.len();
                continue;
            }
            match self.resolve(part.addr().page(), Access::Read, Coverage::Partial, |state| {
                state.copy_part_in(part, bytes)
            }) {
                Ok(()) => done += part.len(),
                Err(error) => return completed(done, error),
            }
        }
        Ok(done)
    }

    /// A frame with a copy of up to a page of a program's memory, and zeros behind it. Fails where
    /// not all of it can be copied. May wait.
    pub fn copy_frame(&self, from: UserSlice) -> Result<Frame, FaultError> {
        reclaim::keep_margin(self.policy.claim())?;
        let mut frame = Frame::recycled(self.policy.claim())?;
        // A new frame has one owner.
        let bytes = frame.bytes_mut().ok_or(FaultError::OutOfMemory)?;
        let (copied, rest) = bytes.split_at_mut(from.len().min(PAGE_BYTES));
        self.copy_in(from, copied)?;
        rest.fill(0);
        Ok(frame)
    }

    /// Copies bytes to a program's memory as far as that reaches. Returns the number of bytes
    /// copied; an error only for none, or where the process is to be killed. May wait.
    pub fn copy_out(&self, to: UserSlice, from: &[u8]) -> Result<usize, FaultError> {
        let mut done = 0;
        for part in to.take(from.len()).by_page() {
            let bytes = from.get(done..done + part.len()).unwrap_or_default();
            let whole = part.len() == PAGE_BYTES || mutants::drop_partial_page();
            let coverage = if whole { Coverage::Whole } else { Coverage::Partial };
            let access = if mutants::write_shared_frame() { Access::Read } else { Access::Write };
            let copied = self.peek(|state| {
                let to = state.direct_for(part, access)?;
                copy_to_direct(to, bytes);
                Some(())
            });
            if copied.is_some() {
                done += part.len();
                continue;
            }
            match self.resolve(part.addr().page(), access, coverage, |state| {
                state.copy_part_out(part, bytes)
            }) {
                Ok(()) => done += part.len(),
                Err(error) => return completed(done, error),
            }
        }
        Ok(done)
    }

    /// Copies all of `from`, or fails. May wait.
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
        for part in to.by_page() {
            match self.copy_out(part, [0; PAGE_BYTES].get(..part.len()).unwrap_or_default()) {
                Ok(bytes) => done += bytes,
                Err(error) => return completed(done, error),
            }
        }
        Ok(done)
    }

    /// Reads a value at an address, which need not be aligned. May wait.
    pub fn read<T: FromBytes + IntoBytes>(&self, address: UserAddr) -> Result<T, FaultError> {
        let mut value = T::new_zeroed();
        let slice = slice_of::<T>(address)?;
        self.copy_in(slice, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a value at an address, which need not be aligned. May wait.
    pub fn write<T: IntoBytes + Immutable>(
        &self,
        address: UserAddr,
        value: &T,
    ) -> Result<(), FaultError> {
        let slice = slice_of::<T>(address)?;
        self.copy_out_all(slice, value.as_bytes())
    }

    /// Reads a string up to its NUL, without it; `None` where there is no NUL within `max` bytes.
    /// May wait.
    pub fn read_string(
        &self,
        address: UserAddr,
        max: usize,
    ) -> Result<Option<Vec<u8>>, FaultError> {
        const CHUNK: usize = 256;
        let mut string = Vec::new();
        while string.len() < max {
            let done = ByteCount::of_len(string.len());
            let at = address.checked_add(done).ok_or(FaultError::Segv)?;
            // Never past a page's end: the next page need not be mapped.
            let bytes = CHUNK.min(max - string.len()).min(PAGE_BYTES - at.offset_in_page());
            let slice =
                UserSlice::new(at, ByteCount::of_len(bytes)).map_err(|_| FaultError::Segv)?;
            let mut chunk = [0; CHUNK];
            let chunk = chunk.get_mut(..bytes).unwrap_or_default();
            self.copy_in(slice, chunk)?;
            let end = chunk.iter().position(|&byte| byte == 0);
            fallible::reserve(&mut string, CHUNK)?;
            string.extend_from_slice(chunk.get(..end.unwrap_or(bytes)).unwrap_or_default());
            if end.is_some() {
                return Ok(Some(string));
            }
        }
        Ok(None)
    }

    /// Copies a short string up to its NUL to `space`, which the result is a part of. `None`, and
    /// nothing is known of the string, where its NUL is not within `space`, or not in its first
    /// page, or that page is not mapped. Never waits.
    pub fn short_string<'a>(&self, address: UserAddr, space: &'a mut [u8]) -> Option<&'a [u8]> {
        let bytes = space.len().min(PAGE_BYTES - address.offset_in_page());
        let slice = UserSlice::new(address, ByteCount::of_len(bytes)).ok()?;
        let space = space.get_mut(..bytes)?;
        self.peek(|state| {
            copy_from_direct(state.direct_for(slice, Access::Read)?, space);
            Some(())
        })?;
        space.get(..find_nul(space)?)
    }

    /// Makes the pages of a slice usable, so that a `try_copy` soon after succeeds. Returns for how
    /// many bytes from the start; an error only for none. May wait.
    pub fn prepare(&self, slice: UserSlice, access: Access) -> Result<usize, FaultError> {
        let mut done = 0;
        for part in slice.by_page() {
            match self.resolve(part.addr().page(), access, Coverage::Partial, |_| ()) {
                Ok(()) => done += part.len(),
                Err(error) => return completed(done, error),
            }
        }
        Ok(done)
    }

    /// Copies from a program's memory and never waits, so a spin lock may be held. Returns the
    /// number of bytes copied.
    pub fn try_copy_in(&self, from: UserSlice, to: &mut [u8]) -> usize {
        let mut done = 0;
        for part in from.take(to.len()).by_page() {
            let bytes = to.get_mut(done..done + part.len()).unwrap_or_default();
            if !self.try_part(part, Access::Read, |state| state.copy_part_in(part, bytes)) {
                break;
            }
            done += part.len();
        }
        done
    }

    /// Copies to a program's memory and never waits. Returns the number of bytes copied.
    #[inline]
    pub fn try_copy_out(&self, to: UserSlice, from: &[u8]) -> usize {
        let to = to.take(from.len());
        // Nearly always it is little, and the page is mapped for stores.
        let bytes = from.get(..to.len()).unwrap_or_default();
        if to.is_in_one_page() && self.copy_mapped_out(to, bytes) {
            return to.len();
        }
        self.try_copy_out_by_page(to, from)
    }

    #[inline(never)]
    fn try_copy_out_by_page(&self, to: UserSlice, from: &[u8]) -> usize {
        let mut done = 0;
        for part in to.by_page() {
            let bytes = from.get(done..done + part.len()).unwrap_or_default();
            if !self.copy_mapped_out(part, bytes)
                && !self.try_part(part, Access::Write, |state| state.copy_part_out(part, bytes))
            {
                break;
            }
            done += part.len();
        }
        done
    }

    /// Copies from a part of a page that is mapped; false where it is not.
    #[inline]
    fn copy_mapped_in(&self, part: UserSlice, to: &mut [u8]) -> bool {
        self.peek(|state| {
            let from = state.direct_for(part, Access::Read);
            from.map(|from| copy_from_direct(from, to)).is_some()
        })
    }

    /// Copies to a part of a page that is mapped for stores; false where it is not.
    #[inline]
    fn copy_mapped_out(&self, part: UserSlice, from: &[u8]) -> bool {
        self.peek(|state| {
            let to = state.direct_for(part, Access::Write);
            to.map(|to| copy_to_direct(to, from)).is_some()
        })
    }

    /// Copies all of `from` to memory that is mapped for stores already, and never waits. False
    /// where some page is not: then a part may have been copied.
    pub fn copy_out_mapped(&self, to: UserSlice, from: &[u8]) -> bool {
        let to = to.take(from.len());
        if to.is_in_one_page() {
            return to.len() == from.len() && self.copy_mapped_out(to, from);
        }
        self.peek(|state| {
            let mut rest = from;
            for part in to.by_page() {
                let Some(address) = state.direct_for(part, Access::Write) else { return false };
                let (bytes, behind) = rest.split_at(part.len());
                copy_to_direct(address, bytes);
                rest = behind;
            }
            rest.is_empty()
        })
    }

    fn try_part(
        &self,
        part: UserSlice,
        access: Access,
        copy: impl FnOnce(&mut SpaceState),
    ) -> bool {
        let page = part.addr().page();
        let (coverage, counters) = (Coverage::Partial, &self.counters);
        let request = PageRequest { page, access, coverage, counters };
        self.with(|state| {
            // Where a page has to be fetched, no fetch may begin, because nobody would start it.
            let is_at_hand = match state.table.get(page) {
                Some(entry) => !entry.is_swapped(),
                None => state.is_unbacked(page),
            };
            let usable = is_at_hand && matches!(state.look(&request, None), Ok(Resolution::Done));
            if usable {
                copy(state);
            }
            usable
        })
    }
}

/// The range of a value at an address.
fn slice_of<T>(address: UserAddr) -> Result<UserSlice, FaultError> {
    UserSlice::new(address, ByteCount::of_len(size_of::<T>())).map_err(|_| FaultError::Segv)
}

/// The result of a transfer that an error ended after `done` bytes or pages: the error counts only
/// where nothing was transferred, or the process is to be killed.
pub(super) fn completed(done: usize, error: FaultError) -> Result<usize, FaultError> {
    if done == 0 || error == FaultError::Killed { Err(error) } else { Ok(done) }
}

/// The index of the first NUL. Looks at eight bytes at once.
fn find_nul(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The top bit of each byte that is zero; above the first of them, of some others as well.
        let zeros = word.wrapping_sub(ONES) & !word & TOPS;
        if zeros != 0 {
            return Some(index * size_of::<u64>() + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == 0)?;
    Some(bytes.len() - rest.len() + at)
}

/// Copies from the direct map: part of a page of a program's memory, as long as `to`.
fn copy_from_direct(from: *const u8, to: &mut [u8]) {
    // SAFETY: the frame is mapped under the lock that the caller holds, so it is not freed
    // meanwhile; the part lies in one page. If the program stores to it at the same time (on
    // another CPU), each byte is the old or the new one.
    unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
}

/// Copies to the direct map: part of a page of a program's memory, as long as `from`.
fn copy_to_direct(to: *mut u8, from: &[u8]) {
    // SAFETY: as above; the entry allows a store, so nobody relies on this frame's bytes.
    unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
}

impl SpaceState {
    /// The address of a part of a mapped page in the direct map.
    fn direct(&self, part: UserSlice) -> Option<*mut u8> {
        let entry = self.table.get(part.addr().page()).filter(|entry| !entry.is_swapped())?;
        let inside = part.addr().offset_in_page();
        debug_assert!(inside + part.len() <= PAGE_BYTES);
        Some(phys_to_virt(entry.address()).wrapping_add(inside))
    }

    /// As [`direct`](Self::direct), if the page's entry allows the access.
    fn direct_for(&self, part: UserSlice, access: Access) -> Option<*mut u8> {
        let entry =
            self.table.get(part.addr().page()).filter(|entry| allows(entry.flags(), access))?;
        Some(phys_to_virt(entry.address()).wrapping_add(part.addr().offset_in_page()))
    }

    fn copy_part_in(&mut self, part: UserSlice, to: &mut [u8]) {
        debug_assert_eq!(part.len(), to.len());
        if let Some(from) = self.direct(part) {
            copy_from_direct(from, to);
        }
    }

    fn copy_part_out(&mut self, part: UserSlice, from: &[u8]) {
        debug_assert_eq!(part.len(), from.len());
        if let Some(to) = self.direct(part) {
            copy_to_direct(to, from);
        }
    }

    /// Whether a page lies in a region that no snapshot backs.
    fn is_unbacked(&self, page: Page) -> bool {
        self.regions.find(page).is_some_and(|(_, region)| {
            matches!(region.backing, Backing::Anonymous | Backing::Shared { .. })
        })
    }
}
