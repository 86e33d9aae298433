//! Random system calls with random arguments, which must not do more harm than a program may.

use crate::omitted;
use crate::os::raw;
use crate::random::Random;
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

/// More calls that are not made at random, because they block or could affect other processes.
const ALSO_OMITTED: [u32; 9] = [
    abi::__NR_nanosleep,
    abi::__NR_clock_nanosleep,
    abi::__NR_futex,
    abi::__NR_wait4,
    abi::__NR_waitid,
    abi::__NR_flock,
    abi::__NR_unshare,
    abi::__NR_setns,
    abi::__NR_mount,
];

/// The numbers of the calls that a stress worker makes: all below this one, and some that do not
/// exist.
const NUMBERS_END: u32 = 470;

/// The numbers of the calls that a stress worker makes.
pub fn numbers() -> Vec<u32> {
    omitted::numbers(NUMBERS_END, &ALSO_OMITTED)
}

/// Calls that change mappings: their lengths stay within the worker's area.
const MAPPING: [u32; 5] =
    [abi::__NR_mmap, abi::__NR_munmap, abi::__NR_mprotect, abi::__NR_mremap, abi::__NR_madvise];

/// The areas for a stress worker's pointers (snapshot-backed, read-only, inaccessible, unmapped),
/// each of this many pages.
const AREA_PAGES: usize = 16;
const AREAS: usize = 4;

/// A stress worker: a process that makes random calls with random arguments.
pub struct StressWorker {
    random: Random,
    area: usize,
    fds: Vec<usize>,
}

impl StressWorker {
    /// A worker in a directory of its own, which it makes in the working directory.
    pub fn new(seed: u64) -> Result<Self> {
        let null = sys::open(b"/dev/null", abi::O_RDWR, 0)?;
        for fd in 0..3 {
            sys::dup2(null, Fd(fd))?;
        }
        let _ = sys::setsid();
        let name = format!("storm-{seed}").into_bytes();
        sys::mkdir(&name, 0o700)?;
        sys::chdir(&name)?;
        let own = sys::open(b"f", abi::O_RDWR | abi::O_CREAT, 0o600)?;
        sys::write_all(own, &vec![0x2f; AREA_PAGES * PAGE_BYTES])?;
        let only_read = sys::open(b"f", abi::O_RDONLY, 0)?;
        let directory = sys::open(b".", abi::O_RDONLY, 0)?;
        let pipe = sys::pipe(abi::O_NONBLOCK)?;
        let zero = sys::open(b"/dev/zero", abi::O_RDWR, 0)?;
        let closed = sys::dup(null)?;
        sys::close(closed)?;
        let fds = [null, own, only_read, directory, pipe[0], pipe[1], zero].map(|fd| fd.argument());
        let odd =
            [closed.argument(), usize::MAX, 0x7fff_ffff, 1 << 32, abi::AT_FDCWD as isize as usize];
        let area = Self::area(own)?;
        Ok(Self {
            random: Random::new(seed + 100),
            area,
            fds: fds.into_iter().chain(odd).collect(),
        })
    }

    /// Four areas: backed by a snapshot, read-only, inaccessible, unmapped.
    fn area(own: Fd) -> Result<usize> {
        let part = AREA_PAGES * PAGE_BYTES;
        let mut pages = core::mem::ManuallyDrop::new(Pages::new(AREAS * part)?);
        sys::pread(own, &mut pages[..part], FileOffset::ZERO)?;
        pages[7 * PAGE_BYTES..][..2].copy_from_slice(b"f\0");
        let start = pages.as_mut_ptr() as usize;
        for (number, protection) in [(1, abi::PROT_READ), (2, abi::PROT_NONE)] {
            raw(abi::__NR_mprotect, &[start + number * part, part, protection as usize])?;
        }
        raw(abi::__NR_munmap, &[start + 3 * part, part])?;
        Ok(start)
    }

    /// An address in the area: at the start of a page, just before it, or anywhere.
    fn place(&mut self) -> usize {
        let page = self.area + self.random.below((AREAS * AREA_PAGES) as u64) as usize * PAGE_BYTES;
        match self.random.below(3) {
            0 => page,
            1 => page + PAGE_BYTES - 1 - self.random.below(16) as usize,
            _ => page + self.random.below(PAGE_BYTES as u64) as usize,
        }
    }

    fn argument(&mut self) -> usize {
        const NUMBERS: [usize; 14] = [
            0,
            1,
            2,
            3,
            4095,
            4096,
            65536,
            1 << 20,
            0x7fff_ffff,
            0xffff_ffff,
            1 << 47,
            1 << 63,
            usize::MAX - 4095,
            usize::MAX,
        ];
        const NOWHERE: [usize; 5] =
            [8, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0000_0000, 0xffff_ffff_8000_0000];
        match self.random.below(8) {
            0..3 => self.place(),
            3 => self.fds[self.random.below(self.fds.len() as u64) as usize],
            4 => NOWHERE[self.random.below(NOWHERE.len() as u64) as usize],
            5 => self.area + 7 * PAGE_BYTES,
            _ => NUMBERS[self.random.below(NUMBERS.len() as u64) as usize],
        }
    }

    /// Makes one call.
    pub fn call(&mut self, numbers: &[u32]) {
        let number = numbers[self.random.below(numbers.len() as u64) as usize];
        let mut arguments: [usize; 6] = core::array::from_fn(|_| self.argument());
        if self.random.below(2) == 0 {
            arguments[0] = self.fds[self.random.below(self.fds.len() as u64) as usize];
        }
        if MAPPING.contains(&number) {
            // Elsewhere it would unmap its own code or stack.
            arguments[0] = self.place();
            arguments[1] = self.random.below(4 * PAGE_BYTES as u64) as usize;
            (arguments[2], arguments[4]) = (arguments[2] % 8192, self.place());
        }
        match number {
            // Limits and niceness of other processes: the servers' are root's to ruin.
            abi::__NR_prlimit64 => arguments[0] = 0,
            abi::__NR_setpriority => arguments[1] = 0,
            _ => {}
        }
        let _ = raw(number, &arguments);
    }
}

/// The directories where stress workers make random names: the root, and the one above the working
/// directory.
const PLACES: [&[u8]; 2] = [b"/", b".."];

/// The names in the directories around stress workers. Their memory contains many slashes and the
/// result of getcwd: with one odd byte that is a new name in the root or above.
pub struct Surroundings([Vec<Vec<u8>>; 2]);

impl Surroundings {
    /// Lists the names before the workers start.
    pub fn new() -> Result<Self> {
        Ok(Self([user::fs::list(PLACES[0])?, user::fs::list(PLACES[1])?]))
    }

    /// Removes the names that are new.
    pub fn restore(&self) -> Result<()> {
        for (place, before) in PLACES.iter().zip(&self.0) {
            for name in user::fs::list(place)?.iter().filter(|name| !before.contains(name)) {
                crate::kit::remove_tree(&user::fs::join(place, name));
            }
        }
        Ok(())
    }
}
