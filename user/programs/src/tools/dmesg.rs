//! `dmesg`: prints the kernel's newest log messages.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let _ = user::opt::Options::parse(args, "", "dmesg");
    match sys::kernel_log() {
        Ok(text) => {
            let mut out = Out::standard();
            // Without the priority in angle brackets.
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                let end = line.iter().position(|byte| *byte == b'>').map_or(0, |at| at + 1);
                out.put(line.get(end..).unwrap_or_default());
            }
            out.finish("dmesg", 0)
        }
        Err(error) => complain("dmesg", b"the kernel's log", error),
    }
}
