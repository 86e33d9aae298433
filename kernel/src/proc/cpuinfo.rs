//! `/proc/cpuinfo`: the processor as CPUID describes it.

use crate::arch;
use crate::mem::{
    OutOfMemory,
    fallible::{self, Text},
};
use alloc::vec::Vec;
use core::fmt::Write;

/// The names of the features in CPUID that programs look for: leaf, register (`eax` is 0), bit.
const FEATURES: &[(&str, u32, usize, u32)] = &[
    ("fpu", 1, 3, 0),
    ("tsc", 1, 3, 4),
    ("msr", 1, 3, 5),
    ("pae", 1, 3, 6),
    ("cx8", 1, 3, 8),
    ("apic", 1, 3, 9),
    ("sep", 1, 3, 11),
    ("cmov", 1, 3, 15),
    ("clflush", 1, 3, 19),
    ("mmx", 1, 3, 23),
    ("fxsr", 1, 3, 24),
    ("sse", 1, 3, 25),
    ("sse2", 1, 3, 26),
    ("syscall", 0x8000_0001, 3, 11),
    ("nx", 0x8000_0001, 3, 20),
    ("lm", 0x8000_0001, 3, 29),
    ("pni", 1, 2, 0),
    ("pclmulqdq", 1, 2, 1),
    ("ssse3", 1, 2, 9),
    ("fma", 1, 2, 12),
    ("cx16", 1, 2, 13),
    ("sse4_1", 1, 2, 19),
    ("sse4_2", 1, 2, 20),
    ("movbe", 1, 2, 22),
    ("popcnt", 1, 2, 23),
    ("aes", 1, 2, 25),
    ("xsave", 1, 2, 26),
    ("avx", 1, 2, 28),
    ("f16c", 1, 2, 29),
    ("rdrand", 1, 2, 30),
    ("hypervisor", 1, 2, 31),
    ("lahf_lm", 0x8000_0001, 2, 0),
    ("abm", 0x8000_0001, 2, 5),
    ("fsgsbase", 7, 1, 0),
    ("bmi1", 7, 1, 3),
    ("avx2", 7, 1, 5),
    ("smep", 7, 1, 7),
    ("bmi2", 7, 1, 8),
    ("erms", 7, 1, 9),
    ("rdseed", 7, 1, 18),
    ("adx", 7, 1, 19),
    ("smap", 7, 1, 20),
];

/// The bytes of registers as text, without what follows the first NUL.
fn text_of(registers: &[u32]) -> Result<Vec<u8>, OutOfMemory> {
    let bytes = registers.iter().flat_map(|register| register.to_le_bytes());
    fallible::collect(bytes.take_while(|&byte| byte != 0))
}

/// `/proc/cpuinfo`: what CPUID says (Intel 64 and IA-32 Architectures Software Developer's Manual,
/// volume 2A). Frequency and cache are not known, and left out.
pub(super) fn text() -> Result<Vec<u8>, OutOfMemory> {
    let [most, ebx, ecx, edx] = arch::cpuid(0);
    let vendor = text_of(&[ebx, edx, ecx])?;
    let [signature, ebx, ..] = arch::cpuid(1);
    let part = |from: u32, bits: u32| signature >> from & ((1 << bits) - 1);
    let family = part(8, 4) + if part(8, 4) == 15 { part(20, 8) } else { 0 };
    let model = part(4, 4) | if family >= 6 { part(16, 4) << 4 } else { 0 };
    let [most_extended, ..] = arch::cpuid(0x8000_0000);
    let mut name = [0; 12];
    if most_extended >= 0x8000_0004 {
        let leaves = [0x8000_0002, 0x8000_0003, 0x8000_0004].map(arch::cpuid);
        name.iter_mut().zip(leaves.as_flattened()).for_each(|(to, from)| *to = *from);
    }
    let name = text_of(&name)?;
    let mut text = Text::default();
    writeln!(text, "processor\t: 0\nvendor_id\t: {}", vendor.escape_ascii())?;
    writeln!(text, "cpu family\t: {family}\nmodel\t\t: {model}")?;
    writeln!(text, "model name\t: {}", name.trim_ascii().escape_ascii())?;
    writeln!(text, "stepping\t: {}\nphysical id\t: 0\nsiblings\t: 1", part(0, 4))?;
    writeln!(text, "core id\t\t: 0\ncpu cores\t: 1\napicid\t\t: {}", ebx >> 24)?;
    writeln!(text, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {most}\nwp\t\t: yes")?;
    write!(text, "flags\t\t:")?;
    for &(feature, leaf, register, bit) in FEATURES {
        let is_known = leaf <= if leaf >= 0x8000_0000 { most_extended } else { most };
        let words = if is_known { arch::cpuid(leaf) } else { [0; 4] };
        if words.get(register).is_some_and(|word| word >> bit & 1 != 0) {
            write!(text, " {feature}")?;
        }
    }
    writeln!(text, "\nclflush size\t: {}\n", (ebx >> 8 & 0xff) * 8)?;
    Ok(text.0)
}
