//! The line discipline: processes bytes between a line and a program. Knows no lock, device or
//! process: input bytes result in [`Effects`].

use super::queue::Queue;
use super::termios::Termios;
use crate::file::mutants;
use crate::mem::OutOfMemory;
use crate::mem::fallible;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// Bytes of a line being edited, its end included, and bytes that wait for a reader, with an end of
/// file (^D) counted as a byte. As on Linux, a writer of a master waits for space, and a line that
/// is being edited drops what exceeds it, with a bell.
pub const MAX_INPUT: usize = 4096;
/// Bytes of echo from one call of [`Discipline::input`], at most: a line of control characters that
/// is erased.
const MAX_ECHO: usize = 6 * MAX_INPUT + 16;

/// What is echoed for input that is dropped.
const BELL: &[u8] = b"\x07";

/// SIGINT, SIGQUIT and SIGTSTP.
const SIGINT: u8 = linux::SIGINT as u8;
const SIGQUIT: u8 = linux::SIGQUIT as u8;
const SIGTSTP: u8 = linux::SIGTSTP as u8;

/// The effects of input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Bytes to send to the line.
    pub echo: Vec<u8>,
    /// Signals for the foreground process group: a bit for each number.
    pub signals: u64,
    /// Whether a reader may have input now.
    pub readable: bool,
    /// Whether output is stopped (^S) or restarted (^Q).
    pub flow: Option<Flow>,
}

impl Effects {
    /// Adds an echo. Without memory, and in excess of what input can cause, nothing is echoed.
    fn show(&mut self, bytes: &[u8]) {
        if self.echo.len() + bytes.len() <= ECHO_CHUNK + MAX_ECHO
            && fallible::reserve(&mut self.echo, bytes.len()).is_ok()
        {
            self.echo.extend_from_slice(bytes);
        }
    }

    /// Whether the echo shall be sent before more input is processed.
    pub fn is_full(&self) -> bool {
        self.echo.len() >= ECHO_CHUNK
    }

    /// The signals' numbers, ascending.
    pub fn signals(&self) -> impl Iterator<Item = u8> {
        (0..64).filter(|number| self.signals & 1 << number != 0)
    }
}

/// Bytes of echo that are collected before they are sent.
const ECHO_CHUNK: usize = 512;

/// Flow control of output by XON and XOFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Output is stopped.
    Stopped,
    /// Output is sent.
    Running,
}

/// A terminal's state between its line and its readers.
#[derive(Debug, Default)]
pub struct Discipline {
    /// The settings.
    pub termios: Termios,
    /// The line being edited (canonical mode).
    editing: Vec<u8>,
    /// Bytes that can be read.
    ready: Queue,
    /// Bytes that readers took and may put back.
    held: usize,
    /// Whether the next byte is literal (^V).
    literal: bool,
}

/// How long a read in non-canonical mode waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// For this many bytes (`VMIN`).
    pub bytes: usize,
    /// At most this time, in 1/10 s (`VTIME`): with `bytes`, after each byte, else from the start.
    /// 0 is no limit with `bytes`, else no wait.
    pub tenths: u64,
}

impl Discipline {
    /// A discipline with these settings, and with memory for all input that it accepts.
    pub fn new(termios: Termios) -> Result<Self, OutOfMemory> {
        let mut new = Self { termios, ..Self::default() };
        fallible::reserve_exact(&mut new.editing, MAX_INPUT)?;
        new.ready.reserve()?;
        Ok(new)
    }

    fn canonical(&self) -> bool {
        self.termios.has_local(linux::ICANON)
    }

    /// Changes the settings. A line being edited becomes readable when canonical mode ends.
    pub fn set(&mut self, termios: Termios) {
        let was_canonical = self.canonical();
        self.termios = termios;
        if was_canonical && !self.canonical() {
            self.ready.join_lines();
            self.editing.drain(..).for_each(|byte| self.ready.push(byte));
        } else if !was_canonical && self.canonical() {
            self.ready.end_line();
        }
    }

    /// Discards all input.
    pub fn flush_input(&mut self) {
        self.editing.clear();
        self.ready.clear();
    }

    /// Bytes that can be read now.
    pub fn readable_bytes(&self) -> usize {
        if self.canonical() { self.ready.line_bytes() } else { self.ready.len() }
    }

    /// How long a read waits; `None` in canonical mode.
    pub fn read_limits(&self) -> Option<ReadLimits> {
        let [bytes, tenths] =
            [linux::VMIN, linux::VTIME].map(|index| self.termios.character(index));
        (!self.canonical()).then_some(ReadLimits { bytes: bytes.into(), tenths: tenths.into() })
    }

