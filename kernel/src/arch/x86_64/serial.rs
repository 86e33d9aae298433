//! The three serial ports: the only driver of a UART in the kernel.
//!
//! Sending waits for the device, which QEMU makes ready at once. Receiving is by interrupt, on the
//! console's port and the control port, which share a line.
//!
//! Locks: one for each port, held while bytes are passed to the device and never across a call to
//! another module. The log sends without a lock, so that a panic is always visible.

use super::irq;
use crate::arch::SerialPort;
use crate::sync::{Mutex, Once, rank};
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER};
use uart_16550::{BaudRate, Config, Uart16550};

/// The interrupt line of COM1 and COM3.
const INPUT_IRQ: u8 = 4;
/// Bytes that one call of the input function gets, at most.
const INPUT_BYTES: usize = 64;

type Uart = Uart16550<PioBackend>;

static CONSOLE: Mutex<Option<Uart>, rank::SerialPort> = Mutex::new(None);
static LOG: Mutex<Option<Uart>, rank::SerialPort> = Mutex::new(None);
static CONTROL: Mutex<Option<Uart>, rank::SerialPort> = Mutex::new(None);
static INPUT: Once<fn(SerialPort, &[u8])> = Once::new();

/// A port's device, once [`start`] has found it.
fn device(port: SerialPort) -> &'static Mutex<Option<Uart>, rank::SerialPort> {
    match port {
        SerialPort::Console => &CONSOLE,
        SerialPort::Log => &LOG,
        SerialPort::Control => &CONTROL,
    }
}

/// A driver for the port, whether or not a device is present.
fn open(port: SerialPort) -> Option<Uart> {
    let base = match port {
        SerialPort::Console => 0x3f8,
        SerialPort::Log => 0x2f8,
        SerialPort::Control => 0x3e8,
    };
    // SAFETY: the standard I/O ports of a PC's serial ports, used only in this module. They touch
    // no memory.
    unsafe { Uart::new_port(base) }.ok()
}

/// Initializes the ports. From now on `input` gets what arrives on the console and on the control
/// port, in interrupt context.
pub fn start(input: fn(SerialPort, &[u8])) {
    INPUT.call_once(|| input);
    for port in [SerialPort::Console, SerialPort::Log, SerialPort::Control] {
        let Some(mut uart) = open(port) else { continue };
        let interrupts = if port == SerialPort::Log { IER::empty() } else { IER::DATA_READY };
        let config = Config {
            baud_rate: BaudRate::Baud115200,
            interrupts,
            fifo_trigger_level: Some(FifoTriggerLevel::Fourteen),
            ..Config::default()
        };
        if uart.init(config).is_ok() {
            *device(port).lock() = Some(uart);
        }
    }
    irq::register(INPUT_IRQ, receive);
    receive();
}

/// Passes on what has arrived. The line is shared and signals edges, so both ports must be empty in
/// one round: only then does the next byte of either raise the line.
fn receive() {
    while receive_from(SerialPort::Console) | receive_from(SerialPort::Control) {}
}

/// Passes on what has arrived on one port. Returns whether anything had.
fn receive_from(port: SerialPort) -> bool {
    let mut bytes = [0; INPUT_BYTES];
    let count = device(port).lock().as_mut().map_or(0, |it| it.receive_bytes(&mut bytes));
    let received = bytes.get(..count).unwrap_or_default();
    if let Some(input) = INPUT.get().filter(|_| !received.is_empty()) {
        input(port, received);
    }
    count > 0
}

/// Sends all of `bytes`. Without a device they are discarded.
pub fn send(port: SerialPort, bytes: &[u8]) {
    if let Some(uart) = device(port).lock().as_mut() {
        uart.send_bytes_exact(bytes);
    }
}

/// Sends to the log's port without its lock, before or after [`start`]. The kernel is never
/// interrupted in the middle of a line, except by a bug.
pub(super) fn send_to_log(bytes: &[u8]) {
    let Some(mut uart) = open(SerialPort::Log) else { return };
    // Byte by byte, because the FIFO may not be enabled yet. A machine without the port reads as
    // ready.
    for byte in bytes {
        while uart.send_bytes(core::slice::from_ref(byte)) == 0 {}
    }
}
