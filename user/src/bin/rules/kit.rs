//! What the tests share: failures, bytes that tell where they come from, files, buffers, processes
//! that take turns.

use crate::lazy::Meter;
use crate::os;
use alloc::borrow::ToOwned;
use core::fmt::Display;

use user::prelude::*;
use user::sys::{WaitStatus, abi};

/// What a test returns: nothing, or what was found wrong and where.
pub type Outcome<T = ()> = core::result::Result<T, String>;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Fails the test unless the condition holds; the rest is the message.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(alloc::format!("{}:{}: {}", file!(), line!(), alloc::format!($($message)+)));
        }
    };
}

/// Fails the test unless both are equal; the rest says what they are.
#[macro_export]
macro_rules! check_eq {
    ($got:expr, $expected:expr, $($message:tt)+) => {
        match (&$got, &$expected) {
            (got, expected) => $crate::check!(*got == *expected, "{}: got {got:?}, expected {expected:?}", alloc::format!($($message)+)),
        }
    };
}

/// Says what was being done when a system call failed.
pub trait Named<T> {
    /// The value, or a failure of the test.
    fn named(self, what: impl Display) -> Outcome<T>;
}

impl<T> Named<T> for sys::Result<T> {
    fn named(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| format!("{what}: {error:?}"))
    }
}

/// Puts a prefix in front of a failure.
pub fn within(what: impl Display, outcome: Outcome) -> Outcome {
    outcome.map_err(|failure| format!("{what}: {failure}"))
}

/// Eight bytes of the pattern of a seed: no two places or seeds look alike, and none looks like
/// zeros.
pub fn word(seed: u64, index: u64) -> u64 {
    // The finaliser of splitmix64.
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ seed.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) | 0x01
}

/// The byte at a position of the pattern of a seed.
pub fn byte(seed: u64, position: u64) -> u8 {
    word(seed, position / 8).to_le_bytes()[(position % 8) as usize]
}

/// Fills bytes with the pattern, the first of them being at `position`.
pub fn fill(bytes: &mut [u8], seed: u64, position: u64) {
    let mut at = position;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(seed, at / 8).to_le_bytes();
        let from = (at % 8) as usize;
        let count = rest.len().min(8 - from);
        let (front, behind) = rest.split_at_mut(count);
        front.copy_from_slice(&word[from..from + count]);
        at += count as u64;
        rest = behind;
    }
}

/// What a range of memory should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The pattern of a seed, from a position of it on.
    Pattern {
        /// Which pattern.
        seed: u64,
        /// The first byte's position.
        from: u64,
    },
    /// One byte all over.
    Only(u8),
}

impl Content {
    fn fill(self, bytes: &mut [u8], skip: u64) {
        match self {
            Self::Pattern { seed, from } => fill(bytes, seed, from + skip),
            Self::Only(byte) => bytes.fill(byte),
        }
    }
}

/// The pattern of a seed from a position on.
pub fn pattern(seed: u64, from: u64) -> Content {
    Content::Pattern { seed, from }
}

/// Nothing but zeros.
pub const ZEROS: Content = Content::Only(0);

/// The byte that buffers are filled with where a read must not touch them.
pub const UNTOUCHED: Content = Content::Only(0xa5);

