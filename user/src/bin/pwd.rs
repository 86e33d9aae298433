//! `pwd`: the working directory.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

use user::prelude::*;

program!(run);

fn run(_: &Args) -> i32 {
    let mut out = Out::standard();
    match sys::getcwd() {
        Ok(path) => out.put(&[path.as_slice(), b"\n"].concat()),
        Err(error) => return complain("pwd", b".", error),
    }
    out.finish("pwd", 0)
}
