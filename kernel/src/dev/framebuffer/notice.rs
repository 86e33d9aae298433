//! Why the machine stops, as text on the screen.
//!
//! It is drawn from the upper left corner on, over what was there, in the console's font. Lines
//! that are too long continue in the next one; what does not fit on the screen is left out.

use super::{Layout, SCREEN};
use core::sync::atomic::{AtomicUsize, Ordering};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;
/// Height and width of a character in pixels of the font.
const HEIGHT: usize = SIZE.val();
const WIDTH: usize = get_raster_width(WEIGHT, SIZE);
/// Lines of pixels for which the font has its own size: on larger screens, each of its pixels is
/// several, as on the console.
const PLAIN_HEIGHT: usize = 720;
/// The level of the text's grey, of 255.
const GREY: u32 = 204;
/// What is drawn for a character that the font does not have.
const UNKNOWN: char = '?';

/// The number of the place for the next character; places are counted line by line.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Adds text. Does nothing without a screen, or if it is in use: there is nothing to wait for.
pub fn show(text: &str) {
    let Some(screen) = SCREEN.get() else { return };
    let Some(mut memory) = screen.memory.try_lock() else { return };
    let first = NEXT.load(Ordering::Relaxed);
    NEXT.store(Canvas::new(screen.layout).write(&mut memory, first, text), Ordering::Relaxed);
}

/// The screen as places for characters.
struct Canvas {
    layout: Layout,
    /// Width and height on the screen of a pixel of the font.
    scale: usize,
    /// Characters in a line, 1 at least.
    columns: usize,
    /// Lines that fit.
    rows: usize,
}

impl Canvas {
    fn new(layout: Layout) -> Self {
        let (width, height) = (layout.width as usize, layout.height as usize);
        let scale = (height / PLAIN_HEIGHT).max(1);
        let columns = (width / (WIDTH * scale)).max(1);
        Self { layout, scale, columns, rows: height / (HEIGHT * scale) }
    }

    /// Draws text from a place on. Returns the place after it.
    fn write(&self, memory: &mut [u8], mut place: usize, text: &str) -> usize {
        for character in text.chars() {
            if character == '\n' {
                // The rest of the line is cleared, and at least one place.
                let end = (place / self.columns + 1) * self.columns;
                (place..end).for_each(|place| self.draw(memory, place, ' '));
                place = end;
            } else {
                self.draw(memory, place, character);
                place += 1;
            }
        }
        place
    }

    fn draw(&self, memory: &mut [u8], place: usize, character: char) {
        let (row, column) = (place / self.columns, place % self.columns);
        let Some(raster) =
            get_raster(character, WEIGHT, SIZE).or(get_raster(UNKNOWN, WEIGHT, SIZE))
        else {
            return;
        };
        if row >= self.rows {
            return;
        }
        for (y, levels) in raster.rows().enumerate() {
            for (x, &level) in levels.iter().enumerate() {
                self.draw_pixel(memory, column * WIDTH + x, row * HEIGHT + y, level);
            }
        }
    }

    /// Draws a pixel of the font, at a place that is counted in such pixels.
    fn draw_pixel(&self, memory: &mut [u8], x: usize, y: usize, level: u8) {
        let level = u32::from(level) * GREY / 255;
        let pixel = self
            .layout
            .colour_bits
            .into_iter()
            .fold(0, |pixel, lowest| pixel | level.checked_shl(lowest).unwrap_or(0));
        let (bytes, line) = (self.layout.pixel_bytes as usize, self.layout.line_bytes as usize);
        for line_of_pixels in y * self.scale..(y + 1) * self.scale {
            let start = line_of_pixels * line + x * self.scale * bytes;
            let places = memory.get_mut(start..start + self.scale * bytes).unwrap_or_default();
            for place in places.chunks_exact_mut(bytes.max(1)) {
                place.iter_mut().zip(pixel.to_le_bytes()).for_each(|(to, from)| *to = from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Three places in a line, two lines, and some pixels that no place covers.
    const LAYOUT: Layout =
        Layout { width: 25, height: 35, pixel_bytes: 3, line_bytes: 80, colour_bits: [16, 8, 0] };
    const OLD: u8 = 7;

    /// The levels of a place, read back.
    fn levels(memory: &[u8], place: usize) -> Vec<u8> {
        let (row, column) = (place / 3, place % 3);
        let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        let at = |(x, y)| (row * HEIGHT + y) * 80 + (column * WIDTH + x) * 3;
        pixels
            .map(|pixel| {
                let place = &memory[at(pixel)..][..3];
                assert!(place.iter().all(|level| *level == place[0]), "grey");
                place[0]
            })
            .collect()
    }

    fn shows(memory: &[u8], place: usize, character: char) -> bool {
        let raster = get_raster(character, WEIGHT, SIZE).unwrap();
        let wanted = raster.rows().flatten().map(|&level| (u32::from(level) * GREY / 255) as u8);
        levels(memory, place).into_iter().eq(wanted)
    }

    #[test]
    fn a_notice_is_text_on_what_was_shown_before() {
        let mut memory = vec![OLD; 35 * 80];
        let canvas = Canvas::new(LAYOUT);
        let next = canvas.write(&mut memory, 0, "A\nbc");
        assert_eq!(next, 5);
        for (place, character) in "A  bc".chars().enumerate() {
            assert!(shows(&memory, place, character), "place {place}");
        }
        assert!(levels(&memory, 5).iter().all(|&level| level == OLD));
        // What does not fit is left out; what the font does not have is replaced.
        assert_eq!(canvas.write(&mut memory, next, "\u{2603}xyz\n"), 12);
        assert!(shows(&memory, 5, UNKNOWN));
        assert!(memory[32 * 80..].iter().all(|&level| level == OLD));
    }

    #[test]
    fn a_screen_that_is_too_small_shows_nothing() {
        for (width, height, memory) in [(4, 35, 0), (25, 3, 200), (0, 0, 0)] {
            let canvas = Canvas::new(Layout { width, height, ..LAYOUT });
            let mut memory = vec![OLD; memory];
            canvas.write(&mut memory, 0, "text\n");
            assert!(memory.iter().all(|&level| level == OLD));
        }
    }
}
