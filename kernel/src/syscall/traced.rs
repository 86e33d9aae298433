//! Tracing of system calls: a line in the log for each call of a traced process, with name,
//! arguments, result, and the cost of a read or write.
//!
//! While any process is traced, every system call passes [`carry_out`]. While none is, a system
//! call costs one more load ([`trace::selector`]).

use super::arguments::vectors;
use super::{table, unknown};
use crate::arch::SavedRegisters;
use crate::file::{IoCaller, namespace};
use crate::mem::{UserAddr, UserSlice, fallible};
use crate::task::Current;
use crate::trace::{self, Bytes, Figures};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use foundation::Errno;
use linux_raw_sys::general as linux;

/// Bytes of a path that are shown, at most.
const MAX_SHOWN: usize = 128;
/// The largest error number.
const MAX_ERRNO: u64 = 4095;

/// Carries out a call with `call`, and logs it if its process is traced.
pub fn carry_out(
    current: &Current,
    arguments: SavedRegisters<'_>,
    call: impl FnOnce() -> u64,
) -> u64 {
    let number = arguments.number();
    let pid = current.pid();
    if !trace::is_traced(pid) {
        return call();
    }
    // Formatted before the call, because exec and sigreturn replace the arguments.
    let shown = shown(current, number, arguments);
    let words = [0, 1, 2, 3].map(|index| arguments.argument(index));
    let buffers = buffers(current, number, words);
    let before = Figures::of(&current.space().counters);
    if matches!(number, EXIT | EXIT_GROUP | EXECVE | RT_SIGRETURN) {
        log::info!("trace {pid}: {shown}");
    }
    if number == EXECVE {
        trace::note_all_gone(pid);
    }
    let result = call();
    match number {
        EXIT | EXIT_GROUP | RT_SIGRETURN => return result,
        EXECVE if result == 0 => return result,
        _ => {}
    }
    let figures = Figures::of(&current.space().counters).since(before);
    let cost = cost(pid, Done { number, words, buffers, result }, figures);
    log::info!("trace {pid}: {shown} = {}{cost}", outcome(result));
    result
}

const READ: u64 = 0;
const WRITE: u64 = 1;
const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const RT_SIGRETURN: u64 = 15;
const PREAD: u64 = 17;
const PWRITE: u64 = 18;
const READV: u64 = 19;
const WRITEV: u64 = 20;
const MREMAP: u64 = 25;
const MADVISE: u64 = 28;
const EXECVE: u64 = 59;
const EXIT: u64 = 60;
const EXIT_GROUP: u64 = 231;
const PREADV: u64 = 295;
const PWRITEV: u64 = 296;

/// The buffers of a read or write, in order. The vector's list is read as the call itself reads it;
/// the buffers are not accessed.
fn buffers(current: &Current, number: u64, [_, address, length, _]: [u64; 4]) -> Vec<Bytes> {
    match number {
        READ | WRITE | PREAD | PWRITE => vec![Bytes { address, length }],
        READV | WRITEV | PREADV | PWRITEV => {
            let Ok(vector) = vectors(current, UserAddr(address), length) else { return Vec::new() };
            let slices = vector.slices().iter();
            let bytes =
                |slice: &UserSlice| Bytes { address: slice.addr().0, length: slice.len() as u64 };
            // Without memory, the call is traced without its buffers.
            fallible::collect(slices.map(bytes)).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Truncates buffers to `count` bytes in total.
fn cut(buffers: &mut Vec<Bytes>, mut count: u64) {
    for buffer in buffers.iter_mut() {
        buffer.length = buffer.length.min(count);
        count -= buffer.length;
    }
    buffers.retain(|buffer| buffer.length > 0);
}

/// A completed call.
struct Done {
    number: u64,
    words: [u64; 4],
    buffers: Vec<Bytes>,
    result: u64,
}

/// Formats the cost of a call in pages and bytes. Records lazy reads, and what happens to their
/// pages.
fn cost(pid: u32, done: Done, figures: Figures) -> String {
    let Done { number, words: [first, second, third, flags], mut buffers, result } = done;
    let mut text = String::new();
    if result <= u64::MAX - MAX_ERRNO {
        cut(&mut buffers, result);
        trace::note_call(pid, &buffers, figures);
        match number {
            READ | PREAD | READV | PREADV if figures.lazy > 0 => {
                if let Some(read) = trace::note_read(pid, &buffers, figures.lazy) {
                    let _ = write!(text, "  read #{read}");
                }
            }
            MMAP if flags as u32 & linux::MAP_FIXED != 0 => {
                trace::note_gone(pid, Bytes { address: first, length: second })
            }
            MADVISE if third as u32 == linux::MADV_DONTNEED => {
                trace::note_gone(pid, Bytes { address: first, length: second })
            }
            MUNMAP => trace::note_gone(pid, Bytes { address: first, length: second }),
            MREMAP if result != first => {
                trace::note_gone(pid, Bytes { address: first, length: second })
            }
            _ => {}
        }
    }
    let counts = [
        (figures.lazy, "pages lazy"),
        (figures.copied, "bytes copied"),
        (figures.referenced, "pages by reference"),
        (figures.fetched, "pages fetched"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, "{}{count} {what}", if text.is_empty() { "  " } else { ", " });
    }
    text
}

/// Formats name and arguments.
fn shown(current: &Current, number: u64, arguments: SavedRegisters<'_>) -> String {
    let Some(call) = table::find(number) else {
        return unknown::name(number)
            .map_or_else(|| format!("call {number}()"), |name| format!("{name}()"));
    };
    let mut text = format!("{}(", call.name);
    for (index, name) in call.arguments.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(
            text,
            "{separator}{}",
            argument(current, call.name, name, arguments.argument(index))
        );
    }
    text.push(')');
    text
}

/// Formats one argument, depending on its name: paths as text, descriptors and lengths as numbers.
/// Buffers are shown as addresses, because reading them could cause page-ins.
fn argument(current: &Current, call: &str, name: &str, value: u64) -> String {
    let takes_two_paths = ["rename", "link", "symlink"].iter().any(|start| call.starts_with(start));
    match name {
        "path" | "source" | "target" => path(current, value),
        "old" | "new" if takes_two_paths => path(current, value),
        "dir" | "old_dir" | "new_dir" if value as i32 == linux::AT_FDCWD => "AT_FDCWD".into(),
        "fd" | "dir" | "old_dir" | "new_dir" | "pid" | "signal" | "status" | "timeout_ms" => {
            format!("{}", value as i32)
        }
        "length" | "count" | "offset" | "bytes" | "set_bytes" => format!("{}", value as i64),
        "mode" => format!("{value:#o}"),
        _ if value < 10 => format!("{value}"),
        _ => format!("{value:#x}"),
    }
}

fn path(current: &Current, address: u64) -> String {
    match current.space().read_string(UserAddr(address), namespace::MAX_PATH) {
        Ok(Some(path)) => format!(
            "\"{}\"",
            path.get(..path.len().min(MAX_SHOWN)).unwrap_or_default().escape_ascii()
        ),
        _ => format!("{address:#x}"),
    }
}

/// Formats a result.
fn outcome(result: u64) -> String {
    match result.wrapping_neg() {
        number @ 1..=MAX_ERRNO => format!("-{number} ({})", Errno(number as u16).text()),
        _ if result < 1 << 20 => format!("{result}"),
        _ => format!("{result:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_are_distinguished() {
        assert_eq!(outcome(3), "3");
        assert_eq!(outcome(0x7fff_0000_1000), "0x7fff00001000");
        assert_eq!(outcome((-2i64) as u64), "-2 (No such file or directory)");
    }
}
