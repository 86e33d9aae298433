//! Terminals: settings, foreground process group, pseudo-terminals.

use super::{Fd, Result, abi, call, open};
use alloc::format;
use alloc::vec::Vec;
use linux_raw_sys::ioctl;

/// A terminal's settings.
pub type Termios = abi::termios;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of lines.
    pub rows: u16,
    /// The number of characters per line.
    pub columns: u16,
}

/// ioctl(2) whose argument is a number.
pub fn ioctl(fd: Fd, request: u32, argument: usize) -> Result<usize> {
    // SAFETY: requests with a number for their argument touch no memory.
    unsafe { call!(__NR_ioctl, fd, request, argument) }
}

/// ioctl(2) that returns a number.
pub fn ioctl_number(fd: Fd, request: u32) -> Result<i32> {
    let mut number = 0i32;
    // SAFETY: the kernel fills in the number.
    unsafe { call!(__NR_ioctl, fd, request, &raw mut number)? };
    Ok(number)
}

/// Opens the master of a new pseudo-terminal. Bytes written to it are input of the slave.
pub fn open_pty() -> Result<Fd> {
    let master = open(b"/dev/ptmx", abi::O_RDWR | abi::O_NOCTTY | abi::O_CLOEXEC, 0)?;
    let locked = 0i32;
    // SAFETY: the kernel only reads the number.
    unsafe { call!(__NR_ioctl, master, ioctl::TIOCSPTLCK, &raw const locked)? };
    Ok(master)
}

/// The path of a pseudo-terminal's slave.
pub fn pty_path(master: Fd) -> Result<Vec<u8>> {
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

/// A terminal's settings. ENOTTY if `fd` is not a terminal.
pub fn terminal_settings(fd: Fd) -> Result<Termios> {
    // SAFETY: plain numbers, for which zero is a value; the kernel fills them in.
    unsafe {
        let mut settings: Termios = core::mem::zeroed();
        call!(__NR_ioctl, fd, ioctl::TCGETS, &raw mut settings)?;
        Ok(settings)
    }
}

/// Changes a terminal's settings after its output has drained.
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

/// Makes the terminal this session's controlling terminal.
pub fn set_controlling_terminal(fd: Fd) -> Result<()> {
    // SAFETY: touches no memory.
    unsafe { call!(__NR_ioctl, fd, ioctl::TIOCSCTTY, 0).map(drop) }
}
