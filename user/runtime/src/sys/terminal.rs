//! Terminals: settings, who is in the foreground, and pairs.

use super::{Fd, Result, abi, call, open};
use alloc::format;
use alloc::vec::Vec;
use linux_raw_sys::ioctl;

/// A terminal's settings.
pub type Termios = abi::termios;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters of each.
    pub columns: u16,
}

/// ioctl(2) whose argument is a number.
pub fn ioctl(fd: Fd, request: u32, argument: usize) -> Result<usize> {
    // SAFETY: requests with a number for their argument touch no memory.
    unsafe { call!(__NR_ioctl, fd, request, argument) }
}

/// ioctl(2) that fills in a number.
pub fn ioctl_number(fd: Fd, request: u32) -> Result<i32> {
    let mut number = 0i32;
    // SAFETY: the kernel fills in the number.
    unsafe { call!(__NR_ioctl, fd, request, &raw mut number)? };
    Ok(number)
}

/// The master of a new pair of terminals. What is written to it is typed at the other end.
pub fn open_pair() -> Result<Fd> {
    let master = open(b"/dev/ptmx", abi::O_RDWR | abi::O_NOCTTY | abi::O_CLOEXEC, 0)?;
    let locked = 0i32;
    // SAFETY: the kernel only reads the number.
    unsafe { call!(__NR_ioctl, master, ioctl::TIOCSPTLCK, &raw const locked)? };
    Ok(master)
}

/// The path of a pair's terminal.
pub fn pair_path(master: Fd) -> Result<Vec<u8>> {
    Ok(format!("/dev/pts/{}", ioctl_number(master, ioctl::TIOCGPTN)?).into_bytes())
}

/// A terminal's size.
pub fn window(fd: Fd) -> Result<Window> {
    let mut window = [0u16; 4];
    // SAFETY: the kernel fills in four numbers.
    unsafe { call!(__NR_ioctl, fd, ioctl::TIOCGWINSZ, window.as_mut_ptr())? };
    Ok(Window { rows: window[0], columns: window[1] })
}

/// Changes a terminal's size.
pub fn set_window(fd: Fd, window: Window) -> Result<()> {
    let window = [window.rows, window.columns, 0, 0];
    // SAFETY: the kernel only reads four numbers.
    unsafe { call!(__NR_ioctl, fd, ioctl::TIOCSWINSZ, window.as_ptr()).map(drop) }
}

/// A terminal's settings, or `ENOTTY` for what is none.
pub fn terminal_settings(fd: Fd) -> Result<Termios> {
    // SAFETY: plain numbers, for which zero is a value; the kernel fills them in.
    unsafe {
        let mut settings: Termios = core::mem::zeroed();
        call!(__NR_ioctl, fd, ioctl::TCGETS, &raw mut settings)?;
        Ok(settings)
    }
}

/// Changes a terminal's settings when its output has drained.
pub fn set_terminal_settings(fd: Fd, settings: &Termios) -> Result<()> {
    // SAFETY: the kernel only reads the structure.
    unsafe { call!(__NR_ioctl, fd, ioctl::TCSETSW, core::ptr::from_ref(settings)).map(drop) }
}

/// Makes `group` the terminal's foreground process group.
pub fn set_foreground(fd: Fd, group: i32) -> Result<()> {
    // SAFETY: the kernel only reads the number.
    unsafe { call!(__NR_ioctl, fd, ioctl::TIOCSPGRP, &raw const group).map(drop) }
}

/// The terminal's foreground process group.
pub fn foreground(fd: Fd) -> Result<i32> {
    let mut group = 0i32;
    // SAFETY: the kernel fills in the number.
    unsafe { call!(__NR_ioctl, fd, ioctl::TIOCGPGRP, &raw mut group)? };
    Ok(group)
}

/// Makes the terminal this session's.
pub fn set_controlling_terminal(fd: Fd) -> Result<()> {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_ioctl, fd, ioctl::TIOCSCTTY, 0).map(drop) }
}
