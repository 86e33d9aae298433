//! Files that are mapped shared: what a page costs, and what others pay for it.

use crate::Row;
use crate::meter::{self, Meter, Sample};
use crate::reads::{cold_file, remove};
use proof::os;
use user::pages::PAGE_BYTES;
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[
    ("map.fault", |meter| one_step(meter, Step::Fault)),
    ("map.store", |meter| one_step(meter, Step::Store)),
    ("map.writeback", |meter| one_step(meter, Step::WriteBack)),
    ("map.munmap", munmap_beside),
];

/// Bytes and pages of the mapped file over which the cost of a page is averaged.
const FILE_BYTES: usize = 16 << 20;
const PAGES: usize = FILE_BYTES / PAGE_BYTES;

/// What is measured of a mapping. For all but the first, all pages are loaded before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The first load from each page, in order.
    Fault,
    /// The first store to each page.
    Store,
    /// A store to each page, and msync(2): together, because a kernel may write back while the
    /// program still stores.
    WriteBack,
}

/// A shared mapping of a file.
struct Mapping {
    start: *mut u8,
    len_bytes: usize,
}

impl Mapping {
    fn new(fd: Fd, len_bytes: usize) -> Result<Self> {
        let protection = abi::PROT_READ | abi::PROT_WRITE;
        // SAFETY: without MAP_FIXED nothing that exists is touched.
        let start =
            unsafe { sys::mmap(0, len_bytes, protection, abi::MAP_SHARED, fd, FileOffset::ZERO) }?;
        Ok(Self { start, len_bytes })
    }

    fn load_all(&self) {
        for at in (0..self.len_bytes).step_by(PAGE_BYTES) {
            // SAFETY: within the mapping.
            unsafe { self.start.add(at).read_volatile() };
        }
    }

    fn store_to_all(&self) {
        for at in (0..self.len_bytes).step_by(PAGE_BYTES) {
            // SAFETY: within the mapping, to which no reference exists.
            unsafe { self.start.add(at + 8).write_volatile(1) };
        }
    }

    fn write_back(&self) -> Result<()> {
        let given = [self.start as usize, self.len_bytes, abi::MS_SYNC as usize];
        os::raw(abi::__NR_msync, &given).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping.
        let _ = unsafe { sys::unmap(self.start, self.len_bytes) };
    }
}

/// Faults, first stores or write-back of a cold file.
fn one_step(meter: &Meter, step: Step) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let map = Mapping::new(fd, FILE_BYTES)?;
    if step != Step::Fault {
        map.load_all();
    }
    let sample = meter::sample(|| {
        match step {
            Step::Fault => map.load_all(),
            Step::Store | Step::WriteBack => map.store_to_all(),
        }
        if step == Step::WriteBack { map.write_back() } else { Ok(()) }
    })?;
    meter.tell(&sample, PAGES as u64);
    drop(map);
    remove(fd)
}

/// Maps and unmaps a page of anonymous memory, so often that one time in between does not count.
fn map_and_unmap() -> Result<Sample> {
    const TIMES: usize = 200;
    meter::sample(|| {
        (0..TIMES).try_for_each(|_| {
            let start = sys::map_anonymous(PAGE_BYTES)?;
            // SAFETY: a mapping of this function's own, to which no reference exists.
            unsafe {
                start.write_volatile(1);
                sys::unmap(start, PAGE_BYTES)
            }
        })
    })
}

/// munmap of a page beside 32 MiB of mapped files, as a multiple of the cost without: the worst of
/// before a page is touched, when all are loaded, and when half of them are dirty.
fn munmap_beside(meter: &Meter) -> Result<()> {
    map_and_unmap()?;
    let alone = map_and_unmap()?;
    let fd = cold_file(2 * FILE_BYTES)?;
    let map = Mapping::new(fd, 2 * FILE_BYTES)?;
    let untouched = map_and_unmap()?;
    map.load_all();
    let loaded = map_and_unmap()?;
    let half = Mapping::new(fd, FILE_BYTES)?;
    half.store_to_all();
    let dirty = map_and_unmap()?;
    let worst = [untouched, loaded, dirty].map(|sample| sample.ticks).into_iter().max();
    meter.tell_ratio("", worst.unwrap_or(0), alone.ticks);
    drop((map, half));
    remove(fd)
}
