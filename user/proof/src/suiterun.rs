//! `suiterun TOKEN SECONDS LIST FOLDER`: runs the programs of a suite one after the other, equally
//! on Linux and on Sloth, for `cargo xtask foreign --suite`.
//!
//! LIST has a path in each line. Each program runs in a new folder in FOLDER, which is also its
//! HOME and TMPDIR, as the leader of a session, without input, for SECONDS at most. Its output is
//! written between two lines, of which the second says how it ended:
//!
//! ```text
//! TOKEN start 7
//! TOKEN end 7 exit 0
//! ```
//!
//! `signal N` is the end by a signal, `time` that by the time limit, and `stuck` that of a program
//! that SIGKILL does not end; after it no other one runs. The same lines are written to standard
//! error, since the kernel's log is there. Whatever a program leaves behind is killed and removed:
//! all processes that are younger than this one. So it runs in a PID namespace of its own, or in a
//! machine.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

use core::time::Duration;
use user::fs;
use user::prelude::*;
use user::sys::{WaitStatus, abi};

program!(run);

/// How often it is looked whether the program has ended. Another process may hold its output open.
const TICK: Duration = Duration::from_millis(10);
/// How long an end by SIGKILL may take.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a program's output that are passed on; the rest is dropped.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// What follows truncated output.
const TRUNCATED: &[u8] = b"\n[the rest of the output was dropped]\n";

/// How a program ended.
enum End {
    Status(WaitStatus),
    Time,
    Stuck,
}

fn run(args: &Args) -> i32 {
    let &[_, token, seconds, list, folder] = args else {
        eprintln!("usage: suiterun TOKEN SECONDS LIST FOLDER");
        return 2;
    };
    let Some(seconds) = user::opt::number(seconds) else {
        eprintln!("suiterun: {}: not a number of seconds", Show(seconds));
        return 2;
    };
    let text = match user::io::read_file(list) {
        Ok(text) => text,
        Err(error) => return complain("suiterun", list, error),
    };
    let programs = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (index, program) in programs.enumerate() {
        let scratch = fs::join(folder, format!("{index}").as_bytes());
        mark(token, &format!("start {index}"));
        let end = run_one(program, &scratch, Duration::from_secs(seconds));
        let text = match &end {
            Ok(End::Status(status)) => match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => format!("exit {}", status.shell_status()),
            },
            Ok(End::Time) => "time".into(),
            Ok(End::Stuck) => "stuck".into(),
            Err(error) => return complain("suiterun", program, *error),
        };
        mark(token, &format!("end {index} {text}"));
        if matches!(end, Ok(End::Stuck)) {
            return 1;
        }
        remove(&scratch);
    }
    0
}

/// Writes a line about a program to both outputs.
fn mark(token: &[u8], text: &str) {
    let line = [b"\n", token, b" ", text.as_bytes(), b"\n"].concat();
    // If nobody reads them, nobody misses them.
    let _ = (sys::write_all(Fd::STDERR, &line), sys::write_all(Fd::STDOUT, &line));
}

/// Runs a program to its end, and ends what it leaves behind.
fn run_one(program: &[u8], scratch: &[u8], limit: Duration) -> Result<End> {
    sys::mkdir(scratch, 0o777)?;
    let [output, input] = sys::pipe(abi::O_CLOEXEC)?;
    let Some(child) = sys::fork()? else { sys::exit(become_program(program, scratch, input)) };
    sys::close(input)?;
    let mut output = Output { pipe: output, left_bytes: MAX_OUTPUT_BYTES, is_open: true };
    let end = match wait(child, limit, &mut output)? {
        Some(status) => End::Status(status),
        None => {
            let _ = (sys::kill(-child, abi::SIGKILL as i32), sys::kill(child, abi::SIGKILL as i32));
            match wait(child, KILL_LIMIT, &mut output)? {
                Some(_) => End::Time,
                None => End::Stuck,
            }
        }
    };
    while output.pass(Duration::ZERO)? {}
    if !matches!(end, End::Stuck) {
        kill_the_rest()?;
    }
    sys::close(output.pipe)?;
    Ok(end)
}

