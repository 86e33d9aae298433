//! `dd [if=FILE] [of=FILE] [bs=N] [count=N] [skip=N] [seek=N] [conv=notrunc,fsync] [status=none]`:
//! copies blocks.
//!
//! Also accepted: `iflag=fullblock`, `iflag=skip_bytes`, `oflag=seek_bytes` and `oflag=append`.

use user::prelude::*;

use sys::abi;
use user::opt::size;
use user::pages::Pages;

/// The operands.
struct Job {
    input: &'static [u8],
    output: &'static [u8],
    block_bytes: usize,
    count: u64,
    skip: u64,
    seek: u64,
    skip_in_bytes: bool,
    seek_in_bytes: bool,
    full_blocks: bool,
    append: bool,
    keep_rest: bool,
    flush: bool,
    quiet: bool,
}

pub fn run(args: &Args) -> i32 {
    let mut job = Job {
        input: b"",
        output: b"",
        block_bytes: 512,
        count: u64::MAX,
        skip: 0,
        seek: 0,
        skip_in_bytes: false,
        seek_in_bytes: false,
        full_blocks: false,
        append: false,
        keep_rest: false,
        flush: false,
        quiet: false,
    };
    for arg in args.iter().skip(1) {
        if job.parse(arg).is_none() {
            eprintln!("dd: {}: not understood", Show(arg));
            return 1;
        }
    }
    match job.copy() {
        Ok(()) => 0,
        Err((path, error)) => complain("dd", path, error),
    }
}

type Copied<T> = core::result::Result<T, (&'static [u8], Errno)>;

impl Job {
    /// Parses one operand.
    fn parse(&mut self, arg: &'static [u8]) -> Option<()> {
        let equals = arg.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&arg[..equals], &arg[equals + 1..]);
        match name {
            b"if" => self.input = value,
            b"of" => self.output = value,
            b"bs" | b"ibs" | b"obs" => {
                self.block_bytes =
                    size(value).filter(|bytes| (1..=1 << 40).contains(bytes))? as usize;
            }
            b"count" => self.count = size(value)?,
            b"skip" => self.skip = size(value)?,
            b"seek" => self.seek = size(value)?,
            b"status" => self.quiet = value == b"none",
            b"conv" | b"iflag" | b"oflag" => {
                for word in value.split(|byte| *byte == b',') {
                    match word {
                        b"notrunc" => self.keep_rest = true,
                        b"fsync" | b"fdatasync" => self.flush = true,
                        b"fullblock" => self.full_blocks = true,
                        b"skip_bytes" => self.skip_in_bytes = true,
                        b"seek_bytes" => self.seek_in_bytes = true,
                        b"append" => self.append = true,
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn copy(&self) -> Copied<()> {
        let input_failed =
            |error| (if self.input.is_empty() { b"standard input" } else { self.input }, error);
        let output_failed =
            |error| (if self.output.is_empty() { b"standard output" } else { self.output }, error);
        let bytes = |count: u64, in_bytes: bool| {
            if in_bytes { Some(count) } else { count.checked_mul(self.block_bytes as u64) }
        };
        let skip_bytes =
            bytes(self.skip, self.skip_in_bytes).ok_or(Errno::EOVERFLOW).map_err(input_failed)?;
        let seek_bytes =
            bytes(self.seek, self.seek_in_bytes).ok_or(Errno::EOVERFLOW).map_err(output_failed)?;
        let input = self.open_input().map_err(input_failed)?;
        let output = self.open_output(seek_bytes).map_err(output_failed)?;
        let mut block = Pages::new(self.block_bytes).map_err(input_failed)?;
        if skip_bytes > 0 && sys::lseek(input, skip_bytes as i64, abi::SEEK_CUR).is_err() {
            discard(input, &mut block, skip_bytes).map_err(input_failed)?;
        }
        let (mut full, mut partial, mut copied) = (0u64, 0u64, 0u64);
        let (mut full_out, mut partial_out) = (0u64, 0u64);
        while full + partial < self.count {
            let read = if self.full_blocks {
                sys::read_full(input, &mut block)
            } else {
                sys::read(input, &mut block)
            };
            let read_bytes = read.map_err(input_failed)?;
            if read_bytes == 0 {
                break;
            }
            let whole = read_bytes == self.block_bytes;
            if whole {
                full += 1
            } else {
                partial += 1
            }
            sys::write_all(output, &block[..read_bytes]).map_err(output_failed)?;
            if whole {
                full_out += 1
            } else {
                partial_out += 1
            }
            copied += read_bytes as u64;
        }
        if self.flush {
            sys::fsync(output).map_err(output_failed)?;
        }
        if output != Fd::STDOUT {
            sys::close(output).map_err(output_failed)?;
        }
        if !self.quiet {
            eprintln!(
                "{full}+{partial} records in\n\
                 {full_out}+{partial_out} records out\n\
                 {copied} bytes copied"
            );
        }
        Ok(())
    }

    fn open_input(&self) -> Result<Fd> {
        if self.input.is_empty() { Ok(Fd::STDIN) } else { sys::open(self.input, abi::O_RDONLY, 0) }
    }

    /// Opens the output, seeks, and truncates it there unless `conv=notrunc` is given.
    fn open_output(&self, seek_bytes: u64) -> Result<Fd> {
        let append = if self.append { abi::O_APPEND } else { 0 };
        let fd = match self.output {
            b"" => Fd::STDOUT,
            path => {
                let cut =
                    if self.keep_rest || self.append || seek_bytes > 0 { 0 } else { abi::O_TRUNC };
                sys::open(path, abi::O_WRONLY | abi::O_CREAT | append | cut, 0o666)?
            }
        };
        if seek_bytes > 0 {
            if !self.keep_rest && fd != Fd::STDOUT {
                sys::ftruncate(fd, ByteCount(seek_bytes))?;
            }
            sys::lseek(fd, seek_bytes as i64, abi::SEEK_CUR)?;
        }
        Ok(fd)
    }
}

/// Reads and discards bytes, for inputs that cannot seek.
fn discard(fd: Fd, block: &mut Pages, mut left_bytes: u64) -> Result<()> {
    while left_bytes > 0 {
        let most = left_bytes.min(block.len() as u64) as usize;
        match sys::read(fd, &mut block[..most])? {
            0 => break,
            count => left_bytes -= count as u64,
        }
    }
    Ok(())
}
