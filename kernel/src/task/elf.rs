//! ELF headers of programs, checked once: what to map where. Executables may have fixed addresses
//! or be position-independent, and be static or name an interpreter (the dynamic loader), which is
//! itself an executable.
#![forbid(unsafe_code)]

use crate::arch::USER_END;
use crate::mem::fallible;
use alloc::vec::Vec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};
use foundation::{Errno, FileOffset};

const PAGE_BYTES: u64 = foundation::PAGE_BYTES as u64;
/// Bytes at the start of the file that must contain all headers. All linkers put them there.
pub const HEADER_BYTES: usize = 4096;
/// Load address of a position-independent program: Linux's without randomization, rounded.
const INDEPENDENT_BASE: u64 = 0x5555_5555_4000;
/// Load address of a dynamic loader: far above programs and their heaps, far below the addresses
/// that mmap chooses.
pub const LOADER_BASE: u64 = 0x6fff_0000_0000;
/// Upper bound for the path of a dynamic loader, in bytes with its NUL.
const MAX_LOADER_PATH: u64 = 4096;
/// The lowest address that a program may occupy.
const LOWEST_ADDRESS: u64 = 0x1_0000;
/// Size of a program header, in bytes.
const PROGRAM_HEADER_BYTES: usize = 56;
/// ELIBBAD: the dynamic loader is not usable. Linux's number; the file protocol does not use it.
pub const ELIBBAD: Errno = Errno(80);
/// Upper bound for segments; a program has four or five.
const MAX_SEGMENTS: usize = 64;

/// A part of a program: `file_bytes` from the file, then zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of the first byte.
    pub start: u64,
    /// Size in memory, in bytes.
    pub memory_bytes: u64,
    /// Bytes that come from the file.
    pub file_bytes: u64,
    /// Their offset in the file.
    pub offset: FileOffset,
    /// Whether the program may read it.
    pub readable: bool,
    /// Whether the program may write to it.
    pub writable: bool,
    /// Whether the program may execute it.
    pub executable: bool,
}

impl Segment {
    /// The pages that it touches: the address of the first, and the address after the last.
    pub fn pages(&self) -> (u64, u64) {
        (
            self.start & !(PAGE_BYTES - 1),
            (self.start + self.memory_bytes).next_multiple_of(PAGE_BYTES),
        )
    }
}

/// A program whose headers are sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its segments, ascending and disjoint; neighbours may share a page.
    pub segments: Vec<Segment>,
    /// Address of the first instruction.
    pub entry: u64,
    /// Address of the program headers in memory, for AT_PHDR; 0 if no segment holds them.
    pub headers: u64,
    /// Number of the program headers.
    pub header_count: u16,
    /// Offset and length, with the NUL, of the dynamic loader's path in the file; `None` for a
    /// static program.
    pub loader: Option<(FileOffset, usize)>,
}