/// Waits until the child ends, and passes its output on. Returns `None` after `limit`.
fn wait(child: i32, limit: Duration, output: &mut Output) -> Result<Option<WaitStatus>> {
    let end = sys::clock(abi::CLOCK_MONOTONIC)? + limit;
    loop {
        // As the first process of a namespace it has other children, too.
        while let Ok(Some((id, status))) = sys::wait(-1, abi::WNOHANG) {
            if id == child {
                return Ok(Some(status));
            }
        }
        if sys::clock(abi::CLOCK_MONOTONIC)? >= end {
            return Ok(None);
        }
        output.pass(TICK)?;
    }
}

/// The output of a program.
struct Output {
    pipe: Fd,
    left_bytes: usize,
    /// Whether anybody can write more.
    is_open: bool,
}

impl Output {
    /// Waits for output, for `time` at most, and passes it on. Returns whether there was any.
    fn pass(&mut self, time: Duration) -> Result<bool> {
        if !self.is_open {
            sys::sleep(time)?;
            return Ok(false);
        }
        let mut entry = [abi::pollfd { fd: self.pipe.0, events: abi::POLLIN as i16, revents: 0 }];
        if sys::poll_for(&mut entry, Some(time))? == 0 {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        let count = sys::read(self.pipe, &mut buffer)?;
        self.is_open = count > 0;
        let shown = count.min(self.left_bytes);
        let _ = sys::write_all(Fd::STDOUT, buffer.get(..shown).unwrap_or_default());
        if shown < count && self.left_bytes > 0 {
            let _ = sys::write_all(Fd::STDOUT, TRUNCATED);
        }
        self.left_bytes -= shown;
        // A program that never stops writing must not hold the runner here after its end.
        Ok(self.is_open && self.left_bytes > 0)
    }
}

/// Runs in the child. Returns the exit status if the program could not be started.
fn become_program(program: &[u8], scratch: &[u8], output: Fd) -> i32 {
    let start = || -> Result<()> {
        sys::setsid()?;
        sys::chdir(scratch)?;
        let input = sys::open(b"/dev/null", abi::O_RDONLY, 0)?;
        sys::dup2(input, Fd::STDIN)?;
        sys::close(input)?;
        sys::dup2(output, Fd::STDOUT)?;
        sys::dup2(output, Fd::STDERR).map(drop)
    };
    if let Err(error) = start() {
        return complain("suiterun", scratch, error);
    }
    let (home, temporary) = ([b"HOME=", scratch].concat(), [b"TMPDIR=", scratch].concat());
    let mut environment = user::rt::environment().to_vec();
    environment.extend([&home[..], &temporary]);
    let failure = sys::execve(program, &[program], &environment);
    complain("suiterun", program, failure);
    user::launch::failure_status(failure)
}

/// Kills all processes that are younger than this one, until none is left but those that nobody
/// has waited for.
fn kill_the_rest() -> Result<()> {
    /// How often it is tried, a [`TICK`] apart.
    const TRIES: usize = 200;
    let own = sys::getpid();
    for _ in 0..TRIES {
        while let Ok(Some(_)) = sys::wait(-1, abi::WNOHANG) {}
        let younger: Vec<i32> = fs::list(b"/proc")?
            .iter()
            .filter_map(|name| user::opt::number(name))
            .filter(|id| *id > own && !is_zombie(*id))
            .collect();
        if younger.is_empty() {
            return Ok(());
        }
        for id in younger {
            // It may have ended meanwhile.
            let _ = sys::kill(id, abi::SIGKILL as i32);
        }
        sys::sleep(TICK)?;
    }
    Ok(())
}

/// Whether a process has ended, or is not there at all.
fn is_zombie(id: i32) -> bool {
    let Ok(text) = user::io::read_file(format!("/proc/{id}/stat").as_bytes()) else { return true };
    // The state follows the name, which is in parentheses.
    let after = text.iter().rposition(|byte| *byte == b')').map_or(0, |at| at + 1);
    matches!(text.get(after..), Some([b' ', b'Z' | b'X', ..]))
}

/// Removes a file, or a folder with its contents. What cannot be removed stays.
fn remove(path: &[u8]) {
    if sys::unlink(path).is_ok() {
        return;
    }
    for name in fs::list(path).unwrap_or_default() {
        remove(&fs::join(path, &name));
    }
    let _ = sys::rmdir(path);
}
