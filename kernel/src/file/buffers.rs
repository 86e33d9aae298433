//! A program's buffers in a transfer: source or destination of the bytes, with a cursor.

use crate::mem::fallible;
use crate::mem::{Access, Space, UserAddr, UserSlice};
use alloc::vec::Vec;
use foundation::{ByteCount, Errno};

enum Place {
    /// Ranges of a program's memory. Those from `next` on are left; the first may be left in part.
    User { slices: Slices, next: usize },
    /// Memory of the kernel: bytes that were put, or bytes to be taken from `next` on.
    Kernel { bytes: Vec<u8>, next: usize },
}

/// Buffers that are kept without an allocation: read and write have one, a message two or three.
const FEW: usize = 4;

enum Slices {
    Few([UserSlice; FEW], usize),
    Many(Vec<UserSlice>),
}

impl Slices {
    fn as_mut(&mut self) -> &mut [UserSlice] {
        match self {
            Self::Few(slices, count) => slices.get_mut(..*count).unwrap_or_default(),
            Self::Many(slices) => slices,
        }
    }
    fn as_ref(&self) -> &[UserSlice] {
        match self {
            Self::Few(slices, count) => slices.get(..*count).unwrap_or_default(),
            Self::Many(slices) => slices,
        }
    }
    fn push(&mut self, slice: UserSlice) -> Result<(), Errno> {
        if let Self::Few(slices, count) = self {
            if let Some(free) = slices.get_mut(*count) {
                *free = slice;
                *count += 1;
                return Ok(());
            }
            let mut many = fallible::with_capacity(2 * FEW)?;
            many.extend_from_slice(slices);
            *self = Self::Many(many);
        }
        if let Self::Many(slices) = self {
            fallible::reserve(slices, 1)?;
            slices.push(slice);
        }
        Ok(())
    }
}

/// Buffers with a cursor. Bytes are transferred in order, each once.
pub struct UserBuffers {
    place: Place,
    remaining: ByteCount,
}

impl UserBuffers {
    /// One buffer.
    #[inline]
    pub fn one(slice: UserSlice) -> Self {
        let mut few = [UserSlice::EMPTY; FEW];
        few[0] = slice;
        Self {
            remaining: ByteCount::of_len(slice.len()),
            place: Place::User { slices: Slices::Few(few, 1), next: 0 },
        }
    }

    /// An empty list, to be filled by [`push`](Self::push).
    pub fn none() -> Self {
        Self {
            remaining: ByteCount::ZERO,
            place: Place::User { slices: Slices::Few([UserSlice::EMPTY; FEW], 0), next: 0 },
        }
    }

    /// Appends a buffer. EINVAL where all are longer than 2^63 - 1 bytes.
    pub fn push(&mut self, slice: UserSlice) -> Result<(), Errno> {
        let Place::User { slices, .. } = &mut self.place else { return Err(Errno::EINVAL) };
        let total = self
            .remaining
            .checked_add(ByteCount::of_len(slice.len()))
            .filter(|total| i64::try_from(total.0).is_ok());
        self.remaining = total.ok_or(Errno::EINVAL)?;
        match slices.as_mut().last_mut() {
            // Adjacent pages, as servers send them, are moved as one range.
            Some(last) if slice.addr().is_page_aligned() && last.end() == slice.addr() => {
                *last = UserSlice::new(last.addr(), last.bytes() + slice.bytes())?;
                Ok(())
            }
            _ => slices.push(slice),
        }
    }

    /// The buffers of a vector. EINVAL where all are longer than 2^63 - 1 bytes.
    #[cfg(test)]
    pub fn many(vector: &[UserSlice]) -> Result<Self, Errno> {
        let mut buffers = Self::none();
        vector.iter().try_for_each(|&slice| buffers.push(slice))?;
        Ok(buffers)
    }

