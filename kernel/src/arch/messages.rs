//! The newest messages of the log, kept for dmesg(1): bounded, without allocation.
#![forbid(unsafe_code)]

use crate::sync::{Mutex, rank};
use core::fmt;
use core::ops::Range;

/// Bytes that are kept.
const KEPT_BYTES: usize = 32 << 10;
/// Bytes of a message, at most; the rest is dropped.
pub const MESSAGE_BYTES: usize = 512;
/// Priority of all messages: informational.
pub const PRIORITY: u8 = 6;
/// Bytes before a message's text: its length, and its time in microseconds.
const HEADER_BYTES: usize = 2 + 8;

static KEPT: Mutex<Kept, rank::Messages> = Mutex::new(Kept::new());

/// A message that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the stream of all messages, in bytes from the first.
    pub place: u64,
    /// The place of the one after it.
    pub next: u64,
    /// Its time since boot, in microseconds.
    pub time_us: u64,
    text: [u8; MESSAGE_BYTES],
    len: usize,
}

impl Message {
    /// The text, without an end of line.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

/// Keeps a message. One that comes while the messages are read or written, in an interrupt or a
/// panic, is not kept.
pub fn keep(time_us: u64, arguments: fmt::Arguments<'_>) {
    let mut text = Text { bytes: [0; MESSAGE_BYTES], len: 0 };
    // Text that does not fit is dropped.
    let _ = fmt::write(&mut text, arguments);
    if let Some(mut kept) = KEPT.try_lock() {
        kept.push(time_us, text.bytes.get(..text.len).unwrap_or_default());
    }
}

/// The message at a place: 0, or where another one ended. Where it is gone, the oldest. `None` at
/// the end.
pub fn at(place: u64) -> Option<Message> {
    KEPT.lock().at(place)
}

/// The places of the messages that are kept: from the oldest to the end.
pub fn places() -> Range<u64> {
    let kept = KEPT.lock();
    kept.oldest..kept.end
}

struct Text {
    bytes: [u8; MESSAGE_BYTES],
    len: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, &from) in self.bytes.iter_mut().skip(self.len).zip(text.as_bytes()) {
            *to = if from == b'\n' { b' ' } else { from };
            self.len += 1;
        }
        Ok(())
    }
}

/// A ring of bytes. Places count from the first byte that was ever kept.
struct Kept {
    bytes: [u8; KEPT_BYTES],
    oldest: u64,
    end: u64,
}

impl Kept {
    const fn new() -> Self {
        Self { bytes: [0; KEPT_BYTES], oldest: 0, end: 0 }
    }

    fn push(&mut self, time_us: u64, text: &[u8]) {
        let bytes = (HEADER_BYTES + text.len()) as u64;
        while self.end + bytes - self.oldest > KEPT_BYTES as u64 {
            self.oldest += self.header(self.oldest).1;
        }
        self.write(&(text.len() as u16).to_le_bytes());
        self.write(&time_us.to_le_bytes());
        self.write(text);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes[self.end as usize % KEPT_BYTES] = byte;
            self.end += 1;
        }
    }

    fn read(&self, place: u64, to: &mut [u8]) {
        for (index, byte) in to.iter_mut().enumerate() {
            *byte = self.bytes[(place as usize + index) % KEPT_BYTES];
        }
    }

    /// The time of the message at a place, and its length with the header.
    fn header(&self, place: u64) -> (u64, u64) {
        let (mut len, mut time_us) = ([0; 2], [0; 8]);
        self.read(place, &mut len);
        self.read(place + 2, &mut time_us);
        let bytes = HEADER_BYTES as u64 + u64::from(u16::from_le_bytes(len));
        (u64::from_le_bytes(time_us), bytes)
    }

    fn at(&self, place: u64) -> Option<Message> {
        let place = place.max(self.oldest);
        if place >= self.end {
            return None;
        }
        let (time_us, bytes) = self.header(place);
        let (mut text, len) = ([0; MESSAGE_BYTES], bytes as usize - HEADER_BYTES);
        self.read(place + HEADER_BYTES as u64, &mut text[..len]);
        Some(Message { place, next: place + bytes, time_us, text, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    fn all(kept: &Kept) -> Vec<(u64, String)> {
        let next = |message: &Message| kept.at(message.next);
        core::iter::successors(kept.at(0), next)
            .map(|message| (message.time_us, String::from_utf8(message.text().to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn the_newest_messages_are_kept_in_order() {
        let mut kept = Kept::new();
        assert_eq!(kept.at(0), None);
        for number in 0..10_000_u64 {
            kept.push(number, format!("message {number}").as_bytes());
        }
        let all = all(&kept);
        assert!(all.len() > 1000 && kept.end - kept.oldest <= KEPT_BYTES as u64);
        let first = 10_000 - all.len() as u64;
        for (number, message) in (first..).zip(&all) {
            assert_eq!(*message, (number, format!("message {number}")));
        }
    }

    #[test]
    fn a_place_that_is_gone_gives_the_oldest() {
        let mut kept = Kept::new();
        (0..1000).for_each(|_| kept.push(7, &[b'x'; 100]));
        assert_eq!(kept.at(0).unwrap().place, kept.oldest);
        assert_eq!(kept.at(kept.end), None);
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        keep(5, format_args!("one\ntwo {}", "y".repeat(2 * MESSAGE_BYTES)));
        let last = at(places().start).unwrap();
        assert!(last.text().starts_with(b"one two yyy"));
        assert_eq!((last.text().len(), last.time_us), (MESSAGE_BYTES, 5));
    }
}
