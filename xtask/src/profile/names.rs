//! Which program a block of instructions belongs to, and which functions its addresses.
//!
//! All programs have the same addresses, so a program is recognised by its code.

use std::collections::HashMap;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context, Result};
use object::{Object, ObjectSegment};

use super::stacks::Block;
use crate::guest::Guest;
use crate::machine::symbols::each_function;

/// The first address of the kernel's half.
const KERNEL_START: u64 = 1 << 63;

/// A program, by its number; none for code that belongs to no known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// The kernel, in the upper half of all address spaces.
    Kernel,
    /// A program in user mode.
    User(Option<usize>),
}

/// A file with symbols.
struct Binary {
    name: String,
    /// Addresses and contents of what is loaded.
    segments: Vec<(u64, Vec<u8>)>,
    loader: Loader,
}

impl Binary {
    fn read(name: &str, path: &Path) -> Result<Self> {
        let what = || format!("cannot read {}", path.display());
        let bytes = std::fs::read(path).with_context(what)?;
        let file = object::File::parse(&*bytes).with_context(what)?;
        let segment = |segment: object::Segment<'_, '_>| {
            Some((segment.address(), segment.data().ok()?.to_vec()))
        };
        let segments = file.segments().filter_map(segment).collect();
        let loader = Loader::new(path).ok().with_context(what)?;
        Ok(Self { name: name.to_owned(), segments, loader })
    }

    fn contains(&self, block: &Block) -> bool {
        self.segments.iter().any(|(start, bytes)| {
            let at = block.address.checked_sub(*start).and_then(|at| usize::try_from(at).ok());
            let found = at.and_then(|at| bytes.get(at..at.checked_add(block.code.len())?));
            found == Some(&block.code[..])
        })
    }
}

/// The names of the guest's functions.
pub struct Names {
    kernel: Option<Binary>,
    programs: Vec<Binary>,
    known: HashMap<(Program, u64), Vec<String>>,
}

impl Names {
    /// Those of a guest.
    pub fn of(guest: &Guest) -> Result<Self> {
        let programs = guest.program_symbols.iter();
        Ok(Self {
            kernel: Some(Binary::read("kernel", &guest.kernel_symbols)?),
            programs: programs
                .map(|(name, path)| Binary::read(name, path))
                .collect::<Result<_>>()?,
            known: HashMap::new(),
        })
    }

    #[cfg(test)]
    pub fn empty() -> Self {
        Self { kernel: None, programs: Vec::new(), known: HashMap::new() }
    }

    /// The program that a block belongs to.
    pub fn program(&self, block: &Block) -> Program {
        if block.address >= KERNEL_START {
            return Program::Kernel;
        }
        Program::User(self.programs.iter().position(|program| program.contains(block)))
    }

    /// A program's name; `?` for an unknown one.
    pub fn name(&self, program: Program) -> String {
        match (program, self.binary(program)) {
            (Program::Kernel, _) => "kernel".to_owned(),
            (Program::User(_), binary) => {
                binary.map_or_else(|| "?".to_owned(), |binary| binary.name.clone())
            }
        }
    }

    fn binary(&self, program: Program) -> Option<&Binary> {
        match program {
            Program::Kernel => self.kernel.as_ref(),
            Program::User(number) => self.programs.get(number?),
        }
    }

    /// The function of an instruction, last, and before it those that it is inlined into.
    pub fn functions(&mut self, program: Program, address: u64) -> Vec<String> {
        if let Some(known) = self.known.get(&(program, address)) {
            return known.clone();
        }
        let mut functions = Vec::new();
        if let Some(binary) = self.binary(program) {
            each_function(&binary.loader, address, |name, location| {
                functions.insert(0, described(name, location.and_then(|place| place.file)));
            });
        }
        if functions.is_empty() {
            functions.push("?".to_owned());
        }
        self.known.insert((program, address), functions.clone());
        functions
    }
}

/// A function's name. That of a function which is inlined has no path, so its file follows.
fn described(name: &str, file: Option<&str>) -> String {
    let name = shortened(name);
    let has_path = name.starts_with('<') || name.split('<').next().is_some_and(is_path);
    match file {
        Some(file) if !has_path => format!("{name} ({})", end_of(file)),
        _ => name,
    }
}

fn is_path(name: &str) -> bool {
    name.contains("::")
}

/// The end of a file's path, from the package on: the folder above `src` is a package.
fn end_of(file: &str) -> String {
    let parts: Vec<&str> = file.split('/').collect();
    let source = parts.iter().rposition(|part| *part == "src").unwrap_or(parts.len() - 1);
    parts[source.saturating_sub(1)..].join("/").replace(';', ",")
}

/// A function's name without hashes, and without what separates functions and counts.
fn shortened(name: &str) -> String {
    const HASH_DIGITS: usize = 16;
    let is_hash =
        |text: &str| text.len() == HASH_DIGITS && text.bytes().all(|it| it.is_ascii_hexdigit());
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if is_hash(hash) => name,
        _ => name,
    };
    let mut short = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        short.push_str(before);
        rest = match after.split_once(']') {
            Some((hash, behind)) if is_hash(hash) => behind,
            _ => {
                short.push('[');
                after
            }
        };
    }
    short.push_str(rest);
    short.replace(';', ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_hashes() {
        for (long, short) in [
            ("kernel::mem::fault::h0123456789abcdef", "kernel::mem::fault"),
            ("kernel[0123456789abcdef]::fault", "kernel::fault"),
            ("<[u8; 4] as Index[0]>::index", "<[u8, 4] as Index[0]>::index"),
            ("a[", "a["),
        ] {
            assert_eq!(shortened(long), short);
        }
    }

    #[test]
    fn an_inlined_function_has_its_file() {
        let file = Some("/a/kernel/src/mount/read.rs");
        assert_eq!(described("read", file), "read (kernel/src/mount/read.rs)");
        assert_eq!(described("kernel::mount::read", file), "kernel::mount::read");
        assert_eq!(described("put<a::B>", Some("x/a/src/b.rs")), "put<a::B> (a/src/b.rs)");
        assert_eq!(described("<a::B as C>::put", file), "<a::B as C>::put");
        assert_eq!(described("read", None), "read");
        assert_eq!(described("f", Some("main.c")), "f (main.c)");
    }

    /// This program's own code.
    #[test]
    fn functions_are_found_in_a_program() {
        let path = std::env::current_exe().unwrap();
        let binary = Binary::read("xtask", &path).unwrap();
        assert!(binary.segments.iter().any(|(_, bytes)| !bytes.is_empty()));
        let (start, bytes) = binary.segments.iter().find(|(_, bytes)| bytes.len() > 64).unwrap();
        let mut block = Block { address: start + 16, sizes: vec![8], code: bytes[16..24].to_vec() };
        assert!(binary.contains(&block));
        block.code[0] ^= 1;
        assert!(!binary.contains(&block));
        block.address = u64::MAX;
        assert!(!binary.contains(&block));
    }
}
