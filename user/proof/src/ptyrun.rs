//! `ptyrun STEPS PROGRAM [ARGUMENT…]`: runs a program at a pseudo-terminal, types input and checks
//! its output, equally on Linux and on Sloth.
//!
//! Each line of the file STEPS is a step, with the escapes `\r`, `\e`, `\\` and `\xHH`:
//!
//! - `type TEXT` types it.
//! - `see TEXT` waits until it is shown, after the text of the last `see`. What is typed is echoed,
//!   too: choose a text that differs from it.
//! - `size ROWS COLUMNS` changes the size of the terminal, which is 24 by 80 at first.
//! - `hangup` closes the master.
//!
//! After the last step the program must end. Prints its exit status; if a step fails, prints the
//! screen and ends with 1.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

use user::prelude::*;
use user::sys::{Window, abi};

program!(run);

/// Milliseconds without output after which the program counts as hanging.
const PATIENCE_MS: usize = 60_000;
/// Bytes of the screen that are printed when a step fails.
const TOLD_BYTES: usize = 2000;

enum Step {
    Type(Vec<u8>),
    See(Vec<u8>),
    Size(Window),
    HangUp,
}

fn run(args: &Args) -> i32 {
    let Some([steps, command @ ..]) = args.get(1..).filter(|rest| rest.len() > 1) else {
        eprintln!("usage: ptyrun STEPS PROGRAM [ARGUMENT...]");
        return 2;
    };
    let text = match user::io::read_file(steps) {
        Ok(text) => text,
        Err(error) => return complain("ptyrun", steps, error),
    };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let Some(steps) = lines.map(parse).collect::<Option<Vec<Step>>>() else {
        eprintln!("ptyrun: {}: there is a line that is no step", Show(steps));
        return 2;
    };
    match Screen::start(command).and_then(|mut screen| play(&mut screen, &steps)) {
        Ok(status) => status,
        Err(error) => complain("ptyrun", b"the terminal", error),
    }
}

fn parse(line: &[u8]) -> Option<Step> {
    let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (word, rest) = (line.get(..at)?, line.get(at + 1..).unwrap_or_default());
    match word {
        b"type" => unescape(rest).map(Step::Type),
        b"see" => unescape(rest).map(Step::See),
        b"size" => {
            let mut numbers = core::str::from_utf8(rest).ok()?.split(' ').map(str::parse);
            Some(Step::Size(Window { rows: numbers.next()?.ok()?, columns: numbers.next()?.ok()? }))
        }
        b"hangup" => Some(Step::HangUp),
        _ => None,
    }
}

fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        (text, bytes) = match (first, rest) {
            (b'\\', [b'x', high, low, rest @ ..]) => {
                let digit = |byte: u8| (byte as char).to_digit(16);
                bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
                (rest, bytes)
            }
            (b'\\', [letter, rest @ ..]) => {
                bytes.push(match letter {
                    b'r' => b'\r',
                    b'e' => 0x1b,
                    b'\\' => b'\\',
                    _ => return None,
                });
                (rest, bytes)
            }
            (b'\\', []) => return None,
            (byte, rest) => {
                bytes.push(*byte);
                (rest, bytes)
            }
        };
    }
    Some(bytes)
}

/// Runs the steps and waits for the program's end. Returns the exit status.
fn play(screen: &mut Screen, steps: &[Step]) -> Result<i32> {
    for (index, step) in steps.iter().enumerate() {
        if !screen.take(step)? {
            return screen.give_up(&format!("step {} was missed", index + 1));
        }
    }
    while screen.read()? {}
    if screen.is_late {
        return screen.give_up("the program did not end");
    }
    let status = sys::wait_for(screen.program)?;
    println!("{} steps, status {}", steps.len(), status.shell_status());
    Ok(0)
}

/// The program's output.
struct Screen {
    master: Option<Fd>,
    program: i32,
    text: Vec<u8>,
    /// The offset up to which the output has been matched.
    seen: usize,
    /// Whether the program showed nothing for too long.
    is_late: bool,
}

impl Screen {
    fn start(command: &[&[u8]]) -> Result<Screen> {
        let master = sys::open_pty()?;
        sys::set_window(master, Window { rows: 24, columns: 80 })?;
        let path = sys::pty_path(master)?;
        let Some(program) = sys::fork()? else { sys::exit(become_program(&path, command)) };
        Ok(Screen { master: Some(master), program, text: Vec::new(), seen: 0, is_late: false })
    }

    /// Runs one step. Returns false if it fails.
    fn take(&mut self, step: &Step) -> Result<bool> {
        let Some(master) = self.master else { return Ok(false) };
        match step {
            Step::Type(keys) => sys::write_all(master, keys)?,
            Step::Size(window) => sys::set_window(master, *window)?,
            Step::HangUp => {
                self.master = None;
                sys::close(master)?;
            }
            Step::See(wanted) => {
                while !self.find(wanted) {
                    if !self.read()? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn find(&mut self, wanted: &[u8]) -> bool {
        let rest = self.text.get(self.seen..).unwrap_or_default();
        let found = rest.windows(wanted.len()).position(|window| window == wanted);
        self.seen += found.map_or(0, |at| at + wanted.len());
        found.is_some()
    }

    /// Reads the next output. Returns false at its end, or after a time-out.
    fn read(&mut self) -> Result<bool> {
        let Some(master) = self.master else { return Ok(false) };
        let mut entry = abi::pollfd { fd: master.0, events: abi::POLLIN as i16, revents: 0 };
        // SAFETY: the kernel fills in the one entry.
        let found = sys::check(unsafe {
            sys::syscall(abi::__NR_poll, [&raw mut entry as usize, 1, PATIENCE_MS, 0, 0, 0])
        })?;
        self.is_late = found == 0;
        if self.is_late {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match sys::read(master, &mut buffer) {
            Ok(count) => {
                self.text.extend_from_slice(buffer.get(..count).unwrap_or_default());
                Ok(count > 0)
            }
            // The last program has closed the slave.
            Err(Errno::EIO) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn give_up(&mut self, why: &str) -> Result<i32> {
        let shown = self.text.get(self.text.len().saturating_sub(TOLD_BYTES)..).unwrap_or_default();
        println!("ptyrun: {why}\n--- screen\n{}", shown.escape_ascii());
        // The child normally ends with its terminal; this is for the exception.
        let _ = (self.master.take().map(sys::close), sys::kill(self.program, abi::SIGKILL as i32));
        sys::wait_for(self.program)?;
        Ok(1)
    }
}

/// Runs in the child: becomes session leader at the terminal. Returns only if that or execve fails.
fn become_program(terminal: &[u8], command: &[&[u8]]) -> i32 {
    let start = || -> Result<()> {
        sys::setsid()?;
        let terminal = sys::open(terminal, abi::O_RDWR, 0)?;
        for descriptor in 0..3 {
            sys::dup2(terminal, Fd(descriptor))?;
        }
        if terminal > Fd::STDERR { sys::close(terminal) } else { Ok(()) }
    };
    if let Err(error) = start() {
        return complain("ptyrun", terminal, error);
    }
    let failure = user::launch::launch(command, user::rt::environment());
    complain("ptyrun", command.first().copied().unwrap_or_default(), failure);
    user::launch::failure_status(failure)
}
