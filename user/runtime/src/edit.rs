//! The line editor: one line on a terminal, with emacs keys, cursor keys and history.
//!
//! Line-editing crates query the cursor position and wait for the answer, which a serial console on
//! a pipe never sends. This editor only writes: it redraws the line after the prompt and assumes
//! nothing about the terminal's width. A line wider than the terminal still works, but is drawn
//! badly.
//!
//! [`Buffer`] holds the line and applies keys, without a terminal; [`Editor`] connects it to one.

use crate::prelude::*;
use sys::abi;

/// Lines kept in the history.
const HISTORY_LINES: usize = 200;

/// The maximum length of a line. Further input is dropped, as in the kernel's line discipline.
const LINE_BYTES: usize = 4096;

/// How reading a line ended.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// Ended by Enter.
    Entered(Vec<u8>),
    /// Ended by Ctrl-C.
    Abandoned,
    /// Ended by Ctrl-D on an empty line, or by the end of the input.
    End,
}

/// The effect of one byte of input.
#[derive(Debug, PartialEq)]
enum Step {
    /// The line did not change.
    Nothing,
    /// Text was inserted at the cursor.
    Inserted,
    /// The line must be redrawn.
    Redraw,
    /// The screen must be cleared and the line redrawn.
    Clear,
    /// The line is complete.
    Done(Line),
}

/// The state of the parser for escape sequences.
#[derive(Clone, Copy, PartialEq)]
enum Escape {
    None,
    /// After ESC.
    Started,
    /// After `ESC [` or `ESC O`, with the number read so far.
    Sequence(u16),
}

/// The line being edited.
struct Buffer {
    line: Vec<u8>,
    cursor: usize,
    escape: Escape,
    killed: Vec<u8>,
    history: Vec<Vec<u8>>,
    /// The index of the shown line in the history; the history's length means the new line.
    shown: usize,
    /// The new line, saved while a line of the history is shown.
    draft: Vec<u8>,
}

fn control(letter: u8) -> u8 {
    letter & 0x1f
}

