//! `first`: runs in place of init, prints the time-stamp counter since the machine's reset, and
//! powers off.
//!
//! `cargo xtask bench` uses it for the row `boot`, with a clock that counts instructions. The
//! runtime's own start is included.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(_: &Args) -> i32 {
    // SAFETY: every processor that this kernel runs on has it, and it changes nothing.
    let ticks = unsafe { core::arch::x86_64::_rdtsc() };
    let reported = report(b"/dev/ttyS1", &format!("bench: boot {ticks} instructions\n"))
        .and_then(|()| report(b"/dev/ttyS2", "exit 0\n"));
    match reported {
        Ok(()) => complain("first", b"reboot", sys::power_off()),
        Err(error) => complain("first", b"/dev", error),
    }
}

fn report(line: &[u8], text: &str) -> Result<()> {
    let fd = sys::open(line, sys::abi::O_WRONLY | sys::abi::O_NOCTTY, 0)?;
    sys::write(fd, text.as_bytes()).map(|_| ())
}
