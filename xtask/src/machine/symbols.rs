//! Names for the addresses in a backtrace: the kernel's log with functions, files and lines added.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use addr2line::{Loader, Location};

/// How a line of a backtrace begins.
const MARK: &[u8] = b"  0x";
/// Bytes of the longest line of a backtrace.
const MAX_LINE_BYTES: usize = 32;

/// Adds names to the lines of a backtrace that pass through it. All other bytes pass unchanged.
pub struct Symbols {
    /// The kernel with its symbols.
    kernel: PathBuf,
    /// Its debug information, once a backtrace has needed it; `None` if it cannot be read.
    loader: Option<Option<Loader>>,
    /// The start of the current line.
    line: Vec<u8>,
}

impl Symbols {
    /// For a kernel with symbols.
    pub fn of(kernel: &Path) -> Self {
        Self { kernel: kernel.to_path_buf(), loader: None, line: Vec::new() }
    }

    /// Passes bytes on.
    pub fn pass(&mut self, bytes: &[u8], to: &mut dyn Write) -> io::Result<()> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, end) = match part {
                [text @ .., b'\n'] => (text, &part[text.len()..]),
                text => (text, &b""[..]),
            };
            to.write_all(text)?;
            let space = (MAX_LINE_BYTES + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(space)]);
            if end.is_empty() {
                continue;
            }
            if let Some(address) = address(&self.line) {
                to.write_all(self.name(address).as_bytes())?;
            }
            self.line.clear();
            to.write_all(end)?;
        }
        Ok(())
    }

    /// The function that contains an instruction, and those that it is inlined into.
    fn name(&mut self, address: u64) -> String {
        let kernel = &self.kernel;
        let root = kernel.ancestors().find(|folder| folder.ends_with("target"));
        let root = root.and_then(Path::parent).unwrap_or(Path::new(""));
        let loader = self.loader.get_or_insert_with(|| Loader::new(kernel).ok());
        let mut text = String::new();
        let Some(loader) = loader else { return text };
        each_function(loader, address, |name, location| {
            text += &format!(" {name}");
            if let Some(location) = location
                && let (Some(file), Some(line)) = (location.file, location.line)
            {
                text += &format!(" ({}:{line})", shown(file, root));
            }
        });
        text
    }
}

/// Calls `see` with the name and the place of the function that contains an instruction, and then
/// of each one that it is inlined into. The name is `?` where it is unknown.
pub fn each_function(
    loader: &Loader,
    address: u64,
    mut see: impl FnMut(&str, Option<Location<'_>>),
) {
    let Ok(mut frames) = loader.find_frames(address) else { return };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
        see(name.as_deref().unwrap_or("?"), frame.location);
    }
}

/// A file's path, relative to the project's folder if it is in there.
fn shown<'a>(file: &'a str, root: &Path) -> &'a str {
    Path::new(file).strip_prefix(root).ok().and_then(Path::to_str).unwrap_or(file)
}

/// The address of the call in a line of a backtrace, which shows the address after it.
fn address(line: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(line.strip_prefix(MARK)?).ok()?;
    u64::from_str_radix(digits.trim_end(), 16).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(pieces: &[&[u8]]) -> String {
        // This program's own symbols.
        let mut symbols = Symbols::of(&std::env::current_exe().unwrap());
        let mut output = Vec::new();
        pieces.iter().for_each(|piece| symbols.pass(piece, &mut output).unwrap());
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn only_lines_of_a_backtrace_change() {
        let text = "a line\n 0x1\n  0xnumber\n  0x1 and more\nno end";
        assert_eq!(passed(&[text.as_bytes()]), text);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(passed(&pieces), text);
    }

    #[test]
    fn an_address_has_the_line_of_its_call() {
        assert_eq!(address(b"  0xffffffff80001235"), Some(0xffff_ffff_8000_1234));
        assert_eq!(address(b"  0x0"), None);
        assert_eq!(address(b"0x10"), None);
    }
}
