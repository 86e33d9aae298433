//! The state of the terminal: what is shown, where the next character goes, and the modes.
//!
//! The sequences are those of Linux's console (console_codes(4)), so that the type of terminal is
//! `linux`; what interprets them is in `control`.

use crate::cell::{Cell, Style};
use crate::grid::Grid;
use core::ops::Range;
use user::prelude::*;

/// Columns between two tab stops.
const TAB: usize = 8;
/// Bytes of answers that wait, at most: a program that asks without reading gets no more.
const MAX_ANSWERS: usize = 256;

/// What the arrow keys send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorKeys {
    /// `ESC [ A` and so on.
    Normal,
    /// `ESC O A` and so on, where a program asked for them.
    Application,
}

/// What survives a saved and restored cursor.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) style: Style,
    /// Whether the last column is filled: the next character begins a new line.
    pub(crate) is_past_end: bool,
}

/// Modes that programs switch.
#[derive(Clone, Copy)]
pub(crate) struct Modes {
    pub(crate) inserts: bool,
    pub(crate) wraps: bool,
    pub(crate) shows_cursor: bool,
    pub(crate) cursor_keys: CursorKeys,
    /// Positions count from the top of the scroll region.
    pub(crate) is_relative: bool,
}

/// Which characters the letters are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Charsets {
    /// Whether G0 and G1 are the graphics of DEC's VT100.
    pub(crate) are_graphics: [bool; 2],
    /// Which of the two is in use.
    pub(crate) current: usize,
}

/// The terminal.
pub struct Screen {
    pub(crate) grid: Grid,
    pub(crate) cursor: Cursor,
    pub(crate) saved: Cursor,
    pub(crate) modes: Modes,
    pub(crate) charsets: Charsets,
    /// The lines that scroll.
    pub(crate) region: Range<usize>,
    /// What was shown before a program took the whole screen.
    pub(crate) other: Option<Grid>,
    answers: Vec<u8>,
    /// Where the cursor was drawn.
    drawn_at: Option<(usize, usize)>,
}

const START: Cursor = Cursor { row: 0, column: 0, style: Style::PLAIN, is_past_end: false };
const MODES: Modes = Modes {
    inserts: false,
    wraps: true,
    shows_cursor: true,
    cursor_keys: CursorKeys::Normal,
    is_relative: false,
};

impl Screen {
    /// An empty screen.
    pub fn new(rows: usize, columns: usize) -> Self {
        let grid = Grid::new(rows, columns);
        Self {
            region: 0..grid.rows(),
            grid,
            cursor: START,
            saved: START,
            modes: MODES,
            charsets: Charsets::default(),
            other: None,
            answers: Vec::new(),
            drawn_at: None,
        }
    }

    /// What the arrow keys send.
    pub fn cursor_keys(&self) -> CursorKeys {
        self.modes.cursor_keys
    }

    /// The answers to programs' questions since the last call.
    pub fn take_answers(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.answers)
    }

    pub(crate) fn answer(&mut self, text: &[u8]) {
        if self.answers.len() + text.len() <= MAX_ANSWERS {
            self.answers.extend_from_slice(text);
        }
    }

    /// Where a cursor is shown, if it is.
    pub fn cursor(&self) -> Option<(usize, usize)> {
        self.modes.shows_cursor.then_some((self.cursor.row, self.cursor.column))
    }

    /// The lines that have to be drawn, from now on as they are.
    pub fn take_changes(&mut self) -> Vec<usize> {
        let cursor = self.cursor();
        if cursor != self.drawn_at {
            for (row, _) in [cursor, self.drawn_at].into_iter().flatten() {
                self.grid.touch(row);
            }
            self.drawn_at = cursor;
        }
        (0..self.grid.rows()).filter(|&row| self.grid.take_change(row)).collect()
    }

    /// The places of a line.
    pub fn line(&self, row: usize) -> &[Cell] {
        self.grid.line(row)
    }

    /// A place as erasing leaves it.
    pub(crate) fn blank(&self) -> Cell {
        Cell::blank(self.cursor.style)
    }

    /// Everything as at the start.
    pub(crate) fn reset(&mut self) {
        let answers = self.take_answers();
        *self = Self { answers, ..Self::new(self.grid.rows(), self.grid.columns()) };
    }

    /// Puts a character at the cursor and moves it on.
    pub(crate) fn put(&mut self, character: char) {
        if self.cursor.is_past_end && self.modes.wraps {
            self.cursor.column = 0;
            self.line_feed();
        }
        let (row, column) = (self.cursor.row, self.cursor.column);
        if self.modes.inserts {
            self.grid.insert(row, column, 1, self.blank());
        }
        self.grid.put(row, column, Cell { character, style: self.cursor.style });
        self.cursor.is_past_end = column + 1 == self.grid.columns();
        if !self.cursor.is_past_end {
            self.cursor.column += 1;
        }
    }

    /// Moves the cursor to a place on the screen, or the nearest to it.
    pub(crate) fn go_to(&mut self, row: usize, column: usize) {
        self.cursor.row = row.min(self.grid.rows() - 1);
        self.cursor.column = column.min(self.grid.columns() - 1);
        self.cursor.is_past_end = false;
    }

    /// Moves the cursor to a line that is counted from the top, or from that of the region.
    pub(crate) fn go_to_row(&mut self, row: usize, column: usize) {
        if self.modes.is_relative {
            let row = self.region.start.saturating_add(row).min(self.region.end - 1);
            self.go_to(row, column);
        } else {
            self.go_to(row, column);
        }
    }

    /// Moves the cursor up or down; the edge of the region that it is in keeps it.
    pub(crate) fn move_rows(&mut self, rows: isize) {
        let row = self.cursor.row;
        let lowest = if row >= self.region.start { self.region.start } else { 0 };
        let highest =
            if row < self.region.end { self.region.end } else { self.grid.rows() }.max(1) - 1;
        self.go_to(row.saturating_add_signed(rows).clamp(lowest, highest), self.cursor.column);
    }

    /// Moves the cursor to the left or right.
    pub(crate) fn move_columns(&mut self, columns: isize) {
        self.go_to(self.cursor.row, self.cursor.column.saturating_add_signed(columns));
    }

    /// Moves the cursor to the next tab stop.
    pub(crate) fn tab(&mut self) {
        self.go_to(self.cursor.row, (self.cursor.column / TAB + 1) * TAB);
    }

    /// Moves the cursor down, and the region up where it ends.
    pub(crate) fn line_feed(&mut self) {
        if self.cursor.row + 1 == self.region.end {
            self.grid.scroll_up(self.region.clone(), 1, self.blank());
        } else {
            self.go_to(self.cursor.row + 1, self.cursor.column);
        }
        self.cursor.is_past_end = false;
    }

    /// Moves the cursor up, and the region down where it begins.
    pub(crate) fn reverse_line_feed(&mut self) {
        if self.cursor.row == self.region.start {
            self.grid.scroll_down(self.region.clone(), 1, self.blank());
        } else {
            self.go_to(self.cursor.row.saturating_sub(1), self.cursor.column);
        }
    }

    /// Shows another screen, which is empty, or again what was there before.
    pub(crate) fn show_other(&mut self, is_other: bool) {
        let empty = Grid::new(self.grid.rows(), self.grid.columns());
        match (is_other, self.other.take()) {
            (true, None) => self.other = Some(core::mem::replace(&mut self.grid, empty)),
            (true, before) => self.other = before,
            (false, Some(before)) => {
                self.grid = before;
                (0..self.grid.rows()).for_each(|row| self.grid.touch(row));
            }
            (false, None) => {}
        }
    }
}