/// Looks at every byte of a range of memory of this process. This touches its pages.
pub fn check_memory(addr: usize, length: usize, content: Content) -> Outcome {
    let mut expected = [0; PAGE];
    let mut done = 0;
    while done < length {
        let count = (PAGE - (addr + done) % PAGE).min(length - done);
        content.fill(&mut expected[..count], done as u64);
        // SAFETY: the caller's mapping is there, and nothing writes to it while it is looked at.
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
    // SAFETY: as for `check_memory`; where the page cannot be had, a signal is what the test is
    // about.
    unsafe { (addr as *const u8).read_volatile() }
}

/// Stores one byte.
pub fn store(addr: usize, byte: u8) {
    // SAFETY: the caller's own mapping, to which no reference exists.
    unsafe { (addr as *mut u8).write_volatile(byte) }
}

/// Memory to read into. Unmapped when dropped, as far as it is still there.
pub struct Buffer {
    addr: usize,
    length: usize,
}

impl Buffer {
    /// Fresh private memory, a multiple of the page size.
    pub fn new(length: usize) -> Outcome<Self> {
        Self::with(length, abi::MAP_PRIVATE | abi::MAP_NORESERVE)
    }

    /// Fresh memory that children share.
    pub fn shared(length: usize) -> Outcome<Self> {
        Self::with(length, abi::MAP_SHARED)
    }

    fn with(length: usize, flags: u32) -> Outcome<Self> {
        let length = length.next_multiple_of(PAGE);
        let addr = os::mmap(0, length, os::READ_WRITE, flags).named("mmap")?;
        Ok(Self { addr, length })
    }

    /// Private memory whose every byte was stored to.
    pub fn filled(length: usize, content: Content) -> Outcome<Self> {
        let buffer = Self::new(length)?;
        buffer.put(0, buffer.length, content);
        Ok(buffer)
    }

    /// Gives the mapping away; its address.
    pub fn leak(self) -> usize {
        core::mem::ManuallyDrop::new(self).addr
    }

    /// The address of a byte.
    pub fn at(&self, offset: usize) -> usize {
        self.addr + offset
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Stores to a range.
    pub fn put(&self, offset: usize, length: usize, content: Content) {
        // SAFETY: inside the mapping, and no other reference into it is alive.
        let bytes =
            unsafe { core::slice::from_raw_parts_mut((self.addr + offset) as *mut u8, length) };
        content.fill(bytes, 0);
    }

    /// Loads a byte.
    pub fn load(&self, offset: usize) -> u8 {
        load(self.addr + offset)
    }

    /// Loads a word that is aligned.
    pub fn load_word(&self, offset: usize) -> u64 {
        // SAFETY: inside the mapping, to which no reference exists.
        unsafe { ((self.addr + offset) as *const u64).read_volatile() }
    }

    /// Checks a range.
    pub fn check(&self, offset: usize, length: usize, content: Content) -> Outcome {
        check_memory(self.addr + offset, length, content)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _: sys::Result<()> = os::munmap(self.addr, self.length);
    }
}

/// The directory that tests make their files in.
pub fn directory() -> String {
    format!("/tmp/rules-{}", sys::getpid())
}

/// A file made for a test, removed when dropped by the process that made it.
pub struct File {
    /// Open for reading and writing.
    pub fd: Fd,
    /// Its name.
    pub path: String,
    maker: i32,
}

impl File {
    /// A file of the pattern of a seed.
    pub fn make(name: &str, seed: u64, length: u64) -> Outcome<Self> {
        Self::make_in(&directory(), name, seed, length)
    }

    /// The same in another directory, which is made where it is absent.
    pub fn make_in(directory: &str, name: &str, seed: u64, length: u64) -> Outcome<Self> {
        let file = Self::sparse_in(directory, name, 0)?;
        file.overwrite(seed, 0, length)?;
        Ok(file)
    }

    /// A file that is one hole.
    pub fn sparse(name: &str, length: u64) -> Outcome<Self> {
        Self::sparse_in(&directory(), name, length)
    }

    /// The same in another directory.
    pub fn sparse_in(directory: &str, name: &str, length: u64) -> Outcome<Self> {
        match sys::mkdir(directory.as_bytes(), 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("mkdir {directory}: {error:?}")),
        }
        let path = format!("{directory}/{name}");
        let fd = os::create(&path).named(&path)?;
        sys::ftruncate(fd, length).named("ftruncate")?;
        Ok(Self { fd, path, maker: sys::getpid() })
    }

    /// Writes the pattern of a seed over a range: the byte at position p of the file becomes that
    /// at position p of the pattern.
    pub fn overwrite(&self, seed: u64, offset: u64, length: u64) -> Outcome {
        let mut chunk = vec![0; (length as usize).min(64 * PAGE)];
        let mut done = 0;
        while done < length {
            let count = chunk.len().min((length - done) as usize);
            fill(&mut chunk[..count], seed, offset + done);
            let written = sys::pwrite(self.fd, &chunk[..count], offset + done).named("pwrite")?;
            check!(written > 0, "pwrite wrote nothing");
            done += written as u64;
        }
        Ok(())
    }

    /// Writes one byte all over a range, in one call.
    pub fn overwrite_bytes(&self, byte: u8, offset: u64, length: usize) -> Outcome {
        check_eq!(
            sys::pwrite(self.fd, &vec![byte; length], offset).named("pwrite")?,
            length,
            "bytes written"
        );
        Ok(())
    }

    /// Reads a range into a buffer; all of it must come.
    pub fn read_into(&self, buffer: &Buffer, at: usize, length: usize, offset: u64) -> Outcome {
        let count = os::pread(self.fd, buffer.at(at), length, offset).named("pread")?;
        check_eq!(count, length, "bytes that pread gave");
        Ok(())
    }

    /// Another open file description of it.
    pub fn reopen(&self) -> Outcome<Fd> {
        os::open(&self.path).named(&self.path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _: sys::Result<()> = sys::close(self.fd);
        if self.maker == sys::getpid() {
            let _: sys::Result<()> = sys::unlink(self.path.as_bytes());
        }
    }
}

/// Whole pages inside a range of memory.
pub fn whole_pages(addr: usize, length: usize) -> i64 {
    let (first, end) = (addr.next_multiple_of(PAGE), (addr + length) / PAGE * PAGE);
    (end.saturating_sub(first) / PAGE) as i64
}

/// Reads a range into a buffer; where there is laziness, all whole pages of it must have become
/// lazy.
pub fn read_lazily(file: &File, buffer: &Buffer, at: usize, length: usize, offset: u64) -> Outcome {
    let meter = Meter::start()?;
    file.read_into(buffer, at, length, offset)?;
    meter.expect("reads_lazy", 1)?;
    meter.expect("pages_lazy", whole_pages(buffer.at(at), length))
}

/// A child process that runs a part of a test. Killed when dropped before it was waited for.
pub struct Child {
    /// Its number.
    pub pid: i32,
    what: String,
    waited: bool,
}

impl Child {
    /// Forks. The child ends with status 0 if the body succeeds, else says why and ends with 1.
    pub fn start(what: &str, body: impl FnOnce() -> Outcome) -> Outcome<Self> {
        let Some(pid) = sys::fork().named("fork")? else {
            let failed = body().inspect_err(|failure| eprintln!("{what}: {failure}")).is_err();
            sys::exit(failed.into());
        };
        Ok(Self { pid, what: what.to_owned(), waited: false })
    }

    /// Waits for its end.
    pub fn status(mut self) -> Outcome<WaitStatus> {
        self.waited = true;
        sys::wait_for(self.pid).named("wait4")
    }

    /// Waits for its end, which must be success.
    pub fn join(self) -> Outcome {
        let what = self.what.clone();
        let status = self.status()?;
        check!(
            status.exit_code() == Some(0),
            "process `{what}` failed ({})",
            status.shell_status()
        );
        Ok(())
    }

    /// Kills it with SIGKILL and waits until it is gone; it must not have ended otherwise.
    pub fn kill(self) -> Outcome {
        sys::kill(self.pid, abi::SIGKILL as i32).named("kill")?;
        let status = self.status()?;
        check_eq!(status.signal(), Some(abi::SIGKILL as i32), "signal that ended the process");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited {
            let _: sys::Result<i32> = sys::kill(self.pid, abi::SIGKILL as i32);
            let _: sys::Result<WaitStatus> = sys::wait_for(self.pid);
        }
    }
}

/// A turnstile between processes: as many may pass as were let through. Never a sleep.
pub struct Gate([Fd; 2]);

impl Gate {
    /// A closed gate.
    pub fn new() -> Outcome<Self> {
        sys::pipe(0).map(Self).named("pipe")
    }

    /// Lets one through.
    pub fn open(&self) -> Outcome {
        sys::write_all(self.0[1], b"!").named("gate")
    }

    /// Waits to be let through.
    pub fn pass(&self) -> Outcome {
        let mut token = [0];
        let count = sys::read(self.0[0], &mut token).named("gate")?;
        check_eq!(count, 1, "tokens at the gate");
        Ok(())
    }

    /// What becomes readable when the gate opens.
    pub fn descriptor(&self) -> Fd {
        self.0[0]
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        for fd in self.0 {
            let _: sys::Result<()> = sys::close(fd);
        }
    }
}

/// Random numbers from a seed.
pub struct Random(pub u64);

impl Random {
    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        word(0x5107, self.0) % bound.max(1)
    }
}
