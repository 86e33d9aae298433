//! What happens to programs: frames go, processes are killed, connections are cut, the store
//! beneath fails.

use foundation::Errno;
use kernel::mem::host;

use crate::script::Op;
use crate::{shortage, swap_file, wire, world};

/// Lets one thing happen.
pub fn carry_out(op: Op) {
    match op {
        Op::Evict { frames } => host::evict(frames),
        Op::Take { pages } => drop(host::take_some(pages)),
        Op::FillSwap { is_full } => swap_file::set_full(is_full),
        Op::FailSwap { times } => swap_file::fail_reads(times),
        Op::Shortage { frames } => shortage::begin(frames),
        Op::Plenty => shortage::end(),
        Op::Kill { process } => world::kill(process),
        Op::Disconnect { client } => world::disconnect(client),
        Op::Fail { which, after, times, full } => {
            let error = if full { Errno::ENOSPC } else { Errno::EIO };
            wire::order_trouble(|trouble| trouble.order(which, after, times, error));
        }
        // The rest is for programs.
        _ => {}
    }
}
