//! All small programs in one binary, which runs the tool that its name selects: `tools NAME
//! [ARGUMENT…]`, or `NAME [ARGUMENT…]` if NAME is a link to it. `tools --list` lists the names.
//!
//! To add a tool, write a module here with a function `run` and add a line to [`TOOLS`]. `cargo
//! xtask` creates a hard link of that name in the ramdisk's `/bin`.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

mod cat;
mod chmod;
mod cmp;
mod cp;
mod dd;
mod dmesg;
mod echo;
mod env;
mod free;
mod grep;
mod head;
mod help;
mod kill;
mod ln;
mod ls;
mod mkdir;
mod mount;
mod mv;
mod poweroff;
mod printf;
mod ps;
mod pwd;
mod rm;
mod rmdir;
mod seq;
mod sha256sum;
mod sleep;
mod sort;
mod stat;
mod sync;
mod tail;
mod tee;
mod test;
mod touch;
mod trace;
mod truncate;
mod uname;
mod wc;

use user::prelude::*;
use user::rt::Main;

program!(run);

/// The tools: name and main function.
const TOOLS: &[(&str, Main)] = &[
    ("cat", cat::run),
    ("chmod", chmod::run),
    ("cmp", cmp::run),
    ("cp", cp::run),
    ("dd", dd::run),
    ("dmesg", dmesg::run),
    ("echo", echo::run),
    ("env", env::run),
    ("free", free::run),
    ("grep", grep::run),
    ("head", head::run),
    ("help", help::run),
    ("kill", kill::run),
    ("ln", ln::run),
    ("ls", ls::run),
    ("mkdir", mkdir::run),
    ("mount", mount::run),
    ("mv", mv::run),
    ("poweroff", poweroff::run),
    ("printf", printf::run),
    ("ps", ps::run),
    ("pwd", pwd::run),
    ("rm", rm::run),
    ("rmdir", rmdir::run),
    ("seq", seq::run),
    ("sha256sum", sha256sum::run),
    ("sleep", sleep::run),
    ("sort", sort::run),
    ("stat", stat::run),
    ("strace", trace::run),
    ("sync", sync::run),
    ("tail", tail::run),
    ("tee", tee::run),
    ("test", test::run),
    ("touch", touch::run),
    ("trace", trace::run),
    ("truncate", truncate::run),
    ("uname", uname::run),
    ("wc", wc::run),
    ("false", |_| 1),
];

fn run(args: &Args) -> i32 {
    let rest = args.get(1..).unwrap_or_default();
    if let Some(tool) = args.first().and_then(|name| find(name)) {
        return tool(args);
    }
    if rest == [b"--list"] {
        return list();
    }
    match rest.first().and_then(|name| find(name)) {
        Some(tool) => tool(rest),
        None => {
            eprintln!("usage: tools NAME [ARGUMENT...]   or   tools --list");
            2
        }
    }
}

/// The tool that the last component of a path names.
fn find(path: &[u8]) -> Option<Main> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    TOOLS.iter().find(|(tool, _)| tool.as_bytes() == name).map(|(_, main)| *main)
}

/// Prints the tools' names, one per line.
fn list() -> i32 {
    let mut out = Out::standard();
    for (name, _) in TOOLS {
        out.put(format!("{name}\n").as_bytes());
    }
    out.finish("tools", 0)
}
