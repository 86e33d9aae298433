//! Small requests of file servers, and how others' computing slows them.

use crate::Row;
use crate::meter::{self, Meter, Sample};
use crate::reads::{FILE_BYTES, PATH, cold_file, remove};
use proof::os;
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[
    ("server.rtt", server_round_trip),
    ("base.rtt", base_round_trip),
    ("stat", stat),
    ("busy.files", busy_files),
];

/// A read of one byte that the server must answer: too short to be lazy.
fn server_round_trip(meter: &Meter) -> Result<()> {
    let fd = cold_file(FILE_BYTES)?;
    let mut byte = [0];
    meter.average(200, || sys::pread(fd, &mut byte, FileOffset(12_345)).map(drop))?;
    remove(fd)
}

/// The same from a server that is mounted without a wrapper.
fn base_round_trip(meter: &Meter) -> Result<()> {
    const POINT: &str = "/mnt/bench";
    let [server, client] = os::socket_pair()?;
    let Some(child) = sys::fork()? else {
        let _ = (sys::close(client), sys::dup2(server, Fd::STDIN));
        let _ = sys::execve(b"/bin/memfs", &[b"memfs"], &[]);
        sys::exit(1)
    };
    sys::close(server)?;
    sys::mkdir(POINT.as_bytes(), 0o755)?;
    os::mount(client, POINT)?;
    sys::close(client)?;
    let fd = sys::open(b"/mnt/bench/file", abi::O_RDWR | abi::O_CREAT, 0o600)?;
    sys::write_all(fd, &[1; 64 << 10])?;
    let mut byte = [0];
    meter.average(200, || sys::pread(fd, &mut byte, FileOffset(12_345)).map(drop))?;
    sys::close(fd)?;
    os::unmount(POINT)?;
    sys::rmdir(POINT.as_bytes())?;
    sys::wait_for(child).map(drop)
}

fn stat(meter: &Meter) -> Result<()> {
    let fd = cold_file(1 << 20)?;
    meter.average(200, || sys::stat(PATH).map(drop))?;
    remove(fd)
}

/// Files that are made in one measurement: enough for many turns of the computing process.
const FILES: u64 = 1000;

/// Creates, closes and removes [`FILES`].
fn make_files() -> Result<Sample> {
    const NEW: &[u8] = b"/tmp/bench.new";
    meter::sample(|| {
        for _ in 0..FILES {
            sys::close(sys::open(NEW, abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL, 0o600)?)?;
            sys::unlink(NEW)?;
        }
        Ok(())
    })
}

/// Making files beside a process that computes, as a multiple of the time alone.
fn busy_files(meter: &Meter) -> Result<()> {
    make_files()?;
    let alone = make_files()?;
    let Some(child) = sys::fork()? else {
        loop {
            core::hint::spin_loop();
        }
    };
    make_files()?;
    let beside = make_files()?;
    sys::kill(child, abi::SIGKILL as i32)?;
    sys::wait_for(child)?;
    meter.tell_ratio("", beside.ticks, alone.ticks);
    meter.tell_counts(&beside, FILES);
    Ok(())
}