    /// Whether poll(2) reports input. With a time limit, one byte is enough.
    pub fn is_readable(&self) -> bool {
        match self.read_limits() {
            None => self.ready.lines() > 0,
            Some(ReadLimits { bytes, tenths: 0 }) => self.ready.len() >= bytes.max(1),
            Some(_) => self.ready.len() > 0,
        }
    }

    /// Whether another byte from the line is accepted. A line that is being edited accepts all
    /// bytes, and drops those beyond its limit.
    pub fn has_space(&self) -> bool {
        !self.is_full()
            || mutants::free_end_of_file()
            || (self.canonical() && self.ready.lines() == 0)
    }

    /// Whether only the end of a line fits, for which the last byte is reserved.
    fn is_full(&self) -> bool {
        self.used() + usize::from(self.canonical()) >= MAX_INPUT
    }

    fn used(&self) -> usize {
        self.editing.len() + self.ready.len() + self.held
    }

    /// In non-canonical mode: takes the available bytes, however few; else `None`.
    pub fn take(&mut self, max: usize) -> Option<Vec<u8>> {
        (!self.canonical()).then(|| self.ready.take(max))
    }

    /// Takes the result of a read of at most `max` bytes; in canonical mode, of one line at most.
    /// `None` where the read has to wait.
    pub fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        if let Some(ReadLimits { bytes, tenths }) = self.read_limits() {
            let least = if bytes == 0 && tenths > 0 { 1 } else { bytes.min(max) };
            return if self.ready.len() >= least { self.take(max) } else { None };
        }
        self.ready.take_line(max)
    }

    /// Keeps the places of bytes that were taken and may be put back: input that arrives meanwhile
    /// does not take them.
    pub fn hold(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Ends the hold of so many bytes. They were delivered, or are [put back](Self::unread) now.
    pub fn settle(&mut self, bytes: usize) {
        self.held -= bytes.min(self.held);
    }

    /// Puts back bytes that could not be delivered (F4).
    pub fn unread(&mut self, bytes: &[u8]) {
        if self.canonical() {
            self.ready.put_back_line(bytes);
        } else {
            self.ready.put_back(bytes);
        }
    }

    /// Processes a byte from the line.
    pub fn input(&mut self, byte: u8, effects: &mut Effects) {
        let byte = match (byte, self.termios.input) {
            (_, flags) if flags & linux::ISTRIP != 0 => byte & 0x7f,
            _ => byte,
        };
        let byte = match byte {
            b'\r' if self.termios.input & linux::IGNCR != 0 => return,
            b'\r' if self.termios.input & linux::ICRNL != 0 => b'\n',
            b'\n' if self.termios.input & linux::INLCR != 0 => b'\r',
            byte => byte,
        };
        if core::mem::take(&mut self.literal) {
            return self.append(byte, effects);
        }
        if self.flow(byte, effects) || self.signal(byte, effects) {
            return;
        }
        if self.canonical() { self.edit(byte, effects) } else { self.append(byte, effects) }
    }

    /// Processes a flow control byte. Returns whether it was one.
    fn flow(&self, byte: u8, effects: &mut Effects) -> bool {
        if self.termios.input & linux::IXON == 0 {
            return false;
        }
        let [stop, start] = [linux::VSTOP, linux::VSTART].map(|index| self.termios.is(byte, index));
        if stop || start {
            effects.flow = Some(if start { Flow::Running } else { Flow::Stopped });
        } else if self.termios.input & linux::IXANY != 0 {
            effects.flow = Some(Flow::Running);
        }
        stop || start
    }

    /// Processes a byte that sends a signal. Returns whether it was one.
    fn signal(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.termios.has_local(linux::ISIG) {
            return false;
        }
        let of = [(linux::VINTR, SIGINT), (linux::VQUIT, SIGQUIT), (linux::VSUSP, SIGTSTP)];
        let Some((_, signal)) = of.into_iter().find(|&(index, _)| self.termios.is(byte, index))
        else {
            return false;
        };
        if !self.termios.has_local(linux::NOFLSH) {
            self.flush_input();
        }
        self.echo(byte, effects);
        effects.signals |= 1 << signal;
        // As on Linux: a signal restarts output.
        if self.termios.input & linux::IXON != 0 {
            effects.flow = Some(Flow::Running);
        }
        true
    }

    fn edit(&mut self, byte: u8, effects: &mut Effects) {
        let extended = self.termios.has_local(linux::IEXTEN);
        if self.termios.is(byte, linux::VERASE) {
            self.erase(effects);
        } else if extended && self.termios.is(byte, linux::VWERASE) {
            self.erase_word(effects);
        } else if self.termios.is(byte, linux::VKILL) {
            self.kill(effects);
        } else if extended && self.termios.is(byte, linux::VLNEXT) {
            self.literal = true;
            if self.termios.has_local(linux::ECHO) {
                effects.show(b"^\x08");
            }
        } else if extended && self.termios.is(byte, linux::VREPRINT) {
            self.echo(byte, effects);
            effects.show(b"\n");
            self.editing.iter().for_each(|&byte| self.echo(byte, effects));
        } else if self.termios.is(byte, linux::VEOF) {
            self.end_file(effects);
        } else if byte == b'\n'
            || self.termios.is(byte, linux::VEOL)
            || self.termios.is(byte, linux::VEOL2)
        {
            self.end_line(byte, effects);
        } else {
            self.append(byte, effects);
        }
    }

    fn end_line(&mut self, byte: u8, effects: &mut Effects) {
        if self.used() >= MAX_INPUT {
            return effects.show(BELL);
        }
        if byte == b'\n'
            && self.termios.has_local(linux::ECHONL)
            && !self.termios.has_local(linux::ECHO)
        {
            effects.show(b"\n");
        }
        self.echo(byte, effects);
        self.editing.push(byte);
        self.finish();
        self.ready.end_line();
        effects.readable = true;
    }

    fn end_file(&mut self, effects: &mut Effects) {
        if self.used() >= MAX_INPUT && !mutants::free_end_of_file() {
            return effects.show(BELL);
        }
        self.finish();
        self.ready.end_file();
        effects.readable = true;
    }

    /// Appends a byte to the input.
    fn append(&mut self, byte: u8, effects: &mut Effects) {
        if self.is_full() {
            return effects.show(BELL);
        }
        self.echo(byte, effects);
        if self.canonical() {
            self.editing.push(byte);
        } else {
            self.ready.push(byte);
            effects.readable = true;
        }
    }

    /// Moves the line that is being edited to the bytes that can be read.
    fn finish(&mut self) {
        self.editing.drain(..).for_each(|byte| self.ready.push(byte));
    }

    fn echo(&self, byte: u8, effects: &mut Effects) {
        if !self.termios.has_local(linux::ECHO) {
            return;
        }
        if self.shown_as_caret(byte) {
            effects.show(&[b'^', byte ^ 0x40]);
        } else {
            effects.show(&[byte]);
        }
    }

    fn shown_as_caret(&self, byte: u8) -> bool {
        self.termios.has_local(linux::ECHOCTL)
            && byte.is_ascii_control()
            && byte != b'\n'
            && byte != b'\t'
    }

    /// Erases the last character, with all of its UTF-8 bytes.
    fn erase(&mut self, effects: &mut Effects) {
        let Some(mut byte) = self.editing.pop() else { return };
        let columns = if self.shown_as_caret(byte) { 2 } else { 1 };
        while self.termios.input & linux::IUTF8 != 0 && byte & 0xc0 == 0x80 {
            let Some(before) = self.editing.pop() else { break };
            byte = before;
        }
        if self.termios.has_local(linux::ECHO) {
            if self.termios.has_local(linux::ECHOE) {
                (0..columns).for_each(|_| effects.show(b"\x08 \x08"));
            } else {
                self.echo(self.termios.character(linux::VERASE), effects);
            }
        }
    }

    fn erase_word(&mut self, effects: &mut Effects) {
        while self.editing.last().is_some_and(u8::is_ascii_whitespace) {
            self.erase(effects);
        }
        while self.editing.last().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            self.erase(effects);
        }
    }

    fn kill(&mut self, effects: &mut Effects) {
        if self.termios.has_local(linux::ECHO)
            && !(self.termios.has_local(linux::ECHOKE) && self.termios.has_local(linux::ECHOE))
        {
            self.editing.clear();
            self.echo(self.termios.character(linux::VKILL), effects);
            if self.termios.has_local(linux::ECHOK) {
                effects.show(b"\n");
            }
            return;
        }
        while !self.editing.is_empty() {
            self.erase(effects);
        }
    }

    /// The bytes sent to the line for a program's output.
    pub fn output(&self, bytes: &[u8]) -> Result<Vec<u8>, OutOfMemory> {
        let translate =
            self.termios.output & linux::OPOST != 0 && self.termios.output & linux::ONLCR != 0;
        let newline: &[u8] = if translate { b"\r\n" } else { b"\n" };
        let mut out = Vec::new();
        let added = if translate { bytes.iter().filter(|&&byte| byte == b'\n').count() } else { 0 };
        fallible::reserve_exact(&mut out, bytes.len() + added)?;
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            match part {
                [text @ .., b'\n'] => {
                    out.extend_from_slice(text);
                    out.extend_from_slice(newline);
                }
                text => out.extend_from_slice(text),
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(discipline: &mut Discipline, bytes: &[u8]) -> Effects {
        let mut effects = Effects::default();
        bytes.iter().for_each(|&byte| discipline.input(byte, &mut effects));
        effects
    }

    #[test]
    fn a_line_is_readable_when_it_is_complete() {
        let mut discipline = Discipline::default();
        let effects = typed(&mut discipline, b"ls");
        assert_eq!((effects.echo.as_slice(), effects.readable), (&b"ls"[..], false));
        assert_eq!(discipline.read(100), None);
        assert_eq!(typed(&mut discipline, b"\rnext\r").echo, b"\nnext\n");
        assert_eq!(discipline.read(2), Some(b"ls".to_vec()));
        assert_eq!(discipline.read(100), Some(b"\n".to_vec()));
        assert_eq!(discipline.read(100), Some(b"next\n".to_vec()));
    }

    #[test]
    fn erase_removes_whole_characters_and_stops_at_the_start() {
        let mut discipline = Discipline::default();
        let effects = typed(&mut discipline, "aß\x7f\x7f\x7fb\n".as_bytes());
        assert_eq!(effects.echo, "aß\x08 \x08\x08 \x08b\n".as_bytes());
        assert_eq!(discipline.read(100), Some(b"b\n".to_vec()));
    }

    #[test]
    fn word_erase_kill_and_literal() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, b"one two \x17three\n");
        assert_eq!(discipline.read(100), Some(b"one three\n".to_vec()));
        typed(&mut discipline, b"gone\x15kept\x16\x03\n");
        assert_eq!(discipline.read(100), Some(b"kept\x03\n".to_vec()));
    }

    #[test]
    fn end_of_file_ends_a_line_without_a_byte() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, b"part\x04\x04");
        assert_eq!(discipline.read(100), Some(b"part".to_vec()));
        assert_eq!(discipline.read(100), Some(Vec::new()));
        assert_eq!(discipline.read(100), None);
    }

    #[test]
    fn end_of_file_behind_a_complete_line_is_read_by_itself() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, b"line\n\x04next\n");
        assert_eq!(discipline.read(100), Some(b"line\n".to_vec()));
        assert_eq!(discipline.read(100), Some(Vec::new()));
        assert_eq!(discipline.read(100), Some(b"next\n".to_vec()));
    }

    #[test]
    fn bytes_that_are_put_back_are_read_as_before() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, b"line\npart\x04");
        for line in [&b"line\n"[..], b"part"] {
            for max in [2, line.len(), 100] {
                let bytes = discipline.read(max).unwrap();
                discipline.unread(&bytes);
            }
            assert_eq!(discipline.read(100), Some(line.to_vec()));
        }
        assert_eq!(discipline.read(100), None);
    }

    #[test]
    fn input_that_is_not_delivered_is_kept_without_memory() {
        let mut discipline = Discipline::new(Termios::raw()).unwrap();
        typed(&mut discipline, &[1; MAX_INPUT]);
        let bytes = discipline.read(1000).unwrap();
        discipline.hold(bytes.len());
        // The reader's places are not taken by what arrives in the meantime.
        typed(&mut discipline, &[2; MAX_INPUT]);
        discipline.settle(bytes.len());
        let ((), claims) = crate::mem::host::failure::during(Some(0), || discipline.unread(&bytes));
        assert_eq!(claims, 0);
        assert_eq!(discipline.read(2 * MAX_INPUT), Some(vec![1; MAX_INPUT]));
    }

    #[test]
    fn signals_discard_the_input() {
        let mut discipline = Discipline::default();
        let effects = typed(&mut discipline, b"half\x03");
        assert_eq!((effects.signals, effects.echo), (1 << SIGINT, b"half^C".to_vec()));
        typed(&mut discipline, b"x\n");
        assert_eq!(discipline.read(100), Some(b"x\n".to_vec()));
    }

    #[test]
    fn raw_mode_passes_all_bytes() {
        let mut discipline = Discipline::new(Termios::raw()).unwrap();
        let effects = typed(&mut discipline, b"\x03\r\x7f");
        assert_eq!((effects.signals, effects.echo.len(), effects.readable), (0, 0, true));
        assert_eq!(discipline.read(2), Some(b"\x03\r".to_vec()));
        assert_eq!(discipline.read(2), Some(b"\x7f".to_vec()));
        assert_eq!(discipline.read(2), None);
        assert_eq!(discipline.output(b"a\nb").unwrap(), b"a\nb");
    }

    #[test]
    fn a_non_canonical_read_waits_for_vmin_bytes() {
        let set = |bytes, tenths| {
            let mut termios = Termios::raw();
            termios.characters[linux::VMIN as usize] = bytes;
            termios.characters[linux::VTIME as usize] = tenths;
            Discipline::new(termios).unwrap()
        };
        let mut three = set(3, 0);
        typed(&mut three, b"ab");
        assert_eq!(
            (three.is_readable(), three.read(100), three.read(2)),
            (false, None, Some(b"ab".to_vec()))
        );
        typed(&mut three, b"cdef");
        assert_eq!(three.read(100), Some(b"cdef".to_vec()));
        assert_eq!(set(0, 0).read(100), Some(Vec::new()));
        assert_eq!(set(0, 1).read(100), None);
        let mut timed = set(3, 1);
        typed(&mut timed, b"a");
        assert_eq!(
            (timed.is_readable(), timed.read(100), timed.take(100)),
            (true, None, Some(b"a".to_vec()))
        );
    }

    #[test]
    fn there_is_space_until_the_input_is_full_and_always_in_an_edited_line() {
        let mut raw = Discipline::new(Termios::raw()).unwrap();
        typed(&mut raw, &alloc::vec![b'x'; MAX_INPUT - 1]);
        assert!(raw.has_space());
        typed(&mut raw, b"x");
        assert!(!raw.has_space());
        let mut lines = Discipline::default();
        typed(&mut lines, &alloc::vec![b'x'; MAX_INPUT]);
        assert!(lines.has_space());
        typed(&mut lines, b"\n");
        assert!(!lines.has_space());
    }

    #[test]
    fn xon_and_xoff_stop_and_restart_output_where_enabled() {
        let mut discipline =
            Discipline::new(Termios { input: linux::IXON, ..Termios::new() }).unwrap();
        assert_eq!(typed(&mut discipline, b"\x13").flow, Some(Flow::Stopped));
        assert_eq!(typed(&mut discipline, b"x").flow, None);
        assert_eq!(typed(&mut discipline, b"\x11").flow, Some(Flow::Running));
        assert_eq!(typed(&mut discipline, b"\x03").flow, Some(Flow::Running));
        assert_eq!(typed(&mut Discipline::default(), b"\x13").flow, None);
    }

    #[test]
    fn output_gets_carriage_returns() {
        assert_eq!(Discipline::default().output(b"a\n\nb\n").unwrap(), b"a\r\n\r\nb\r\n");
    }

    #[test]
    fn a_line_beyond_the_limit_is_truncated_but_ends() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, &alloc::vec![b'x'; MAX_INPUT + 100]);
        typed(&mut discipline, b"\n");
        let line = discipline.read(MAX_INPUT * 2).unwrap();
        assert_eq!((line.len(), line.last()), (MAX_INPUT, Some(&b'\n')));
    }

    #[test]
    fn an_end_of_file_takes_a_place_in_the_input() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, &[4; 2 * MAX_INPUT]);
        assert_eq!((discipline.used(), discipline.has_space()), (MAX_INPUT, false));
        assert_eq!(discipline.read(100), Some(Vec::new()));
        typed(&mut discipline, &[b'\n'; MAX_INPUT]);
        assert_eq!((discipline.used(), discipline.has_space()), (MAX_INPUT, false));
        discipline.set(Termios::raw());
        assert_eq!(discipline.read(100), Some(b"\n".to_vec()));
        assert_eq!((discipline.read(1), discipline.has_space()), (None, true));
    }

    #[test]
    fn the_echo_of_one_byte_is_bounded() {
        let mut discipline = Discipline::default();
        typed(&mut discipline, &[0x16, 1].repeat(MAX_INPUT));
        let effects = typed(&mut discipline, &[0x12; 100]);
        assert!(effects.is_full() && effects.echo.len() <= ECHO_CHUNK + MAX_ECHO);
    }

    #[test]
    fn settings_survive_their_encoding() {
        let termios = Termios::new();
        assert_eq!(Termios::from_bytes(&termios.to_bytes()), termios);
    }
}
