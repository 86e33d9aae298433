//! `help`: what there is to try, and the names of all commands.

use user::prelude::*;

const TEXT: &str = "\
Sloth is a system whose read(2) is lazy. To see it at work:
  demo                     reads 16 GiB with one call, while others change the file
  strace cat FILE          shows system calls, and what became of each read
  cat /proc/lazy           counts lazy reads, fetched pages, copies, messages
  echo 0 > /proc/self/lazy makes this shell and its children read eagerly
  dmesg                    shows the kernel's log
  bench                    measures; `cargo xtask bench` on the host counts instructions

";

pub fn run(args: &Args) -> i32 {
    let _ = user::opt::Options::parse(args, "", "help");
    let mut out = Out::standard();
    out.put(TEXT.as_bytes());
    let mut names: Vec<&str> = crate::TOOLS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    paragraph(&mut out, "Tools:", names.into_iter());
    paragraph(&mut out, "Shell:", user::shell::builtins::names());
    out.put(b"Ctrl-] ends QEMU; `exit` or `poweroff` ends the machine.\n");
    out.finish("help", 0)
}

/// Prints words in lines of at most 80 columns, indented below a heading.
fn paragraph(out: &mut Out, heading: &str, words: impl Iterator<Item = &'static str>) {
    const COLUMNS: usize = 80;
    out.put(heading.as_bytes());
    let mut column = heading.len();
    for word in words {
        if column + 1 + word.len() > COLUMNS {
            out.put(b"\n      ");
            column = heading.len();
        }
        out.put(b" ");
        out.put(word.as_bytes());
        column += 1 + word.len();
    }
    out.put(b"\n");
}
