//! What kind of file an executable one is: an ELF program, a shared library, or a script.
//!
//! The layout is that of the System V ABI, chapters "Object Files" and "Program Loading".

/// Bytes at a file's start that are enough for its kind: program headers included.
pub const START_BYTES: u64 = 64 << 10;

/// The kind of a file that may be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A program for x86_64.
    Program,
    /// A script, with the words after `#!`.
    Script(Vec<String>),
    /// A shared library, which is data of the programs.
    Library,
    /// Something that Linux would not start here, and why.
    Other(&'static str),
}

/// Program header types.
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
/// Entry of the dynamic section with further flags, and the flag of a program.
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;

/// Finds the kind of a file from its first bytes.
pub fn kind(start: &[u8]) -> Kind {
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let words = String::from_utf8_lossy(line);
        return Kind::Script(words.split_whitespace().map(str::to_owned).collect());
    }
    if !start.starts_with(b"\x7fELF") {
        return Kind::Other("neither an ELF program nor a script with `#!`");
    }
    // Class: 64 bits. Machine: x86-64.
    if start.get(4) != Some(&2) || number(start, 18, 2) != Some(62) {
        return Kind::Other("a program for another processor");
    }
    match number(start, 16, 2) {
        Some(2) => Kind::Program,
        Some(3) if is_position_independent_program(start) => Kind::Program,
        Some(3) => Kind::Library,
        _ => Kind::Other("an object file"),
    }
}

/// Whether a file of the type of shared libraries is a program: it names a dynamic loader, or has
/// the flag of a program.
fn is_position_independent_program(start: &[u8]) -> bool {
    let (Some(table), Some(size), Some(count)) =
        (number(start, 32, 8), number(start, 54, 2), number(start, 56, 2))
    else {
        return false;
    };
    (0..count).any(|index| {
        let at = table.saturating_add(index * size);
        match number(start, at, 4).map(|kind| kind as u32) {
            Some(PT_INTERP) => true,
            Some(PT_DYNAMIC) => {
                let (Some(from), Some(bytes)) = (
                    number(start, at.saturating_add(8), 8),
                    number(start, at.saturating_add(32), 8),
                ) else {
                    return false;
                };
                (0..bytes / 16).any(|entry| {
                    let at = from.saturating_add(entry * 16);
                    number(start, at, 8) == Some(DT_FLAGS_1)
                        && number(start, at.saturating_add(8), 8)
                            .is_some_and(|flags| flags & DF_1_PIE != 0)
                })
            }
            _ => false,
        }
    })
}

/// The number of `bytes` bytes at an offset, if it is there.
fn number(start: &[u8], at: u64, bytes: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = start.get(at..at.checked_add(bytes)?)?;
    Some(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of a type, with one program header.
    fn elf(file_type: u8, header_type: u8, class: u8) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        bytes[..5].copy_from_slice(&[0x7f, b'E', b'L', b'F', class]);
        (bytes[16], bytes[18], bytes[32], bytes[54], bytes[56]) = (file_type, 62, 64, 56, 1);
        bytes[64] = header_type;
        // The dynamic section: one entry, of flags.
        (bytes[64 + 8], bytes[64 + 32]) = (160, 16);
        bytes[160..168].copy_from_slice(&DT_FLAGS_1.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_and_libraries_are_distinguished() {
        assert_eq!(kind(&elf(2, 1, 2)), Kind::Program);
        assert_eq!(kind(&elf(3, 3, 2)), Kind::Program, "with a dynamic loader");
        assert_eq!(kind(&elf(3, 2, 2)), Kind::Library);
        let mut static_pie = elf(3, 2, 2);
        static_pie[168..176].copy_from_slice(&DF_1_PIE.to_le_bytes());
        assert_eq!(kind(&static_pie), Kind::Program);
        assert!(matches!(kind(&elf(2, 1, 1)), Kind::Other(_)), "32 bits");
        assert!(matches!(kind(&elf(1, 1, 2)), Kind::Other(_)), "an object file");
        assert!(matches!(kind(&elf(3, 3, 2)[..60]), Kind::Library), "truncated");
    }

    #[test]
    fn a_script_names_its_interpreter() {
        let words =
            |words: &[&str]| Kind::Script(words.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(kind(b"#! /bin/sh -e\nexit"), words(&["/bin/sh", "-e"]));
        assert_eq!(kind(b"#!/bin/sh"), words(&["/bin/sh"]));
        assert!(matches!(kind(b"text"), Kind::Other(_)));
        assert!(matches!(kind(b""), Kind::Other(_)));
    }

    #[test]
    fn this_test_is_a_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(kind(&own), Kind::Program);
    }
}
