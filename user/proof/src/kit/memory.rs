//! Buffers, and checks of their contents.

use super::pattern::Content;
use super::{Named, Outcome, PAGE};
use crate::os;

use user::prelude::*;
use user::sys::abi;

/// Checks every byte of a range of this process's memory. Touches its pages.
pub fn check_memory(addr: usize, length: usize, content: Content) -> Outcome {
    let mut expected = [0; PAGE];
    let mut done = 0;
    while done < length {
        let count = (PAGE - (addr + done) % PAGE).min(length - done);
        content.fill(&mut expected[..count], done as u64);
        // SAFETY: the caller's mapping exists, and nobody writes to it during the check.
        let got = unsafe { core::slice::from_raw_parts((addr + done) as *const u8, count) };
        if got != &expected[..count] {
            let bad =
                got.iter().zip(&expected).position(|(got, expected)| got != expected).unwrap_or(0);
            let at = done + bad;
            let (got, expected) = (got[bad], expected[bad]);
            return Err(format!(
                "byte {at} of {length}: got {got:#04x}, expected {expected:#04x} ({content:x?})"
            ));
        }
        done += count;
    }
    Ok(())
}

/// Loads one byte.
pub fn load(addr: usize) -> u8 {
    // SAFETY: as for `check_memory`; where the page is not available, the signal is the test's
    // subject.
    unsafe { (addr as *const u8).read_volatile() }
}

/// Stores one byte at an address, whatever is mapped there.
pub fn store(addr: usize, byte: u8) {
    // SAFETY: the caller's own mapping, to which no reference exists.
    unsafe { (addr as *mut u8).write_volatile(byte) }
}

/// A buffer. Drop unmaps what is still mapped of it.
pub struct Buffer {
    addr: usize,
    length: usize,
}

impl Buffer {
    /// Fresh private memory. The length is rounded up to whole pages.
    pub fn new(length: usize) -> Outcome<Self> {
        Self::with(length, abi::MAP_PRIVATE | abi::MAP_NORESERVE)
    }

    /// Fresh shared memory, which children share.
    pub fn shared(length: usize) -> Outcome<Self> {
        Self::with(length, abi::MAP_SHARED)
    }

    /// A shared mapping of the first bytes of a file, to read and to store to.
    pub fn of_file(fd: Fd, length: usize) -> Outcome<Self> {
        Self::map(fd, 0, length, os::READ_WRITE, abi::MAP_SHARED).named("mmap of a file")
    }

    /// A mapping of a file from an offset on.
    pub fn map(fd: Fd, offset: u64, length: usize, protection: u32, flags: u32) -> Result<Self> {
        let length = length.next_multiple_of(PAGE);
        // SAFETY: without MAP_FIXED nothing that exists is touched.
        let start = unsafe { sys::mmap(0, length, protection, flags, fd, FileOffset(offset)) }?;
        Ok(Self { addr: start as usize, length })
    }

    fn with(length: usize, flags: u32) -> Outcome<Self> {
        let length = length.next_multiple_of(PAGE);
        let addr = os::mmap(0, length, os::READ_WRITE, flags).named("mmap")?;
        Ok(Self { addr, length })
    }

    /// Private memory that is stored to in full.
    pub fn filled(length: usize, content: Content) -> Outcome<Self> {
        let buffer = Self::new(length)?;
        buffer.put(0, buffer.length, content);
        Ok(buffer)
    }

    /// Releases the mapping from this owner and returns its address.
    pub fn leak(self) -> usize {
        core::mem::ManuallyDrop::new(self).addr
    }

    /// The address of the byte at `offset`.
    pub fn at(&self, offset: usize) -> usize {
        self.addr + offset
    }

    /// The length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.length
    }

    /// Stores `content` to a range.
    pub fn put(&self, offset: usize, length: usize, content: Content) {
        // SAFETY: inside the mapping, to which no other reference exists.
        let bytes =
            unsafe { core::slice::from_raw_parts_mut((self.addr + offset) as *mut u8, length) };
        content.fill(bytes, 0);
    }

    /// Loads one byte.
    pub fn load(&self, offset: usize) -> u8 {
        load(self.addr + offset)
    }

    /// Stores one byte.
    pub fn store(&self, offset: usize, byte: u8) {
        store(self.addr + offset, byte);
    }

    /// Stores an aligned word.
    pub fn store_word(&self, offset: usize, word: u64) {
        // SAFETY: inside the mapping, to which no reference exists.
        unsafe { ((self.addr + offset) as *mut u64).write_volatile(word) }
    }

    /// Loads an aligned word.
    pub fn load_word(&self, offset: usize) -> u64 {
        // SAFETY: inside the mapping, to which no reference exists.
        unsafe { ((self.addr + offset) as *const u64).read_volatile() }
    }

    /// msync(2) of all of it.
    pub fn sync(&self) -> Result<()> {
        os::raw(abi::__NR_msync, &[self.addr, self.length, abi::MS_SYNC as usize]).map(drop)
    }

    /// A copy of a range.
    pub fn bytes(&self, offset: usize, length: usize) -> Vec<u8> {
        (offset..offset + length).map(|at| self.load(at)).collect()
    }

    /// Checks the content of a range.
    pub fn check(&self, offset: usize, length: usize, content: Content) -> Outcome {
        check_memory(self.addr + offset, length, content)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _: sys::Result<()> = os::munmap(self.addr, self.length);
    }
}

/// The number of whole pages in a range of memory.
pub fn whole_pages(addr: usize, length: usize) -> i64 {
    let (first, end) = (addr.next_multiple_of(PAGE), (addr + length) / PAGE * PAGE);
    (end.saturating_sub(first) / PAGE) as i64
}
