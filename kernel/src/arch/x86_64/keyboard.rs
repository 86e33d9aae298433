//! The keyboard on the PS/2 controller (Intel 8042; IBM PS/2 Technical Reference, "Keyboard and
//! Auxiliary Device Controller").
//!
//! Its bytes are passed on as they are: scan codes of set 1, into which the controller translates
//! them. What they mean is not known here.

use super::irq;
use crate::sync::Once;
use x86_64::instructions::port::Port;

const DATA: u16 = 0x60;
/// Status where it is read, commands where it is written.
const CONTROL: u16 = 0x64;
const OUTPUT_FULL: u8 = 1;
const INPUT_FULL: u8 = 1 << 1;
/// The output is that of the second port, the mouse.
const FROM_SECOND: u8 = 1 << 5;
const READ_CONFIGURATION: u8 = 0x20;
const WRITE_CONFIGURATION: u8 = 0x60;
const DISABLE_SECOND: u8 = 0xa7;
const DISABLE_FIRST: u8 = 0xad;
const ENABLE_FIRST: u8 = 0xae;
/// In the configuration: interrupts of the first and of the second port, the first port's clock is
/// off, translation to set 1.
const FIRST_INTERRUPT: u8 = 1;
const SECOND_INTERRUPT: u8 = 1 << 1;
const FIRST_OFF: u8 = 1 << 4;
const TRANSLATE: u8 = 1 << 6;
/// A command to the keyboard itself: it sends codes.
const ENABLE_SCANNING: u8 = 0xf4;
/// What all bytes are where there is no controller.
const NO_DEVICE: u8 = 0xff;
/// The interrupt line.
const LINE: u8 = 1;
/// Reads of the status within which a controller answers: a read takes about a microsecond, and a
/// controller a few milliseconds.
const PATIENCE: usize = 100_000;
/// Bytes that are read in one interrupt, at most.
const INPUT_BYTES: usize = 16;

static INPUT: Once<fn(&[u8])> = Once::new();

fn status() -> u8 {
    // SAFETY: the ports of the keyboard controller, used only in this module, and to reset the
    // machine. They touch no memory.
    unsafe { Port::new(CONTROL).read() }
}

fn data() -> u8 {
    // SAFETY: as above.
    unsafe { Port::new(DATA).read() }
}

/// Writes to one of the two ports, once the controller takes a byte.
fn write(port: u16, byte: u8) -> Option<()> {
    (0..PATIENCE).find(|_| status() & INPUT_FULL == 0)?;
    // SAFETY: as above.
    unsafe { Port::new(port).write(byte) };
    Some(())
}

/// Initializes the controller. From now on `input` gets what the keyboard sends, in interrupt
/// context. Returns whether there is a controller.
pub fn start(input: fn(&[u8])) -> bool {
    INPUT.call_once(|| input);
    let is_ready = status() != NO_DEVICE && initialize().is_some();
    if is_ready {
        irq::register(LINE, receive);
        receive();
    }
    is_ready
}

/// `None` where the controller does not answer.
fn initialize() -> Option<()> {
    write(CONTROL, DISABLE_FIRST)?;
    write(CONTROL, DISABLE_SECOND)?;
    // What came before nobody reads.
    for _ in 0..INPUT_BYTES {
        if status() & OUTPUT_FULL != 0 {
            data();
        }
    }
    write(CONTROL, READ_CONFIGURATION)?;
    (0..PATIENCE).find(|_| status() & OUTPUT_FULL != 0)?;
    let configuration = data() & !(SECOND_INTERRUPT | FIRST_OFF) | FIRST_INTERRUPT | TRANSLATE;
    write(CONTROL, WRITE_CONFIGURATION)?;
    write(DATA, configuration)?;
    write(CONTROL, ENABLE_FIRST)?;
    write(DATA, ENABLE_SCANNING)
}

/// Passes on what has arrived.
fn receive() {
    let mut bytes = [0; INPUT_BYTES];
    let mut count = 0;
    for byte in &mut bytes {
        let status = status();
        if status & OUTPUT_FULL == 0 {
            break;
        }
        let read = data();
        if status & FROM_SECOND == 0 {
            *byte = read;
            count += 1;
        }
    }
    if let Some(input) = INPUT.get().filter(|_| count > 0) {
        input(bytes.get(..count).unwrap_or_default());
    }
}
