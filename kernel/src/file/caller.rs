//! The process on whose behalf a file operation runs. `task` implements it; host tests have their
//! own ([`host`](super::host)).

use crate::mem::{Account, Space};
use alloc::sync::Arc;

/// The calling process, as far as objects need it.
pub trait IoCaller {
    /// Its address space.
    fn space(&self) -> &Arc<Space>;
    /// Who pays for what the kernel keeps for it.
    fn account(&self) -> &Arc<Account>;
    /// Process number.
    fn pid(&self) -> u32;
    /// Process group.
    fn pgid(&self) -> u32;
    /// Number of the session.
    fn sid(&self) -> u32;
    /// Whether it is marked as a server (F8).
    fn is_server(&self) -> bool;
    /// Whether a signal is blocked or ignored. Terminals ask before they stop a background job.
    fn is_masked(&self, signal: u8) -> bool;
    /// Sends a signal to the calling thread (SIGPIPE).
    fn raise(&self, signal: u8);
}
