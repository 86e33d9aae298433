//! `mount`: lists the mounts. `mount [-t TYPE] [-o OPTIONS] SOURCE TARGET`: mounts a file system.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options =
        user::opt::Options::parse(args, "t:o:", "mount [-t TYPE] [-o OPTIONS] SOURCE TARGET");
    match options.operands.as_slice() {
        [] => list(),
        [source, target] => {
            let kind = options.value(b't').unwrap_or(b"sloth");
            let settings = options.value(b'o').unwrap_or_default();
            sys::mount(source, target, kind, 0, settings)
                .map_or_else(|error| complain("mount", target, error), |()| 0)
        }
        _ => {
            eprintln!("usage: mount [-t TYPE] [-o OPTIONS] SOURCE TARGET");
            1
        }
    }
}

fn list() -> i32 {
    let text = match user::io::read_file(b"/proc/mounts") {
        Ok(text) => text,
        Err(error) => return complain("mount", b"/proc/mounts", error),
    };
    let mut out = Out::standard();
    for line in text.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        if let [source, target, kind, settings, ..] = fields.as_slice() {
            out.put(&[*source, b" on ", target, b" type ", kind, b" (", settings, b")\n"].concat());
        }
    }
    out.finish("mount", 0)
}
