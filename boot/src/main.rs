//! The loader: from QEMU's `-kernel` option to the boot protocol of crate `bootloader_api`.
//!
//! QEMU starts it by the PVH protocol: 32-bit protected mode, no paging, and a `start_info` with
//! the memory map and the initrd. The initrd is one tar archive. Its first member, `kernel`, is the
//! kernel's ELF file; the rest, from the next page on, is the ramdisk. The loader copies the
//! kernel's segments into frames, maps them with exactly the permissions in the ELF file, adds a
//! stack with a guard page and a mapping of all physical memory, and jumps.
//!
//! Guarantees beyond the boot protocol:
//! - no mapped page is both writable and executable, and NXE and WP are on before the kernel runs;
//! - nothing is in memory twice: the loader itself and the kernel's ELF file are `Usable`
//!   afterwards. Therefore `kernel_addr` and `kernel_len` are 0;
//! - the ramdisk is page-aligned and, unless the kernel requests a fixed address, mapped as part of
//!   physical memory;
//! - the lower half has one read-only page, from which the jump is made.
//!
//! On an error, the loader prints the reason on COM2 and ends QEMU with code 0x12.

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

/// Why the loader gave up, as a sentence for the user.
type Error = &'static str;

/// Size of a frame, in bytes.
const FRAME_BYTES: u64 = foundation::PAGE_BYTES as u64;

/// Rounds `address` up to a page boundary; `None` past the end of the address space.
fn align_up(address: u64) -> Option<u64> {
    address.checked_next_multiple_of(FRAME_BYTES)
}

/// Rounds `address` down to a page boundary.
fn align_down(address: u64) -> u64 {
    address & !(FRAME_BYTES - 1)
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("This is Sloth's loader. It runs in QEMU: see `cargo xtask run`.");
}