/// Whether the byte continues a UTF-8 character.
fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl Buffer {
    fn new() -> Buffer {
        let (line, killed, history, draft) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Buffer { line, cursor: 0, escape: Escape::None, killed, history, shown: 0, draft }
    }

    /// Begins a new line.
    fn start(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.escape = Escape::None;
        self.shown = self.history.len();
    }

    fn left(&self) -> usize {
        let before = &self.line[..self.cursor];
        before.iter().rposition(|&byte| !continues(byte)).unwrap_or(0)
    }

    fn right(&self) -> usize {
        let next = (self.cursor + 1).min(self.line.len());
        self.line[next..]
            .iter()
            .position(|&byte| !continues(byte))
            .map_or(self.line.len(), |more| next + more)
    }

    fn word_left(&self) -> usize {
        let before = &self.line[..self.cursor];
        let end = before.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
        before[..end].iter().rposition(|&byte| byte == b' ').map_or(0, |at| at + 1)
    }

    fn word_right(&self) -> usize {
        let start = self.line[self.cursor..].iter().position(|&byte| byte != b' ');
        let start = start.map_or(self.line.len(), |more| self.cursor + more);
        self.line[start..]
            .iter()
            .position(|&byte| byte == b' ')
            .map_or(self.line.len(), |more| start + more)
    }

    fn move_to(&mut self, cursor: usize) -> Step {
        self.cursor = cursor;
        Step::Redraw
    }

    fn delete(&mut self, range: core::ops::Range<usize>) -> Step {
        self.cursor = range.start;
        self.line.drain(range);
        Step::Redraw
    }

    fn kill(&mut self, range: core::ops::Range<usize>) -> Step {
        self.killed = self.line[range.clone()].to_vec();
        self.delete(range)
    }

    fn insert(&mut self, bytes: &[u8]) -> Step {
        if self.line.len() + bytes.len() > LINE_BYTES {
            return Step::Nothing;
        }
        self.line.splice(self.cursor..self.cursor, bytes.iter().copied());
        self.cursor += bytes.len();
        Step::Inserted
    }

    /// Shows another line of the history.
    fn show(&mut self, index: usize) -> Step {
        if self.shown == self.history.len() {
            self.draft = self.line.clone();
        }
        let line =
            if index == self.history.len() { Some(&self.draft) } else { self.history.get(index) };
        let Some(line) = line else { return Step::Nothing };
        self.line = line.clone();
        self.shown = index;
        self.cursor = self.line.len();
        Step::Redraw
    }

    fn enter(&mut self) -> Step {
        let line = core::mem::take(&mut self.line);
        if !line.is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > HISTORY_LINES {
                self.history.remove(0);
            }
        }
        Step::Done(Line::Entered(line))
    }

    /// Applies one byte from the terminal.
    fn step(&mut self, byte: u8) -> Step {
        match self.escape {
            Escape::None => self.key(byte),
            Escape::Started => {
                self.escape =
                    if matches!(byte, b'[' | b'O') { Escape::Sequence(0) } else { Escape::None };
                match byte {
                    b'b' => self.move_to(self.word_left()),
                    b'f' => self.move_to(self.word_right()),
                    b'd' => self.kill(self.cursor..self.word_right()),
                    _ => Step::Nothing,
                }
            }
            Escape::Sequence(number) => {
                self.escape = match byte {
                    b'0'..=b'9' => Escape::Sequence(
                        number.saturating_mul(10).saturating_add(u16::from(byte - b'0')),
                    ),
                    b';' => Escape::Sequence(0),
                    _ => Escape::None,
                };
                self.sequence(number, byte)
            }
        }
    }

    /// Applies a complete escape sequence.
    fn sequence(&mut self, number: u16, byte: u8) -> Step {
        match (byte, number) {
            (b'A', _) => self.show(self.shown.wrapping_sub(1)),
            (b'B', _) => self.show(self.shown + 1),
            (b'C', 5) => self.move_to(self.word_right()),
            (b'D', 5) => self.move_to(self.word_left()),
            (b'C', _) => self.move_to(self.right()),
            (b'D', _) => self.move_to(self.left()),
            (b'H', _) | (b'~', 1 | 7) => self.move_to(0),
            (b'F', _) | (b'~', 4 | 8) => self.move_to(self.line.len()),
            (b'~', 3) => self.delete(self.cursor..self.right()),
            _ => Step::Nothing,
        }
    }

    fn key(&mut self, byte: u8) -> Step {
        const ESCAPE: u8 = 0x1b;
        const DELETE: u8 = 0x7f;
        const BACKSPACE: u8 = 8;
        match byte {
            b'\r' | b'\n' => self.enter(),
            ESCAPE => {
                self.escape = Escape::Started;
                Step::Nothing
            }
            DELETE | BACKSPACE => self.delete(self.left()..self.cursor),
            _ if byte == control(b'A') => self.move_to(0),
            _ if byte == control(b'B') => self.move_to(self.left()),
            _ if byte == control(b'C') => Step::Done(Line::Abandoned),
            _ if byte == control(b'D') && self.line.is_empty() => Step::Done(Line::End),
            _ if byte == control(b'D') => self.delete(self.cursor..self.right()),
            _ if byte == control(b'E') => self.move_to(self.line.len()),
            _ if byte == control(b'F') => self.move_to(self.right()),
            _ if byte == control(b'K') => self.kill(self.cursor..self.line.len()),
            _ if byte == control(b'L') => Step::Clear,
            _ if byte == control(b'N') => self.show(self.shown + 1),
            _ if byte == control(b'P') => self.show(self.shown.wrapping_sub(1)),
            _ if byte == control(b'U') => self.kill(0..self.cursor),
            _ if byte == control(b'W') => self.kill(self.word_left()..self.cursor),
            _ if byte == control(b'Y') => {
                let killed = self.killed.clone();
                self.insert(&killed)
            }
            b'\t' => self.insert(b" "),
            0..0x20 => Step::Nothing,
            _ => self.insert(&[byte]),
        }
    }
}

/// An editor on a terminal, or a plain line reader if there is none.
pub struct Editor {
    input: Fd,
    output: Fd,
    buffer: Buffer,
    /// Bytes read but not yet applied.
    ahead: alloc::collections::VecDeque<u8>,
}

impl Editor {
    /// An editor that reads keys from `input` and draws on `output`.
    pub fn new(input: Fd, output: Fd) -> Editor {
        Editor { input, output, buffer: Buffer::new(), ahead: alloc::collections::VecDeque::new() }
    }

    /// Reads one line after `prompt`. The terminal is in raw mode only during the call.
    pub fn read_line(&mut self, prompt: &[u8]) -> Result<Line> {
        let settings = sys::terminal_settings(self.input)?;
        let mut raw = settings;
        raw.c_lflag &= !(abi::ICANON | abi::ECHO | abi::ISIG | abi::IEXTEN);
        raw.c_iflag &= !(abi::ICRNL | abi::IXON);
        raw.c_cc[abi::VMIN as usize] = 1;
        raw.c_cc[abi::VTIME as usize] = 0;
        sys::set_terminal_settings(self.input, &raw)?;
        let line = self.edit(prompt);
        sys::set_terminal_settings(self.input, &settings)?;
        line
    }

