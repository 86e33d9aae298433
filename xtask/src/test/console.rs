//! The interactive console: `cargo xtask run` on a pseudo-terminal, with scripted keys.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::guest::userland::Userland;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::process;
use crate::test::verdict::Verdict;

/// Time limit of a script, boot included.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the screen, from its end, that are printed with a failure.
const SHOWN_BYTES: usize = 4096;

/// One step of a script.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Wait until this text appears after the previously awaited text.
    See(&'static str),
    /// Type these keys.
    Type(&'static str),
    /// Change the terminal's size to these rows and columns.
    Resize(u16, u16),
    /// Wait until the program has closed the terminal.
    End,
}

/// A script. At its end xtask must have exited with the shell's status and restored the terminal.
#[derive(Debug, Clone)]
pub struct ConsoleTest {
    /// The test's full name.
    pub name: &'static str,
    shell: Shell,
    script: &'static [Step],
    status: u8,
}

/// The shell on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    /// Sloth's own.
    Own,
    /// The distribution's bash, beside busybox. The test is skipped where they are not available.
    Bash,
}

use Step::{End, Resize, See, Type};

/// The tests. Awaited text never occurs literally in the typed keys, since those are echoed.
const TESTS: [ConsoleTest; 10] = [
    ConsoleTest {
        name: "qemu::console_exit_ends_qemu",
        shell: Shell::Own,
        script: &[
            See("`help` lists"),
            See("# "),
            Type("echo he''llo\r"),
            See("hello"),
            See("# "),
            Type("help\r"),
            See("Tools: cat "),
            See("# "),
            Type("exit\r"),
            End,
        ],
        status: 0,
    },
    ConsoleTest {
        // Keys that are typed while the machine boots are not lost.
        name: "qemu::console_the_shells_status_is_xtasks",
        shell: Shell::Own,
        script: &[Type("exit 9\r"), End],
        status: 9,
    },
    ConsoleTest {
        name: "qemu::console_q4_out_of_memory_is_reported",
        shell: Shell::Own,
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
        status: 0,
    },
    ConsoleTest {
        name: "qemu::console_strace_prints_to_the_terminal",
        shell: Shell::Own,
        script: &[
            See("# "),
            Type("strace sh -c 'exit 5'; echo status=$?\r"),
            See("execve(\"/bin/sh\""),
            See("exit_group(5)"),
            See("status=5"),
            See("# "),
            Type("exit\r"),
            End,
        ],
        status: 0,
    },
    ConsoleTest {
        name: "qemu::console_poweroff_ends_qemu",
        shell: Shell::Own,
        script: &[See("# "), Type("poweroff\r"), End],
        status: 0,
    },
    ConsoleTest {
        name: "qemu::console_ctrl_c_and_ctrl_d",
        shell: Shell::Own,
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
        status: 130,
    },
    ConsoleTest {
        name: "qemu::console_line_editing",
        shell: Shell::Own,
        script: &[
            See("# "),
            // Insert a letter to the left, erase a word at the end, and repeat the line from the
            // history.
            Type("echo a-c\x1b[D\x1b[Db\x1b[C\x1b[C XX\x7f\x7f\x7f\r"),
            See("ab-c\r\n"),
            See("# "),
            Type("\x1b[A\r"),
            See("ab-c\r\n"),
            See("# "),
            Type("exit\r"),
            End,
        ],
        status: 0,
    },
    ConsoleTest {
        // Completion of a file's name, history, and the guest's own help.
        name: "qemu::console_bash_edits_lines",
        shell: Shell::Bash,
        script: &[
            See("sloth:~# "),
            Type("echo 'I am' ${BASH_VERSION:+ba''sh}; cat /etc/gr\t\r"),
            See("I am bash"),
            See("root:x:0:"),
            See("# "),
            Type("\x1b[A\x01echo aga''in; \r"),
            See("again"),
            See("I am bash"),
            See("# "),
            Type("help\r"),
            See("Tools: cat "),
            See("# "),
            Type("exit 5\r"),
            End,
        ],
        status: 5,
    },
    ConsoleTest {
        name: "qemu::console_bash_controls_jobs",
        shell: Shell::Bash,
        script: &[
            See("# "),
            Type("sh -c 'echo sta\"\"rted; cat'\r"),
            See("started"),
            Type("\x1a"),
            See("Stopped"),
            See("# "),
            Type("sleep 1000 & jobs\r"),
            See("Running"),
            See("# "),
            Type("fg %1\r"),
            See("cat'\r\n"),
            // bash prints the job's line before it passes the terminal on: cat's answer is later.
            Type("ping\r"),
            See("ping\r\nping\r\n"),
            Type("\x03"),
            See("# "),
            Type("echo status=$?; kill %2; exit 0\r"),
            See("status=130"),
            End,
        ],
        status: 0,
    },
    ConsoleTest {
        // The size at the start, and a change that a program in the foreground notices.
        name: "qemu::console_bash_and_vi_know_the_size",
        shell: Shell::Bash,
        script: &[
            Resize(31, 91),
            See("# "),
            Type("until [ \"$(stty size)\" = '31 91' ]; do :; done; echo first si''ze\r"),
            See("first size"),
            See("# "),
            // A signal for what is in the foreground.
            Type("\x03"),
            See("# "),
            Type("vi /etc/passwd\r"),
            See("/etc/passwd 1/1 100%"),
            Resize(12, 60),
            // vi draws its last line.
            See("\x1b[12;1H"),
            Type(":q\r"),
            See("# "),
            Type("echo $LINES by $COLUMNS\r"),
            See("12 by 60"),
            See("# "),
            Type("exit\r"),
            End,
        ],
        status: 0,
    },
];

