//! The terminal and the keyboard, on the host.

use crate::cell::{Style, numbered};
use crate::keys::Keys;
use crate::screen::{CursorKeys, Screen};
use user::prelude::*;

/// A screen of 4 lines with 8 places each, after some output.
fn shown(output: &str) -> Screen {
    let mut screen = Screen::new(4, 8);
    vte::Parser::new().advance(&mut screen, output.as_bytes());
    screen
}

/// The lines without spaces at their ends.
fn text(screen: &Screen) -> [String; 4] {
    [0, 1, 2, 3].map(|row| {
        let line: String = screen.line(row).iter().map(|cell| cell.character).collect();
        line.trim_end().into()
    })
}

#[test]
fn text_wraps_and_scrolls() {
    assert_eq!(text(&shown("12345678")), ["12345678", "", "", ""]);
    assert_eq!(shown("12345678").cursor(), Some((0, 7)));
    assert_eq!(text(&shown("123456789\r\nb\r\nc\r\nd")), ["9", "b", "c", "d"]);
    assert_eq!(text(&shown("\x1b[?7l123456789")), ["12345679", "", "", ""]);
    assert_eq!(text(&shown("a\tb\x08c")), ["a     cb", "", "", ""]);
}

#[test]
fn the_cursor_moves_within_the_screen() {
    assert_eq!(shown("\x1b[99;99H").cursor(), Some((3, 7)));
    assert_eq!(shown("\x1b[3;4H\x1b[9A\x1b[2C").cursor(), Some((0, 5)));
    assert_eq!(shown("\x1b[65535B\x1b[65535D").cursor(), Some((3, 0)));
    assert_eq!(shown("\x1b[2;2H\x1b7\x1b[H\x1b8").cursor(), Some((1, 1)));
    assert_eq!(shown("\x1b[?25l").cursor(), None);
}

#[test]
fn parts_are_erased_inserted_and_deleted() {
    let full = "aaaaaaaa\r\nbbbbbbbb\r\ncccccccc\x1b[2;3H";
    let after = |sequence: &str| text(&shown(&format!("{full}{sequence}")));
    assert_eq!(after("\x1b[K"), ["aaaaaaaa", "bb", "cccccccc", ""]);
    assert_eq!(after("\x1b[1K"), ["aaaaaaaa", "   bbbbb", "cccccccc", ""]);
    assert_eq!(after("\x1b[J"), ["aaaaaaaa", "bb", "", ""]);
    assert_eq!(after("\x1b[1J"), ["", "   bbbbb", "cccccccc", ""]);
    assert_eq!(after("\x1b[2J"), ["", "", "", ""]);
    assert_eq!(after("\x1b[2@"), ["aaaaaaaa", "bb  bbbb", "cccccccc", ""]);
    assert_eq!(after("\x1b[4hx\x1b[4ly"), ["aaaaaaaa", "bbxybbbb", "cccccccc", ""]);
    assert_eq!(after("\x1b[9P"), ["aaaaaaaa", "bb", "cccccccc", ""]);
    assert_eq!(after("\x1b[2X"), ["aaaaaaaa", "bb  bbbb", "cccccccc", ""]);
    assert_eq!(after("\x1b[L"), ["aaaaaaaa", "", "bbbbbbbb", "cccccccc"]);
    assert_eq!(after("\x1b[99M"), ["aaaaaaaa", "", "", ""]);
}

#[test]
fn only_the_region_scrolls() {
    let lines = "a\r\nb\r\nc\r\nd\x1b[2;3r";
    let after = |sequence: &str| text(&shown(&format!("{lines}{sequence}")));
    assert_eq!(after("\x1b[3;1H\n"), ["a", "c", "", "d"]);
    assert_eq!(after("\x1b[2;1H\x1bM"), ["a", "", "b", "d"]);
    assert_eq!(after("\x1b[4;1H\n\nx"), ["a", "b", "c", "x"]);
    assert_eq!(after("\x1b[?6h\x1b[2;1Hx"), ["a", "b", "x", "d"]);
    // A region of one line is none.
    assert_eq!(after("\x1b[3;3r\x1b[3;1H\n"), ["a", "c", "", "d"]);
}