    /// A buffer of the kernel for reading `capacity` bytes; see [`into_bytes`](Self::into_bytes).
    pub fn kernel(capacity: usize) -> Self {
        Self {
            remaining: ByteCount::of_len(capacity),
            place: Place::Kernel { bytes: Vec::new(), next: 0 },
        }
    }

    /// Bytes of the kernel, to be written.
    pub fn kernel_bytes(bytes: Vec<u8>) -> Self {
        Self { remaining: ByteCount::of_len(bytes.len()), place: Place::Kernel { bytes, next: 0 } }
    }

    /// The bytes that were put into a buffer of the kernel; empty for a program's buffers.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.place {
            Place::Kernel { bytes, .. } => bytes,
            Place::User { .. } => Vec::new(),
        }
    }

    /// Bytes left to transfer.
    pub fn remaining(&self) -> ByteCount {
        self.remaining
    }

    /// What is left, if it is one range of a program's memory.
    pub fn only(&self) -> Option<UserSlice> {
        let Place::User { slices, next } = &self.place else { return None };
        let mut left = slices.as_ref().get(*next..)?.iter().filter(|slice| !slice.is_empty());
        let first = left.next()?;
        left.next().is_none().then_some(*first)
    }

    /// What is left of the first range that is not empty.
    #[inline]
    pub fn front(&self) -> Option<UserSlice> {
        let Place::User { slices, next } = &self.place else { return None };
        slices.as_ref().get(*next..)?.iter().find(|slice| !slice.is_empty()).copied()
    }

    /// The ranges of a program's memory that are left.
    pub fn slices(&self) -> &[UserSlice] {
        match &self.place {
            Place::User { slices, next } => slices.as_ref().get(*next..).unwrap_or_default(),
            Place::Kernel { .. } => &[],
        }
    }

    /// Advances the cursor by `count` bytes.
    #[inline]
    pub fn skip(&mut self, count: ByteCount) {
        // Mostly it is a part of one range.
        if let Place::User { slices: Slices::Few(slices, ranges), next } = &mut self.place
            && let Some(front) = slices.get_mut(..*ranges).and_then(|few| few.get_mut(*next))
            && ByteCount::of_len(front.len()) >= count
        {
            *front = front.skip(count.to_usize());
            *next += usize::from(front.is_empty());
            self.remaining -= count;
            return;
        }
        self.skip_ranges(count);
    }

    fn skip_ranges(&mut self, count: ByteCount) {
        let count = count.min(self.remaining);
        self.remaining -= count;
        let mut count = count.to_usize();
        match &mut self.place {
            Place::Kernel { next, .. } => *next += count,
            Place::User { slices, next } => {
                while let Some(slice) = slices.as_mut().get_mut(*next) {
                    let step = count.min(slice.len());
                    *slice = slice.skip(step);
                    count -= step;
                    if !slice.is_empty() {
                        break;
                    }
                    *next += 1;
                }
            }
        }
    }

    /// Truncates what is left to at most `limit` bytes.
    pub fn limit(&mut self, limit: ByteCount) {
        if self.remaining <= limit {
            return;
        }
        self.remaining = limit;
        let Place::User { slices, next } = &mut self.place else { return };
        let mut left = limit.to_usize();
        for slice in slices.as_mut().iter_mut().skip(*next) {
            *slice = slice.take(left);
            left -= slice.len();
        }
    }

    /// Copies `bytes` to the buffers, faulting pages in. Returns how many were copied: all that
    /// fit, fewer only where memory ends before. An error only where none was copied.
    pub fn put(&mut self, space: &Space, bytes: &[u8]) -> Result<usize, Errno> {
        let bytes = self.fitting(bytes);
        if let Place::Kernel { bytes: kept, .. } = &mut self.place {
            fallible::reserve(kept, bytes.len())?;
            kept.extend_from_slice(bytes);
            self.remaining -= ByteCount::of_len(bytes.len());
            return Ok(bytes.len());
        }
        self.transfer(bytes.len(), |slice, done| {
            space
                .copy_out(slice, bytes.get(done..done + slice.len()).unwrap_or_default())
                .map_err(Errno::from)
        })
    }

    /// Copies the next bytes to `into`, faulting pages in. Returns how many were copied: fewer only
    /// at the end of the buffers or of memory. An error only where none was copied.
    #[inline]
    pub fn take(&mut self, space: &Space, into: &mut [u8]) -> Result<usize, Errno> {
        let wanted = into.len().min(self.remaining.to_usize());
        if let Place::Kernel { bytes, next } = &mut self.place {
            let source = bytes.get(*next..*next + wanted).ok_or(Errno::EFAULT)?;
            into.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
            self.skip(ByteCount::of_len(wanted));
            return Ok(wanted);
        }
        self.transfer(wanted, |slice, done| {
            let part = into.get_mut(done..done + slice.len()).unwrap_or_default();
            space.copy_in_prefix(slice, part).map_err(Errno::from)
        })
    }

    /// Copies without waiting, so that a spin lock may be held. Returns the number of bytes copied.
    #[inline]
    pub fn try_put(&mut self, space: &Space, bytes: &[u8]) -> usize {
        let bytes = self.fitting(bytes);
        if matches!(self.place, Place::Kernel { .. }) {
            return self.put(space, bytes).unwrap_or(0);
        }
        let copy = |slice: UserSlice, done: usize| {
            Ok(space.try_copy_out(slice, bytes.get(done..done + slice.len()).unwrap_or_default()))
        };
        self.transfer(bytes.len(), copy).unwrap_or(0)
    }

    /// Faults in the next `count` bytes of the destination for [`try_put`](Self::try_put); may
    /// wait. EFAULT where not even the first byte is writable.
    pub fn prepare_write(&self, space: &Space, count: usize) -> Result<(), Errno> {
        let mut left = count;
        for slice in self.slices().iter().filter(|slice| !slice.is_empty()) {
            let wanted = slice.take(left);
            match space.prepare(wanted, Access::Write) {
                Ok(done) if done < wanted.len() => return Ok(()),
                Ok(done) => left -= done,
                Err(error) => return if left < count { Ok(()) } else { Err(error.into()) },
            }
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn fitting<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..bytes.len().min(self.remaining.to_usize())).unwrap_or_default()
    }

    /// Transfers up to `wanted` bytes, range by range. `copy` gets a range and the number of bytes
    /// transferred before it, and returns how many bytes it copied.
    fn transfer(
        &mut self,
        wanted: usize,
        mut copy: impl FnMut(UserSlice, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        // Mostly one range has space for all.
        if let Place::User { slices: Slices::Few(slices, count), next } = &mut self.place
            && let Some(front) = slices.get_mut(..*count).and_then(|few| few.get_mut(*next))
            && front.len() >= wanted
            && wanted > 0
        {
            let copied = copy(front.take(wanted), 0)?;
            *front = front.skip(copied);
            *next += usize::from(front.is_empty());
            self.remaining -= ByteCount::of_len(copied);
            return Ok(copied);
        }
        let mut done = 0;
        while done < wanted {
            let Some(front) = self.front() else { break };
            let piece = front.take(wanted - done);
            let copied = match copy(piece, done) {
                Ok(copied) => copied,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            self.skip(ByteCount::of_len(copied));
            done += copied;
            if copied < piece.len() {
                break;
            }
        }
        Ok(done)
    }
}

/// Copies a result of an ioctl to a program. Returns 0, the result of such calls.
pub(super) fn store(space: &Space, address: u64, bytes: &[u8]) -> Result<u64, Errno> {
    space
        .copy_out_all(UserSlice::new(UserAddr(address), ByteCount::of_len(bytes.len()))?, bytes)?;
    Ok(0)
}

/// Fills `bytes` from a program's memory.
pub(super) fn load(space: &Space, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    Ok(space.copy_in(UserSlice::new(UserAddr(address), ByteCount::of_len(bytes.len()))?, bytes)?)
}