/// The scripts in the order in which they run.
pub fn list() -> Vec<ConsoleTest> {
    TESTS.to_vec()
}

impl ConsoleTest {
    /// Plays the script to `cargo xtask run`.
    pub fn run(&self, paths: &Paths, interrupts: &Interrupts) -> Result<Verdict> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--timeout", "60"]).env("TERM", "vt100");
        match self.shell {
            Shell::Own => {
                command.arg("--plain");
            }
            Shell::Bash => {
                if let Err(why) = Userland::get(paths, None) {
                    return Ok(Verdict::Skipped(why));
                }
            }
        }
        play(command, self.script, self.status, interrupts)
    }
}

/// Plays a script to a program on a pseudo-terminal. The program must exit with `expected` and
/// restore the terminal's mode.
pub fn play(
    command: Command,
    script: &[Step],
    expected: u8,
    interrupts: &Interrupts,
) -> Result<Verdict> {
    play_within(LIMIT, command, script, expected, interrupts)
}

/// The same with another time limit.
pub fn play_within(
    limit: Duration,
    command: Command,
    script: &[Step],
    expected: u8,
    interrupts: &Interrupts,
) -> Result<Verdict> {
    let (terminal, slave) = open_terminal()?;
    let before = tcgetattr(&terminal)?;
    let mut child = start(command, slave)?;
    let mut screen =
        Screen { terminal, text: Vec::new(), seen: 0, deadline: Instant::now() + limit };
    let mut missed = None;
    for step in script {
        if !screen.perform(step, &mut child, interrupts)? {
            missed = Some(step);
            break;
        }
    }
    let status = child.try_wait()?;
    process::kill(&mut child);
    let restored = is_same(&before, &tcgetattr(&screen.terminal)?);
    let good = missed.is_none()
        && restored
        && status.is_some_and(|status| status.code() == Some(expected.into()));
    Ok(Verdict::from_condition(good, || {
        let shown = screen.text.len().saturating_sub(SHOWN_BYTES);
        let text = String::from_utf8_lossy(screen.text.get(shown..).unwrap_or_default());
        format!(
            "missed: {missed:?}\nterminal restored: {restored}\nprogram: {status:?}\n\
             --- screen\n{text}"
        )
    }))
}

/// Opens a pseudo-terminal: the master, and the side for the program.
fn open_terminal() -> Result<(File, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).context("cannot open a pseudo-terminal")?;
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

/// Whether two settings of a terminal are the same, apart from state of the line discipline.
fn is_same(one: &Termios, other: &Termios) -> bool {
    one.input_modes == other.input_modes
        && one.output_modes == other.output_modes
        && one.control_modes == other.control_modes
        && one.local_modes == other.local_modes
}

/// The output of the terminal so far.
struct Screen {
    terminal: File,
    text: Vec<u8>,
    /// Length of the part of the text that has been matched.
    seen: usize,
    deadline: Instant,
}

impl Screen {
    /// Performs one step; returns false if the awaited text or end does not occur.
    fn perform(&mut self, step: &Step, child: &mut Child, interrupts: &Interrupts) -> Result<bool> {
        match step {
            Type(keys) => {
                self.terminal.write_all(keys.as_bytes()).map(|()| true).context("cannot type")
            }
            Resize(rows, columns) => {
                let size = Winsize { ws_row: *rows, ws_col: *columns, ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(&self.terminal, size).map(|()| true).context("cannot resize")
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

    /// Reads more output; returns false at its end, at the deadline, or at a signal.
    fn read(&mut self, interrupts: &Interrupts) -> Result<bool> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut waiting = [
            PollFd::from_borrowed_fd(self.terminal.as_fd(), PollFlags::IN),
            PollFd::new(interrupts, PollFlags::IN),
        ];
        process::poll(&mut waiting, Some(left))?;
        if interrupts.pending().is_some() {
            return Ok(false);
        }
        if waiting[0].revents().is_empty() {
            return Ok(Instant::now() < self.deadline);
        }
        let mut buffer = [0; 4096];
        // After the last program has closed the terminal, reads fail.
        let count = self.terminal.read(&mut buffer).unwrap_or(0);
        self.text.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play_to_shell(script: &[Step]) -> Verdict {
        let mut command = Command::new("sh");
        command.env("PS1", "# ");
        play(command, script, 0, &Interrupts::listen().unwrap()).unwrap()
    }

    #[test]
    fn a_script_passes_only_if_its_texts_appear_and_the_program_ends() {
        let lines = [See("# "), Type("echo he''llo\r"), See("hello"), See("# "), Type("exit\r")];
        let script = [&lines[..], &[End]].concat();
        assert_eq!(play_to_shell(&script), Verdict::Passed);
        let script = [&lines[..], &[See("never"), End]].concat();
        assert!(matches!(play_to_shell(&script), Verdict::Failed(_)));
        let script = [See("# "), Type("exit 3\r"), End];
        assert!(matches!(play_to_shell(&script), Verdict::Failed(_)));
    }
}
