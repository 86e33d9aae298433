//! The guest's tests on the host: Linux is the oracle of what a system call does.
//!
//! A test that fails here is a wrong test, whatever the guest's kernel makes of it.

use std::process::Command;

#[path = "../src/tests_list.rs"]
mod list;

#[test]
fn every_guest_test_passes_on_linux() {
    let listed = Command::new(env!("CARGO_BIN_EXE_tests")).arg("--list").output().expect("runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    for test in list::TESTS.iter().filter(|test| !test.is_long) {
        assert!(test.memory_mib >= 16 && test.timeout_s > 0, "{}: no machine for it", test.name);
        let run = Command::new(env!("CARGO_BIN_EXE_tests")).arg(test.name).output().expect("runs");
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
