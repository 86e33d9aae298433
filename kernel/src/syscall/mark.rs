//! The mark of file servers (F8): `prctl(PR_SET_IO_FLUSHER, 1, floor, rank)`.
//!
//! Any process can mark itself; its pages are then pinned, and its reads are eager. The rank of a
//! server's claims, a floor, and the promise that it is never ended for memory are for those only
//! that init trusts: its forks that still run its program.
#![forbid(unsafe_code)]

use crate::file::IoCaller;
use crate::mem::Claim;
use crate::task::Current;
use foundation::{ByteCount, Errno};

/// Marks the caller, permanently. ENOMEM where all floors together would exceed half of memory,
/// EPERM for a floor or the rank of the swap server without the trust of init, EBUSY where the
/// caller maps files shared, whose pages other servers have.
pub fn set(current: &Current, floor_bytes: u64, rank: u64) -> Result<u64, Errno> {
    let policy = &current.space().policy;
    let claim = match rank {
        0 | 2 if policy.is_trusted() => Claim::FileServer,
        1 if policy.is_trusted() => Claim::SwapServer,
        0 | 2 if floor_bytes == 0 => Claim::Program,
        0..=2 => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    if current.space().maps_files() {
        return Err(Errno::EBUSY);
    }
    current.space().load_all()?;
    if floor_bytes > 0 {
        let base = current.space().stats().resident;
        policy.declare_floor(ByteCount(floor_bytes).covering_pages(), base)?;
    }
    policy.mark_server(claim);
    current.process().mark_server();
    if claim < Claim::Program {
        current.process().account.mark_server();
    }
    Ok(0)
}
