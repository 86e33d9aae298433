//! The first process: sets up the machine, runs the shell, and powers the machine off when the
//! shell ends.
//!
//! The kernel starts it with descriptors 0 to 2 on the console and no root file system. It maps the
//! ramdisk, forks the file servers ([`servers`]), mounts the root, and runs the shell
//! ([`session`]). Meanwhile it reaps orphans. It must not exit.
//!
//! Serial lines: ttyS0 is the console, ttyS1 receives errors and the log, ttyS2 receives the exit
//! status for `cargo xtask run`.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod config;
mod console;
mod disk;
mod input;
mod ramdisk;
mod relays;
mod servers;
mod session;
mod swap;
mod window;

use crate::config::Config;
use crate::disk::Disk;
use crate::swap::Swap;
use user::prelude::*;

program!(run);

/// The status that `exit N` reports when the set-up failed.
const SETUP_FAILED: i32 = 125;

/// On failure: the step that failed, and its error.
type Attempt<T> = core::result::Result<T, (&'static str, Errno)>;

fn run(_: &Args) -> i32 {
    if sys::getpid() != 1 {
        eprintln!("init: only the first process can be init");
        return 1;
    }
    let status = match set_up() {
        Ok((config, swap)) => session::run(&config, swap),
        Err((attempt, error)) => {
            eprintln!("init: {attempt}: {error}");
            SETUP_FAILED
        }
    };
    relays::conclude();
    session::power_off(status)
}

/// Sets up everything up to a mounted root.
fn set_up() -> Attempt<(Config, Option<Swap>)> {
    session::redirect_errors();
    let ramdisk = ramdisk::map().map_err(|error| ("the ramdisk", error))?;
    let config = ramdisk::find(ramdisk, "etc/sloth.conf").map(Config::parse).unwrap_or_default();
    for complaint in &config.complaints {
        eprintln!("init: etc/sloth.conf: {complaint}");
    }
    if let Some(name) = &config.mutant {
        choose_mutant(name);
    }
    let [placed, disk] = match Disk::open() {
        Some(disk) => disk.split(config.placed_blocks).map(Some),
        None => [None, None],
    };
    let placed = placed.filter(|placed| placed.blocks > 0);
    let root = servers::start(ramdisk, config.relay, disk, placed)?;
    // Without a swap file only memory holds private pages.
    let swap = disk.map(Swap::start);
    let options = format!("fd={},direct={}", root.server, root.base);
    sys::mount(b"none", b"/", b"sloth", 0, options.as_bytes())
        .map_err(|error| ("mounting the root", error))?;
    let _ = (sys::close(root.server), sys::close(root.base));
    sys::chdir(b"/").map_err(|error| ("the root directory", error))?;
    // Where `/dev/shm` leads.
    if let Err(error) =
        sys::mkdir(SHARED_MEMORY, 0o1777).and_then(|()| sys::chmod(SHARED_MEMORY, 0o1777))
    {
        complain("init", SHARED_MEMORY, error);
    }
    if let Some(lazy) = config.lazy {
        set_knob(b"lazy", if lazy { b"1" } else { b"0" });
    }
    Ok((config, swap))
}

/// The directory for shared memory with names (shm_open).
const SHARED_MEMORY: &[u8] = b"/run/shm";

/// Sets a knob of the kernel. Complains if the kernel does not have it.
fn set_knob(name: &[u8], value: &[u8]) {
    let path = user::fs::join(b"/proc/sys/lazy", name);
    let result = sys::open(&path, sys::abi::O_WRONLY, 0).and_then(|fd| {
        let result = sys::write_all(fd, value);
        let _ = sys::close(fd);
        result
    });
    if let Err(error) = result {
        complain("init", &path, error);
    }
}

/// Chooses a mutant for the servers that will be forked. The kernel's mutant is chosen later,
/// through `/proc/sys/lazy/mutant`: otherwise the machine might not get that far.
fn choose_mutant(name: &str) {
    #[cfg(feature = "mutants")]
    match foundation::mutant::Mutant::from_name(name) {
        Some(mutant) => foundation::mutant::choose(Some(mutant)),
        None => eprintln!("init: no mutant is called {name}"),
    }
    #[cfg(not(feature = "mutants"))]
    eprintln!("init: this build has no mutants, not even {name}");
}