impl Program {
    /// The end of its memory, where the heap starts.
    pub fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.pages().1).max().unwrap_or(0)
    }

    /// Reads the headers from the file's first bytes. ENOEXEC if the file is not a program that
    /// this kernel can run.
    pub fn parse(start: &[u8]) -> Result<Self, Errno> {
        Self::parse_at(start, INDEPENDENT_BASE)
    }

    /// The same for a dynamic loader, which has another load address and no loader itself.
    pub fn parse_loader(start: &[u8]) -> Result<Self, Errno> {
        Self::parse_at(start, LOADER_BASE)
            .and_then(|program| if program.loader.is_some() { Err(ELIBBAD) } else { Ok(program) })
    }

    fn parse_at(start: &[u8], base: u64) -> Result<Self, Errno> {
        let bad = |_| Errno::ENOEXEC;
        let (ident, rest) = start.split_at_checked(abi::EI_NIDENT).ok_or(Errno::ENOEXEC)?;
        let header = FileHeader::parse_tail(parse_ident::<LittleEndian>(ident).map_err(bad)?, rest)
            .map_err(bad)?;
        let bias = match header.e_type {
            abi::ET_EXEC => 0,
            abi::ET_DYN => base,
            _ => return Err(Errno::ENOEXEC),
        };
        if header.class != Class::ELF64
            || header.e_machine != abi::EM_X86_64
            || usize::from(header.e_phentsize) != PROGRAM_HEADER_BYTES
        {
            return Err(Errno::ENOEXEC);
        }
        let first = usize::try_from(header.e_phoff).map_err(|_| Errno::ENOEXEC)?;
        let table = start
            .get(first..)
            .and_then(|rest| rest.get(..usize::from(header.e_phnum) * PROGRAM_HEADER_BYTES));
        let table = SegmentTable::new(LittleEndian, Class::ELF64, table.ok_or(Errno::ENOEXEC)?);
        let entry = bias + header.e_entry.min(USER_END);
        let mut program = Self {
            segments: Vec::new(),
            entry,
            headers: 0,
            header_count: header.e_phnum,
            loader: None,
        };
        for header in table.iter() {
            match header.p_type {
                abi::PT_INTERP if (2..=MAX_LOADER_PATH).contains(&header.p_filesz) => {
                    program.loader = Some((FileOffset(header.p_offset), header.p_filesz as usize));
                }
                abi::PT_INTERP => return Err(Errno::ENOEXEC),
                abi::PT_LOAD if header.p_memsz > 0 => program.add(&header, bias)?,
                _ => {}
            }
        }
        let holder = program.segments.iter().find(|segment| {
            let offset = segment.offset.0;
            let end = offset + segment.file_bytes;
            offset <= header.e_phoff
                && header.e_phoff + (table.len() * PROGRAM_HEADER_BYTES) as u64 <= end
        });
        program.headers =
            holder.map_or(0, |segment| segment.start + header.e_phoff - segment.offset.0);
        let is_code = |segment: &Segment| {
            segment.executable && program.entry.wrapping_sub(segment.start) < segment.memory_bytes
        };
        if program.segments.iter().any(is_code) { Ok(program) } else { Err(Errno::ENOEXEC) }
    }

    /// Adds a segment. ENOEXEC unless it is in user memory, after the previous one, and congruent
    /// with its offset in the file.
    fn add(&mut self, header: &ProgramHeader, bias: u64) -> Result<(), Errno> {
        let flag = |flag| header.p_flags & flag != 0;
        let start = header.p_vaddr.checked_add(bias).ok_or(Errno::ENOEXEC)?;
        let end = start
            .checked_add(header.p_memsz)
            .filter(|&end| end <= USER_END)
            .ok_or(Errno::ENOEXEC)?;
        let file_end =
            header.p_offset.checked_add(header.p_filesz).filter(|&end| i64::try_from(end).is_ok());
        let previous =
            self.segments.last().map_or(LOWEST_ADDRESS, |last| last.start + last.memory_bytes);
        let sound = start >= previous
            && start < end
            && file_end.is_some()
            && header.p_filesz <= header.p_memsz;
        if !sound
            || !(start ^ header.p_offset).is_multiple_of(PAGE_BYTES)
            || self.segments.len() == MAX_SEGMENTS
        {
            return Err(Errno::ENOEXEC);
        }
        fallible::reserve(&mut self.segments, 1)?;
        self.segments.push(Segment {
            start,
            memory_bytes: header.p_memsz,
            file_bytes: header.p_filesz,
            offset: FileOffset(header.p_offset),
            readable: flag(abi::PF_R),
            writable: flag(abi::PF_W),
            executable: flag(abi::PF_X),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kind: u16, segments: &[(u32, u32, [u64; 4])]) -> Vec<u8> {
        let mut file = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend(kind.to_le_bytes());
        file.extend(abi::EM_X86_64.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        for word in [0x40_1000u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for &(kind, flags, [offset, address, file_bytes, memory_bytes]) in segments {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [offset, address, address, file_bytes, memory_bytes, 4096] {
                file.extend(word.to_le_bytes());
            }
        }
        file
    }

    const RX: u32 = abi::PF_R | abi::PF_X;
    const RW: u32 = abi::PF_R | abi::PF_W;

    #[test]
    fn a_static_program_is_read() {
        let file = program(
            abi::ET_EXEC,
            &[
                (abi::PT_LOAD, abi::PF_R, [0, 0x40_0000, 0x500, 0x500]),
                (abi::PT_LOAD, RX, [0x1000, 0x40_1000, 0x800, 0x800]),
                (abi::PT_LOAD, RW, [0x1800, 0x40_2800, 0x10, 0x9000]),
            ],
        );
        let program = Program::parse(&file).unwrap();
        assert_eq!(program.entry, 0x40_1000);
        assert_eq!((program.headers, program.header_count), (0x40_0040, 3));
        assert_eq!(program.segments[2].pages(), (0x40_2000, 0x40_c000));
        assert_eq!(program.end(), 0x40_c000);
    }

    #[test]
    fn q4_segments_are_bounded() {
        let segments = |count: u64| -> Vec<_> {
            let at = |number| [0x1000, 0x40_1000 + number * 0x1000, 0x10, 0x1000];
            (0..count).map(|number| (abi::PT_LOAD, RX, at(number))).collect()
        };
        let most = Program::parse(&program(abi::ET_EXEC, &segments(64))).unwrap();
        assert_eq!(most.segments.len(), MAX_SEGMENTS);
        let more = Program::parse(&program(abi::ET_EXEC, &segments(65)));
        assert_eq!(more.err(), Some(Errno::ENOEXEC));
    }

    #[test]
    fn a_position_independent_program_is_moved_as_a_whole() {
        let file = program(abi::ET_DYN, &[(abi::PT_LOAD, RX, [0, 0, 0x40_2000, 0x40_2000])]);
        let program = Program::parse(&file).unwrap();
        assert_eq!(program.entry - program.segments[0].start, 0x40_1000);
        assert_eq!(program.headers, program.segments[0].start + 64);
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        let code = (abi::PT_LOAD, RX, [0x1000, 0x40_1000, 0x800, 0x800]);
        let file =
            program(abi::ET_EXEC, &[(abi::PT_INTERP, abi::PF_R, [0x318, 0x318, 28, 28]), code]);
        assert_eq!(Program::parse(&file).unwrap().loader, Some((FileOffset(0x318), 28)));
        assert_eq!(Program::parse_loader(&file), Err(ELIBBAD));
        let loader = Program::parse_loader(&program(
            abi::ET_DYN,
            &[(abi::PT_LOAD, RX, [0, 0, 0x40_2000, 0x40_2000])],
        ))
        .unwrap();
        assert_eq!(loader.segments[0].start, LOADER_BASE);
    }

    #[test]
    fn x5_a_broken_program_is_refused() {
        let code = (abi::PT_LOAD, RX, [0x1000, 0x40_1000, 0x800, 0x800]);
        let good = program(abi::ET_EXEC, &[code]);
        assert!(Program::parse(&good).is_ok());
        for cut in 0..good.len() {
            assert!(Program::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        let bad = [
            (abi::PT_LOAD, RX, [0x1000, u64::MAX - 0xfff, 0x800, 0x800]),
            (abi::PT_LOAD, RX, [0x1000, USER_END - 0x1000, 0x800, 0x2000]),
            (abi::PT_LOAD, RX, [0x1000, 0x1000, 0x800, 0x800]),
            (abi::PT_LOAD, RX, [0x1234, 0x40_1000, 0x800, 0x800]),
            (abi::PT_LOAD, RX, [0x1000, 0x40_1000, 0x801, 0x800]),
            (abi::PT_LOAD, RX, [u64::MAX - 0xfff, 0x40_1000, 0x800, 0x800]),
            (abi::PT_LOAD, RX, [0x1000, 0x40_1000, 0x800, u64::MAX]),
            (abi::PT_LOAD, RW, [0x1000, 0x40_1000, 0x800, 0x800]),
            (abi::PT_INTERP, RX, [0x1000, 0x40_1000, 1, 1]),
            (abi::PT_INTERP, RX, [0x1000, 0x40_1000, 0x1001, 0x1001]),
        ];
        for segment in bad {
            assert!(Program::parse(&program(abi::ET_EXEC, &[segment])).is_err(), "{segment:x?}");
            assert!(
                Program::parse(&program(abi::ET_EXEC, &[code, segment])).is_err()
                    || segment.0 == abi::PT_LOAD,
                "{segment:x?}"
            );
        }
        assert!(Program::parse(&program(abi::ET_EXEC, &[code, code])).is_err(), "overlapping");
        assert!(Program::parse(&program(abi::ET_REL, &[code])).is_err());
    }
}
