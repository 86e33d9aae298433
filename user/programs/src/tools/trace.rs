//! `trace on PROCESS…`, `trace off PROCESS…`, `trace COMMAND…`: logs the system calls of a process
//! and its children in the kernel's log, and the outcome of the pages that they read. `strace` is
//! another name.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    match args.get(1..).unwrap_or_default() {
        [b"on", processes @ ..] if !processes.is_empty() => {
            processes.iter().map(|process| set(process, b"1")).max().unwrap_or(0)
        }
        [b"off", processes @ ..] if !processes.is_empty() => {
            processes.iter().map(|process| set(process, b"0")).max().unwrap_or(0)
        }
        [program, ..] if *program != b"on" && *program != b"off" => launch(args),
        _ => {
            eprintln!(
                "usage: trace on PROCESS...   or   trace off PROCESS...   or   trace COMMAND..."
            );
            2
        }
    }
}

/// Switches tracing of a process on or off.
fn set(process: &[u8], value: &[u8]) -> i32 {
    let path = [b"/proc/", process, b"/trace"].concat();
    let written = sys::open(&path, sys::abi::O_WRONLY, 0).and_then(|fd| {
        let written = sys::write_all(fd, value);
        sys::close(fd).and(written)
    });
    match written {
        Ok(()) => 0,
        Err(error) => complain("trace", process, error),
    }
}

/// Runs a program with tracing on. On a terminal, which does not show the kernel's log, prints what
/// the log says of it.
fn launch(args: &Args) -> i32 {
    let rest = args.get(1..).unwrap_or_default();
    let controlling = sys::open(b"/dev/tty", sys::abi::O_WRONLY | sys::abi::O_CLOEXEC, 0);
    if controlling.is_err() || sys::terminal_settings(Fd::STDERR).is_err() {
        return become_traced(rest);
    }
    // The program's Ctrl-C; and the trace of its end is still to be printed.
    let log = match sys::signal_ignore(sys::abi::SIGINT as i32).and_then(|()| Log::at_end()) {
        Ok(log) => log,
        Err(error) => return complain("trace", LOG, error),
    };
    let child = match sys::fork() {
        Ok(None) => {
            let _ = sys::signal_default(sys::abi::SIGINT as i32);
            sys::exit(become_traced(rest))
        }
        Ok(Some(child)) => child,
        Err(error) => return complain("trace", rest[0], error),
    };
    loop {
        match sys::wait(child, sys::abi::WNOHANG) {
            Ok(None) => {
                log.print();
                let _ = sys::sleep(INTERVAL);
            }
            Ok(Some((_, status))) => {
                log.print();
                return status.shell_status();
            }
            Err(error) => return complain("trace", rest[0], error),
        }
    }
}

fn become_traced(rest: &[&[u8]]) -> i32 {
    let status = set(b"self", b"1");
    if status != 0 {
        return status;
    }
    let failure = user::launch::launch(rest, user::rt::environment());
    complain("trace", rest[0], failure);
    user::launch::failure_status(failure)
}

/// The kernel's log, a message for each read.
const LOG: &[u8] = b"/dev/kmsg";
/// How often new messages are looked for.
const INTERVAL: core::time::Duration = core::time::Duration::from_millis(10);

struct Log(Fd);

impl Log {
    /// The log behind its last message.
    fn at_end() -> Result<Self> {
        let log = Self(sys::open(LOG, sys::abi::O_RDONLY | sys::abi::O_CLOEXEC, 0)?);
        log.messages(|_| {});
        Ok(log)
    }

    /// Calls `each` with the new messages.
    fn messages(&self, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; 1024];
        loop {
            match sys::read(self.0, &mut buffer) {
                Ok(0) => return,
                Ok(count) => each(buffer.get(..count).unwrap_or_default()),
                Err(Errno::EPIPE) => each(b";trace: messages were lost\n"),
                Err(_) => return,
            }
        }
    }

    /// Prints the new messages of traces.
    fn print(&self) {
        self.messages(|message| {
            let text = message.splitn(2, |byte| *byte == b';').nth(1).unwrap_or_default();
            if text.starts_with(b"trace") {
                let _ = sys::write_all(Fd::STDERR, text);
            }
        });
    }
}
