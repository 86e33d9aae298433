//! How a PC is switched off: what ACPI's tables say about the sleeping state S5 (ACPI
//! Specification 6.5, sections 5.2 and 7.4).
//!
//! The value for S5 is in code that only an interpreter could run. But firmware writes it as a
//! plain package of numbers, which is searched for. Tables are input from outside: whatever they
//! hold, the result is an answer or `None`.
#![forbid(unsafe_code)]

/// Bytes of a table's header, and of the root pointer of ACPI 1.0 and 2.0.
const HEADER_BYTES: usize = 36;
const OLD_ROOT_BYTES: usize = 20;
const ROOT_BYTES: usize = 36;
/// No table is longer, except by mistake.
const MAX_TABLE_BYTES: usize = 1 << 20;
/// In the control register: the place of the state's number, and the bit that enters it.
const STATE_SHIFT: u16 = 10;
const ENTER: u16 = 1 << 13;
/// What precedes a number of one byte, and what a package begins with, in AML (section 20.2).
const BYTE_PREFIX: u8 = 0x0a;
const PACKAGE: u8 = 0x12;

/// Physical memory: the bytes at an address, if there are as many.
pub type Memory<'m> = &'m dyn Fn(u64, usize) -> Option<&'m [u8]>;

/// What has to be written to which I/O ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerOff {
    /// Hands the registers to the system, where the firmware still has them: port and byte.
    pub enable: Option<(u16, u8)>,
    /// The control registers and their values, of which most machines have one.
    pub control: [Option<(u16, u16)>; 2],
}

/// Finds out how to switch the machine off, from the address of the root pointer.
pub fn power_off(root: u64, memory: Memory<'_>) -> Option<PowerOff> {
    let fixed = fixed_table(root, memory)?;
    let definitions = [u64_at(fixed, 140), u32_at(fixed, 40).map(u64::from)];
    let definitions = definitions.into_iter().flatten().find(|&address| address != 0)?;
    let states = states(table(definitions, b"DSDT", memory)?)?;
    let port = |offset| u16::try_from(u32_at(fixed, offset)?).ok().filter(|&port| port != 0);
    let control =
        |offset, state: u8| Some((port(offset)?, u16::from(state & 7) << STATE_SHIFT | ENTER));
    let enable = port(48).zip(fixed.get(52).copied().filter(|&byte| byte != 0));
    let control = [control(64, states.0), control(68, states.1)];
    control[0].map(|_| PowerOff { enable, control })
}

/// The fixed description table (FADT).
fn fixed_table<'m>(root: u64, memory: Memory<'m>) -> Option<&'m [u8]> {
    let old = memory(root, OLD_ROOT_BYTES).filter(|root| root.starts_with(b"RSD PTR "))?;
    let is_old = *old.get(15)? < 2;
    let (list, name, width) = if is_old {
        (u64::from(u32_at(old, 16)?), b"RSDT", 4)
    } else {
        (u64_at(memory(root, ROOT_BYTES)?, 24)?, b"XSDT", 8)
    };
    let entries = table(list, name, memory)?.get(HEADER_BYTES..)?.chunks_exact(width);
    entries
        .filter_map(|entry| if is_old { u32_at(entry, 0).map(u64::from) } else { u64_at(entry, 0) })
        .find_map(|address| table(address, b"FACP", memory))
}

/// The table at an address, if it has this name.
fn table<'m>(address: u64, name: &[u8; 4], memory: Memory<'m>) -> Option<&'m [u8]> {
    let header = memory(address, HEADER_BYTES).filter(|header| header.starts_with(name))?;
    let bytes = u32_at(header, 4)? as usize;
    if (HEADER_BYTES..=MAX_TABLE_BYTES).contains(&bytes) { memory(address, bytes) } else { None }
}

/// The numbers of the state S5 for the two registers.
fn states(definitions: &[u8]) -> Option<(u8, u8)> {
    let at = definitions.windows(4).position(|name| name == b"_S5_")?;
    let (first, rest) = definitions.get(at + 4..)?.split_first()?;
    // The upper two bits of a length are the number of its further bytes.
    let further = usize::from(rest.first()? >> 6);
    let (_count, mut numbers) = rest.get(1 + further..)?.split_first()?;
    let mut number = || match numbers {
        [BYTE_PREFIX, number, rest @ ..] | [number @ (0 | 1), rest @ ..] => {
            numbers = rest;
            Some(*number)
        }
        _ => None,
    };
    if *first == PACKAGE { Some((number()?, number()?)) } else { None }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Memory with tables as QEMU has them: the root pointer at 16, the list at 64, the fixed table
    /// at 256, the definitions at 512.
    fn machine(revision: u8) -> Vec<u8> {
        let mut memory = vec![0; 1024];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, b"RSD PTR ");
        put(31, &[revision]);
        put(32, &64_u32.to_le_bytes());
        put(40, &64_u64.to_le_bytes());
        put(64, if revision < 2 { b"RSDT" } else { b"XSDT" });
        put(68, &52_u32.to_le_bytes());
        put(100, &if revision < 2 { 256 << 32 | 512 } else { 512_u64 }.to_le_bytes());
        put(108, &256_u64.to_le_bytes());
        put(256, b"FACP");
        put(260, &244_u32.to_le_bytes());
        put(296, &512_u32.to_le_bytes());
        put(304, &0xb2_u32.to_le_bytes());
        put(308, &[2]);
        put(320, &0x604_u32.to_le_bytes());
        put(512, b"DSDT");
        put(516, &100_u32.to_le_bytes());
        put(560, b"_S5_\x12\x06\x04\x0a\x05\x00\x00\x00");
        memory
    }

    fn found(memory: &[u8]) -> Option<PowerOff> {
        power_off(16, &|address, bytes| memory.get(usize::try_from(address).ok()?..)?.get(..bytes))
    }

    #[test]
    fn the_tables_say_how_a_machine_is_switched_off() {
        let expected =
            PowerOff { enable: Some((0xb2, 2)), control: [Some((0x604, 5 << 10 | 1 << 13)), None] };
        assert_eq!([0, 2].map(|revision| found(&machine(revision))), [Some(expected); 2]);
    }

    #[test]
    fn damaged_tables_are_no_answer_or_another() {
        for revision in [0, 2] {
            let good = machine(revision);
            for at in 0..good.len() {
                assert_eq!(found(&good[..at]).filter(|_| at < 612), None);
                for byte in [0, 1, 0x7f, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = byte;
                    let _ = found(&bad);
                }
            }
        }
        assert_eq!(states(b"_S5_\x12\x06\x04\x0b\x05\x00"), None);
        assert_eq!(states(b"_S5_\x12\x46\x00\x04\x0a\x07\x01"), Some((7, 1)));
        assert_eq!(states(b"_S5_"), None);
    }
}
