//! The screen's pixels: characters are drawn into the memory of `/dev/fb0`, line by line.

use crate::cell::{Cell, Colour};
use crate::screen::Screen;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use user::prelude::*;
use user::sys::{ScreenLayout, Window, abi};

/// Lines of pixels for which the font has its own size: on larger screens, each of its pixels is
/// several.
const PLAIN_HEIGHT: usize = 720;
/// The font's size. All characters have the same width.
const SIZE: RasterHeight = RasterHeight::Size16;
/// Height and width of a character in pixels.
const HEIGHT: usize = SIZE.val();
const WIDTH: usize = get_raster_width(FontWeight::Regular, SIZE);
/// The pixel row of a character that underlines it.
const UNDERLINE: usize = HEIGHT - 2;
/// What is drawn for a character that the font does not have.
const UNKNOWN: char = '?';

/// The screen.
pub struct Display {
    fd: Fd,
    layout: ScreenLayout,
    /// Width and height on the screen of a pixel of the font.
    scale: usize,
    /// The pixels of a line of characters, as they are in the screen's memory.
    pixels: Vec<u8>,
}

impl Display {
    /// Opens the screen, and clears it.
    pub fn open() -> Result<Self> {
        let fd = sys::open(b"/dev/fb0", abi::O_RDWR | abi::O_CLOEXEC, 0)?;
        let layout = sys::screen_layout(fd)?;
        let ScreenLayout { width, height, pixel_bytes, line_bytes, .. } = layout;
        if !(1..=4).contains(&pixel_bytes) || line_bytes < width * pixel_bytes {
            return Err(Errno::EINVAL);
        }
        let scale = (height / PLAIN_HEIGHT).max(1);
        let pixels = vec![0; line_bytes * HEIGHT * scale];
        let display = Self { fd, layout, scale, pixels };
        (0..height.div_ceil(HEIGHT * scale)).try_for_each(|row| display.show(row))?;
        Ok(display)
    }

    /// The number of characters that fit.
    pub fn size(&self) -> Window {
        let number = |pixels: usize| u16::try_from(pixels.max(1)).unwrap_or(u16::MAX);
        Window {
            rows: number(self.layout.height / (HEIGHT * self.scale)),
            columns: number(self.layout.width / (WIDTH * self.scale)),
        }
    }

    /// Draws what has changed.
    pub fn draw(&mut self, screen: &mut Screen) -> Result<()> {
        for row in screen.take_changes() {
            let cursor = screen.cursor().filter(|&(line, _)| line == row).map(|(_, at)| at);
            for (column, cell) in screen.line(row).iter().enumerate() {
                self.draw_cell(column, cell, cursor == Some(column));
            }
            self.show(row)?;
        }
        Ok(())
    }

    /// Writes the pixels of a line of characters to the screen.
    fn show(&self, row: usize) -> Result<()> {
        let ScreenLayout { height, line_bytes, .. } = self.layout;
        let line_height = HEIGHT * self.scale;
        let start = row * line_height * line_bytes;
        let rows = height.saturating_sub(row * line_height).min(line_height);
        let mut pixels = self.pixels.get(..rows * line_bytes).unwrap_or_default();
        let mut at = start as u64;
        while !pixels.is_empty() {
            let count = sys::pwrite(self.fd, pixels, FileOffset(at))?;
            pixels = pixels.get(count..).unwrap_or_default();
            at += count as u64;
        }
        Ok(())
    }

    fn draw_cell(&mut self, column: usize, cell: &Cell, is_cursor: bool) {
        let style = &cell.style;
        let weight = if style.is_bold { FontWeight::Bold } else { FontWeight::Regular };
        let Some(raster) =
            get_raster(shown(cell.character), weight, SIZE).or(get_raster(UNKNOWN, weight, SIZE))
        else {
            return;
        };
        let mut colours = (style.background, style.foreground);
        if style.is_reversed != is_cursor {
            colours = (colours.1, colours.0);
        }
        let ends = [self.pixel(colours.0), self.pixel(colours.1)];
        for (y, row) in raster.rows().enumerate() {
            let is_line = style.is_underlined && y == UNDERLINE;
            for (x, &level) in row.iter().enumerate() {
                let pixel = match level {
                    _ if is_line => ends[1],
                    0 => ends[0],
                    u8::MAX => ends[1],
                    level => self.pixel(mixed(colours, level)),
                };
                self.draw_pixel(column * WIDTH + x, y, pixel);
            }
        }
    }

    /// Draws a pixel of the font, at a place that is counted in such pixels.
    fn draw_pixel(&mut self, x: usize, y: usize, pixel: [u8; 4]) {
        let (ScreenLayout { pixel_bytes, line_bytes, .. }, scale) = (self.layout, self.scale);
        for line in y * scale..(y + 1) * scale {
            let start = line * line_bytes + x * scale * pixel_bytes;
            let places = self.pixels.get_mut(start..start + scale * pixel_bytes);
            for place in places.into_iter().flat_map(|places| places.chunks_exact_mut(pixel_bytes))
            {
                place.iter_mut().zip(pixel).for_each(|(to, from)| *to = from);
            }
        }
    }

    /// A pixel's bytes.
    fn pixel(&self, colour: Colour) -> [u8; 4] {
        let levels = colour.into_iter().zip(self.layout.colour_bits);
        let pixel = levels.fold(0, |pixel, (level, lowest)| {
            pixel | u32::from(level).checked_shl(lowest).unwrap_or(0)
        });
        pixel.to_le_bytes()
    }
}

/// A colour between two: 0 is the first, 255 the second.
fn mixed((from, to): (Colour, Colour), level: u8) -> Colour {
    let mut mixed = from;
    for (mixed, to) in mixed.iter_mut().zip(to) {
        let (from, level) = (u32::from(*mixed), u32::from(level));
        *mixed = ((from * (255 - level) + u32::from(to) * level) / 255) as u8;
    }
    mixed
}

/// The character of the font that is nearest to one that it does not have.
fn shown(character: char) -> char {
    match character {
        '\u{2500}' | '\u{2501}' | '\u{2550}' | '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2502}' | '\u{2503}' | '\u{2551}' => '|',
        '\u{2504}'..='\u{257f}' => '+',
        '\u{2580}'..='\u{259f}' => '#',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\u{2022}' => '·',
        other => other,
    }
}
