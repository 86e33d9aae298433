//! Keys: from the scan codes of a PC's keyboard, in the layout of the United States, to what a
//! terminal of the type `linux` sends.

use crate::screen::CursorKeys;
use pc_keyboard::layouts::Us104Key;
use pc_keyboard::{
    DecodedKey, EventDecoder, HandleControl, KeyCode, KeyEvent, KeyState, ScancodeSet, ScancodeSet1,
};
use user::prelude::*;

const ESCAPE: u8 = 0x1b;

/// The state of the keyboard.
pub struct Keys {
    codes: ScancodeSet1,
    decoder: EventDecoder<Us104Key>,
    /// How many keys with the name Control or Alt are down.
    control: Modifier,
    alt: Modifier,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            codes: ScancodeSet1::new(),
            decoder: EventDecoder::new(Us104Key, HandleControl::Ignore),
            control: Modifier([KeyCode::LControl, KeyCode::RControl], [false; 2]),
            alt: Modifier([KeyCode::LAlt, KeyCode::RAltGr], [false; 2]),
        }
    }
}

/// Two keys of one name, and which of them are down.
struct Modifier([KeyCode; 2], [bool; 2]);

impl Modifier {
    fn take(&mut self, event: &KeyEvent) {
        for (key, is_down) in self.0.iter().zip(&mut self.1) {
            if *key == event.code {
                *is_down = event.state == KeyState::Down;
            }
        }
    }

    fn is_down(&self) -> bool {
        self.1.contains(&true)
    }
}

impl Keys {
    /// What the keys send that these codes report. Codes that are not known are ignored.
    pub fn decode(&mut self, codes: &[u8], cursor_keys: CursorKeys) -> Vec<u8> {
        let mut sent = Vec::new();
        for &code in codes {
            let Ok(Some(event)) = self.codes.advance_state(code) else { continue };
            self.control.take(&event);
            self.alt.take(&event);
            match self.decoder.process_keyevent(event) {
                Some(DecodedKey::Unicode(character)) => self.text(character, &mut sent),
                Some(DecodedKey::RawKey(key)) => sent.extend(sequence(key, cursor_keys)),
                None => {}
            }
        }
        sent
    }

    fn text(&self, character: char, sent: &mut Vec<u8>) {
        if self.alt.is_down() {
            sent.push(ESCAPE);
        }
        match character {
            '\u{8}' => sent.push(0x7f),
            '\u{7f}' => sent.extend(b"\x1b[3~"),
            '\n' => sent.push(b'\r'),
            _ if self.control.is_down() && character.is_ascii() => {
                sent.push(controlled(character as u8));
            }
            _ => sent.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// What Control makes of a character.
fn controlled(byte: u8) -> u8 {
    match byte {
        b' ' => 0,
        b'?' => 0x7f,
        b'/' => 0x1f,
        b'@'..=b'_' | b'a'..=b'z' => byte & 0x1f,
        other => other,
    }
}

/// What a key without a character sends.
fn sequence(key: KeyCode, cursor_keys: CursorKeys) -> Vec<u8> {
    let arrow = |letter: u8| match cursor_keys {
        CursorKeys::Normal => vec![ESCAPE, b'[', letter],
        CursorKeys::Application => vec![ESCAPE, b'O', letter],
    };
    let text: &[u8] = match key {
        KeyCode::ArrowUp => return arrow(b'A'),
        KeyCode::ArrowDown => return arrow(b'B'),
        KeyCode::ArrowRight => return arrow(b'C'),
        KeyCode::ArrowLeft => return arrow(b'D'),
        KeyCode::Home => b"\x1b[1~",
        KeyCode::Insert => b"\x1b[2~",
        KeyCode::Delete => b"\x1b[3~",
        KeyCode::End => b"\x1b[4~",
        KeyCode::PageUp => b"\x1b[5~",
        KeyCode::PageDown => b"\x1b[6~",
        KeyCode::F1 => b"\x1b[[A",
        KeyCode::F2 => b"\x1b[[B",
        KeyCode::F3 => b"\x1b[[C",
        KeyCode::F4 => b"\x1b[[D",
        KeyCode::F5 => b"\x1b[[E",
        KeyCode::F6 => b"\x1b[17~",
        KeyCode::F7 => b"\x1b[18~",
        KeyCode::F8 => b"\x1b[19~",
        KeyCode::F9 => b"\x1b[20~",
        KeyCode::F10 => b"\x1b[21~",
        KeyCode::F11 => b"\x1b[23~",
        KeyCode::F12 => b"\x1b[24~",
        _ => b"",
    };
    text.to_vec()
}
