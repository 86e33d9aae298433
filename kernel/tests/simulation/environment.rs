//! Events that happen to programs: frames are reclaimed, processes are killed, connections are cut,
//! the base server fails.

use foundation::Errno;
use kernel::mem::host;

use crate::script::Op;
use crate::{shortage, swap_file, wire, world, writer};

/// Carries out one event.
pub fn carry_out(op: Op) {
    match op {
        Op::Evict { frames } => host::evict(frames),
        Op::Take { pages } => drop(host::evict_pages(pages)),
        Op::FillSwap { is_full } => swap_file::set_full(is_full),
        Op::FailSwap { times } => swap_file::fail_reads(times),
        Op::LoseSwap => swap_file::lose(),
        Op::Later { seconds } => writer::later(seconds),
        Op::Shortage { frames } => shortage::begin(frames),
        Op::Plenty => shortage::end(),
        Op::Kill { process } => world::kill(process),
        Op::Disconnect { client } => world::disconnect(client),
        Op::DisconnectBase { client } => world::disconnect_base(client),
        Op::Fail { which, after, times, full } => {
            let error = if full { Errno::ENOSPC } else { Errno::EIO };
            wire::plan_faults(|faults| faults.plan(which, after, times, error));
        }
        // All others are steps of programs.
        _ => {}
    }
}
