//! The tests of rules on the host. What they say of files that are mapped shared is what Linux
//! does: a test that fails here is wrong.

use std::process::Command;

#[test]
fn the_rules_of_mapped_files_hold_on_linux() {
    let listed = Command::new(env!("CARGO_BIN_EXE_rules")).arg("--list").output().expect("runs");
    let listed = String::from_utf8(listed.stdout).expect("text");
    let names: Vec<&str> = listed
        .split("\"name\":\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'))
        .map(|(name, _)| name)
        .filter(|name| {
            let number = name.strip_prefix('m').and_then(|rest| rest.split_once('_'));
            number.is_some_and(|(number, _)| number.parse::<u8>().is_ok())
        })
        .collect();
    assert!(names.len() > 40, "only these tests were registered: {names:?}");
    for name in names {
        let run = Command::new(env!("CARGO_BIN_EXE_rules")).arg(name).output().expect("runs");
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
    }
}
