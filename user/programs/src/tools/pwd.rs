//! `pwd`: prints the working directory.

use user::prelude::*;

pub fn run(_: &Args) -> i32 {
    let mut out = Out::standard();
    match sys::getcwd() {
        Ok(path) => out.put(&[path.as_slice(), b"\n"].concat()),
        Err(error) => return complain("pwd", b".", error),
    }
    out.finish("pwd", 0)
}
