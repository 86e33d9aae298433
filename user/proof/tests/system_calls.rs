//! The guest's tests on the host: Linux is the oracle for system calls.
//!
//! A test that fails here is wrong, whatever Sloth's kernel does.

use std::process::Command;

/// The raw value of a field in a line of the list.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, value) = line.split_once(&format!("\"{name}\":")).expect("has the field");
    value.split(',').next().unwrap_or_default().trim_matches('"')
}

#[test]
fn every_guest_test_passes_on_linux() {
    let listed = Command::new(env!("CARGO_BIN_EXE_tests")).arg("--list").output().expect("runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("text");
    assert!(listed.lines().count() > 100, "only these tests were registered:\n{listed}");
    // Tests under icount measure in instructions. On Linux, others run at the same time.
    let is_tried = |line: &&str| field(line, "long") == "false" && field(line, "icount") == "false";
    for test in listed.lines().filter(is_tried) {
        let name = field(test, "name");
        let figure = |name| field(test, name).parse::<u32>().expect("a number");
        assert!(figure("memory_mib") >= 16 && figure("timeout_s") > 0, "{name}: no machine for it");
        let run = Command::new(env!("CARGO_BIN_EXE_tests")).arg(name).output().expect("runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn the_experiment_succeeds_and_its_hash_follows_from_size_and_seed() {
    let run = |size: &str, seed: &str| {
        let directory = std::env::temp_dir();
        let output = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args(["--size", size, "--seed", seed, "--dir"])
            .arg(directory.join(format!("demo-{}", std::process::id())).parent().expect("has one"))
            .output()
            .expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().find_map(|line| line.strip_prefix("hash ")).expect("a hash").trim().to_owned()
    };
    assert_eq!(run("2M", "7"), run("2M", "7"));
    assert_ne!(run("2M", "7"), run("2M", "8"));
}
