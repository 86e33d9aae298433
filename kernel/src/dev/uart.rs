//! The three serial lines.
//!
//! Sending waits for the device, which QEMU makes ready at once; receiving is by interrupt, on the
//! console line alone. The log writes to its line by itself, with no lock, so that a panic is
//! always heard.
//!
//! Lock: one for each line, held while bytes are handed to the device and never across a call
//! upward.

/// A serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// COM1: the console.
    Console,
    /// COM2: the kernel's log, and a command's standard error.
    Log,
    /// COM3: the control channel, on which init tells the exit status.
    Control,
}

#[cfg(target_os = "none")]
mod machine {
    use super::Line;
    use crate::arch::irq;
    use crate::sync::{Mutex, rank};
    use spin::Once;
    use uart_16550::backend::PioBackend;
    use uart_16550::spec::registers::{FifoTriggerLevel, IER};
    use uart_16550::{BaudRate, Config, Uart16550};

    /// The interrupt line of COM1.
    const CONSOLE_IRQ: u8 = 4;

    type Port = Mutex<Option<Uart16550<PioBackend>>, rank::SerialPort>;
    static PORTS: [Port; 3] = [const { Mutex::new(None) }; 3];
    static INPUT: Once<fn(&[u8])> = Once::new();

    fn port(line: Line) -> &'static Port {
        let [console, log, control] = &PORTS;
        match line {
            Line::Console => console,
            Line::Log => log,
            Line::Control => control,
        }
    }

    /// Finds the lines; from here on `input` gets what arrives on the console, in interrupt
    /// context.
    pub fn start(input: fn(&[u8])) {
        INPUT.call_once(|| input);
        for (line, base) in [(Line::Console, 0x3f8), (Line::Log, 0x2f8), (Line::Control, 0x3e8)] {
            // SAFETY: the standard ports of a PC's serial lines. The log uses its line too, but
            // only to send whole bytes.
            let Ok(mut uart) = (unsafe { Uart16550::new_port(base) }) else { continue };
            let interrupts = if line == Line::Console { IER::DATA_READY } else { IER::empty() };
            let config = Config {
                baud_rate: BaudRate::Baud115200,
                interrupts,
                fifo_trigger_level: Some(FifoTriggerLevel::One),
                ..Config::default()
            };
            if uart.init(config).is_ok() {
                *port(line).lock() = Some(uart);
            }
        }
        irq::register(CONSOLE_IRQ, receive);
        receive();
    }

    /// Takes what has arrived.
    fn receive() {
        let mut bytes = [0; 64];
        loop {
            let count = port(Line::Console)
                .lock()
                .as_mut()
                .map_or(0, |uart| uart.receive_bytes(&mut bytes));
            let Some(received) = bytes.get(..count).filter(|received| !received.is_empty()) else {
                return;
            };
            if let Some(input) = INPUT.get() {
                input(received);
            }
        }
    }

    /// Sends all of `bytes`. A line that is absent takes them and forgets them.
    pub fn send(line: Line, bytes: &[u8]) {
        if let Some(uart) = port(line).lock().as_mut() {
            uart.send_bytes_exact(bytes);
        }
    }
}

#[cfg(not(target_os = "none"))]
mod machine {
    use super::Line;

    /// There are no lines on the host.
    pub fn start(_input: fn(&[u8])) {}

    /// Forgets the bytes.
    pub fn send(_line: Line, _bytes: &[u8]) {}
}

pub use machine::{send, start};
