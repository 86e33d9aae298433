//! Test files and their contents.

use super::memory::{Buffer, whole_pages};
use super::pattern::fill;
use super::{Named, Outcome, PAGE};
use crate::lazy::Meter;
use crate::{check, check_eq, ok, os};

use user::prelude::*;

/// The directory for the tests' files.
pub fn directory() -> String {
    format!("/tmp/rules-{}", sys::getpid())
}

/// A test's file. The process that made it removes it on drop.
pub struct File {
    /// A descriptor for reading and writing.
    pub fd: Fd,
    /// The file's path.
    pub path: String,
    maker: i32,
}

impl File {
    /// Makes a file with the pattern of a seed, `length` bytes long.
    pub fn make(name: &str, seed: u64, length: u64) -> Outcome<Self> {
        Self::make_in(&directory(), name, seed, length)
    }

    /// The same in another directory, which is made if necessary.
    pub fn make_in(directory: &str, name: &str, seed: u64, length: u64) -> Outcome<Self> {
        let file = Self::sparse_in(directory, name, 0)?;
        file.overwrite(seed, 0, length)?;
        Ok(file)
    }

    /// Makes a file that is one hole, `length` bytes long.
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
        sys::ftruncate(fd, ByteCount(length)).named("ftruncate")?;
        Ok(Self { fd, path, maker: sys::getpid() })
    }

    /// Overwrites a range with the pattern of a seed: byte p of the file becomes byte p of the
    /// pattern.
    pub fn overwrite(&self, seed: u64, offset: u64, length: u64) -> Outcome {
        let mut chunk = vec![0; (length as usize).min(64 * PAGE)];
        let mut done = 0;
        while done < length {
            let count = chunk.len().min((length - done) as usize);
            fill(&mut chunk[..count], seed, offset + done);
            let written =
                sys::pwrite(self.fd, &chunk[..count], FileOffset(offset + done)).named("pwrite")?;
            check!(written > 0, "pwrite wrote nothing");
            done += written as u64;
        }
        Ok(())
    }

    /// Overwrites a range with one byte value, in one call.
    pub fn overwrite_bytes(&self, byte: u8, offset: u64, length: usize) -> Outcome {
        check_eq!(
            sys::pwrite(self.fd, &vec![byte; length], FileOffset(offset)).named("pwrite")?,
            length,
            "bytes written"
        );
        Ok(())
    }

    /// Reads a range into a buffer. Fails if the read is short.
    pub fn read_into(&self, buffer: &Buffer, at: usize, length: usize, offset: u64) -> Outcome {
        let count = os::pread(self.fd, buffer.at(at), length, offset).named("pread")?;
        check_eq!(count, length, "bytes that pread gave");
        Ok(())
    }

    /// Opens another description of the file.
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

/// Reads a range into a buffer. On a lazy kernel, fails unless all its whole pages have become
/// lazy.
pub fn read_lazily(file: &File, buffer: &Buffer, at: usize, length: usize, offset: u64) -> Outcome {
    let meter = Meter::start()?;
    file.read_into(buffer, at, length, offset)?;
    meter.expect("reads_lazy", 1)?;
    meter.expect("pages_lazy", whole_pages(buffer.at(at), length))
}

/// Makes a file with this content. Returns a descriptor for reading and writing, at offset 0.
pub fn file(name: &[u8], content: &[u8]) -> Outcome<Fd> {
    let fd = ok!(sys::open(name, sys::abi::O_RDWR | sys::abi::O_CREAT | sys::abi::O_TRUNC, 0o644));
    ok!(sys::write_all(fd, content));
    ok!(sys::lseek(fd, 0, sys::abi::SEEK_SET));
    Ok(fd)
}

/// The content of a file.
pub fn content(name: &[u8]) -> Outcome<Vec<u8>> {
    Ok(ok!(user::io::read_file(name)))
}

/// Removes a directory and everything in it.
pub fn remove_tree(path: &[u8]) {
    // A symbolic link is removed itself, its target never.
    if sys::unlink(path).is_ok() {
        return;
    }
    for name in user::fs::list(path).unwrap_or_default() {
        remove_tree(&user::fs::join(path, &name));
    }
    let _ = sys::rmdir(path);
}
