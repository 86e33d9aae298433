//! What a file, and a mapping of it, must hold.

use proof::kit::{Buffer, File, Named, Outcome, PAGE, fill};
use proof::{check, check_eq};
use user::prelude::*;
use user::sys::abi;

/// The signal of an access past the end of the file.
pub const SIGBUS: Option<i32> = Some(abi::SIGBUS as i32);

/// A page's bytes, as in offsets of files.
pub const P: u64 = PAGE as u64;

/// The first bytes of the pattern of a seed, as [`File::make`] writes them.
pub fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fill(&mut bytes, seed, 0);
    bytes
}

/// Where two sequences of bytes differ first, and how often.
pub fn expect_bytes(what: &str, found: &[u8], expected: &[u8]) -> Outcome {
    check_eq!(found.len(), expected.len(), "bytes of {what}");
    let wrong = || found.iter().zip(expected).enumerate().filter(|(_, (a, b))| a != b);
    if let Some((at, (found, expected))) = wrong().next() {
        let count = wrong().count();
        return Err(format!(
            "{what}: byte {at} (page {}) is {found:#04x}, not {expected:#04x}; {count} are wrong",
            at / PAGE
        ));
    }
    Ok(())
}

/// Fails unless the file has these bytes and no others, by its descriptor and by a new one.
pub fn expect_file(file: &File, expected: &[u8]) -> Outcome {
    let another = file.reopen()?;
    for (what, fd) in [("the file", file.fd), ("the file, opened again", another)] {
        let size = sys::fstat(fd).named("fstat")?.st_size;
        check_eq!(size, expected.len() as i64, "size of {what}");
        // Longer than the file: a read ends at its end.
        let mut found = vec![0; expected.len() + PAGE];
        let count = sys::pread(fd, &mut found, FileOffset::ZERO).named("pread")?;
        expect_bytes(what, found.get(..count).unwrap_or_default(), expected)?;
    }
    sys::close(another).named("close")
}

/// Fails unless a mapping of the file from its start on holds these bytes first.
pub fn expect_mapped(map: &Buffer, expected: &[u8]) -> Outcome {
    check!(expected.len() <= map.len_bytes(), "the mapping is shorter than that");
    expect_bytes("the mapping", &map.bytes(0, expected.len()), expected)
}

/// The same of the file and of a mapping.
pub fn expect_both(file: &File, map: &Buffer, expected: &[u8]) -> Outcome {
    expect_mapped(map, expected)?;
    expect_file(file, expected)
}

/// A shared mapping by a descriptor of its own, which is closed before the first access.
pub fn map_anew(file: &File, length: usize) -> Outcome<Buffer> {
    let fd = file.reopen()?;
    let map = Buffer::of_file(fd, length)?;
    sys::close(fd).named("close")?;
    Ok(map)
}
