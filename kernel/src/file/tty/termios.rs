//! The settings of a terminal, as `struct termios` of the kernel interface.

use linux_raw_sys::general as linux;

/// Settings of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termios {
    /// Input flags (`c_iflag`).
    pub input: u32,
    /// Output flags (`c_oflag`).
    pub output: u32,
    /// Speed and format of the line (`c_cflag`); kept without effect.
    pub control: u32,
    /// Flags of the discipline (`c_lflag`): echo, editing, signals.
    pub local: u32,
    /// The number of the discipline (`c_line`); kept without effect.
    pub discipline: u8,
    /// Special characters (`c_cc`).
    pub characters: [u8; CHARACTERS],
}

/// The number of special characters.
pub const CHARACTERS: usize = linux::NCCS as usize;

/// Bytes of the structure: four flag words, the discipline, the characters.
pub const TERMIOS_BYTES: usize = 17 + CHARACTERS;

const fn control(letter: u8) -> u8 {
    letter & 0x1f
}

impl Termios {
    /// The initial settings of the console: Linux's, but without XON/XOFF, so that programs get ^S
    /// and ^Q.
    pub fn new() -> Self {
        let mut characters = [0; CHARACTERS];
        let special = [
            (linux::VINTR, control(b'C')),
            (linux::VQUIT, control(b'\\')),
            (linux::VERASE, 0x7f),
            (linux::VKILL, control(b'U')),
            (linux::VEOF, control(b'D')),
            (linux::VMIN, 1),
            (linux::VSTART, control(b'Q')),
            (linux::VSTOP, control(b'S')),
            (linux::VSUSP, control(b'Z')),
            (linux::VREPRINT, control(b'R')),
            (linux::VDISCARD, control(b'O')),
            (linux::VWERASE, control(b'W')),
            (linux::VLNEXT, control(b'V')),
        ];
        for (index, character) in special {
            if let Some(slot) = characters.get_mut(index as usize) {
                *slot = character;
            }
        }
        Self {
            input: linux::ICRNL | linux::IUTF8,
            output: linux::OPOST | linux::ONLCR,
            control: linux::B38400 | linux::CS8 | linux::CREAD | linux::HUPCL,
            local: linux::ISIG
                | linux::ICANON
                | linux::ECHO
                | linux::ECHOE
                | linux::ECHOK
                | linux::ECHOCTL
                | linux::ECHOKE
                | linux::IEXTEN,
            discipline: 0,
            characters,
        }
    }

    /// The initial settings of a pty, as on Linux.
    pub fn pair() -> Self {
        let console = Self::new();
        Self {
            input: linux::ICRNL | linux::IXON,
            control: console.control & !linux::HUPCL,
            ..console
        }
    }

    /// The settings of a raw line: no echo, no editing, no translation.
    pub fn raw() -> Self {
        let cooked = Self::new();
        Self { input: 0, output: 0, local: 0, ..cooked }
    }

    /// The special character with this index (`VINTR`, ...).
    pub fn character(&self, index: u32) -> u8 {
        self.characters.get(index as usize).copied().unwrap_or(0)
    }

    /// Whether `byte` is the special character with this index; 0 disables a character.
    pub fn is(&self, byte: u8, index: u32) -> bool {
        byte != 0 && self.character(index) == byte
    }

    /// Whether a local flag is set.
    pub fn has_local(&self, flag: u32) -> bool {
        self.local & flag != 0
    }

    /// As the structure's bytes.
    pub fn to_bytes(self) -> [u8; TERMIOS_BYTES] {
        let mut bytes = [0; TERMIOS_BYTES];
        let words = [self.input, self.output, self.control, self.local]
            .into_iter()
            .flat_map(u32::to_le_bytes);
        let all = words.chain([self.discipline]).chain(self.characters);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        bytes
    }

    /// From the structure's bytes, all of which are valid.
    pub fn from_bytes(bytes: &[u8; TERMIOS_BYTES]) -> Self {
        let word = |index: usize| {
            bytes
                .iter()
                .skip(index * 4)
                .take(4)
                .rev()
                .fold(0, |word, &byte| word << 8 | u32::from(byte))
        };
        let mut characters = [0; CHARACTERS];
        characters.iter_mut().zip(bytes.iter().skip(17)).for_each(|(to, from)| *to = *from);
        let discipline = bytes.get(16).copied().unwrap_or(0);
        Self {
            input: word(0),
            output: word(1),
            control: word(2),
            local: word(3),
            discipline,
            characters,
        }
    }
}

impl Default for Termios {
    fn default() -> Self {
        Self::new()
    }
}
