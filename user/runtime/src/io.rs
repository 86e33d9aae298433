//! Output: a buffered writer, print macros, display of names that may not be UTF-8; and reading of
//! whole files.

use crate::prelude::*;
use core::fmt;

/// Bytes that [`Out`] buffers before it writes.
const GATHER_BYTES: usize = 32 << 10;

/// A buffered writer. It keeps the first error and reports it in [`Out::finish`].
pub struct Out {
    fd: Fd,
    gathered: Vec<u8>,
    result: Result<()>,
}

impl Out {
    /// A writer to `fd`.
    pub fn new(fd: Fd) -> Out {
        Out { fd, gathered: Vec::new(), result: Ok(()) }
    }

    /// A writer to standard output.
    pub fn standard() -> Out {
        Out::new(Fd::STDOUT)
    }

    /// Appends bytes. Large ones are written at once, uncopied.
    pub fn put(&mut self, bytes: &[u8]) {
        if bytes.len() >= GATHER_BYTES {
            self.flush();
            self.result = self.result.and_then(|()| sys::write_all(self.fd, bytes));
            return;
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER_BYTES {
            self.flush();
        }
    }

    /// Writes the buffered bytes.
    pub fn flush(&mut self) {
        if self.result.is_ok() {
            self.result = sys::write_all(self.fd, &self.gathered);
        }
        self.gathered.clear();
    }

    /// Whether an earlier write failed, so that further output is useless.
    pub fn failed(&self) -> bool {
        self.result.is_err()
    }

    /// Flushes, and prints an error on behalf of `program` if any write failed. Returns the exit
    /// status.
    #[must_use]
    pub fn finish(mut self, program: &str, status: i32) -> i32 {
        self.flush();
        match self.result {
            Ok(()) => status,
            Err(error) => {
                eprintln!("{program}: write error: {error}");
                1
            }
        }
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// Writes formatted text in one call, so that lines of several processes do not mix.
pub fn print_to(fd: Fd, arguments: fmt::Arguments<'_>) {
    let mut text = String::new();
    let _ = fmt::Write::write_fmt(&mut text, arguments);
    let _ = sys::write_all(fd, text.as_bytes());
}

/// Prints to standard output.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        $crate::io::print_to($crate::sys::Fd::STDOUT, format_args!($($argument)*))
    };
}

/// Prints a line to standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::print!("{}\n", format_args!($($argument)*)) };
}

/// Prints to standard error.
#[macro_export]
macro_rules! eprint {
    ($($argument:tt)*) => {
        $crate::io::print_to($crate::sys::Fd::STDERR, format_args!($($argument)*))
    };
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => { $crate::eprint!("{}\n", format_args!($($argument)*)) };
}

/// Displays bytes as UTF-8, with replacement characters for invalid ones.
pub struct Show<'a>(pub &'a [u8]);

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// Prints `program: subject: error` to standard error and returns the exit status 1.
pub fn complain(program: &str, subject: &[u8], error: Errno) -> i32 {
    eprintln!("{program}: {}: {error}", Show(subject));
    1
}

/// Reads from `fd` to the end. For small files only: the result is in memory.
pub fn read_to_end(fd: Fd) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let filled = bytes.len();
        bytes.resize(filled + 4096.max(filled), 0);
        let count = sys::read_full(fd, &mut bytes[filled..])?;
        bytes.truncate(filled + count);
        if count == 0 {
            return Ok(bytes);
        }
    }
}

/// The contents of a small file.
pub fn read_file(path: &[u8]) -> Result<Vec<u8>> {
    let fd = sys::open(path, sys::abi::O_RDONLY | sys::abi::O_CLOEXEC, 0)?;
    let bytes = read_to_end(fd);
    let _ = sys::close(fd);
    bytes
}

/// Opens a file to read, where `-` is standard input.
pub fn open_input(path: &[u8]) -> Result<Fd> {
    if path == b"-" { Ok(Fd::STDIN) } else { sys::open(path, sys::abi::O_RDONLY, 0) }
}

/// Reads a file in large page-aligned blocks and calls `each` with every block, until `each`
/// returns false.
pub fn for_each_piece(fd: Fd, mut each: impl FnMut(&[u8]) -> bool) -> Result<()> {
    let mut buffer = crate::pages::Pages::new(crate::pages::COPY_BYTES)?;
    loop {
        match sys::read(fd, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if !each(&buffer[..count]) {
                    return Ok(());
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs `each` on the named inputs, or on standard input if there are none. Reports inputs that
/// cannot be opened or read, and returns the exit status.
pub fn for_each_input(
    program: &str,
    paths: &[&[u8]],
    mut each: impl FnMut(&[u8], Fd) -> Result<()>,
) -> i32 {
    let mut status = 0;
    let standard: &[&[u8]] = &[b"-"];
    for path in if paths.is_empty() { standard } else { paths } {
        let result = open_input(path).and_then(|fd| {
            let result = each(path, fd);
            if fd != Fd::STDIN {
                let _ = sys::close(fd);
            }
            result
        });
        if let Err(error) = result {
            status = complain(program, path, error);
        }
    }
    status
}
