//! Command-line options as in POSIX's getopt: single letters, bundled or not, some with an
//! argument. `--` ends them.

use crate::prelude::*;

/// A parsed command line.
pub struct Options {
    given: Vec<(u8, &'static [u8])>,
    /// The arguments that are not options.
    pub operands: Vec<&'static [u8]>,
}

impl Options {
    /// Parses `args` after the program's name. `letters` as for getopt: a letter followed by `:`
    /// takes an argument. Options and operands may mix, as GNU allows. An unknown option ends the
    /// program with `usage` and status 2.
    pub fn parse(args: &Args, letters: &str, usage: &str) -> Options {
        match Options::try_parse(args, letters) {
            Ok(options) => options,
            Err(letter) => {
                let program = args.first().map_or(&b"?"[..], |name| crate::fs::base_name(name));
                eprintln!(
                    "{}: invalid option or argument: -{}\nusage: {usage}",
                    Show(program),
                    letter as char
                );
                sys::exit(2)
            }
        }
    }

    /// As [`Options::parse`], but returns the option that is unknown or lacks its argument as an
    /// error.
    pub fn try_parse(args: &Args, letters: &str) -> core::result::Result<Options, u8> {
        let letters = letters.as_bytes();
        let mut options = Options { given: Vec::new(), operands: Vec::new() };
        let mut rest = args.iter().skip(1);
        while let Some(&arg) = rest.next() {
            if arg == b"--" {
                options.operands.extend(rest.by_ref());
            } else if arg.len() < 2 || arg[0] != b'-' {
                options.operands.push(arg);
            } else {
                let mut bundle = &arg[1..];
                while let Some((&letter, more)) = bundle.split_first() {
                    bundle = more;
                    let known = letters
                        .iter()
                        .position(|&known| known == letter && known != b':')
                        .ok_or(letter)?;
                    let argument = if letters.get(known + 1) == Some(&b':') {
                        let argument =
                            if more.is_empty() { *rest.next().ok_or(letter)? } else { more };
                        bundle = b"";
                        argument
                    } else {
                        b""
                    };
                    options.given.push((letter, argument));
                }
            }
        }
        Ok(options)
    }

    /// Whether the option is present.
    pub fn has(&self, letter: u8) -> bool {
        self.given.iter().any(|(given, _)| *given == letter)
    }

    /// The argument of the option's last occurrence.
    pub fn value(&self, letter: u8) -> Option<&'static [u8]> {
        self.given.iter().rev().find(|(given, _)| *given == letter).map(|(_, value)| *value)
    }

    /// The arguments of all occurrences of an option.
    pub fn values(&self, letter: u8) -> impl Iterator<Item = &'static [u8]> + '_ {
        self.given.iter().filter(move |(given, _)| *given == letter).map(|(_, value)| *value)
    }
}

/// The arguments with `-5` rewritten as `-n5`: the historic form of the line count of `head` and
/// `tail`.
pub fn with_old_counts(args: &Args) -> Vec<&'static [u8]> {
    let long_form = |arg: &&'static [u8]| match **arg {
        [b'-', ref digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            &*Vec::leak([b"-n", digits].concat())
        }
        _ => *arg,
    };
    args.iter().map(long_form).collect()
}

/// Parses a decimal number. The bytes must contain nothing else.
pub fn number<T: core::str::FromStr>(bytes: &[u8]) -> Option<T> {
    core::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Parses a number of bytes with an optional suffix: k, M, G, T (of 1024), or as in dd c (1), w
/// (2), b (512).
pub fn size(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let (digits, suffix) = bytes.split_at(digits);
    let factor = match suffix {
        b"" | b"c" => 1,
        b"w" => 2,
        b"b" => 512,
        b"k" | b"K" | b"KiB" => 1 << 10,
        b"M" | b"MiB" => 1 << 20,
        b"G" | b"GiB" => 1 << 30,
        b"T" | b"TiB" => 1 << 40,
        _ => return None,
    };
    number::<u64>(digits)?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_arguments_and_operands() {
        let parsed =
            Options::try_parse(&[b"x", b"-ab", b"-n5", b"one", b"-n", b"6", b"--", b"-z"], "abn:")
                .ok();
        let options = parsed.expect("parses");
        assert!(options.has(b'a') && options.has(b'b') && !options.has(b'z'));
        assert_eq!(options.value(b'n'), Some(&b"6"[..]));
        assert_eq!(options.operands, [&b"one"[..], b"-z"]);
        assert_eq!(Options::try_parse(&[b"x", b"-q"], "a").err(), Some(b'q'));
        assert_eq!(Options::try_parse(&[b"x", b"-n"], "n:").err(), Some(b'n'));
    }

    #[test]
    fn old_counts() {
        let args: [&'static [u8]; 5] = [b"head", b"-12", b"-n", b"-x", b"-"];
        assert_eq!(with_old_counts(&args), [&b"head"[..], b"-n12", b"-n", b"-x", b"-"]);
    }

    #[test]
    fn sizes() {
        assert_eq!(size(b"16G"), Some(16 << 30));
        assert_eq!(size(b"4096"), Some(4096));
        assert_eq!(size(b"12q"), None);
        assert_eq!(size(b"k"), None);
        assert_eq!(size(b"99999999999T"), None);
    }
}
