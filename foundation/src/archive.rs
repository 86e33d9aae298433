//! Reading tar archives: the initrd and the ramdisk.
//!
//! Format: ustar (POSIX.1-1988) with GNU's long names, as the `tar` crate writes it. An archive is
//! input from outside: whatever it holds, the result is slices of it or an error.

use core::ops::Range;

/// Bytes of a block. Contents are padded to whole blocks.
const BLOCK_BYTES: usize = 512;
/// Bytes of a member's header, right before the contents: one block.
pub const HEADER_BYTES: usize = BLOCK_BYTES;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;

/// The types of headers that hold the next member's name or link target.
const GNU_LONG_NAME: u8 = b'L';
const GNU_LONG_LINK: u8 = b'K';

/// Sloth's own type: a regular file whose pages are on a disk. The contents are numbers of 64 bits,
/// little-endian: the file's size in bytes; then for each run of pages the first page, their
/// number, and the block of the first one. What is in no run is a hole.
pub const PLACED: u8 = b'P';

/// Why an archive cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadArchive<'a> {
    /// The name in the header that is wrong, at most 100 bytes of it.
    pub member: &'a [u8],
    /// What is wrong, in words.
    pub reason: &'static str,
}

/// A member's name, in one or two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberName<'a> {
    /// The directory, or empty where the name has one part.
    pub prefix: &'a [u8],
    /// The rest, or all of it.
    pub name: &'a [u8],
}

impl MemberName<'_> {
    /// Whether this name is `name`, written without a prefix.
    pub fn is(&self, name: &[u8]) -> bool {
        self.prefix.is_empty() && self.name == name
    }
}

/// A member of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The path, as it was written.
    pub name: MemberName<'a>,
    /// What a hard or symbolic link refers to; empty for other types.
    pub link: &'a [u8],
    /// Type and permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Time of the last change, in seconds since 1970.
    pub modified_s: u64,
    /// The type: `b'0'` is a regular file, `b'1'` a hard link, `b'2'` a symbolic link, `b'5'` a
    /// directory.
    pub kind: u8,
    /// The member's contents.
    pub data: &'a [u8],
}

/// The members of an archive, in order. Ends after an error.
#[derive(Clone, Debug)]
pub struct Members<'a>(&'a [u8]);

/// Iterates over an archive without checking it first.
pub fn members(archive: &[u8]) -> Members<'_> {
    Members(archive)
}

/// The contents of the first member of that name; `None` where the archive has none, or is broken
/// before it.
pub fn find<'a>(archive: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    members(archive).map_while(Result::ok).find(|member| member.name.is(name)).map(|it| it.data)
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, BadArchive<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let member = next_member(&mut self.0).transpose();
        if member.as_ref().is_some_and(Result::is_err) {
            self.0 = &[];
        }
        member
    }
}

/// Takes the next member off `rest`; `None` at the archive's end.
fn next_member<'a>(rest: &mut &'a [u8]) -> Result<Option<Member<'a>>, BadArchive<'a>> {
    let (mut long_name, mut long_link) = (None, None);
    loop {
        let Some((header, behind)) = rest.split_first_chunk::<BLOCK_BYTES>() else {
            return Ok(None);
        };
        if header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let name = text(&header[NAME]);
        let bad = |reason| BadArchive { member: name, reason };
        if !is_checksum_right(header) {
            return Err(bad("the header's checksum is wrong"));
        }
        let field = |range: Range<usize>| {
            number(&header[range]).ok_or(bad("a number in the header is invalid"))
        };
        let len_bytes = usize::try_from(field(SIZE)?).map_err(|_| bad("it is too long"))?;
        let data = behind.get(..len_bytes).ok_or(bad("the archive ends in the middle of it"))?;
        let padded = len_bytes.checked_next_multiple_of(BLOCK_BYTES);
        *rest = behind.get(padded.ok_or(bad("it is too long"))?..).unwrap_or_default();
        let prefix = if header[MAGIC] == *b"ustar\0" { text(&header[PREFIX]) } else { b"" };
        match header[TYPE] {
            GNU_LONG_NAME => long_name = Some(MemberName { prefix: b"", name: text(data) }),
            GNU_LONG_LINK => long_link = Some(text(data)),
            kind => {
                return Ok(Some(Member {
                    name: long_name.unwrap_or(MemberName { prefix, name }),
                    link: long_link.unwrap_or_else(|| text(&header[LINK])),
                    mode: field(MODE)? as u32,
                    uid: field(UID)? as u32,
                    gid: field(GID)? as u32,
                    modified_s: field(MODIFIED)?,
                    kind,
                    data,
                }));
            }
        }
    }
}

/// A field of text: up to its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A field with a number: octal digits between blanks and zero bytes.
fn number(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&byte| byte == 0 || byte == b' ').unwrap_or(digits.len());
    digits.get(..end)?.iter().try_fold(0_u64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Whether the header's bytes add up to its checksum, whose own bytes count as blanks.
fn is_checksum_right(header: &[u8; BLOCK_BYTES]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, &byte)| u64::from(if CHECKSUM.contains(&at) { b' ' } else { byte }))
        .sum();
    number(&header[CHECKSUM]) == Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &[u8], kind: u8, size: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut header = [0; BLOCK_BYTES];
        header[..name.len()].copy_from_slice(name);
        for range in [MODE, UID, GID, MODIFIED] {
            header[range.start] = b'7';
        }
        header[SIZE][..size.len()].copy_from_slice(size);
        header[TYPE] = kind;
        header[CHECKSUM].fill(b' ');
        let mut sum = header.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        for at in (CHECKSUM.start..CHECKSUM.start + 6).rev() {
            header[at] = b'0' + (sum & 7) as u8;
            sum >>= 3;
        }
        header[CHECKSUM.start + 6] = 0;
        header
    }

    fn block(text: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..text.len()].copy_from_slice(text);
        block
    }

    #[test]
    fn members_come_in_order_with_long_names() {
        let mut archive = [[0; BLOCK_BYTES]; 8];
        archive[0] = header(b"first", b'0', b"3");
        archive[1] = block(b"abc");
        archive[2] = header(b"././@LongLink", b'L', b"5");
        archive[3] = block(b"long\0");
        archive[4] = header(b"lon", b'5', b"0");
        let bytes = archive.as_flattened();
        let mut members = members(bytes).map(|member| member.unwrap());
        let first = members.next().unwrap();
        assert_eq!((first.name.name, first.data, first.mode), (&b"first"[..], &b"abc"[..], 7));
        let second = members.next().unwrap();
        assert_eq!((second.name.name, second.kind), (&b"long"[..], b'5'));
        assert_eq!(members.next(), None);
        assert_eq!(find(bytes, b"first"), Some(&b"abc"[..]));
        assert_eq!(find(bytes, b"lon"), None);
    }

    #[test]
    fn a_broken_header_ends_the_archive_with_an_error() {
        for size in [&b"1000000"[..], b"9", b"77777777777"] {
            let header = header(b"a", b'0', size);
            let mut members = members(&header);
            assert!(members.next().unwrap().is_err());
            assert_eq!(members.next(), None);
        }
        let mut forged = header(b"a", b'0', b"0");
        forged[0] = b'b';
        assert!(members(&forged).next().unwrap().is_err());
    }
}
