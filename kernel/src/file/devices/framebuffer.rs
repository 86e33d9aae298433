//! `/dev/fb0`: the screen's memory, as a file that is written, with the requests by which Linux
//! describes it (`linux/fb.h`). It exists on machines with a screen.

use crate::dev::framebuffer::{self, Layout};
use crate::file::buffers::store;
use crate::file::{
    FileObject, FileType, Io, IoCaller, Ready, SetAttr, Stat, UserBuffers, WriteOutcome,
    WritePosition,
};
use crate::sync::{Interrupt, relax};
use foundation::{ByteCount, Errno};

/// `FBIOGET_VSCREENINFO`: size and colours.
const GET_VARIABLE: u32 = 0x4600;
/// `FBIOGET_FSCREENINFO`: memory.
const GET_FIXED: u32 = 0x4602;
/// Size of `struct fb_var_screeninfo`.
const VARIABLE_BYTES: usize = 160;
/// Size of `struct fb_fix_screeninfo`.
const FIXED_BYTES: usize = 80;
/// `FB_VISUAL_TRUECOLOR`: pixels contain their colours.
const TRUE_COLOUR: u32 = 2;
/// Bits of each colour in a pixel.
const COLOUR_BITS: u32 = 8;
/// Bytes that are copied at once.
const CHUNK: usize = 2048;

/// The screen's file.
pub(super) struct Framebuffer {
    layout: Layout,
    inode: u64,
}

impl Framebuffer {
    /// Opens the screen. ENXIO without one.
    pub(super) fn open(inode: u64) -> Result<Self, Errno> {
        Ok(Self { layout: framebuffer::layout().ok_or(Errno::ENXIO)?, inode })
    }
}

impl FileObject for Framebuffer {
    fn stat(&self) -> Result<Stat, Errno> {
        Ok(Stat {
            file_type: FileType::CharacterDevice,
            mode: 0o660,
            links: 1,
            inode: self.inode,
            device_number: 29 << 8,
            ..Stat::of_device()
        })
    }

    /// As on Linux, ENOSPC where nothing fits.
    fn write(
        &self,
        io: &Io<'_>,
        from: &mut UserBuffers,
        at: WritePosition,
    ) -> Result<WriteOutcome, Errno> {
        let start = at.offset();
        let space = framebuffer::size().0.saturating_sub(start.0);
        if space == 0 && !from.remaining().is_zero() {
            return Err(Errno::ENOSPC);
        }
        from.limit(ByteCount(space));
        let mut written = ByteCount::ZERO;
        let mut chunk = [0; CHUNK];
        while !from.remaining().is_zero() {
            let taken = match from.take(io.space, &mut chunk) {
                Ok(taken) => taken,
                Err(error) if written.is_zero() => return Err(error),
                Err(_) => break,
            };
            let bytes = chunk.get(..taken).unwrap_or_default();
            written += ByteCount::of_len(framebuffer::write(start.0 + written.0, bytes));
            if !from.remaining().is_zero() && relax(Interrupt::Signal).is_err() {
                break;
            }
        }
        Ok(WriteOutcome::from_start(start, written))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        super::refuse_length(change)
    }

    fn poll(&self) -> Ready {
        Ready::WRITE
    }

    fn ioctl(&self, caller: &dyn IoCaller, number: u32, argument: u64) -> Result<u64, Errno> {
        match number {
            GET_VARIABLE => store(caller.space(), argument, &variable(&self.layout)),
            GET_FIXED => store(caller.space(), argument, &fixed(&self.layout)),
            _ => Err(Errno::ENOTTY),
        }
    }
}

/// Puts a number of 32 bits into a structure.
fn put(structure: &mut [u8], offset: usize, number: u32) {
    for (to, from) in structure.iter_mut().skip(offset).zip(number.to_le_bytes()) {
        *to = from;
    }
}

/// A `struct fb_var_screeninfo`.
fn variable(layout: &Layout) -> [u8; VARIABLE_BYTES] {
    let mut structure = [0; VARIABLE_BYTES];
    let Layout { width, height, pixel_bytes, colour_bits, .. } = *layout;
    // The visible size, that of the memory, the position of the one in the other, bits in a pixel.
    let numbers = [width, height, width, height, 0, 0, 8 * pixel_bytes];
    for (index, number) in numbers.into_iter().enumerate() {
        put(&mut structure, 4 * index, number);
    }
    // Red, green and blue: the lowest bit and the number of bits.
    for (index, lowest) in colour_bits.into_iter().enumerate() {
        put(&mut structure, 32 + 12 * index, lowest);
        put(&mut structure, 36 + 12 * index, COLOUR_BITS);
    }
    structure
}

/// A `struct fb_fix_screeninfo`. Where the memory is, is not shown: it cannot be mapped.
fn fixed(layout: &Layout) -> [u8; FIXED_BYTES] {
    let mut structure = [0; FIXED_BYTES];
    for (to, from) in structure.iter_mut().zip(b"loader") {
        *to = *from;
    }
    put(&mut structure, 24, u32::try_from(framebuffer::size().0).unwrap_or(u32::MAX));
    put(&mut structure, 36, TRUE_COLOUR);
    put(&mut structure, 48, layout.line_bytes);
    structure
}
