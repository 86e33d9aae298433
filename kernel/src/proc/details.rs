//! Texts about one process that few programs read: limits, mappings in detail, descriptors.

use crate::file::{OpenFile, ProcessView, SignalSets, namespace};
use crate::mem::{
    OutOfMemory, PAGE_BYTES,
    fallible::{Text, extend},
};
use alloc::vec::Vec;
use core::fmt::{self, Display, Write};

/// A limit: its name, its unit, and its number.
const LIMITS: [(&str, &str, u32); 16] = [
    ("Max cpu time", "seconds", 0),
    ("Max file size", "bytes", 1),
    ("Max data size", "bytes", 2),
    ("Max stack size", "bytes", 3),
    ("Max core file size", "bytes", 4),
    ("Max resident set", "bytes", 5),
    ("Max processes", "processes", 6),
    ("Max open files", "files", 7),
    ("Max locked memory", "bytes", 8),
    ("Max address space", "bytes", 9),
    ("Max file locks", "locks", 10),
    ("Max pending signals", "signals", 11),
    ("Max msgqueue size", "bytes", 12),
    ("Max nice priority", "", 13),
    ("Max realtime priority", "", 14),
    ("Max realtime timeout", "us", 15),
];

/// A limit's value as text.
struct Value(u64);

impl Display for Value {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => to.pad("unlimited"),
            value => value.fmt(to),
        }
    }
}

/// `limits`.
pub(super) fn limits(view: &ProcessView) -> Result<Vec<u8>, OutOfMemory> {
    let mut text = Text::default();
    writeln!(text, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units")?;
    for (name, unit, number) in LIMITS {
        let Ok(limit) = view.account.limits.load(number) else { continue };
        let (soft, hard) = (Value(limit.soft), Value(limit.hard));
        writeln!(text, "{name:<25} {soft:<20} {hard:<20} {unit:<10}")?;
    }
    Ok(text.0)
}

/// `mountinfo`.
pub(super) fn mount_info() -> Result<Vec<u8>, OutOfMemory> {
    let mut text = Text::default();
    for (number, mount) in namespace::root().mounts().iter().enumerate() {
        let device = mount.filesystem.device().unwrap_or(number as u64 + 1);
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff);
        write!(text, "{} 0 {major}:{minor} / ", number + 1)?;
        escape(&mut text, &mount.path)?;
        write!(text, " rw,relatime - {} ", mount.filesystem.type_name())?;
        escape(&mut text, &mount.source)?;
        writeln!(text, " rw")?;
    }
    Ok(text.0)
}

/// A name with blanks as octal escapes.
pub(super) fn escape(text: &mut Text, name: &[u8]) -> Result<(), OutOfMemory> {
    for &byte in name {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => write!(text, "\\{byte:03o}")?,
            byte => extend(&mut text.0, &[byte])?,
        }
    }
    Ok(())
}

/// `fdinfo/N`.
pub(super) fn descriptor(file: &OpenFile) -> Result<Vec<u8>, OutOfMemory> {
    let mut text = Text::default();
    let (position, flags) = (file.known_position(), file.status().linux_flags());
    writeln!(text, "pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t0", position.0)?;
    Ok(text.0)
}

/// What follows the line of a mapping in `smaps`. Of `size` bytes, `resident` are in memory.
pub(super) fn mapping(
    text: &mut Text,
    size: u64,
    resident: u64,
    flags: &str,
) -> Result<(), OutOfMemory> {
    let kib = |bytes: u64| bytes / 1024;
    let page = kib(PAGE_BYTES as u64);
    let lines = [
        ("Size", kib(size)),
        ("KernelPageSize", page),
        ("MMUPageSize", page),
        ("Rss", kib(resident)),
        ("Pss", kib(resident)),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", 0),
        ("Private_Dirty", kib(resident)),
        ("Referenced", kib(resident)),
        ("Anonymous", kib(resident)),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", 0),
    ];
    for (name, kib) in lines {
        // The colon belongs to the name, which is padded.
        writeln!(text, "{name}:{kib:>width$} kB", width = 23 - name.len())?;
    }
    writeln!(text, "VmFlags: {flags}")?;
    Ok(())
}

/// The last lines of `status`: signals, capabilities and processors. Everybody is root and has all
/// capabilities.
pub(super) fn capabilities(text: &mut Text, view: &ProcessView) -> Result<(), OutOfMemory> {
    let SignalSets { pending, shared, blocked, ignored, caught } = view.signals;
    let limit = view.account.limits.load(11).map_or(0, |limit| limit.soft);
    writeln!(text, "SigQ:\t0/{limit}")?;
    let sets = [
        ("SigPnd", pending),
        ("ShdPnd", shared),
        ("SigBlk", blocked),
        ("SigIgn", ignored),
        ("SigCgt", caught),
        ("CapInh", 0),
        ("CapPrm", ALL_CAPABILITIES),
        ("CapEff", ALL_CAPABILITIES),
        ("CapBnd", ALL_CAPABILITIES),
        ("CapAmb", 0),
    ];
    for (name, set) in sets {
        writeln!(text, "{name}:\t{set:016x}")?;
    }
    write!(text, "NoNewPrivs:\t0\nSeccomp:\t0\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n")?;
    write!(text, "Mems_allowed:\t1\nMems_allowed_list:\t0\n")?;
    write!(text, "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n")?;
    Ok(())
}

/// The capabilities up to number 40, the last one on Linux.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;
