//! `ptyrun STEPS PROGRAM [ARGUMENT…]`: runs a program at a terminal of its own, types at it, and
//! looks at what it shows. The same on Linux and on Sloth.
//!
//! Each line of the file STEPS is a step, with `\r`, `\e`, `\\` and `\xHH` for what cannot stand
//! there:
//!
//! - `type TEXT` types it.
//! - `see TEXT` waits until it has been shown, after what was waited for before. What was typed is
//!   shown too: look for what it cannot be mistaken for.
//! - `size ROWS COLUMNS` changes the terminal's size, which is 24 by 80 at first.
//! - `hangup` takes the terminal away.
//!
//! After the last step the program has to end. Says with what status it did; where a step cannot be
//! taken, what was on the screen, and ends with 1.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

use user::prelude::*;
use user::sys::{Window, abi};

program!(run);

/// How long nothing may happen before the program counts as hanging.
const PATIENCE_MS: usize = 60_000;
/// Bytes of the screen that are told where something is missed.
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

/// Takes the steps and waits for the program's end; the status of all.
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

/// What the program shows.
struct Screen {
    master: Option<Fd>,
    program: i32,
    text: Vec<u8>,
    /// How much of the text has been matched.
    seen: usize,
    /// Nothing happened for too long.
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

    /// Takes one step; false if it cannot be taken.
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

    /// Reads what is shown next; false at the end, or when nothing comes any more.
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
            // The last program has closed it.
            Err(Errno::EIO) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn give_up(&mut self, why: &str) -> Result<i32> {
        let shown = self.text.get(self.text.len().saturating_sub(TOLD_BYTES)..).unwrap_or_default();
        println!("ptyrun: {why}\n--- screen\n{}", shown.escape_ascii());
        // Its terminal's end is its own, as a rule; this is for the exception.
        let _ = (self.master.take().map(sys::close), sys::kill(self.program, abi::SIGKILL as i32));
        sys::wait_for(self.program)?;
        Ok(1)
    }
}

/// In the child: the leader of a session at the terminal. Never returns but on failure.
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
