//! Standard input from the host: what `cargo xtask run` reads, passed on to the shell by a pipe.
//!
//! The console carries it in frames: two bytes of length, the most significant first, and as many
//! bytes of data. A frame without data is the end. On the control line the guest says how many
//! bytes it takes, so that none is lost: `credit N` allows N more.

use crate::session::{control, open_raw, start_helper};
use user::prelude::*;
use user::sys::abi;

/// Bytes on the way, frames' lengths included: less than a terminal keeps.
const CREDIT: usize = 2048;
/// Starts the process that passes input on. Returns the end that the shell reads.
pub fn start() -> Result<Fd> {
    let [input, output] = sys::pipe(abi::O_CLOEXEC)?;
    let started = start_helper(b"standard input", || {
        let _ = sys::close(input);
        pass(output)
    });
    let _ = sys::close(output);
    started.map(|()| input)
}

/// Passes all input on.
fn pass(output: Fd) -> Result<()> {
    let line = open_raw(b"/dev/ttyS0")?;
    control(&format!("credit {CREDIT}"));
    let mut buffer = vec![0; CREDIT];
    let mut frames = Frames::default();
    loop {
        let count = sys::read(line, &mut buffer)?;
        let data = frames.decode(buffer.get(..count).unwrap_or_default());
        sys::write_all(output, &data)?;
        if frames.ended {
            return Ok(());
        }
        control(&format!("credit {count}"));
    }
}

/// The state of decoding.
#[derive(Debug, Default)]
struct Frames {
    /// The first byte of a length whose second byte has not arrived.
    length: Option<u8>,
    /// Bytes of data that are missing in the current frame.
    missing: usize,
    /// Whether the last frame has arrived.
    ended: bool,
}

impl Frames {
    /// The data in bytes that have arrived.
    fn decode(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        while let Some((&first, rest)) = bytes.split_first().filter(|_| !self.ended) {
            if self.missing > 0 {
                let (part, rest) = bytes.split_at(self.missing.min(bytes.len()));
                data.extend_from_slice(part);
                self.missing -= part.len();
                bytes = rest;
                continue;
            }
            match self.length.take() {
                None => self.length = Some(first),
                Some(high) => {
                    self.missing = u16::from_be_bytes([high, first]).into();
                    self.ended = self.missing == 0;
                }
            }
            bytes = rest;
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_any_pieces() {
        let mut line = vec![0, 3, b'a', 0, b'c', 1, 1];
        line.extend([b'x'; 257]);
        line.extend([0, 0, b'?']);
        let data = [&b"a\0c"[..], &[b'x'; 257]].concat();
        for piece in 1..line.len() {
            let mut frames = Frames::default();
            let decoded: Vec<u8> =
                line.chunks(piece).flat_map(|part| frames.decode(part)).collect();
            assert!(frames.ended && decoded == data, "pieces of {piece} bytes");
        }
    }
}
