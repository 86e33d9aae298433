//! The screen, `/dev/fb0`: how its memory forms pixels (`linux/fb.h`).

use super::{Fd, Result, call};

/// `FBIOGET_VSCREENINFO` and `FBIOGET_FSCREENINFO`.
const GET_VARIABLE: u32 = 0x4600;
const GET_FIXED: u32 = 0x4602;

/// The layout of the screen's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenLayout {
    /// Pixels in a line that are shown.
    pub width: usize,
    /// Lines that are shown.
    pub height: usize,
    /// Bytes of a pixel: 4, or fewer.
    pub pixel_bytes: usize,
    /// Bytes from the start of a line to the start of the next.
    pub line_bytes: usize,
    /// Number of the lowest bit of red, green and blue in a pixel.
    pub colour_bits: [u32; 3],
}

/// Asks the kernel for the layout.
pub fn screen_layout(fd: Fd) -> Result<ScreenLayout> {
    // `struct fb_var_screeninfo` and `struct fb_fix_screeninfo`, as words.
    let (mut variable, mut fixed) = ([0u32; 40], [0u32; 20]);
    // SAFETY: the kernel fills in structures of these sizes.
    unsafe {
        call!(__NR_ioctl, fd, GET_VARIABLE, variable.as_mut_ptr())?;
        call!(__NR_ioctl, fd, GET_FIXED, fixed.as_mut_ptr())?;
    }
    Ok(ScreenLayout {
        width: variable[0] as usize,
        height: variable[1] as usize,
        pixel_bytes: variable[6] as usize / 8,
        line_bytes: fixed[12] as usize,
        colour_bits: [variable[8], variable[11], variable[14]],
    })
}
