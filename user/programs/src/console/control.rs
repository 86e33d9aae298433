//! Control characters and sequences: what programs send beside text (ECMA-48, and
//! console_codes(4)). A sequence that is not known has no effect.

use crate::cell::{self, Colour, Style};
use crate::screen::{CursorKeys, Screen};
use user::prelude::*;
use vte::{Params, Perform};

/// The answer to "what are you?": a VT102, as Linux's console says.
const IDENTITY: &[u8] = b"\x1b[?6c";
const READY: &[u8] = b"\x1b[0n";

impl Perform for Screen {
    fn print(&mut self, character: char) {
        let is_graphics = self.charsets.are_graphics.get(self.charsets.current) == Some(&true);
        self.put(if is_graphics { graphic(character) } else { character });
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            0x08 => self.move_columns(-1),
            b'\t' => self.tab(),
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            b'\r' => self.go_to(self.cursor.row, 0),
            0x0e => self.charsets.current = 1,
            0x0f => self.charsets.current = 0,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        match (intermediates, byte) {
            ([], b'7') => self.saved = self.cursor,
            ([], b'8') => self.restore(),
            ([], b'D') => self.line_feed(),
            ([], b'E') => {
                self.line_feed();
                self.go_to(self.cursor.row, 0);
            }
            ([], b'M') => self.reverse_line_feed(),
            ([], b'c') => self.reset(),
            ([b'('], set) => self.charsets.are_graphics[0] = set == b'0',
            ([b')'], set) => self.charsets.are_graphics[1] = set == b'0',
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        let numbers = Numbers(params);
        match (intermediates, action) {
            _ if ignore => {}
            ([], 'h' | 'l') if numbers.get(0) == 4 => self.modes.inserts = action == 'h',
            ([b'?'], 'h' | 'l') => {
                for number in params.iter().flatten() {
                    self.set_private_mode(*number, action == 'h');
                }
            }
            ([], 'm') => self.set_style(params),
            ([], 'n') => self.report(numbers.get(0)),
            ([], 'c') => self.answer(IDENTITY),
            ([], 'r') => self.set_region(numbers.get(0), numbers.get(1)),
            ([], 's') => self.saved = self.cursor,
            ([], 'u') => self.restore(),
            ([], 'J') => self.erase_screen(numbers.get(0)),
            ([], 'K') => self.erase_line(numbers.get(0)),
            ([], '@' | 'L' | 'M' | 'P' | 'S' | 'T' | 'X') => {
                self.edit(action, numbers.count(0));
            }
            ([], _) => self.move_cursor(action, &numbers),
            _ => {}
        }
    }
}

/// The numbers of a sequence.
struct Numbers<'a>(&'a Params);

impl Numbers<'_> {
    /// A number; 0 if it is missing.
    fn get(&self, index: usize) -> usize {
        self.0.iter().nth(index).and_then(<[u16]>::first).copied().unwrap_or(0).into()
    }

    /// A number that counts, or a place from 1 on; 1 if it is missing.
    fn count(&self, index: usize) -> usize {
        self.get(index).max(1)
    }
}

impl Screen {
    fn restore(&mut self) {
        self.cursor = self.saved;
    }

    fn move_cursor(&mut self, action: char, numbers: &Numbers<'_>) {
        let count = numbers.count(0);
        // At most 65535.
        let step = count as isize;
        match action {
            'A' => self.move_rows(-step),
            'B' | 'e' => self.move_rows(step),
            'C' | 'a' => self.move_columns(step),
            'D' => self.move_columns(-step),
            'E' | 'F' => {
                self.move_rows(if action == 'E' { step } else { -step });
                self.go_to(self.cursor.row, 0);
            }
            'G' | '`' => self.go_to(self.cursor.row, count - 1),
            'H' | 'f' => self.go_to_row(count - 1, numbers.count(1) - 1),
            'd' => self.go_to_row(count - 1, self.cursor.column),
            _ => {}
        }
    }

    /// Inserts, deletes, erases or scrolls.
    fn edit(&mut self, action: char, count: usize) {
        let (row, column, blank) = (self.cursor.row, self.cursor.column, self.blank());
        let below = row..self.region.end.max(row);
        let is_inside = self.region.contains(&row);
        match action {
            '@' => self.grid.insert(row, column, count, blank),
            'P' => self.grid.delete(row, column, count, blank),
            'X' => self.grid.fill(row, column..column + count, blank),
            'L' if is_inside => self.grid.scroll_down(below, count, blank),
            'M' if is_inside => self.grid.scroll_up(below, count, blank),
            'S' => self.grid.scroll_up(self.region.clone(), count, blank),
            'T' => self.grid.scroll_down(self.region.clone(), count, blank),
            _ => return,
        }
        self.cursor.is_past_end = false;
    }

