//! The file-system exerciser on the host: it must succeed on Linux before its results elsewhere
//! count.

use std::process::Command;

fn fsx(name: &str, options: &[&str]) {
    let file = std::env::temp_dir().join(format!("fsx-{name}-{}", std::process::id()));
    let run =
        Command::new(env!("CARGO_BIN_EXE_fsx")).args(options).arg(&file).output().expect("runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn linux_passes() {
    fsx("odd", &["-N", "3000", "-S", "1"]);
    fsx("aligned", &["-N", "3000", "-S", "2", "-a", "4096"]);
    fsx("four", &["-N", "1000", "-S", "3", "-p", "4"]);
}

#[test]
fn linux_passes_with_mappings() {
    fsx("mapped", &["-N", "3000", "-S", "4", "-M"]);
    fsx("mapped-aligned", &["-N", "3000", "-S", "5", "-M", "-a", "4096"]);
    fsx("together", &["-N", "1000", "-S", "6", "-o", "-p", "4"]);
    fsx("together-aligned", &["-N", "1000", "-S", "7", "-o", "-p", "3", "-a", "4096"]);
}
