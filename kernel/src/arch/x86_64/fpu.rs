//! x87, SSE and AVX state of threads.
//!
//! The kernel itself does not use these registers, so they keep the running thread's values while
//! it is in the kernel. A thread switch saves and restores them.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use x86_64::registers::control::{Cr4, Cr4Flags};

/// x87, SSE, AVX and the three parts of AVX-512: enabled where the CPU has them.
const WANTED_FEATURES: u64 = 0b1110_0111;
/// x87 and SSE: the content of FXSAVE's image and of the first part of XSAVE's.
const LEGACY_FEATURES: u64 = 0b11;
/// Size of FXSAVE's image, in bytes.
const LEGACY_BYTES: usize = 512;
/// Size of the header after it: a bitmap of the parts that are present (8 bytes), then zeros.
const HEADER_BYTES: usize = 64;
const ALIGN_BYTES: usize = 64;
/// The part of the image that the CPU neither reads nor writes.
pub const SOFTWARE_BYTES: Range<usize> = 464..LEGACY_BYTES;
/// The control words of a starting program: all exceptions masked, extended precision, round to
/// nearest.
const INITIAL_FCW: u16 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;
/// Offsets of MXCSR and of the mask of its valid bits in the image.
const MXCSR_OFFSET: usize = 24;
const MXCSR_MASK_OFFSET: usize = 28;
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;

/// XCR0, or 0 if the CPU has no XSAVE.
static FEATURES: AtomicU64 = AtomicU64::new(0);
static STATE_BYTES: AtomicUsize = AtomicUsize::new(LEGACY_BYTES);

pub(super) unsafe fn start() {
    const XSAVE: u32 = 1 << 26;
    if __cpuid(1).ecx & XSAVE == 0 {
        return;
    }
    let supported = __cpuid_count(13, 0);
    let mut features =
        (u64::from(supported.edx) << 32 | u64::from(supported.eax)) & WANTED_FEATURES;
    if features & 0b1110_0100 != 0b1110_0100 {
        // AVX-512 requires all its parts, and AVX.
        features &= 0b111;
    }
    // SAFETY: the CPU has XSAVE and these features. From now on, the state of all of them is saved.
    unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::OSXSAVE));
        asm!(
            "xsetbv",
            in("ecx") 0,
            in("eax") features as u32,
            in("edx") (features >> 32) as u32,
            options(nomem, nostack, preserves_flags)
        );
    }
    FEATURES.store(features, Ordering::Relaxed);
    STATE_BYTES.store(__cpuid_count(13, 0).ebx as usize, Ordering::Relaxed);
}

/// Size of a state, in bytes.
pub fn state_bytes() -> usize {
    STATE_BYTES.load(Ordering::Relaxed)
}

/// The features that a state covers, as a bitmap like XCR0; 0 without XSAVE, where a state is
/// FXSAVE's image.
pub fn features() -> u64 {
    FEATURES.load(Ordering::Relaxed)
}

fn layout() -> Layout {
    Layout::from_size_align(state_bytes(), ALIGN_BYTES).expect("a size that the CPU gave")
}

/// The image of a thread's floating-point registers.
#[derive(Debug)]
pub struct FpuState(NonNull<u8>);

// SAFETY: it owns its memory.
unsafe impl Send for FpuState {}
// SAFETY: it changes through `&mut` only.
unsafe impl Sync for FpuState {}

impl FpuState {
    /// The state of a starting program; `None` without memory.
    pub fn initial() -> Option<Self> {
        // SAFETY: the layout is not empty.
        let mut state = Self(NonNull::new(unsafe { alloc_zeroed(layout()) })?);
        let bytes = state.bytes_mut();
        bytes[..2].copy_from_slice(&INITIAL_FCW.to_le_bytes());
        bytes[MXCSR_OFFSET..][..4].copy_from_slice(&INITIAL_MXCSR.to_le_bytes());
        Some(state)
    }

    /// The image in memory, as XSAVE (or FXSAVE) writes it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is owned by `self` and has this size.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr(), state_bytes()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_ptr(), state_bytes()) }
    }

    /// The bytes of the image that the CPU leaves to software.
    pub fn software_bytes(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[SOFTWARE_BYTES]
    }

    /// Replaces the state by an image of a program, of which `read` gets as many bytes. Returns
    /// false if loading the image would fault: then this state must not be restored. Reserved bits
    /// of MXCSR are cleared, as on Linux.
    pub fn load<E>(
        &mut self,
        bytes: usize,
        read: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        if bytes != state_bytes() && bytes != LEGACY_BYTES {
            return Ok(false);
        }
        let features = features();
        let image = self.bytes_mut();
        read(&mut image[..bytes])?;
        if features != 0 && bytes == LEGACY_BYTES {
            image[LEGACY_BYTES..].fill(0);
            image[LEGACY_BYTES] = LEGACY_FEATURES as u8;
        }
        if let Some(header) = image.get(LEGACY_BYTES..LEGACY_BYTES + HEADER_BYTES) {
            let (present, rest) = header.split_at(8);
            let present = present.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
            if present & !features != 0 || rest.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
        }
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mxcsr = word(image, MXCSR_OFFSET) & valid_mxcsr_bits();
        image[MXCSR_OFFSET..][..4].copy_from_slice(&mxcsr.to_le_bytes());
        Ok(true)
    }

    /// Saves the registers into this state.
    pub fn save(&mut self) {
        let features = features();
        // SAFETY: the memory is owned by `self`, aligned, and of the size that the CPU reports.
        unsafe {
            if features == 0 {
                asm!("fxsave64 [{}]", in(reg) self.0.as_ptr(), options(nostack, preserves_flags));
            } else {
                asm!(
                    "xsave64 [{}]",
                    in(reg) self.0.as_ptr(),
                    in("eax") features as u32,
                    in("edx") (features >> 32) as u32,
                    options(nostack, preserves_flags)
                );
            }
        }
    }

    /// Loads the registers from this state.
    pub fn restore(&self) {
        let features = features();
        // SAFETY: the image was written by `initial` or `save`, or checked by `load`.
        unsafe {
            if features == 0 {
                asm!(
                    "fxrstor64 [{}]",
                    in(reg) self.0.as_ptr(),
                    options(nostack, preserves_flags, readonly)
                );
            } else {
                asm!(
                    "xrstor64 [{}]",
                    in(reg) self.0.as_ptr(),
                    in("eax") features as u32,
                    in("edx") (features >> 32) as u32,
                    options(nostack, preserves_flags, readonly)
                );
            }
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated by `initial` with the same layout.
        unsafe { dealloc(self.0.as_ptr(), layout()) };
    }
}

/// The bits of MXCSR that may be set on this CPU.
fn valid_mxcsr_bits() -> u32 {
    static BITS: AtomicU64 = AtomicU64::new(0);
    let known = BITS.load(Ordering::Relaxed) as u32;
    if known != 0 {
        return known;
    }
    #[repr(C, align(16))]
    struct Image([u8; LEGACY_BYTES]);
    let mut image = Image([0; LEGACY_BYTES]);
    // SAFETY: an image of the right size and alignment.
    unsafe {
        asm!("fxsave64 [{}]", in(reg) image.0.as_mut_ptr(), options(nostack, preserves_flags))
    };
    let at = MXCSR_MASK_OFFSET;
    let mask = u32::from_le_bytes([image.0[at], image.0[at + 1], image.0[at + 2], image.0[at + 3]]);
    let mask = if mask == 0 { DEFAULT_MXCSR_MASK } else { mask };
    BITS.store(u64::from(mask), Ordering::Relaxed);
    mask
}
