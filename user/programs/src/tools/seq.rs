//! `seq [FIRST [STEP]] LAST`: prints integers, one per line.

use user::prelude::*;

pub fn run(args: &Args) -> i32 {
    let numbers: Option<Vec<i64>> = args.iter().skip(1).map(|arg| user::opt::number(arg)).collect();
    let (first, step, last) = match numbers.as_deref() {
        Some([last]) => (1, 1, *last),
        Some([first, last]) => (*first, 1, *last),
        Some([first, step, last]) if *step != 0 => (*first, *step, *last),
        _ => {
            eprintln!("usage: seq [FIRST [STEP]] LAST");
            return 1;
        }
    };
    let mut out = Out::standard();
    let mut next = Some(first);
    while let Some(value) = next
        && if step > 0 { value <= last } else { value >= last }
        && !out.failed()
    {
        out.put(format!("{value}\n").as_bytes());
        next = value.checked_add(step);
    }
    out.finish("seq", 0)
}
