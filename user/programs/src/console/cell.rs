//! Characters on the screen, and how they look.

/// A colour: red, green and blue.
pub type Colour = [u8; 3];

/// The colours that programs choose by number: eight, and the same brighter.
const PALETTE: [Colour; 16] = [
    [0, 0, 0],
    [205, 49, 49],
    [13, 188, 121],
    [229, 229, 16],
    [59, 120, 255],
    [188, 63, 188],
    [17, 168, 205],
    [204, 204, 204],
    [118, 118, 118],
    [241, 76, 76],
    [35, 209, 139],
    [245, 245, 67],
    [97, 156, 255],
    [214, 112, 214],
    [41, 184, 219],
    [255, 255, 255],
];
/// The levels of a colour in xterm's cube of 6 × 6 × 6 colours.
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The colour of a number of xterm's 256: the palette, the cube, 24 shades of grey.
pub fn numbered(number: u8) -> Colour {
    match number {
        0..=15 => PALETTE[usize::from(number)],
        16..=231 => {
            let place = usize::from(number - 16);
            [CUBE[place / 36], CUBE[place / 6 % 6], CUBE[place % 6]]
        }
        232..=255 => [8 + 10 * (number - 232); 3],
    }
}

/// How characters look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The colour of what is drawn, unless `is_reversed`.
    pub foreground: Colour,
    /// The colour behind it.
    pub background: Colour,
    /// In bold type.
    pub is_bold: bool,
    /// With a line below.
    pub is_underlined: bool,
    /// With both colours exchanged.
    pub is_reversed: bool,
}

impl Style {
    /// Plain, grey on black.
    pub const PLAIN: Self = Self {
        foreground: PALETTE[7],
        background: PALETTE[0],
        is_bold: false,
        is_underlined: false,
        is_reversed: false,
    };
}

/// A place on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What is shown.
    pub character: char,
    /// How it looks.
    pub style: Style,
}

impl Cell {
    /// A place without a character. As on Linux's console, only the background's colour stays.
    pub fn blank(style: Style) -> Self {
        let style = Style { background: style.background, ..Style::PLAIN };
        Self { character: ' ', style }
    }
}
