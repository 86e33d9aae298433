//! One run of a machine: a single loop that copies bytes between QEMU and the user.
//!
//! There are no threads. The loop polls the three serial ports, QEMU's standard error, the user's
//! input, signals and the deadline together. It ends when QEMU has closed all of its outputs.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::termios::tcgetwinsize;

use super::symbols::Symbols;
use super::terminal::Resizes;
use super::{Ending, Hardware, Machine, Start};
use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::{exit_status, process};

/// The key that ends QEMU from a terminal: Ctrl-].
const QUIT_KEY: u8 = 0x1d;
/// Bytes of input that are read at once, and from a terminal in advance.
const INPUT_BYTES: usize = 4096;
/// Limit for a line on the control channel.
const MAX_CONTROL_BYTES: usize = 4096;

/// Input of the guest's console.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// The console has no input.
    None,
    /// A terminal, in which Ctrl-] ends QEMU.
    Terminal(BorrowedFd<'a>),
    /// Bytes with an end. They are sent in frames: a length of two bytes, the most significant
    /// first, and as many bytes of data. A frame without data is the end.
    Stream(BorrowedFd<'a>),
}

/// Where a machine's output is written, and its time limit.
pub struct Session<'a> {
    /// Input for COM1.
    pub input: Input<'a>,
    /// Output of COM1, passed on without buffering.
    pub console: &'a mut dyn Write,
    /// Output of COM2.
    pub log: &'a mut dyn Write,
    /// Time limit for the machine.
    pub limit: Option<Duration>,
    /// Longest time without output on the console, boot included.
    pub silence: Option<Duration>,
    /// Signals to xtask.
    pub interrupts: &'a Interrupts,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// QEMU ended, with the status that init reported, if it reported one.
    Ended(Ending, Option<u8>),
    /// The machine reached its time limit and was killed.
    TimedOut,
    /// The user pressed Ctrl-].
    Quit,
    /// xtask received this signal.
    Interrupted(i32),
}

impl Outcome {
    /// The exit status and a sentence for a run whose command was expected to succeed; `None` where
    /// it did.
    pub fn failure(&self) -> Option<(u8, String)> {
        let succeeded = *self == Self::Ended(Ending::PowerOff, Some(0));
        (!succeeded).then(|| self.describe())
    }

    /// The exit status and a sentence for a run that was expected to end otherwise.
    pub fn describe(&self) -> (u8, String) {
        match self {
            Self::Ended(Ending::PowerOff, Some(code)) => {
                (*code, format!("the command ended with status {code}"))
            }
            Self::Ended(Ending::PowerOff, None) => {
                (exit_status::QEMU_ENDED, "the guest reported no status".to_owned())
            }
            Self::Ended(Ending::KernelPanic, _) => {
                (exit_status::KERNEL_PANIC, "the kernel panicked".to_owned())
            }
            Self::Ended(Ending::LoaderRefused, _) => {
                (exit_status::QEMU_ENDED, "the loader could not start the kernel".to_owned())
            }
            Self::Ended(Ending::Other(words), _) => (exit_status::QEMU_ENDED, words.clone()),
            Self::TimedOut => {
                (exit_status::TIMED_OUT, "the guest did not end in time and was stopped".to_owned())
            }
            Self::Quit => (exit_status::QEMU_ENDED, "ended at the keyboard".to_owned()),
            Self::Interrupted(signal) => {
                (exit_status::QEMU_ENDED, format!("stopped by signal {signal}"))
            }
        }
    }
}

/// What a machine without input has written.
pub struct Captured {
    /// How the machine ended.
    pub outcome: Outcome,
    /// Standard output of the guest's command.
    pub console: Vec<u8>,
    /// The command's standard error and the kernel's log.
    pub log: Vec<u8>,
}

/// Runs a machine without input and keeps its output.
pub fn capture(
    guest: &Guest,
    start: &Start,
    hardware: &Hardware,
    limit: Duration,
    interrupts: &Interrupts,
) -> Result<Captured> {
    let machine = Machine::start(guest, start, hardware)?;
    let (mut console, mut log) = (Vec::new(), Vec::new());
    let session = Session {
        input: Input::None,
        console: &mut console,
        log: &mut log,
        limit: Some(limit),
        silence: None,
        interrupts,
    };
    let outcome = session.run(machine)?;
    Ok(Captured { outcome, console, log })
}

