//! The console as a person sees it: `cargo xtask run` in a terminal of its own, typed at.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, tcgetattr};

use crate::interrupts::Interrupts;
use crate::verdict::Verdict;

/// How long a script may take, with the start of the machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the screen that are shown with a failure.
const SHOWN_BYTES: usize = 4096;

/// One step of a script.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Wait until this has been shown, after what was waited for before.
    See(&'static str),
    /// Type this.
    Type(&'static str),
    /// Wait until xtask has ended.
    End,
}

/// A script, at whose end xtask has ended with 0 and the terminal is as it was.
#[derive(Debug, Clone)]
pub struct ConsoleTest {
    /// Its name.
    pub name: &'static str,
    script: &'static [Step],
}

use Step::{End, See, Type};

/// All of them. What is looked for never stands literally in what was typed: that is echoed.
const TESTS: [ConsoleTest; 5] = [
    ConsoleTest {
        name: "qemu::console_exit_ends_qemu",
        script: &[See("# "), Type("echo he''llo\r"), See("hello"), See("# "), Type("exit\r"), End],
    },
    ConsoleTest {
        name: "qemu::console_q4_out_of_memory_is_told",
        script: &[
            See("# "),
            Type("echo 0 > /proc/sys/lazy/swap_pages; sort /dev/zero; echo status=$?\r"),
            See("out of memory: sort"),
            See("status=137"),
            See("# "),
            Type("echo ali''ve; echo kept > /tmp/file; cat /tmp/file\r"),
            See("alive"),
            See("kept"),
            See("# "),
            Type("exit\r"),
            End,
        ],
    },
    ConsoleTest {
        name: "qemu::console_poweroff_ends_qemu",
        script: &[See("# "), Type("poweroff\r"), End],
    },
    ConsoleTest {
        name: "qemu::console_ctrl_c_and_ctrl_d",
        script: &[
            See("# "),
            Type("sh -c 'echo sta\"\"rted; sleep 1000'\r"),
            See("started"),
            Type("\x03"),
            See("# "),
            Type("echo status=$?\r"),
            See("status=130"),
            See("# "),
            Type("abandoned\x03"),
            See("# "),
            Type("\x04"),
            End,
        ],
    },
    ConsoleTest {
        name: "qemu::console_line_editing",
        script: &[
            See("# "),
            // A word too many rubbed out, a letter put in by going left, and the line again from
            // the history.
            Type("echo a-c\x1b[D\x1b[Db\x1b[C\x1b[C XX\x7f\x7f\x7f\r"),
            See("ab-c\r\n"),
            See("# "),
            Type("\x1b[A\r"),
            See("ab-c\r\n"),
            See("# "),
            Type("exit\r"),
            End,
        ],
    },
];

/// All of them.
pub fn list() -> Vec<ConsoleTest> {
    TESTS.to_vec()
}

impl ConsoleTest {
    /// Runs it.
    pub fn run(&self, interrupts: &Interrupts) -> Result<Verdict> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--timeout", "60"]);
        play(command, self.script, interrupts)
    }
}

/// Plays a script to a program that has a terminal of its own. In the end it has to have ended
/// well, and the terminal has to be as it was.
pub fn play(command: Command, script: &[Step], interrupts: &Interrupts) -> Result<Verdict> {
    let (terminal, slave) = open_terminal()?;
    let before = tcgetattr(&terminal)?;
    let mut child = start(command, slave)?;
    let mut screen =
        Screen { terminal, text: Vec::new(), seen: 0, deadline: Instant::now() + LIMIT };
    let mut missed = None;
    for step in script {
        if !screen.take(step, &mut child, interrupts)? {
            missed = Some(step);
            break;
        }
    }
    let status = child.try_wait()?;
    // What has ended cannot be killed, and what has not should be.
    let _ = child.kill();
    let _ = child.wait();
    let restored = is_same(&before, &tcgetattr(&screen.terminal)?);
    let good = missed.is_none() && restored && status.is_some_and(|status| status.success());
    Ok(Verdict::from_condition(good, || {
        // Without what was shown before the guest had it.
        let shown = screen.text.len().saturating_sub(SHOWN_BYTES);
        let text = String::from_utf8_lossy(screen.text.get(shown..).unwrap_or_default());
        format!(
            "missed: {missed:?}\nterminal as before: {restored}\nprogram: {status:?}\n--- screen\n{text}"
        )
    }))
}

/// A terminal: our side, and the side for a program.
fn open_terminal() -> Result<(File, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).context("cannot make a terminal")?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((File::from(master), slave))
}

/// Starts a program with `slave` as its controlling terminal.
fn start(mut command: Command, slave: OwnedFd) -> Result<Child> {
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
    // SAFETY: between fork and exec only system calls are made, which is safe there.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        });
    }
    command.spawn().context("cannot start the program")
}

/// Whether a terminal is set as it was, apart from what the line discipline itself keeps there.
fn is_same(one: &Termios, other: &Termios) -> bool {
    one.input_modes == other.input_modes
        && one.output_modes == other.output_modes
        && one.control_modes == other.control_modes
        && one.local_modes == other.local_modes
}

/// What the terminal has shown so far.
struct Screen {
    terminal: File,
    text: Vec<u8>,
    /// How much of the text has been matched.
    seen: usize,
    deadline: Instant,
}

impl Screen {
    /// Takes one step; false if it cannot be taken.
    fn take(&mut self, step: &Step, child: &mut Child, interrupts: &Interrupts) -> Result<bool> {
        match step {
            Type(keys) => {
                self.terminal.write_all(keys.as_bytes()).map(|()| true).context("cannot type")
            }
            See(wanted) => {
                while !self.find(wanted.as_bytes()) {
                    if !self.read(interrupts)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            End => {
                while self.read(interrupts)? {}
                Ok(Instant::now() < self.deadline && child.wait().is_ok())
            }
        }
    }

    fn find(&mut self, wanted: &[u8]) -> bool {
        let rest = self.text.get(self.seen..).unwrap_or_default();
        let found = rest.windows(wanted.len()).position(|window| window == wanted);
        self.seen += found.map_or(0, |at| at + wanted.len());
        found.is_some()
    }

    /// Reads what the terminal shows next; false at its end or the deadline.
    fn read(&mut self, interrupts: &Interrupts) -> Result<bool> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut waiting = [
            PollFd::from_borrowed_fd(self.terminal.as_fd(), PollFlags::IN),
            PollFd::new(interrupts, PollFlags::IN),
        ];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) if interrupts.pending().is_none() => {}
            Ok(_) | Err(rustix::io::Errno::INTR) => return Ok(interrupts.pending().is_none()),
            Err(error) => return Err(error).context("cannot wait for the terminal"),
        }
        let mut buffer = [0; 4096];
        // When the last program has closed it, a terminal answers with an error, not with an end.
        let count = self.terminal.read(&mut buffer).unwrap_or(0);
        self.text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}
