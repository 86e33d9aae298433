//! What the processor does by itself: translations it remembers. On the host, a fake one that walks
//! the real tables.
//!
//! These are the only places in `mem` that differ between the machine and the host.

#[cfg(target_os = "none")]
mod hardware {
    use crate::mem::{Page, PhysAddr};
    use core::arch::asm;

    /// The root in use.
    pub fn current_root() -> PhysAddr {
        let root: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
        PhysAddr(root & !0xfff)
    }

    /// Changes to another address space; forgets the translations of the one before.
    ///
    /// # Safety
    /// `root` must be a table whose upper half is the kernel's, and stay one while it is in use.
    pub unsafe fn load_root(root: PhysAddr) {
        // SAFETY: the kernel half is the same in all tables (the caller's promise), so that nothing
        // the kernel uses moves.
        unsafe { asm!("mov cr3, {}", in(reg) root.0, options(nostack, preserves_flags)) };
    }

    pub(in crate::mem) fn invalidate_page(root: PhysAddr, page: Page) {
        // Kernel pages are in every root; another space's are not remembered, for there are no
        // process-context identifiers here.
        if root == current_root() || page.0 >= 1 << 35 {
            // SAFETY: forgetting a translation is always safe.
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