impl Session<'_> {
    /// Runs the machine until it ends or has to be stopped.
    pub fn run(mut self, mut machine: Machine) -> Result<Outcome> {
        let start = Instant::now();
        let mut state = State {
            open: [true; 4],
            pending: Vec::new(),
            credit: 0,
            control: Control::default(),
            complaints: Vec::new(),
            heard: start,
            size: None,
            resizes: matches!(self.input, Input::Terminal(_)).then(Resizes::listen).transpose()?,
        };
        let stopped = loop {
            if let Some(signal) = self.interrupts.pending() {
                break Some(Outcome::Interrupted(signal));
            }
            if !state.open.contains(&true) {
                break None;
            }
            self.announce_size(&mut machine, &mut state);
            let limits = [self.limit.map(|it| start + it), self.silence.map(|it| state.heard + it)];
            let deadline = limits.into_iter().flatten().min();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break Some(Outcome::TimedOut);
            }
            let ready = self.poll(&machine, &state, left)?;
            if let Some(outcome) = self.serve(&mut machine, &mut state, ready)? {
                break Some(outcome);
            }
        };
        if !state.complaints.is_empty() {
            eprint!("qemu: {}", String::from_utf8_lossy(&state.complaints));
        }
        match stopped {
            Some(outcome) => {
                machine.kill();
                Ok(outcome)
            }
            None => Ok(Outcome::Ended(machine.wait()?, state.control.status)),
        }
    }

    /// Sends the terminal's size, if it has changed and the guest takes it: a line
    /// `size ROWS COLUMNS`.
    fn announce_size(&self, machine: &mut Machine, state: &mut State) {
        let Input::Terminal(terminal) = self.input else { return };
        state.resizes.iter_mut().for_each(Resizes::clear);
        if !state.control.has_terminal {
            return;
        }
        let size = tcgetwinsize(terminal).ok().map(|size| (size.ws_row, size.ws_col));
        // A terminal that does not know its size says 0.
        let is_news = |&(rows, columns): &(u16, u16)| rows > 0 && columns > 0 && size != state.size;
        if let Some((rows, columns)) = size.filter(is_news) {
            // The line is shorter than what the guest's port and QEMU's socket take at once.
            let line = format!("size {rows} {columns}\n");
            if machine.control.write(line.as_bytes()).is_ok_and(|count| count == line.len()) {
                state.size = size;
            }
        }
    }

    /// Waits until a descriptor is ready, or for the time that is left.
    fn poll(&self, machine: &Machine, state: &State, left: Option<Duration>) -> Result<Ready> {
        let mut waiting = Vec::with_capacity(6);
        let sources: [(BorrowedFd<'_>, bool); 4] = [
            (machine.console.as_fd(), state.open[0]),
            (machine.log.as_fd(), state.open[1]),
            (machine.control.as_fd(), state.open[2]),
            (machine.complaints.as_fd(), state.open[3]),
        ];
        let mut slots = [None; 4];
        for (index, (descriptor, is_open)) in sources.iter().enumerate() {
            if *is_open {
                slots[index] = Some(waiting.len());
                waiting.push(PollFd::from_borrowed_fd(*descriptor, PollFlags::IN));
            }
        }
        if !state.sendable().is_empty() {
            waiting.push(PollFd::new(&machine.keys, PollFlags::OUT));
        }
        waiting.push(PollFd::from_borrowed_fd(self.interrupts.as_fd(), PollFlags::IN));
        waiting.extend(state.resizes.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        let mut input_slot = None;
        // A terminal is read in advance: one of the keys may be the one that quits.
        let input = match self.input {
            Input::Terminal(input) if state.pending.len() < INPUT_BYTES => Some(input),
            Input::Stream(input) if state.pending.is_empty() => Some(input),
            _ => None,
        };
        if let Some(input) = input {
            input_slot = Some(waiting.len());
            waiting.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        process::poll(&mut waiting, left)?;
        let readable = |slot: Option<usize>| {
            let flags = slot.and_then(|slot| waiting.get(slot)).map(PollFd::revents);
            flags.is_some_and(|flags| {
                flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            })
        };
        Ok(Ready { sources: slots.map(readable), input: readable(input_slot) })
    }

    /// Copies the bytes that are ready.
    fn serve(
        &mut self,
        machine: &mut Machine,
        state: &mut State,
        ready: Ready,
    ) -> Result<Option<Outcome>> {
        if ready.sources[0] {
            state.heard = Instant::now();
            state.open[0] = pump(&mut machine.console, self.console)
                .context("cannot write the guest's output")?;
        }
        if ready.sources[1] {
            let Machine { log, symbols, .. } = machine;
            let mut named = Named { symbols, to: self.log };
            state.open[1] = pump(log, &mut named).context("cannot write the kernel's log")?;
        }
        if ready.sources[2] {
            state.open[2] = pump(&mut machine.control, &mut state.control.line)?;
            state.credit = state.credit.saturating_add(state.control.process());
        }
        if ready.sources[3] {
            state.open[3] = pump(&mut machine.complaints, &mut state.complaints)?;
        }
        if ready.input && self.read_input(state)? {
            return Ok(Some(Outcome::Quit));
        }
        if !state.sendable().is_empty() {
            match machine.keys.write(state.sendable()) {
                Ok(count) => state.sent(count),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // QEMU has ended; the next poll finds its outputs closed.
                Err(_) => state.pending.clear(),
            }
        }
        Ok(None)
    }

    /// Reads the user's input; returns whether it contains the key that quits.
    fn read_input(&mut self, state: &mut State) -> Result<bool> {
        let (Input::Terminal(input) | Input::Stream(input)) = self.input else { return Ok(false) };
        let mut buffer = [0; INPUT_BYTES];
        let count = match rustix::io::read(input, &mut buffer[..]) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            Err(_) => 0,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if matches!(self.input, Input::Terminal(_)) && bytes.contains(&QUIT_KEY) {
            return Ok(true);
        }
        if matches!(self.input, Input::Stream(_)) {
            let length = u16::try_from(count).context("a frame that is too long")?;
            state.pending.extend_from_slice(&length.to_be_bytes());
        }
        state.pending.extend_from_slice(bytes);
        if count == 0 {
            self.input = Input::None;
        }
        Ok(false)
    }
}

/// State of a session between two rounds of the loop.
struct State {
    /// Whether console, log, control and QEMU's complaints are still open.
    open: [bool; 4],
    /// Input that the console has not accepted yet.
    pending: Vec<u8>,
    /// Number of bytes of input that the guest has allowed and not got.
    credit: usize,
    control: Control,
    complaints: Vec<u8>,
    /// When the console was heard last.
    heard: Instant,
    /// Rows and columns of the terminal, as the guest knows them.
    size: Option<(u16, u16)>,
    resizes: Option<Resizes>,
}

impl State {
    /// Input that may be sent now.
    fn sendable(&self) -> &[u8] {
        self.pending.get(..self.credit).unwrap_or(&self.pending)
    }

    fn sent(&mut self, count: usize) {
        self.pending.drain(..count);
        self.credit -= count;
    }
}

/// What init writes on the control channel: lines `terminal`, `credit N` and `exit N`.
#[derive(Debug, Default)]
struct Control {
    /// Bytes of a line that is not complete, once the others are processed.
    line: Vec<u8>,
    /// The status in the last line `exit N`.
    status: Option<u8>,
    /// Whether there was a line `terminal`.
    has_terminal: bool,
}

impl Control {
    /// Processes complete lines; returns the number of bytes of input that they allow.
    fn process(&mut self) -> usize {
        let mut credit: usize = 0;
        while let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let Ok(line) = std::str::from_utf8(&line) else { continue };
            match line.trim().split_once(' ') {
                Some(("exit", status)) => self.status = status.parse().ok().or(self.status),
                Some(("credit", count)) => {
                    credit = credit.saturating_add(count.parse().unwrap_or(0));
                }
                _ if line.trim() == "terminal" => {
                    credit = usize::MAX;
                    self.has_terminal = true;
                }
                _ => {}
            }
        }
        self.line.truncate(MAX_CONTROL_BYTES);
        credit
    }
}

/// Which descriptors can be read without waiting.
struct Ready {
    sources: [bool; 4],
    input: bool,
}

/// The kernel's log on its way, with names added to a backtrace.
struct Named<'a> {
    symbols: &'a mut Symbols,
    to: &'a mut dyn Write,
}

