//! The loader: from QEMU's `-kernel` to the contract of `bootloader_api`.
//!
//! QEMU starts it by the PVH protocol: 32-bit protected mode, no paging, a `start_info` that names
//! the memory map and the initrd. The initrd is one tar archive; its first member, `kernel`, is
//! the kernel's ELF, what follows it (from the next page on) is the ramdisk. The loader puts the
//! kernel's segments into frames of their own, maps them with exactly the rights the ELF asks for,
//! adds a stack with a guard page and the mapping of all physical memory, and jumps.
//!
//! What it promises beyond the contract:
//! - no page it maps is writable and executable, and NXE and WP are on before the kernel runs;
//! - nothing lies in memory twice: the loader itself and the kernel's ELF are `Usable` afterwards.
//!   `kernel_addr` and `kernel_len` are therefore 0;
//! - the ramdisk is page-aligned and, unless the kernel asks for a fixed address, seen through the
//!   mapping of physical memory;
//! - the lower half holds one read-only page, the one the jump is made from.
//!
//! A loader that cannot go on says why on COM2 and ends QEMU with code 0x12.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

mod archive;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod handoff;
mod kernel_elf;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod pvh;
mod regions;
#[cfg(target_os = "none")]
mod report;
mod slots;
#[cfg(target_os = "none")]
mod space;

/// Why the loader gave up: a sentence for whoever started QEMU.
type Error = &'static str;

/// Bytes in a frame.
const FRAME_BYTES: u64 = foundation::PAGE_BYTES as u64;

/// Rounds `address` up to a page border; `None` past the end of the address space.
fn align_up(address: u64) -> Option<u64> {
    address.checked_next_multiple_of(FRAME_BYTES)
}

/// Rounds `address` down to a page border.
fn align_down(address: u64) -> u64 {
    address & !(FRAME_BYTES - 1)
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("This is Sloth's loader. It runs in QEMU: see `cargo xtask run`.");
}
