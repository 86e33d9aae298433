//! `uname [-asnrvm]`: prints the system's name and version.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "asnrvm", "uname [-asnrvm]");
    let names = match sys::uname() {
        Ok(names) => names,
        Err(error) => return complain("uname", b"system", error),
    };
    let fields = [
        (b's', names.sysname),
        (b'n', names.nodename),
        (b'r', names.release),
        (b'v', names.version),
        (b'm', names.machine),
    ];
    let none = fields.iter().all(|(letter, _)| !options.has(*letter));
    let mut shown: Vec<Vec<u8>> = Vec::new();
    for (letter, field) in fields {
        if options.has(letter) || options.has(b'a') || (none && letter == b's') {
            shown
                .push(field.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect());
        }
    }
    let mut out = Out::standard();
    out.put(&shown.join(&b' '));
    out.put(b"\n");
    out.finish("uname", 0)
}
