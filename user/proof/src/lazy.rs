//! The kernel's counters and knobs (E1, E3).
//!
//! Linux, the eager oracle, has no `/proc/lazy`. There all expectations about laziness hold, and
//! only the bytes are checked.

use crate::kit::{Named, Outcome};
use crate::{check, check_eq};
use user::prelude::*;
use user::sys::abi;

const SYSTEM: &str = "/proc/lazy";
const OWN: &str = "/proc/self/lazy";

/// Whether this kernel reads lazily at all.
pub fn present() -> bool {
    sys::access(SYSTEM.as_bytes(), 0).is_ok()
}

/// Touches every page of this program, which itself is loaded lazily: afterwards the counters show
/// only what the tests do.
pub fn load_program() {
    #[cfg(target_os = "none")]
    {
        unsafe extern "C" {
            static __executable_start: u8;
        }
        // The ELF header is in the program's first page. Pages between segments may be unmapped.
        const LOAD: u32 = 1;
        const HEADER_BYTES: usize = 56;
        let start = &raw const __executable_start as usize;
        // SAFETY: the fields e_phoff and e_phnum, and then p_type, p_vaddr and p_memsz, of the
        // header that the linker put there.
        let segment = |index: usize| unsafe {
            let header = start + *((start + 32) as *const usize) + index * HEADER_BYTES;
            (
                *(header as *const u32),
                *((header + 16) as *const usize),
                *((header + 40) as *const usize),
            )
        };
        // SAFETY: as above.
        let count = unsafe { *((start + 56) as *const u16) };
        for (_, addr, bytes) in (0..count.into()).map(segment).filter(|(kind, ..)| *kind == LOAD) {
            for page in (addr / crate::kit::PAGE..(addr + bytes).div_ceil(crate::kit::PAGE))
                .map(|page| page * crate::kit::PAGE)
            {
                crate::kit::load(page);
            }
        }
    }
}

/// Reads a small generated file.
pub fn read_text(path: &str) -> Outcome<String> {
    let fd = sys::open(path.as_bytes(), abi::O_RDONLY, 0).named(path)?;
    let mut text = vec![0; 16 << 10];
    let count = sys::read_full(fd, &mut text).named(path);
    sys::close(fd).named(path)?;
    text.truncate(count?);
    String::from_utf8(text).map_err(|_| format!("{path}: not text"))
}

/// The value of a `name: value` line.
pub fn value(text: &str, name: &str) -> Outcome<i64> {
    let line =
        text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    let (_, value) = line.ok_or_else(|| format!("no line `{name}`"))?;
    let number = value.split_whitespace().next().unwrap_or_default();
    number.parse().map_err(|_| format!("`{name}` is no number: {value}"))
}

/// The counters at one moment, to measure their growth since.
pub struct Meter {
    texts: Option<[String; 2]>,
}

/// Whose counter to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own = 0,
    System = 1,
}

impl Meter {
    /// Reads all counters.
    pub fn start() -> Outcome<Self> {
        let texts = if present() { Some([read_text(OWN)?, read_text(SYSTEM)?]) } else { None };
        Ok(Self { texts })
    }

    fn grown(&self, whose: Whose, name: &str) -> Outcome<Option<i64>> {
        let Some(texts) = &self.texts else { return Ok(None) };
        let path = if whose == Whose::Own { OWN } else { SYSTEM };
        let now = value(&read_text(path)?, name)?;
        Ok(Some(now - value(&texts[whose as usize], name)?))
    }

    /// The growth of a counter of this process; `None` on Linux.
    pub fn own(&self, name: &str) -> Outcome<Option<i64>> {
        self.grown(Whose::Own, name)
    }

    /// The growth of a counter of the whole system; `None` on Linux.
    pub fn system(&self, name: &str) -> Outcome<Option<i64>> {
        self.grown(Whose::System, name)
    }

    /// Fails unless this process's counter has grown by exactly `expected`.
    pub fn expect(&self, name: &str, expected: i64) -> Outcome {
        if let Some(grown) = self.own(name)? {
            check_eq!(grown, expected, "growth of {name}");
        }
        Ok(())
    }

    /// Fails unless this process's counter has grown by at least `least`.
    pub fn expect_least(&self, name: &str, least: i64) -> Outcome {
        if let Some(grown) = self.own(name)? {
            check!(grown >= least, "growth of {name}: got {grown}, expected {least} or more");
        }
        Ok(())
    }

    /// Fails unless the whole system's counter has grown by exactly `expected`.
    pub fn expect_system(&self, name: &str, expected: i64) -> Outcome {
        self.expect_system_within(name, expected, expected)
    }

    /// Fails unless the whole system's counter has grown by `least` to `most`.
    pub fn expect_system_within(&self, name: &str, least: i64, most: i64) -> Outcome {
        if let Some(grown) = self.system(name)? {
            check!(
                (least..=most).contains(&grown),
                "growth of {name}: got {grown}, expected {least} to {most}"
            );
        }
        Ok(())
    }
}

/// A changed knob. Dropping it restores the old value.
pub struct Knob {
    path: String,
    before: Option<String>,
}

impl Knob {
    /// Sets a knob of the system. Does nothing on Linux.
    pub fn set(name: &str, value: u64) -> Outcome<Self> {
        let path = format!("/proc/sys/lazy/{name}");
        let before = if present() { Some(read_text(&path)?) } else { None };
        if before.is_some() {
            write_text(&path, &format!("{value}\n"))?;
            check_eq!(read_text(&path)?.trim(), format!("{value}"), "{path} after it was set");
        }
        Ok(Self { path, before })
    }
}

/// Sets both knobs that limit the pages brought by one fault: at random and in sequence.
pub fn fault_around(pages: u64) -> Outcome<[Knob; 2]> {
    Ok([Knob::set("fault_around", pages)?, Knob::set("fault_around_max", pages)?])
}

impl Drop for Knob {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _: Outcome = write_text(&self.path, before);
        }
    }
}

/// Writes a small generated file.
pub fn write_text(path: &str, text: &str) -> Outcome {
    let fd = sys::open(path.as_bytes(), abi::O_WRONLY, 0).named(path)?;
    let written = sys::write_all(fd, text.as_bytes()).named(path);
    sys::close(fd).named(path)?;
    written
}
