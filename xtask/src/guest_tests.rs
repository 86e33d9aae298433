//! The guest's own tests: one machine for each function of the guest's test programs.

use std::time::Duration;

use crate::cli::Length;
use crate::qemu_tests::{Expected, QemuTest};

/// The rules of the contract.
#[path = "../../user/src/rules_list.rs"]
mod rules;

/// The system calls.
#[path = "../../user/src/tests_list.rs"]
mod system;

pub use rules::TESTS as RULES;

/// One test for each line of the guest's lists.
pub fn list(length: Length) -> Vec<QemuTest> {
    let in_time = |test: &&system::SystemTest| length == Length::Long || !test.is_long;
    system::TESTS
        .iter()
        .filter(in_time)
        .map(system_test)
        .chain(RULES.iter().map(rule_test))
        .collect()
}

fn system_test(system: &system::SystemTest) -> QemuTest {
    let name = format!("system_{}", system.name);
    let mut test =
        QemuTest::new(&name, &format!("leaks tests {}", system.name), Expected::Status(0));
    test.memory = format!("{}M", system.memory_mib);
    test.limit = Duration::from_secs(system.timeout_s.into());
    test
}

fn rule_test(rule: &rules::RuleTest) -> QemuTest {
    let expected =
        if rule.log.is_empty() { Expected::Status(0) } else { Expected::Trace(rule.log) };
    let mut test = QemuTest::new(rule.name, &format!("leaks rules {}", rule.name), expected);
    test.memory = format!("{}M", rule.memory_mib);
    test.limit = Duration::from_secs(rule.timeout_s.into());
    test.mutants = rule.mutants.iter().map(|&name| name.to_owned()).collect();
    test.about = rule.doc.to_owned();
    test
}
