//! The console of a machine with a screen: a terminal emulator between a pseudo-terminal, on whose
//! slave the shell runs, and the screen with its keyboard. The serial line shows the same and takes
//! keys as well, where there is one.
//!
//! init starts it with the number of the master's descriptor as its only argument. It ends when
//! nobody has the slave open any more.
//!
//! Output is drawn in frames: what arrives within one frame is drawn once.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod cell;
mod control;
mod display;
mod grid;
mod keys;
mod screen;
#[cfg(test)]
mod tests;

use crate::display::Display;
use crate::keys::Keys;
use crate::screen::Screen;
use core::time::Duration;
use user::prelude::*;
use user::sys::{Window, abi};

program!(run);

/// The time between the arrival of output and its drawing.
const FRAME: Duration = Duration::from_millis(16);
/// Bytes that are read at once.
const CHUNK: usize = 4096;

fn run(arguments: &Args) -> i32 {
    let master = arguments.get(1).and_then(|text| core::str::from_utf8(text).ok()?.parse().ok());
    let Some(master) = master else {
        eprintln!("usage: console DESCRIPTOR");
        return 2;
    };
    match Console::open(master).and_then(|console| console.run()) {
        Ok(()) => 0,
        Err(error) => complain("console", b"the screen", error),
    }
}

/// Opens a device in raw mode, if the machine has it.
fn open_raw(path: &[u8]) -> Option<Fd> {
    let flags = abi::O_RDWR | abi::O_NOCTTY | abi::O_CLOEXEC;
    let fd = sys::open(path, flags, 0).ok()?;
    let mut settings = sys::terminal_settings(fd).ok()?;
    settings.c_oflag &= !abi::OPOST;
    (settings.c_iflag, settings.c_lflag) = (0, 0);
    sys::set_terminal_settings(fd, &settings).ok()?;
    Some(fd)
}

struct Console {
    master: Fd,
    keyboard: Option<Fd>,
    serial: Option<Fd>,
    display: Display,
    screen: Screen,
    parser: vte::Parser,
    keys: Keys,
}

impl Console {
    fn open(master: Fd) -> Result<Self> {
        let display = Display::open()?;
        let Window { rows, columns } = display.size();
        // A program that does not read its input must not keep the others from the screen.
        let flags = sys::fcntl(master, abi::F_GETFL, 0)?;
        sys::fcntl(master, abi::F_SETFL, flags | abi::O_NONBLOCK as usize)?;
        sys::set_window(master, Window { rows, columns })?;
        Ok(Self {
            master,
            keyboard: open_raw(b"/dev/serio_raw0"),
            serial: open_raw(b"/dev/ttyS0"),
            display,
            screen: Screen::new(rows.into(), columns.into()),
            parser: vte::Parser::new(),
            keys: Keys::default(),
        })
    }

    /// Passes bytes on until the slave is closed.
    fn run(mut self) -> Result<()> {
        self.display.draw(&mut self.screen)?;
        let mut drawn_at: Option<Duration> = None;
        loop {
            let left = drawn_at.map(|at| at.saturating_sub(now()));
            let ready = self.wait(left)?;
            if drawn_at.is_some_and(|at| at <= now()) {
                self.display.draw(&mut self.screen)?;
                drawn_at = None;
            }
            let mut buffer = [0; CHUNK];
            for (fd, is_ready) in ready {
                let Some(fd) = fd.filter(|_| is_ready) else { continue };
                let bytes = match sys::read(fd, &mut buffer) {
                    Ok(count) => buffer.get(..count).unwrap_or_default(),
                    Err(Errno::EAGAIN | Errno::EINTR) => continue,
                    Err(Errno::EIO) if fd == self.master => {
                        return self.display.draw(&mut self.screen);
                    }
                    Err(error) => return Err(error),
                };
                if fd == self.master {
                    self.show(bytes);
                    drawn_at = drawn_at.or_else(|| Some(now() + FRAME));
                } else if Some(fd) == self.keyboard {
                    let typed = self.keys.decode(bytes, self.screen.cursor_keys());
                    self.send(&typed);
                } else {
                    self.send(bytes);
                }
            }
        }
    }

    /// Waits for bytes, or for the time that is left. Returns which descriptors can be read.
    fn wait(&self, left: Option<Duration>) -> Result<[(Option<Fd>, bool); 3]> {
        let sources = [Some(self.master), self.keyboard, self.serial];
        // poll(2) ignores the descriptor -1.
        let mut entries = sources.map(|fd| abi::pollfd {
            fd: fd.unwrap_or(Fd::NONE).0,
            events: abi::POLLIN as i16,
            revents: 0,
        });
        match sys::poll_for(&mut entries, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let mut ready = sources.map(|fd| (fd, false));
        for (ready, entry) in ready.iter_mut().zip(&entries) {
            ready.1 = entry.revents != 0;
        }
        Ok(ready)
    }

    /// Shows a program's output.
    fn show(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.screen, bytes);
        let answers = self.screen.take_answers();
        self.send(&answers);
        if let Some(serial) = self.serial {
            // A line that fails shows nothing; the screen does.
            let _ = sys::write_all(serial, bytes);
        }
    }

    /// Sends input to the programs. What they do not take is dropped, as a terminal does.
    fn send(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let _ = sys::write(self.master, bytes);
        }
    }
}

fn now() -> Duration {
    sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default()
}
