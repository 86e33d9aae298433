//! The kernel's ELF file, checked once: segments, entry point, and requests to the loader.

use bootloader_api::BootloaderConfig;
use bootloader_api::info::TlsTemplate;
use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::segment::{ProgramHeader, SegmentTable};

use crate::{Error, align_down, align_up};

/// The start of the upper half of the address space. No part of the kernel may be below it.
pub const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

/// Permissions of a segment's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only; never executable or writable.
    Read,
    /// Read and write; never executable.
    Write,
    /// Read and execute; never writable.
    Execute,
}

/// One loadable segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The virtual address of its first byte.
    pub start: u64,
    /// Size in memory, in bytes. Bytes that are not in the file are zero.
    pub memory_bytes: u64,
    /// The segment's bytes in the file.
    pub data: &'a [u8],
    /// The permissions of its pages.
    pub access: Access,
}

impl Segment<'_> {
    /// The page boundary at or before the segment's start.
    pub fn first_page(&self) -> u64 {
        align_down(self.start)
    }

    /// The page boundary at or after the segment's end. Parsing has checked that it exists.
    pub fn end_page(&self) -> u64 {
        align_up(self.start.saturating_add(self.memory_bytes)).unwrap_or(u64::MAX)
    }
}

/// A kernel that is fit to load.
pub struct KernelElf<'a> {
    file: &'a [u8],
    headers: SegmentTable<'a, LittleEndian>,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Its requests to the loader.
    pub config: BootloaderConfig,
    /// Its thread-local storage template, if it has one.
    pub tls: Option<TlsTemplate>,
}

impl<'a> KernelElf<'a> {
    /// Checks `file` and reads everything that the loader needs.
    pub fn parse(file: &'a [u8]) -> Result<Self, Error> {
        let parsed = ElfBytes::<LittleEndian>::minimal_parse(file)
            .map_err(|_| "the kernel is not an ELF for a little-endian machine")?;
        let header = &parsed.ehdr;
        if header.class != elf::file::Class::ELF64 || header.e_machine != abi::EM_X86_64 {
            return Err("the kernel is not for x86_64");
        }
        if header.e_type != abi::ET_EXEC {
            return Err("the kernel is not a static executable at a fixed address");
        }
        let headers = parsed.segments().ok_or("the kernel has no program headers")?;
        let section = parsed
            .section_header_by_name(".bootloader-config")
            .map_err(|_| "the kernel's section headers are broken")?
            .ok_or("the kernel has no `.bootloader-config`: does it use entry_point!?")?;
        let (config, _) =
            parsed.section_data(&section).map_err(|_| "the kernel's configuration is truncated")?;
        let config = BootloaderConfig::deserialize(config)?;
        let tls = headers.iter().find(|header| header.p_type == abi::PT_TLS);
        let tls = tls.map(|header| TlsTemplate {
            start_addr: header.p_vaddr,
            file_size: header.p_filesz,
            mem_size: header.p_memsz,
        });
        let kernel = Self { file, headers, entry: header.e_entry, config, tls };
        kernel.check_segments()?;
        Ok(kernel)
    }

    /// The loadable segments, in the order of the file.
    pub fn segments(&self) -> impl Iterator<Item = Result<Segment<'a>, Error>> + '_ {
        self.headers
            .iter()
            .filter(|header| header.p_type == abi::PT_LOAD && header.p_memsz != 0)
            .map(|header| segment(self.file, &header))
    }

    /// Checks that segments are in the upper half, ascend, and share no page (they would share
    /// permissions).
    fn check_segments(&self) -> Result<(), Error> {
        let mut next_free = UPPER_HALF;
        let mut entry_is_code = false;
        for segment in self.segments() {
            let segment = segment?;
            let end = segment.start.checked_add(segment.memory_bytes).and_then(align_up);
            let end = end.ok_or("a segment of the kernel wraps around")?;
            if segment.first_page() < next_free {
                return Err("the kernel's segments overlap or lie in the lower half");
            }
            if segment.data.len() as u64 > segment.memory_bytes {
                return Err("a segment of the kernel has more bytes than memory");
            }
            entry_is_code |=
                segment.access == Access::Execute && (segment.start..end).contains(&self.entry);
            next_free = end;
        }
        if entry_is_code { Ok(()) } else { Err("the kernel's entry is not in its code") }
    }
}

/// Reads one program header.
fn segment<'a>(file: &'a [u8], header: &ProgramHeader) -> Result<Segment<'a>, Error> {
    let start = usize::try_from(header.p_offset).ok();
    let end =
        header.p_offset.checked_add(header.p_filesz).and_then(|end| usize::try_from(end).ok());
    let data = start.zip(end).and_then(|(start, end)| file.get(start..end));
    let data = data.ok_or("a segment of the kernel lies outside its file")?;
    let access = match (header.p_flags & abi::PF_W != 0, header.p_flags & abi::PF_X != 0) {
        (false, false) => Access::Read,
        (true, false) => Access::Write,
        (false, true) => Access::Execute,
        (true, true) => return Err("a segment of the kernel is writable code"),
    };
    Ok(Segment { start: header.p_vaddr, memory_bytes: header.p_memsz, data, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_not_a_kernel() {
        assert!(KernelElf::parse(&[]).is_err());
        assert!(KernelElf::parse(&[0x7f; 4096]).is_err());
        let mut cut = vec![0; 64];
        cut[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        assert!(KernelElf::parse(&cut).is_err());
    }
}
