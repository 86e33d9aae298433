//! scratchfs, which keeps the kernel's swap file (Q3).
//!
//! When it ends, the pages in the swap file are lost, and the programs whose pages they were find
//! that out when they use them (F5). It is started again, so that all others can be swapped out as
//! before.

use crate::Attempt;
use crate::disk::{Disk, Half};
use crate::servers::{self, Floor};
use core::time::Duration;
use user::prelude::*;
use user::sys::abi;
use user::transport::SocketTransport;

/// The swap file's server.
pub struct Swap {
    disk: Disk,
    /// Its process id, and when it was started. `None` where it has to be started again.
    running: Option<(i32, Duration)>,
}

/// How long a server must have run to be started again at once when it ends. Otherwise init waits
/// for as long, because the next one may end at once, too.
pub const PATIENCE: Duration = Duration::from_secs(1);

impl Swap {
    /// Starts scratchfs on its half of the disk, and hands it to the kernel.
    pub fn start(disk: Disk) -> Self {
        let mut disk = disk.half(Half::Second);
        disk.blocks = servers::blocks_for_swap(&disk);
        let mut swap = Self { disk, running: None };
        swap.start_again();
        swap
    }

    /// Whether the server has to be started again in a while.
    pub fn is_awaited(&self) -> bool {
        self.running.is_none()
    }

    /// Starts the server. If that fails, it can be tried later.
    pub fn start_again(&mut self) {
        match start(self.disk) {
            Ok(server) => self.running = Some((server, now())),
            Err((attempt, error)) => eprintln!("init: {attempt}: {error}"),
        }
    }

    /// A child has ended. If it was the server, it is started again, now or later.
    pub fn reaped(&mut self, child: i32) {
        let Some((_, started)) = self.running.filter(|(server, _)| *server == child) else {
            return;
        };
        self.running = None;
        eprintln!("init: scratchfs has ended: pages of programs that it kept are lost");
        if now().saturating_sub(started) >= PATIENCE {
            self.start_again();
        }
    }
}

fn now() -> Duration {
    sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default()
}

/// Starts scratchfs and attaches it. Returns its process id.
fn start(disk: Disk) -> Attempt<i32> {
    let [server_end, kernel_end] = servers::pair()?;
    let floor = Floor::scratchfs(&disk);
    let server = servers::start_marked("scratchfs", floor, [server_end, disk.fd], || {
        let resources = servers::resources(floor, fsserver::scratchfs::RESERVE_BYTES)?;
        fsserver::scratchfs::run(disk, resources, SocketTransport::new(server_end))
            .map_err(|error| format!("{error:?}"))
    });
    let _ = sys::close(server_end);
    let options = format!("fd={kernel_end}");
    let attached = server.and_then(|server| {
        sys::mount(b"none", b"none", b"swap", 0, options.as_bytes())
            .map(|_| server)
            .map_err(|error| ("the swap file", error))
    });
    // A server that was not attached ends now.
    let _ = sys::close(kernel_end);
    attached
}
