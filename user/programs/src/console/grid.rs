//! The places of the screen, in lines, and which lines have changed since they were drawn.

use crate::cell::{Cell, Style};
use core::ops::Range;
use user::prelude::*;

/// The places of the screen.
pub struct Grid {
    columns: usize,
    lines: Vec<Vec<Cell>>,
    changed: Vec<bool>,
}

impl Grid {
    /// An empty screen, of one place at least.
    pub fn new(rows: usize, columns: usize) -> Self {
        let (rows, columns) = (rows.max(1), columns.max(1));
        let lines = vec![vec![Cell::blank(Style::PLAIN); columns]; rows];
        Self { columns, lines, changed: vec![true; rows] }
    }

    /// The number of lines.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// The number of places in a line.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The places of a line; none below the screen.
    pub fn line(&self, row: usize) -> &[Cell] {
        self.lines.get(row).map_or(&[], Vec::as_slice)
    }

    /// The places of a line that is about to be changed.
    fn change(&mut self, row: usize) -> &mut [Cell] {
        self.touch(row);
        self.lines.get_mut(row).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Has a line drawn again.
    pub fn touch(&mut self, row: usize) {
        if let Some(changed) = self.changed.get_mut(row) {
            *changed = true;
        }
    }

    /// Whether a line has to be drawn; from now on it has not.
    pub fn take_change(&mut self, row: usize) -> bool {
        self.changed.get_mut(row).is_some_and(core::mem::take)
    }

    /// Puts a character.
    pub fn put(&mut self, row: usize, column: usize, cell: Cell) {
        if let Some(place) = self.change(row).get_mut(column) {
            *place = cell;
        }
    }

    /// Fills places of a line; those outside are ignored.
    pub fn fill(&mut self, row: usize, columns: Range<usize>, cell: Cell) {
        let end = columns.end.min(self.columns);
        if let Some(places) = self.change(row).get_mut(columns.start.min(end)..end) {
            places.fill(cell);
        }
    }

    /// Moves the rest of a line to the right; what leaves the screen is lost.
    pub fn insert(&mut self, row: usize, column: usize, count: usize, cell: Cell) {
        if let Some(places) = self.change(row).get_mut(column..) {
            let count = count.min(places.len());
            places.rotate_right(count);
            places[..count].fill(cell);
        }
    }

    /// Moves the rest of a line to the left, over `count` places.
    pub fn delete(&mut self, row: usize, column: usize, count: usize, cell: Cell) {
        if let Some(places) = self.change(row).get_mut(column..) {
            let count = count.min(places.len());
            places.rotate_left(count);
            let kept = places.len() - count;
            places[kept..].fill(cell);
        }
    }

    /// Moves the lines of a range up by `count`; empty ones follow.
    pub fn scroll_up(&mut self, rows: Range<usize>, count: usize, cell: Cell) {
        self.scroll(rows, count, cell, |lines, count| {
            lines.rotate_left(count);
            lines.len() - count..lines.len()
        });
    }

    /// Moves the lines of a range down by `count`; empty ones come before them.
    pub fn scroll_down(&mut self, rows: Range<usize>, count: usize, cell: Cell) {
        self.scroll(rows, count, cell, |lines, count| {
            lines.rotate_right(count);
            0..count
        });
    }

    /// Moves lines by `rotate`, which returns the places of the lines that are empty now.
    fn scroll(
        &mut self,
        rows: Range<usize>,
        count: usize,
        cell: Cell,
        rotate: fn(&mut [Vec<Cell>], usize) -> Range<usize>,
    ) {
        let Some(lines) = self.lines.get_mut(rows.clone()) else { return };
        let emptied = rotate(lines, count.min(lines.len()));
        lines.get_mut(emptied).into_iter().flatten().for_each(|line| line.fill(cell));
        self.changed.get_mut(rows).into_iter().flatten().for_each(|changed| *changed = true);
    }
}
