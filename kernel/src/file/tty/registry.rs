//! All terminals: those on serial ports, the keyboard, and the pseudo-terminals.

use super::{Tty, pair};
use crate::arch::{SerialPort, keyboard, serial};
use crate::sync::Once;
use alloc::sync::Arc;
use spin::LazyLock;

/// `/dev/ttyS0` (the console), `/dev/ttyS1` (the log) and `/dev/ttyS2` (the control channel).
static SERIAL: LazyLock<[Arc<Tty>; 3]> = LazyLock::new(|| {
    [Tty::console(), Tty::serial(SerialPort::Log, 65), Tty::serial(SerialPort::Control, 66)].map(
        |made| match made {
            Ok(tty) => Arc::new(tty),
            Err(_) => panic!("no memory for the terminals at the start"),
        },
    )
});

/// `/dev/serio_raw0`, on machines with a screen and a keyboard.
static KEYBOARD: Once<Arc<Tty>> = Once::new();

/// Starts the keyboard, whose bytes can be read from now on.
pub fn start_keyboard() {
    let Ok(tty) = Tty::keyboard() else { panic!("no memory for the keyboard at the start") };
    KEYBOARD.call_once(|| Arc::new(tty));
    let receive = |bytes: &[u8]| KEYBOARD.get().into_iter().for_each(|tty| tty.receive(bytes));
    if !keyboard::start(receive) {
        log::warn!("the keyboard's controller does not answer");
    }
}

/// The keyboard, if it was started.
pub(in crate::file) fn keyboard() -> Option<Arc<Tty>> {
    KEYBOARD.get().cloned()
}

/// Creates the terminals on serial ports. From here on, input reaches the console and the control
/// channel.
pub fn start() {
    LazyLock::force(&SERIAL);
    serial::start(|port, bytes| {
        let [console, _, control] = &*SERIAL;
        let tty = if port == SerialPort::Control { control } else { console };
        tty.receive(bytes);
    });
}

/// The terminal `/dev/ttySN`.
pub(in crate::file) fn serial(number: usize) -> Option<Arc<Tty>> {
    SERIAL.get(number).cloned()
}

/// The controlling terminal of a session.
pub(in crate::file) fn controlling(session: u32) -> Option<Arc<Tty>> {
    let pseudo = pair::all().into_iter().map(|(_, tty)| tty);
    SERIAL.iter().cloned().chain(pseudo).find(|tty| tty.session() == Some(session))
}

/// Shows a message of the kernel on a session's controlling terminal, if it has one.
pub fn announce(session: u32, text: &[u8]) {
    if let Some(tty) = controlling(session) {
        tty.announce(text);
    }
}