    fn edit(&mut self, prompt: &[u8]) -> Result<Line> {
        self.buffer.start();
        self.draw(prompt, b"")?;
        // The length of the line that is on the screen, and whether the screen shows more than a
        // prefix of the line with the cursor at its end.
        let (mut shown, mut stale) = (0, false);
        loop {
            let Some(byte) = self.next_byte()? else { return Ok(Line::End) };
            let at_end = self.buffer.cursor == self.buffer.line.len();
            let done = match self.buffer.step(byte) {
                Step::Nothing => None,
                Step::Inserted => {
                    stale |= !at_end;
                    None
                }
                Step::Redraw => {
                    stale = true;
                    None
                }
                Step::Clear => {
                    sys::write_all(self.output, b"\x1b[H\x1b[2J")?;
                    stale = true;
                    None
                }
                Step::Done(line) => {
                    if let Line::Entered(text) = &line {
                        self.buffer.line.clone_from(text);
                        stale |= self.buffer.cursor != text.len();
                        self.buffer.cursor = text.len();
                    }
                    Some(line)
                }
            };
            // Pasted text is drawn once, not for each byte.
            if done.is_some() || self.ahead.is_empty() {
                if stale {
                    self.draw(prompt, b"\r")?;
                } else {
                    sys::write_all(self.output, self.buffer.line.get(shown..).unwrap_or_default())?;
                }
                (shown, stale) =
                    (self.buffer.line.len(), self.buffer.cursor != self.buffer.line.len());
            }
            if let Some(line) = done {
                let end: &[u8] = if line == Line::Abandoned { b"^C\r\n" } else { b"\r\n" };
                sys::write_all(self.output, end)?;
                return Ok(line);
            }
        }
    }

    fn next_byte(&mut self) -> Result<Option<u8>> {
        while self.ahead.is_empty() {
            let mut bytes = [0; 256];
            match sys::read(self.input, &mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => self.ahead.extend(&bytes[..count]),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.ahead.pop_front())
    }

    /// Draws prompt and line, and places the terminal's cursor.
    fn draw(&self, prompt: &[u8], before: &[u8]) -> Result<()> {
        let Buffer { line, cursor, .. } = &self.buffer;
        let mut out = [before, prompt, line, b"\x1b[K"].concat();
        let back = line[*cursor..].iter().filter(|&&byte| !continues(byte)).count();
        if back > 0 {
            out.extend(format!("\x1b[{back}D").into_bytes());
        }
        sys::write_all(self.output, &out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(buffer: &mut Buffer, keys: &str) -> Option<Line> {
        buffer.start();
        keys.bytes().find_map(|byte| match buffer.step(byte) {
            Step::Done(line) => Some(line),
            _ => None,
        })
    }

    #[test]
    fn keys() {
        let mut buffer = Buffer::new();
        for (keys, line) in [
            ("abc\r", "abc"),
            ("abc\x7f\x7fx\r", "ax"),
            ("bc\x01a\r", "abc"),
            ("ac\x1b[Db\r", "abc"),
            ("one two\x17three\r", "one three"),
            ("one two\x15\x19\x19\r", "one twoone two"),
            ("abc\x01\x04\r", "bc"),
            ("ä\x7fo\r", "o"),
            ("ab\x1b[D\x1b[3~\r", "a"),
            ("ab\x1b[Hx\x1b[Fy\r", "xaby"),
        ] {
            assert_eq!(
                type_in(&mut buffer, keys),
                Some(Line::Entered(line.as_bytes().to_vec())),
                "{keys:?}"
            );
        }
        assert_eq!(type_in(&mut buffer, "ab\x03"), Some(Line::Abandoned));
        assert_eq!(type_in(&mut buffer, "\x04"), Some(Line::End));
    }

    #[test]
    fn history_moves_back_and_forth() {
        let mut buffer = Buffer::new();
        type_in(&mut buffer, "one\r");
        type_in(&mut buffer, "two\r");
        assert_eq!(
            type_in(&mut buffer, "\x1b[A\x1b[A\x1b[A!\r"),
            Some(Line::Entered(b"one!".to_vec()))
        );
        assert_eq!(type_in(&mut buffer, "new\x10\x0e\r"), Some(Line::Entered(b"new".to_vec())));
    }

    #[test]
    fn random_keys_do_not_panic() {
        let mut buffer = Buffer::new();
        let mut seed = 7u64;
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let pool =
                b"\x1b[ABCDHF~35;\x01\x02\x04\x05\x06\x0b\x0e\x10\x15\x17\x19\x7f ab\xc3\xa4\r";
            if let Step::Done(_) = buffer.step(pool[(seed >> 33) as usize % pool.len()]) {
                buffer.start();
            }
        }
    }
}
