//! The page size of the machine, which is also the protocol's unit of mapping.

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// Binary logarithm of [`PAGE_BYTES`].
pub const PAGE_SHIFT: u32 = PAGE_BYTES.trailing_zeros();
