//! `peer`: the first process of a machine that measures Linux, for `cargo xtask bench --peer
//! linux`.
//!
//! It runs rows of the program `bench` on a file server of its own ([`server`]), in each of FUSE's
//! ways ([`mode`]), with large pages and without, and reads of mapped files besides ([`mapped`]).
//! On the first serial line it prints `mode NAME`, `figure MODE ROW VALUE UNIT`, `failed MODE ROW
//! WHY`, and at the end `done`; then it switches the machine off. The kernel's log and the errors
//! of programs are on the second line.
//!
//! In its file system are `/bin/bench`, `/bin/true`, `/fuse.ko`, nodes for devices, and the folders
//! `/sys` and `/tmp`.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod mapped;
mod mode;
mod protocol;
mod server;

use crate::mode::{FILE_ROWS, KERNEL_ROWS, MAPPED_ROWS, MODES, Mode, UNCACHED_ROWS};
use crate::server::Server;
use proof::os;
use user::prelude::*;
use user::sys::abi;

program!(run);

/// Where the files are, for `bench` too.
const POINT: &[u8] = b"/tmp";
/// What a row has printed. It is no pipe, whose reader would run in between.
const OUTPUT: &[u8] = b"/output";

/// On failure: the step that failed, and its error.
type Attempt<T> = core::result::Result<T, (&'static str, Errno)>;

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every processor that Linux runs on here has it, and it changes nothing.
    unsafe { core::arch::x86_64::_rdtsc() }
}

fn run(_: &Args) -> i32 {
    let booted = ticks();
    if sys::getpid() != 1 {
        eprintln!("peer: this is the first process of a machine that measures Linux");
        return 1;
    }
    match set_up().and_then(|()| measure(booted)) {
        Ok(()) => println!("done"),
        Err((step, error)) => println!("failed everything {step}: {error}"),
    }
    power_off()
}

/// Names the error of a step.
fn step<T>(name: &'static str, result: Result<T>) -> Attempt<T> {
    result.map_err(|error| (name, error))
}

/// Output to the serial line, the file system of kernel settings, and FUSE.
fn set_up() -> Attempt<()> {
    let line = step("ttyS0", sys::open(b"/dev/ttyS0", abi::O_WRONLY | abi::O_NOCTTY, 0))?;
    step("standard output", sys::dup2(line, Fd::STDOUT))?;
    step("/sys", sys::mount(b"none", b"/sys", b"sysfs", 0, b""))?;
    let module = step("fuse.ko", sys::open(b"/fuse.ko", abi::O_RDONLY, 0))?;
    let options = b"\0";
    let arguments = [module.argument(), options.as_ptr() as usize, 0];
    match os::raw(abi::__NR_finit_module, &arguments) {
        // EEXIST: it is built in.
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(("loading fuse.ko", error)),
    }
}

fn measure(booted: u64) -> Attempt<()> {
    println!("figure alone boot {booted} instructions");
    for huge in [false, true] {
        let setting: &[u8] = if huge { b"always" } else { b"never" };
        let path = b"/sys/kernel/mm/transparent_hugepage/enabled";
        step("the size of pages", write_file(path, setting))?;
        let suffix = if huge { ".huge" } else { "" };
        println!("mode kernel{suffix}");
        for row in KERNEL_ROWS {
            run_row(&format!("kernel{suffix}"), row)?;
        }
        for mode in MODES {
            let name = format!("{}{suffix}", mode.name);
            println!("mode {name}");
            let server = start_server(mode)?;
            let others: &[&str] = if mode.is_direct { &UNCACHED_ROWS } else { &MAPPED_ROWS };
            for row in others.iter().chain(&FILE_ROWS) {
                run_row(&name, row)?;
            }
            // Large pages and write-back make no difference to a file that is mapped for reading.
            if !mode.is_direct && !mode.writes_back && !huge {
                map_files(&name);
            }
            step("unmounting", os::unmount("/tmp"))?;
            step("the server's end", sys::wait_for(server))?;
        }
    }
    Ok(())
}

/// Measures reads of mapped files, in all ways of mapping.
fn map_files(mode: &str) {
    if let Err(error) = mapped::create() {
        println!("failed {mode} mmap creating the file: {error}");
        return;
    }
    for row in mapped::ROWS {
        for way in mapped::WAYS {
            match mapped::measure(row, way) {
                Ok(took) => println!("figure {mode}.{} {} {took} instructions", way.0, row.0),
                Err(error) => println!("failed {mode}.{} {} {error}", way.0, row.0),
            }
        }
    }
    let _ = mapped::remove();
}

/// Starts a server and mounts it. Returns the server's process.
fn start_server(mode: Mode) -> Attempt<i32> {
    let fd = step("/dev/fuse", sys::open(b"/dev/fuse", abi::O_RDWR, 0))?;
    let Some(child) = step("fork", sys::fork())? else {
        sys::exit(match Server::new(mode).and_then(|mut server| server.serve(fd)) {
            Ok(()) => 0,
            Err(error) => complain("peer", b"the server", error),
        })
    };
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
    step("mounting", sys::mount(b"peer", POINT, b"fuse", 0, options.as_bytes()))?;
    step("closing /dev/fuse", sys::close(fd))?;
    if let Some(kib) = mode.read_ahead_kib {
        // A file system without a device of its own has number 0 and a second number.
        let device = step("the mount's device", sys::stat(POINT))?.st_dev & 0xff;
        let path = format!("/sys/class/bdi/0:{device}/read_ahead_kb");
        step("the read-ahead", write_file(path.as_bytes(), format!("{kib}").as_bytes()))?;
    }
    Ok(child)
}

/// Has `bench` measure one row, and prints its figures.
fn run_row(mode: &str, row: &str) -> Attempt<()> {
    let flags = abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC;
    let output = step("the output's file", sys::open(OUTPUT, flags, 0o600))?;
    let Some(child) = step("fork", sys::fork())? else {
        let _ = sys::dup2(output, Fd::STDOUT);
        let _ = sys::close(output);
        let name = format!("={row}");
        complain("peer", b"bench", sys::execve(b"/bin/bench", &[b"bench", name.as_bytes()], &[]));
        sys::exit(1)
    };
    let _ = sys::close(output);
    let status = step("wait", sys::wait_for(child))?;
    if status.exit_code() != Some(0) {
        println!("failed {mode} {row} status {}", status.shell_status());
        return Ok(());
    }
    let output = step("the output", user::io::read_file(OUTPUT))?;
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        println!("figure {mode} {}", Show(line));
    }
    Ok(())
}

fn write_file(path: &[u8], text: &[u8]) -> Result<()> {
    let fd = sys::open(path, abi::O_WRONLY, 0)?;
    let written = sys::write_all(fd, text);
    sys::close(fd)?;
    written
}

/// Ends QEMU, by the port of its exit device.
fn power_off() -> ! {
    const PORT: u16 = 0xf4;
    const POWER_OFF: u32 = 0x10;
    /// With the argument 1: waits until what was written has left.
    const TCSBRK: usize = 0x5409;
    let _ = os::raw(abi::__NR_ioctl, &[Fd::STDOUT.argument(), TCSBRK, 1]);
    match os::raw(abi::__NR_ioperm, &[usize::from(PORT), 4, 1]) {
        // SAFETY: the port belongs to QEMU's exit device, and the process may use it.
        Ok(_) => unsafe {
            core::arch::asm!("out dx, eax", in("dx") PORT, in("eax") POWER_OFF, options(nostack));
        },
        Err(error) => println!("failed everything the exit device: {error}"),
    }
    loop {
        let _ = sys::wait(-1, 0);
    }
}
