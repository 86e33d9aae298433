//! Choosing a mutant by `/proc/sys/lazy/mutant`, and wrong code for testing the tests of `/proc`.

use crate::mem::{Space, UserSlice};
use alloc::vec::Vec;
use foundation::Errno;

/// Whether this build has mutants.
pub(super) const ARE_BUILT: bool = cfg!(feature = "mutants");

/// The name of the chosen mutant, or `none`.
#[cfg(feature = "mutants")]
pub(super) fn chosen() -> Vec<u8> {
    use foundation::mutant::{Mutant, active};
    let chosen = Mutant::ALL.iter().find(|&&mutant| active(mutant));
    alloc::format!("{}\n", chosen.map_or("none", |mutant| mutant.name())).into_bytes()
}

/// Chooses a mutant by name, or none; EINVAL for an unknown name.
#[cfg(feature = "mutants")]
pub(super) fn choose(name: &str) -> Result<(), Errno> {
    use foundation::mutant::{self, Mutant};
    mutant::choose(match name {
        "" | "none" => None,
        name => Some(Mutant::from_name(name).ok_or(Errno::EINVAL)?),
    });
    Ok(())
}

/// A7: copies only pages that are in memory. Returns whether it did.
#[cfg(feature = "mutants")]
pub(super) fn debugger_sees_zeros(space: &Space, from: UserSlice, to: &mut [u8]) -> bool {
    let is_active = foundation::mutant::active(foundation::mutant::Mutant::DebuggerSeesZeros);
    if is_active {
        space.try_copy_in(from, to);
    }
    is_active
}

#[cfg(not(feature = "mutants"))]
pub(super) fn chosen() -> Vec<u8> {
    Vec::new()
}

#[cfg(not(feature = "mutants"))]
pub(super) fn choose(_: &str) -> Result<(), Errno> {
    Err(Errno::EINVAL)
}

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(super) fn debugger_sees_zeros(_: &Space, _: UserSlice, _: &mut [u8]) -> bool {
    false
}
