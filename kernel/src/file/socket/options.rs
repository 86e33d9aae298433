//! What setsockopt(2) sets.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Bytes that Linux reports as the space of a new socket (`net.core.wmem_default`).
const DEFAULT_BYTES: u32 = 212_992;
/// Bytes that can be asked for (`net.core.wmem_max`); the double is reported.
const MAX_BYTES: u32 = 212_992;
/// The smallest numbers that are reported, for sending and receiving.
const MIN_BYTES: [u32; 2] = [4608, 2304];

/// One of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Sending: `SO_SNDBUF`, `SO_SNDTIMEO`.
    Send,
    /// Receiving: `SO_RCVBUF`, `SO_RCVTIMEO`.
    Receive,
}

/// The options of a socket.
pub struct Options {
    /// By direction.
    buffer_bytes: [AtomicU32; 2],
    /// By direction, 0 for no limit.
    timeout_ns: [AtomicU64; 2],
    /// Options that are on or off and have no effect, by number.
    pub flags: AtomicU64,
    /// `SO_LINGER`: whether, and for how many seconds. It has no effect.
    pub linger: AtomicU64,
    /// Whether one of the times is set.
    has_timeout: AtomicBool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            buffer_bytes: [DEFAULT_BYTES, DEFAULT_BYTES].map(AtomicU32::new),
            timeout_ns: Default::default(),
            flags: AtomicU64::new(0),
            linger: AtomicU64::new(0),
            has_timeout: AtomicBool::new(false),
        }
    }
}

impl Options {
    /// The space in bytes, as Linux reports it. What is queued is limited otherwise.
    pub fn buffer_bytes(&self, direction: Direction) -> u32 {
        let [send, receive] = &self.buffer_bytes;
        let bytes = if direction == Direction::Send { send } else { receive };
        bytes.load(Ordering::Relaxed)
    }

    /// Sets the space: doubled, within bounds.
    pub fn set_buffer_bytes(&self, direction: Direction, bytes: u32) {
        let ([send, receive], [min_send, min_receive]) = (&self.buffer_bytes, MIN_BYTES);
        let (place, min) = match direction {
            Direction::Send => (send, min_send),
            Direction::Receive => (receive, min_receive),
        };
        place.store((bytes.min(MAX_BYTES) * 2).max(min), Ordering::Relaxed);
    }

    /// Whether one of the times is limited.
    #[inline]
    pub fn has_timeout(&self) -> bool {
        self.has_timeout.load(Ordering::Relaxed)
    }

    /// How long a call waits at most, in nanoseconds; 0 for no limit.
    pub fn timeout_ns(&self, direction: Direction) -> u64 {
        let [send, receive] = &self.timeout_ns;
        let time = if direction == Direction::Send { send } else { receive };
        time.load(Ordering::Relaxed)
    }

    /// Sets how long a call waits at most, in nanoseconds; 0 for no limit.
    pub fn set_timeout_ns(&self, direction: Direction, time_ns: u64) {
        let [send, receive] = &self.timeout_ns;
        let place = if direction == Direction::Send { send } else { receive };
        place.store(time_ns, Ordering::Relaxed);
        let either = self.timeout_ns.iter().any(|time| time.load(Ordering::Relaxed) != 0);
        self.has_timeout.store(either, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_doubled_within_bounds() {
        let options = Options::default();
        let sizes = [(0, 4608, 2304), (8192, 16384, 16384), (u32::MAX, 425_984, 425_984)];
        assert_eq!(options.buffer_bytes(Direction::Send), 212_992);
        for (set, send, receive) in sizes {
            options.set_buffer_bytes(Direction::Send, set);
            options.set_buffer_bytes(Direction::Receive, set);
            assert_eq!(options.buffer_bytes(Direction::Send), send);
            assert_eq!(options.buffer_bytes(Direction::Receive), receive);
        }
    }

    #[test]
    fn each_direction_has_its_time() {
        let options = Options::default();
        assert!(!options.has_timeout());
        options.set_timeout_ns(Direction::Send, 5);
        assert!(options.has_timeout());
        assert_eq!(options.timeout_ns(Direction::Receive), 0);
        options.set_timeout_ns(Direction::Send, 0);
        assert!(!options.has_timeout());
    }
}
