//! `ln [-s] [-f] TARGET NAME`: gives a file another name.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let options = user::opt::Options::parse(args, "sf", "ln [-s] [-f] TARGET [NAME]");
    let (target, name) = match options.operands.as_slice() {
        [target, name] => (*target, user::fs::destination(target, name)),
        [target] => (*target, user::fs::base_name(target).to_vec()),
        _ => {
            eprintln!("usage: ln [-s] [-f] TARGET [NAME]");
            return 1;
        }
    };
    if options.has(b'f') {
        let _ = sys::unlink(&name);
    }
    let result =
        if options.has(b's') { sys::symlink(target, &name) } else { sys::link(target, &name) };
    result.map_or_else(|error| complain("ln", &name, error), |()| 0)
}
