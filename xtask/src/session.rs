//! A machine from its start to its end: one loop that moves bytes and minds the clock.
//!
//! No threads: the loop waits for the three ports, QEMU's own words, the user's input, signals and
//! the deadline at once, and ends when QEMU has closed everything.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::interrupts::Interrupts;
use crate::machine::{Ending, Machine};

/// The key that ends QEMU from a terminal: Ctrl-].
const QUIT_KEY: u8 = 0x1d;
/// What a terminal sends at the end of input: Ctrl-D.
const END_OF_INPUT: u8 = 0x04;
/// More than init has to say on the control channel.
const MAX_CONTROL_BYTES: usize = 4096;

/// What the guest's console reads.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// Nothing.
    None,
    /// A person's keys.
    Terminal(BorrowedFd<'a>),
    /// A file or a pipe; its end is passed on as Ctrl-D.
    Stream(BorrowedFd<'a>),
}

/// Where a session's bytes go, and how long it may take.
pub struct Session<'a> {
    /// What COM1 reads.
    pub input: Input<'a>,
    /// What COM1 writes, byte by byte as it comes.
    pub console: &'a mut dyn Write,
    /// What COM2 writes.
    pub log: &'a mut dyn Write,
    /// How long the machine may run.
    pub limit: Option<Duration>,
    /// Signals to us.
    pub interrupts: &'a Interrupts,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The machine ended; the status is what init reported, if it did.
    Ended(Ending, Option<u8>),
    /// It took too long and was ended.
    TimedOut,
    /// The user gave it up at the keyboard.
    Quit,
    /// We were told to stop, by this signal.
    Interrupted(i32),
}

impl Session<'_> {
    /// Runs the machine to its end.
    pub fn run(mut self, mut machine: Machine) -> Result<Outcome> {
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        let mut state = State {
            open: [true; 4],
            pending: Vec::new(),
            control: Vec::new(),
            complaints: Vec::new(),
        };
        let stopped = loop {
            if let Some(signal) = self.interrupts.pending() {
                break Some(Outcome::Interrupted(signal));
            }
            if !state.open.contains(&true) {
                break None;
            }
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
            None => Ok(Outcome::Ended(machine.wait()?, reported_status(&state.control))),
        }
    }

    /// Waits until something can be done.
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
        if !state.pending.is_empty() {
            waiting.push(PollFd::new(&machine.keys, PollFlags::OUT));
        }
        waiting.push(PollFd::from_borrowed_fd(self.interrupts.as_fd(), PollFlags::IN));
        let mut input_slot = None;
        if let (Input::Terminal(input) | Input::Stream(input), true) =
            (self.input, state.pending.is_empty())
        {
            input_slot = Some(waiting.len());
            waiting.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        let timeout = left.map(|left| Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut waiting, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the machine"),
        }
        let readable = |slot: Option<usize>| {
            let flags = slot.and_then(|slot| waiting.get(slot)).map(PollFd::revents);
            flags.is_some_and(|flags| {
                flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            })
        };
        Ok(Ready { sources: slots.map(readable), input: readable(input_slot) })
    }

    /// Does what can be done.
    fn serve(
        &mut self,
        machine: &mut Machine,
        state: &mut State,
        ready: Ready,
    ) -> Result<Option<Outcome>> {
        if ready.sources[0] {
            state.open[0] = pump(&mut machine.console, self.console)
                .context("cannot pass on the guest's output")?;
        }
        if ready.sources[1] {
            state.open[1] =
                pump(&mut machine.log, self.log).context("cannot pass on the kernel's log")?;
        }
        if ready.sources[2] {
            state.open[2] = pump(&mut machine.control, &mut state.control)?;
            state.control.truncate(MAX_CONTROL_BYTES);
        }
        if ready.sources[3] {
            state.open[3] = pump(&mut machine.complaints, &mut state.complaints)?;
        }
        if ready.input && self.read_input(state)? {
            return Ok(Some(Outcome::Quit));
        }
        if !state.pending.is_empty() {
            match machine.keys.write(&state.pending) {
                Ok(count) => drop(state.pending.drain(..count)),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // The machine has ended; the ports will say so.
                Err(_) => state.pending.clear(),
            }
        }
        Ok(None)
    }

    /// Takes the user's input; true if it says to quit.
    fn read_input(&mut self, state: &mut State) -> Result<bool> {
        let (Input::Terminal(input) | Input::Stream(input)) = self.input else { return Ok(false) };
        let mut buffer = [0; 4096];
        let count = match rustix::io::read(input, &mut buffer[..]) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            Err(_) => 0,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if matches!(self.input, Input::Terminal(_)) && bytes.contains(&QUIT_KEY) {
            return Ok(true);
        }
        state.pending.extend_from_slice(bytes);
        if count == 0 {
            state.pending.push(END_OF_INPUT);
            self.input = Input::None;
        }
        Ok(false)
    }
}

/// What a session remembers between two rounds.
struct State {
    /// Whether console, log, control and QEMU's complaints are still open.
    open: [bool; 4],
    /// Input that the console has not taken yet.
    pending: Vec<u8>,
    control: Vec<u8>,
    complaints: Vec<u8>,
}

/// What can be read without waiting.
struct Ready {
    sources: [bool; 4],
    input: bool,
}

/// Moves what is there; false at the end.
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

/// The status in the last whole line `exit N`.
fn reported_status(control: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(control).ok()?;
    let (lines, _) = text.rsplit_once('\n')?;
    lines.lines().rev().find_map(|line| line.trim().strip_prefix("exit ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_line_is_a_status() {
        assert_eq!(reported_status(b"exit 7\n"), Some(7));
        assert_eq!(reported_status(b"noise\r\nexit 255\r\n"), Some(255));
        for bad in [&b""[..], b"exit 7", b"exit x\n", b"exit 256\n", b"exit -1\n", b"\xff\n"] {
            assert_eq!(reported_status(bad), None);
        }
    }
}