impl Write for Named<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.symbols.pass(bytes, self.to)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// Copies the bytes that are ready; returns false at the end of the source.
fn pump(from: &mut dyn Read, to: &mut dyn Write) -> Result<bool> {
    let mut buffer = [0; 65536];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            to.write_all(buffer.get(..count).unwrap_or_default())?;
            to.flush()?;
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(bytes: &[u8]) -> (Control, usize) {
        let mut control = Control { line: bytes.to_vec(), ..Control::default() };
        let credit = control.process();
        (control, credit)
    }

    #[test]
    fn only_a_complete_line_is_a_status() {
        assert_eq!(control(b"exit 7\n").0.status, Some(7));
        assert_eq!(control(b"noise\r\nexit 255\r\nexit x\n").0.status, Some(255));
        for bad in [&b""[..], b"exit 7", b"exit x\n", b"exit 256\n", b"exit -1\n", b"\xff\n"] {
            assert_eq!(control(bad).0.status, None);
        }
    }

    #[test]
    fn input_waits_for_credit() {
        let (mut control, credit) = control(b"credit 3\r\ncredit 2\r\ncre");
        assert_eq!(credit, 5);
        let mut state = State {
            open: [true; 4],
            pending: b"abcdefgh".to_vec(),
            credit,
            control: Control::default(),
            complaints: Vec::new(),
            heard: Instant::now(),
            size: None,
            resizes: None,
        };
        assert_eq!(state.sendable(), b"abcde");
        state.sent(4);
        assert_eq!((state.sendable(), state.pending.as_slice()), (&b"e"[..], &b"efgh"[..]));
        control.line.extend_from_slice(b"dit 9\nterminal\n");
        assert!(!control.has_terminal);
        assert_eq!((control.process(), control.has_terminal), (usize::MAX, true));
        state.credit = usize::MAX;
        assert_eq!(state.sendable(), b"efgh");
    }
}
