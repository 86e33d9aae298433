//! The processor's memory management unit and its cached translations. On the host, a fake one that
//! walks the same tables.
//!
//! The only place in `mem` that depends on the processor.

#[cfg(target_os = "none")]
mod hardware {
    use crate::mem::{Page, PhysAddr};
    use core::arch::asm;

    /// Address of the root page table in use.
    pub fn current_root() -> PhysAddr {
        let root: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
        PhysAddr(root & !0xfff)
    }

    /// Switches to another address space, and flushes the translations of the old one.
    ///
    /// # Safety
    /// `root` is a root table whose upper half is the kernel's, as long as it is in use.
    pub unsafe fn load_root(root: PhysAddr) {
        // SAFETY: the kernel's half is the same in all tables (the caller's promise), so no mapping
        // that the kernel uses changes.
        unsafe { asm!("mov cr3, {}", in(reg) root.0, options(nostack, preserves_flags)) };
    }

    pub(in crate::mem) fn invalidate_page(root: PhysAddr, page: Page) {
        // Kernel pages are in every root. Translations of other spaces are not cached, because
        // process-context identifiers are not used.
        if root == current_root() || page.0 >= 1 << 35 {
            // SAFETY: flushing a translation is always safe.
            unsafe {
                asm!("invlpg [{}]", in(reg) page.start().0, options(nostack, preserves_flags))
            };
        }
    }

    pub(in crate::mem) fn invalidate_all(root: PhysAddr) {
        if root == current_root() {
            // SAFETY: the root stays the same.
            unsafe { load_root(root) };
        }
    }

    pub(in crate::mem) fn forget(_: PhysAddr) {}
}
#[cfg(target_os = "none")]
pub use hardware::{current_root, load_root};
#[cfg(target_os = "none")]
pub(super) use hardware::{forget, invalidate_all, invalidate_page};

#[cfg(not(target_os = "none"))]
pub use super::host::mmu::{execute, load, store};
#[cfg(not(target_os = "none"))]
pub(super) use super::host::mmu::{forget, invalidate_all, invalidate_page};
