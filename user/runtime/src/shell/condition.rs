//! `test` and `[`: conditions on files, strings and numbers.

use crate::fs::is_kind;
use crate::opt::number;
use crate::prelude::*;
use sys::abi;

/// Evaluates a condition. The error is a message; the status is then 2.
pub fn evaluate(arguments: &[&[u8]]) -> core::result::Result<bool, String> {
    // As in POSIX the number of arguments decides, so that operands that look like operators do no
    // harm.
    match arguments {
        [] => Ok(false),
        [text] => Ok(!text.is_empty()),
        [b"!", text] => Ok(text.is_empty()),
        [operator, operand] => unary(operator, operand),
        [left, operator, right] if is_binary(operator) => binary(left, operator, right),
        [b"!", rest @ ..] if rest.len() <= 3 => evaluate(rest).map(|value| !value),
        [b"(", inner, b")"] => Ok(!inner.is_empty()),
        _ => {
            let mut parser = Chain { arguments, at: 0, depth: 0 };
            let value = parser.or()?;
            if parser.at == arguments.len() { Ok(value) } else { Err("too many arguments".into()) }
        }
    }
}

fn is_binary(operator: &[u8]) -> bool {
    let known: [&[u8]; 16] = [
        b"=", b"==", b"!=", b"-eq", b"-ne", b"-lt", b"-le", b"-gt", b"-ge", b"-nt", b"-ot", b"-ef",
        b"<", b">", b"-a", b"-o",
    ];
    known.contains(&operator)
}

fn unary(operator: &[u8], operand: &[u8]) -> core::result::Result<bool, String> {
    let kind = |kind| sys::stat(operand).is_ok_and(|stat| is_kind(stat.st_mode, kind));
    Ok(match operator {
        b"-n" => !operand.is_empty(),
        b"-z" => operand.is_empty(),
        b"-e" => sys::stat(operand).is_ok(),
        b"-f" => kind(abi::S_IFREG),
        b"-d" => kind(abi::S_IFDIR),
        b"-c" => kind(abi::S_IFCHR),
        b"-b" => kind(abi::S_IFBLK),
        b"-p" => kind(abi::S_IFIFO),
        b"-S" => kind(abi::S_IFSOCK),
        b"-h" | b"-L" => sys::lstat(operand).is_ok_and(|stat| is_kind(stat.st_mode, abi::S_IFLNK)),
        b"-s" => sys::stat(operand).is_ok_and(|stat| stat.st_size > 0),
        b"-r" => sys::access(operand, abi::R_OK).is_ok(),
        b"-w" => sys::access(operand, abi::W_OK).is_ok(),
        b"-x" => sys::access(operand, abi::X_OK).is_ok(),
        b"-t" => number(operand).is_some_and(|fd| sys::terminal_settings(fd).is_ok()),
        _ => return Err(format!("{}: unknown operator", Show(operator))),
    })
}

fn binary(left: &[u8], operator: &[u8], right: &[u8]) -> core::result::Result<bool, String> {
    let integer = |text: &[u8]| {
        number::<i64>(text.trim_ascii()).ok_or_else(|| format!("{}: not an integer", Show(text)))
    };
    let time = |path| sys::stat(path).map(|stat| (stat.st_mtime, stat.st_mtime_nsec)).ok();
    Ok(match operator {
        b"=" | b"==" => left == right,
        b"!=" => left != right,
        b"<" => left < right,
        b">" => left > right,
        b"-eq" => integer(left)? == integer(right)?,
        b"-ne" => integer(left)? != integer(right)?,
        b"-lt" => integer(left)? < integer(right)?,
        b"-le" => integer(left)? <= integer(right)?,
        b"-gt" => integer(left)? > integer(right)?,
        b"-ge" => integer(left)? >= integer(right)?,
        b"-nt" => time(left) > time(right),
        b"-ot" => time(left) < time(right),
        b"-a" => !left.is_empty() && !right.is_empty(),
        b"-o" => !left.is_empty() || !right.is_empty(),
        b"-ef" => match (sys::stat(left), sys::stat(right)) {
            (Ok(left), Ok(right)) => (left.st_dev, left.st_ino) == (right.st_dev, right.st_ino),
            _ => false,
        },
        _ => return Err(format!("{}: unknown operator", Show(operator))),
    })
}

/// Beyond POSIX: `-a`, `-o`, `!` and parentheses.
struct Chain<'a> {
    arguments: &'a [&'a [u8]],
    at: usize,
    depth: u32,
}

/// The maximum nesting of parentheses and negations.
const MAX_DEPTH: u32 = 100;

impl Chain<'_> {
    fn take(&mut self, text: &[u8]) -> bool {
        let found = self.arguments.get(self.at) == Some(&text);
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> core::result::Result<bool, String> {
        let mut value = self.and()?;
        while self.take(b"-o") {
            value |= self.and()?;
        }
        Ok(value)
    }

    fn and(&mut self) -> core::result::Result<bool, String> {
        let mut value = self.primary()?;
        while self.take(b"-a") {
            value &= self.primary()?;
        }
        Ok(value)
    }

    fn primary(&mut self) -> core::result::Result<bool, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        let value = if self.take(b"!") {
            !self.primary()?
        } else if self.take(b"(") {
            let value = self.or()?;
            if !self.take(b")") {
                return Err("missing )".into());
            }
            value
        } else {
            let rest = &self.arguments[self.at..];
            let (length, value) = match rest {
                [left, operator, right, ..] if is_binary(operator) => {
                    (3, binary(left, operator, right)?)
                }
                [operator, operand, ..] if operator.len() == 2 && operator[0] == b'-' => {
                    (2, unary(operator, operand)?)
                }
                [text, ..] => (1, !text.is_empty()),
                [] => return Err("argument expected".into()),
            };
            self.at += length;
            value
        };
        self.depth -= 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Option<bool> {
        let words: Vec<&[u8]> = text.split_whitespace().map(str::as_bytes).collect();
        evaluate(&words).ok()
    }

    #[test]
    fn conditions() {
        for (text, value) in [
            ("", Some(false)),
            ("a", Some(true)),
            ("! a", Some(false)),
            ("-n a", Some(true)),
            ("a = a", Some(true)),
            ("a != a", Some(false)),
            ("3 -lt 10", Some(true)),
            ("x -lt 10", None),
            ("-d /", Some(true)),
            ("-f /", Some(false)),
            ("! a = b", Some(true)),
            ("a = a -a b = c", Some(false)),
            ("a = b -o c = c", Some(true)),
            ("-q x", None),
            ("( a = a ) -a ( b = b )", Some(true)),
            ("a b c d", None),
            ("! = !", Some(true)),
            ("-n", Some(true)),
        ] {
            assert_eq!(check(text), value, "{text}");
        }
    }
}
