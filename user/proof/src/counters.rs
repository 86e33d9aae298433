//! The kernel's counters of laziness, where there are any: `/proc/lazy`, lines of `name: value`.

use user::prelude::*;

/// A reading of all counters.
#[derive(Clone, Default)]
pub struct Counters(Vec<(String, u64)>);

impl Counters {
    /// Reads them; empty on a kernel that has none.
    pub fn now() -> Counters {
        user::io::read_file(b"/proc/lazy").map(|text| Counters::parse(&text)).unwrap_or_default()
    }

    /// Reads what the file servers count: bytes rescued, elided and cloned. Apart from the rest,
    /// since it costs each of them a message.
    pub fn of_servers() -> Counters {
        user::io::read_file(b"/proc/servers").map(|text| Counters::parse(&text)).unwrap_or_default()
    }

    /// Takes `name: value` lines apart, and leaves out what is not one.
    pub fn parse(text: &[u8]) -> Counters {
        let text = core::str::from_utf8(text).unwrap_or_default();
        let line = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((String::from(name.trim()), value.trim().parse().ok()?))
        };
        Counters(text.lines().filter_map(line).collect())
    }

    /// One counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// How much each has grown since `earlier`, those that have not left out.
    pub fn since(&self, earlier: &Counters) -> Vec<(&str, u64)> {
        let grown =
            |(name, value): &(String, u64)| value.wrapping_sub(earlier.get(name).unwrap_or(0));
        self.0
            .iter()
            .map(|entry| (entry.0.as_str(), grown(entry)))
            .filter(|(_, by)| *by != 0)
            .collect()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Whether this kernel has none.
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
