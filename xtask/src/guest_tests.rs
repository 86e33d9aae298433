//! The guest's own tests: one machine for each function of the guest's test programs.

use std::time::Duration;

use crate::qemu_tests::{Expected, QemuTest};

/// The rules of the contract.
#[path = "../../user/src/rules_list.rs"]
mod rules;

/// One test for each line of the guest's lists.
pub fn list() -> Vec<QemuTest> {
    rules::TESTS.iter().map(rule_test).collect()
}

fn rule_test(rule: &rules::RuleTest) -> QemuTest {
    let mut test = QemuTest::new(rule.name, &format!("rules {}", rule.name), Expected::Status(0));
    test.memory = format!("{}M", rule.memory_mib);
    test.limit = Duration::from_secs(rule.timeout_s.into());
    test.mutants = rule.mutants.iter().map(|&name| name.to_owned()).collect();
    test.about = rule.doc.to_owned();
    test
}
