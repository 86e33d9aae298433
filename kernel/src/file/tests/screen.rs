//! `/dev/fb0`, on a machine with a screen.

use super::*;
use crate::dev::framebuffer::{self, Layout};
use crate::file::devices::DeviceFileSystem;
use fsproto::OpenFlags;

const SCREEN_BYTES: usize = 8192;

/// The screen of this program's machine, and its memory.
fn screen() -> Arc<dyn FileObject> {
    let layout =
        Layout { width: 30, height: 60, pixel_bytes: 4, line_bytes: 128, colour_bits: [16, 8, 0] };
    framebuffer::start(layout, Vec::leak(vec![0; SCREEN_BYTES]));
    let how = OpenHow { flags: OpenFlags::WRITE, mode: 0 };
    match DeviceFileSystem.open(b"fb0", how).unwrap() {
        Walk::Done(object) => object,
        Walk::Link { .. } => panic!("a link"),
    }
}

#[test]
fn a_screen_is_written_up_to_its_end() {
    let (process, screen) = (Process::with_memory(), screen());
    let write = |at, bytes: &[u8]| {
        let at = WritePosition::At(FileOffset(at));
        screen.write(&process.io(), &mut process.filled(0, bytes), at).map(|it| it.bytes.0)
    };
    assert_eq!(write(0, &[7; 5000]), Ok(5000));
    assert_eq!(write(8000, &[7; 1000]), Ok(192));
    assert_eq!(write(8192, &[7; 1]), Err(Errno::ENOSPC));
    assert_eq!(write(u64::MAX, &[7; 1]), Err(Errno::ENOSPC));
    assert_eq!(write(8192, &[]), Ok(0));
    let from = WritePosition::At(FileOffset::ZERO);
    let lost = screen.write(&process.io(), &mut nowhere(10), from).err();
    assert_eq!(lost, Some(Errno::EFAULT));
}

#[test]
fn a_screen_is_described_as_on_linux() {
    let (process, screen) = (Process::with_memory(), screen());
    let words = |request, count: usize| -> Vec<u32> {
        assert_eq!(screen.ioctl(&process, request, BASE), Ok(0));
        let bytes = process.bytes(0, 4 * count);
        bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let variable = words(0x4600, 40);
    assert_eq!(variable[..7], [30, 60, 30, 60, 0, 0, 32]);
    assert_eq!(variable[8..17], [16, 8, 0, 8, 8, 0, 0, 8, 0]);
    let fixed = words(0x4602, 20);
    assert_eq!((fixed[6], fixed[12]), (SCREEN_BYTES as u32, 128));
    assert_eq!(screen.ioctl(&process, 0x4601, BASE), Err(Errno::ENOTTY));
}
