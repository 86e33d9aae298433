//! Device interrupts: the two 8259 controllers and the registered handlers.

use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use x86_64::instructions::port::Port;

/// Command and data ports of the two controllers.
const FIRST: (u16, u16) = (0x20, 0x21);
const SECOND: (u16, u16) = (0xa0, 0xa1);
/// The vector of line 0: the first one after the CPU's exceptions.
pub(super) const FIRST_VECTOR: u8 = 32;
/// The line of the first controller that the second one is connected to.
const CASCADE: u8 = 2;
const END_OF_INTERRUPT: u8 = 0x20;
const READ_IN_SERVICE: u8 = 0x0b;

static HANDLERS: [AtomicPtr<()>; 16] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 16];

static SERVING: AtomicBool = AtomicBool::new(false);

/// Whether the handler of a line is running.
#[inline]
pub fn is_serving() -> bool {
    SERVING.load(Ordering::Relaxed)
}

fn write(port: u16, value: u8) {
    // SAFETY: the ports of the interrupt controllers, used only in this module. They touch no
    // memory.
    unsafe { Port::new(port).write(value) }
}

fn read(port: u16) -> u8 {
    // SAFETY: as above.
    unsafe { Port::new(port).read() }
}

/// Initializes both controllers, with all lines masked.
pub(super) unsafe fn start() {
    for ((command, data), vector, cascade) in
        [(FIRST, FIRST_VECTOR, 1 << CASCADE), (SECOND, FIRST_VECTOR + 8, CASCADE)]
    {
        // Initialize, edge triggered; then vector, wiring, 8086 mode.
        write(command, 0x11);
        write(data, vector);
        write(data, cascade);
        write(data, 1);
        write(data, 0xff);
    }
    write(FIRST.1, !(1 << CASCADE));
}

/// Registers the handler of a line and unmasks it. `handler` is called with interrupts off. Ignores
/// lines above 15.
pub fn register(line: u8, handler: fn()) {
    let Some(slot) = HANDLERS.get(usize::from(line)) else { return };
    slot.store(handler as *mut (), Ordering::Relaxed);
    let (data, bit) = if line < 8 { (FIRST.1, line) } else { (SECOND.1, line - 8) };
    write(data, read(data) & !(1 << bit));
}

/// Serves an interrupt.
pub(super) fn serve(line: u8) {
    // A controller also reports line 7 (or 15) if an interrupt was withdrawn: then nothing is
    // served.
    let (command, bit) = if line < 8 { (FIRST.0, line) } else { (SECOND.0, line - 8) };
    if bit == 7 {
        write(command, READ_IN_SERVICE);
        if read(command) & 1 << 7 == 0 {
            if line == 15 {
                write(FIRST.0, END_OF_INTERRUPT);
            }
            return;
        }
    }
    if line >= 8 {
        write(SECOND.0, END_OF_INTERRUPT);
    }
    write(FIRST.0, END_OF_INTERRUPT);
    let handler = HANDLERS
        .get(usize::from(line))
        .map_or(core::ptr::null_mut(), |slot| slot.load(Ordering::Relaxed));
    if !handler.is_null() {
        // SAFETY: only `register` stores here, and only pointers to functions of this type.
        let handler: fn() = unsafe { core::mem::transmute(handler) };
        SERVING.store(true, Ordering::Relaxed);
        handler();
        SERVING.store(false, Ordering::Relaxed);
    }
}
