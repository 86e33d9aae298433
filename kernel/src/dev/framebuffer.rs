//! The screen: memory whose bytes are pixels, in the mode that the loader has set.
//!
//! What is drawn there is not known here: a program draws through `/dev/fb0`. Only the reason why
//! the machine stops is drawn by the kernel ([`notice`]), since no program runs then.
//!
//! Lock: `Screen::memory`, held while bytes are copied.

pub mod notice;

use crate::sync::{Mutex, Once, rank};
use foundation::ByteCount;

/// How the bytes of the screen's memory form pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pixels in a line that are shown.
    pub width: u32,
    /// Lines that are shown.
    pub height: u32,
    /// Bytes of a pixel, 1 to 4.
    pub pixel_bytes: u32,
    /// Bytes from the start of a line to the start of the next.
    pub line_bytes: u32,
    /// Number of the lowest bit of red, green and blue in a pixel, each of which has 8 bits.
    pub colour_bits: [u32; 3],
}

struct Screen {
    layout: Layout,
    memory: Mutex<&'static mut [u8], rank::Screen>,
}

static SCREEN: Once<Screen> = Once::new();

/// Takes over the screen's memory.
pub fn start(layout: Layout, memory: &'static mut [u8]) {
    SCREEN.call_once(|| Screen { layout, memory: Mutex::new(memory) });
}

/// The layout of the screen; `None` for a machine without one.
pub fn layout() -> Option<Layout> {
    SCREEN.get().map(|screen| screen.layout)
}

/// Size of the screen's memory; 0 without a screen.
pub fn size() -> ByteCount {
    SCREEN.get().map_or(ByteCount::ZERO, |screen| ByteCount::of_len(screen.memory.lock().len()))
}

/// Copies bytes to the screen's memory, from offset `at` on. Returns how many; fewer at its end.
pub fn write(at: u64, bytes: &[u8]) -> usize {
    let (Some(screen), Ok(at)) = (SCREEN.get(), usize::try_from(at)) else { return 0 };
    let mut memory = screen.memory.lock();
    let Some(target) = memory.get_mut(at..) else { return 0 };
    let count = target.len().min(bytes.len());
    for (to, from) in target.iter_mut().zip(bytes) {
        *to = *from;
    }
    count
}