#[test]
fn styles_are_set_and_reset() {
    let style = |sequence: &str| shown(&format!("{sequence}x")).line(0)[0].style;
    let red = style("\x1b[1;4;31;44m");
    assert_eq!((red.foreground, red.background), (numbered(1), numbered(4)));
    assert!(red.is_bold && red.is_underlined && !red.is_reversed);
    assert_eq!(style("\x1b[1;7;93m\x1b[m"), Style::PLAIN);
    assert_eq!(style("\x1b[38;5;196m").foreground, [255, 0, 0]);
    assert_eq!(style("\x1b[48;2;1;2;3m").background, [1, 2, 3]);
    assert_eq!(style("\x1b[38;5m"), Style::PLAIN);
    // An erased place keeps the colour behind it.
    assert_eq!(shown("\x1b[42m\x1b[K").line(0)[7].style.background, numbered(2));
}

#[test]
fn questions_are_answered() {
    assert_eq!(shown("ab\x1b[6n").take_answers(), b"\x1b[1;3R");
    assert_eq!(shown("\x1b[c\x1b[5n").take_answers(), b"\x1b[?6c\x1b[0n");
    assert!(shown(&"\x1b[6n".repeat(1000)).take_answers().len() <= 256);
}

#[test]
fn another_screen_is_shown_and_left() {
    assert_eq!(text(&shown("ab\x1b[?1049hxyz")), ["  xyz", "", "", ""]);
    let after = shown("ab\x1b[?1049hxyz\x1b[?1049l");
    assert_eq!(
        (text(&after), after.cursor()),
        (["ab", "", "", ""].map(String::from), Some((0, 2)))
    );
}

#[test]
fn only_changed_lines_are_drawn() {
    let mut screen = shown("");
    assert_eq!(screen.take_changes(), [0, 1, 2, 3]);
    assert!(screen.take_changes().is_empty());
    vte::Parser::new().advance(&mut screen, b"\x1b[3;1Hx");
    assert_eq!(screen.take_changes(), [0, 2]);
}

#[test]
fn any_bytes_are_taken() {
    let mut number: u64 = 1;
    for _ in 0..2000 {
        let mut screen = Screen::new(3, 5);
        let mut parser = vte::Parser::new();
        for _ in 0..20 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let choices = b"\x1b[?;0123456789@ABCDEFGHJKLMPSTX`acdefhlmnrsu78cDEM()\n\rxyz\xc3\xa9";
            let bytes = number.to_le_bytes().map(|byte| choices[usize::from(byte) % choices.len()]);
            parser.advance(&mut screen, b"\x1b[");
            parser.advance(&mut screen, &bytes);
            let (row, column) = (screen.cursor.row, screen.cursor.column);
            assert!(row < 3 && column < 5 && screen.region.len() >= 2);
        }
        screen.take_changes();
    }
}

#[test]
fn keys_send_what_a_terminal_sends() {
    let typed = |codes: &[u8]| Keys::default().decode(codes, CursorKeys::Normal);
    // a, A, Control-c, Alt-b, and the key of the letter is released each time.
    assert_eq!(typed(&[0x1e, 0x9e, 0x2a, 0x1e, 0x9e, 0xaa]), b"aA");
    assert_eq!(typed(&[0x1d, 0x2e, 0xae, 0x9d, 0x2e]), b"\x03c");
    assert_eq!(typed(&[0x38, 0x30, 0xb0, 0xb8]), b"\x1bb");
    // Enter, Backspace, Delete, Up, F1.
    assert_eq!(typed(&[0x1c, 0x0e]), b"\r\x7f");
    assert_eq!(typed(&[0xe0, 0x53]), b"\x1b[3~");
    assert_eq!(typed(&[0xe0, 0x48, 0xe0, 0xc8, 0x3b]), b"\x1b[A\x1b[[A");
    let application = Keys::default().decode(&[0xe0, 0x48], CursorKeys::Application);
    assert_eq!(application, b"\x1bOA");
    // What a keyboard answers to a command is no key.
    assert_eq!(typed(&[0xfa, 0x1e]), b"a");
    (0..=255).for_each(|code| drop(typed(&[code, 0xe0, code, 0xe1, code])));
}
