//! mmap(2) in place of read(2): the file is opened, mapped and touched. A mapping is no copy, so it
//! changes with the file; but who only looks at a file may use it.

use proof::random::shuffled;
use user::pages::{COPY_BYTES, PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

/// The rows of the bench that are measured so: how many pages are touched, and whether in order.
pub const ROWS: [(&str, usize, bool); 8] = [
    ("read64m.touch0", 0, false),
    ("read64m.touch1", 1, false),
    ("read64m.touch16", 16, false),
    ("read64m.touch256", 256, false),
    ("read64m.touch4096", 4096, false),
    ("read64m.random", FILE_PAGES, false),
    ("read64m.sequential", FILE_PAGES, true),
    // Measured when all pages are in the page cache.
    (AGAIN, FILE_PAGES, true),
];

const AGAIN: &str = "read64m.again";

/// The ways of mapping: name, flag of mmap(2), and advice for madvise(2).
pub const WAYS: [(&str, u32, Option<u32>); 3] = [
    ("mmap", 0, None),
    ("mmap-random", 0, Some(abi::MADV_RANDOM)),
    ("mmap-populate", abi::MAP_POPULATE, None),
];

const PATH: &[u8] = b"/tmp/mapped";
const FILE_BYTES: usize = 64 << 20;
const FILE_PAGES: usize = FILE_BYTES / PAGE_BYTES;

/// Creates the file.
pub fn create() -> Result<()> {
    let fd = sys::open(PATH, abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL, 0o600)?;
    let piece = Pages::new(COPY_BYTES)?;
    for _ in 0..FILE_BYTES / COPY_BYTES {
        sys::write_all(fd, &piece)?;
    }
    sys::close(fd)
}

/// Removes the file.
pub fn remove() -> Result<()> {
    sys::unlink(PATH)
}

/// The instructions of one row in one way.
pub fn measure(row: (&str, usize, bool), way: (&str, u32, Option<u32>)) -> Result<u64> {
    let (name, count, in_order) = row;
    let pages = if in_order { (0..count).collect() } else { shuffled(count, FILE_PAGES) };
    if name == AGAIN {
        let first = sys::open(PATH, abi::O_RDONLY, 0)?;
        let took = map_and_touch(first, &pages, way).and_then(|()| {
            let start = super::ticks();
            map_and_touch(first, &pages, way)?;
            Ok(super::ticks() - start)
        });
        sys::close(first)?;
        return took;
    }
    // Opening the file drops its pages, which is not part of the cost.
    sys::close(sys::open(PATH, abi::O_RDONLY, 0)?)?;
    let start = super::ticks();
    let fd = sys::open(PATH, abi::O_RDONLY, 0)?;
    map_and_touch(fd, &pages, way)?;
    let took = super::ticks() - start;
    sys::close(fd)?;
    Ok(took)
}

fn map_and_touch(fd: Fd, pages: &[usize], way: (&str, u32, Option<u32>)) -> Result<()> {
    let (_, flag, advice) = way;
    let flags = abi::MAP_PRIVATE | flag;
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    let start = unsafe { sys::mmap(0, FILE_BYTES, abi::PROT_READ, flags, fd, FileOffset::ZERO) }?;
    if let Some(advice) = advice {
        proof::os::raw(abi::__NR_madvise, &[start as usize, FILE_BYTES, advice as usize])?;
    }
    for page in pages {
        // SAFETY: within the mapping.
        unsafe { start.add(page * PAGE_BYTES).read_volatile() };
    }
    // SAFETY: nothing refers to the mapping.
    unsafe { sys::unmap(start, FILE_BYTES) }
}