    /// Erases from the cursor on (0), up to it (1), or everything (2, 3).
    fn erase_screen(&mut self, what: usize) {
        let (row, columns, blank) = (self.cursor.row, self.grid.columns(), self.blank());
        self.erase_line(what.min(2));
        let rows = match what {
            0 => row + 1..self.grid.rows(),
            1 => 0..row,
            _ => 0..self.grid.rows(),
        };
        rows.for_each(|row| self.grid.fill(row, 0..columns, blank));
    }

    /// The same in the cursor's line.
    fn erase_line(&mut self, what: usize) {
        let (column, columns) = (self.cursor.column, self.grid.columns());
        let erased = match what {
            0 => column..columns,
            1 => 0..column + 1,
            _ => 0..columns,
        };
        self.grid.fill(self.cursor.row, erased, self.blank());
        self.cursor.is_past_end = false;
    }

    /// Sets the lines that scroll, of which there are two at least, and moves the cursor home.
    fn set_region(&mut self, first: usize, last: usize) {
        let rows = self.grid.rows();
        let end = if last == 0 { rows } else { last.min(rows) };
        let start = first.max(1) - 1;
        if start + 1 < end {
            self.region = start..end;
            self.go_to_row(0, 0);
        }
    }

    fn set_private_mode(&mut self, mode: u16, is_on: bool) {
        match mode {
            1 => {
                self.modes.cursor_keys =
                    if is_on { CursorKeys::Application } else { CursorKeys::Normal };
            }
            6 => {
                self.modes.is_relative = is_on;
                self.go_to_row(0, 0);
            }
            7 => self.modes.wraps = is_on,
            25 => self.modes.shows_cursor = is_on,
            47 | 1047 => self.show_other(is_on),
            1049 => {
                if is_on {
                    self.saved = self.cursor;
                }
                self.show_other(is_on);
                if !is_on {
                    self.restore();
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, what: usize) {
        match what {
            5 => self.answer(READY),
            6 => {
                let top = if self.modes.is_relative { self.region.start } else { 0 };
                let row = self.cursor.row.saturating_sub(top) + 1;
                self.answer(format!("\x1b[{row};{}R", self.cursor.column + 1).as_bytes());
            }
            _ => {}
        }
    }

    /// Sets colours and attributes.
    fn set_style(&mut self, params: &Params) {
        let numbers: Vec<u16> = params.iter().flatten().copied().collect();
        let mut rest = numbers.as_slice();
        if rest.is_empty() {
            self.cursor.style = Style::PLAIN;
        }
        while let [number, after @ ..] = rest {
            rest = after;
            let style = &mut self.cursor.style;
            match *number {
                0 => *style = Style::PLAIN,
                1 => style.is_bold = true,
                4 => style.is_underlined = true,
                7 => style.is_reversed = true,
                21 | 22 => style.is_bold = false,
                24 => style.is_underlined = false,
                27 => style.is_reversed = false,
                30..=37 => style.foreground = cell::numbered((number - 30) as u8),
                40..=47 => style.background = cell::numbered((number - 40) as u8),
                90..=97 => style.foreground = cell::numbered((number - 82) as u8),
                100..=107 => style.background = cell::numbered((number - 92) as u8),
                39 => style.foreground = Style::PLAIN.foreground,
                49 => style.background = Style::PLAIN.background,
                38 | 48 => {
                    let (colour, after) = chosen(rest);
                    rest = after;
                    match (colour, number) {
                        (Some(colour), 38) => style.foreground = colour,
                        (Some(colour), _) => style.background = colour,
                        (None, _) => {}
                    }
                }
                _ => {}
            }
        }
    }
}

/// The colour after 38 or 48, `5;N` or `2;R;G;B`, and the numbers after it.
fn chosen(numbers: &[u16]) -> (Option<Colour>, &[u16]) {
    let byte = |number: &u16| (*number).min(255) as u8;
    match numbers {
        [5, number, rest @ ..] => (Some(cell::numbered(byte(number))), rest),
        [2, red, green, blue, rest @ ..] => (Some([byte(red), byte(green), byte(blue)]), rest),
        _ => (None, &[]),
    }
}

/// The character that a letter is in the graphics of the VT100, of which the font has few.
fn graphic(letter: char) -> char {
    match letter {
        'j'..='n' | 't'..='w' => '+',
        'o'..='s' => '-',
        'x' => '|',
        'a' => '#',
        '`' => '+',
        'f' => '°',
        'g' => '±',
        'y' => '<',
        'z' => '>',
        '{' => '*',
        '}' => '£',
        '~' => '·',
        other => other,
    }
}
