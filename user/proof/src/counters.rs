//! The kernel's counters in `/proc/lazy`: lines of `name: value`.

use user::prelude::*;

/// Asks each mounted server for its figures, which `/proc` shows as they were last asked for.
pub fn ask_servers() {
    let mounts = user::io::read_file(b"/proc/mounts").unwrap_or_default();
    for line in mounts.split(|&byte| byte == b'\n') {
        if let Some(path) = line.split(|&byte| byte == b' ').nth(1) {
            let _ = sys::statfs(path);
        }
    }
}

/// The values of all counters at one moment.
#[derive(Clone, Default)]
pub struct Counters(Vec<(String, u64)>);

impl Counters {
    /// Reads the counters. Empty on a kernel that has none.
    pub fn now() -> Counters {
        user::io::read_file(b"/proc/lazy").map(|text| Counters::parse(&text)).unwrap_or_default()
    }

    /// Reads the file servers' counters: bytes rescued, elided and cloned. They are separate, since
    /// reading them costs one message per server.
    pub fn of_servers() -> Counters {
        ask_servers();
        user::io::read_file(b"/proc/servers").map(|text| Counters::parse(&text)).unwrap_or_default()
    }

    /// Parses lines of `name: value`. Skips others.
    pub fn parse(text: &[u8]) -> Counters {
        let text = core::str::from_utf8(text).unwrap_or_default();
        let line = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((String::from(name.trim()), value.trim().parse().ok()?))
        };
        Counters(text.lines().filter_map(line).collect())
    }

    /// The value of one counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The growth of each counter since `earlier`, without those that did not grow.
    pub fn since(&self, earlier: &Counters) -> Vec<(&str, u64)> {
        let grown =
            |(name, value): &(String, u64)| value.wrapping_sub(earlier.get(name).unwrap_or(0));
        self.0
            .iter()
            .map(|entry| (entry.0.as_str(), grown(entry)))
            .filter(|(_, by)| *by != 0)
            .collect()
    }

    /// All counters, with name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Whether the kernel has no counters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_left_out() {
        let counters = Counters::parse(b"reads.lazy: 12\ngarbage\nx: y\n: 4\n");
        assert_eq!(counters.get("reads.lazy"), Some(12));
        assert_eq!(counters.get("x"), None);
    }
}
