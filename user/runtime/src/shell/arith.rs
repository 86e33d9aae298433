//! `$((…))`: integers of 64 bits with C's operators, precedence climbing.

use super::Shell;
use crate::prelude::*;

/// Operators by precedence, lowest first; longer operators before their prefixes.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// The maximum nesting of parentheses.
const MAX_DEPTH: u32 = 50;

struct Expression<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
    shell: &'a mut Shell,
}

/// Evaluates an expression after expansions. `None` if it is malformed or divides by zero.
pub fn evaluate(shell: &mut Shell, text: &[u8]) -> Option<i64> {
    let mut expression = Expression { text, at: 0, depth: 0, shell };
    expression.blanks();
    if expression.at == text.len() {
        return Some(0);
    }
    let value = expression.ternary()?;
    (expression.at == text.len()).then_some(value)
}

impl Expression<'_> {
    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, operator: &str) -> bool {
        let rest = &self.text[self.at..];
        let Some(after) = rest.strip_prefix(operator.as_bytes()) else { return false };
        // `&` must not match the start of `&&`, nor `<` that of `<<`.
        let doubled = operator.len() == 1 && b"&|<>".contains(&operator.as_bytes()[0]);
        if doubled && after.first() == operator.as_bytes().first() {
            return false;
        }
        self.at += operator.len();
        self.blanks();
        true
    }

    fn ternary(&mut self) -> Option<i64> {
        let condition = self.level(0)?;
        if !self.take("?") {
            return Some(condition);
        }
        let yes = self.ternary()?;
        if !self.take(":") {
            return None;
        }
        let no = self.ternary()?;
        Some(if condition != 0 { yes } else { no })
    }

    fn level(&mut self, level: usize) -> Option<i64> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.take(operator)) {
            let right = self.level(level + 1)?;
            left = apply(operator, left, right)?;
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.take("-") {
            self.unary()?.wrapping_neg()
        } else if self.take("+") {
            self.unary()?
        } else if self.take("!") {
            i64::from(self.unary()? == 0)
        } else if self.take("~") {
            !self.unary()?
        } else if self.take("(") {
            let value = self.ternary()?;
            if !self.take(")") {
                return None;
            }
            value
        } else {
            self.operand()?
        };
        self.depth -= 1;
        Some(value)
    }

    fn operand(&mut self) -> Option<i64> {
        let rest = &self.text[self.at..];
        let length = rest
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
            .unwrap_or(rest.len());
        let token = rest[..length].to_vec();
        self.at += length;
        self.blanks();
        if !super::parse::is_name(&token) {
            return parse_number(&token);
        }
        let rest = &self.text[self.at..];
        if rest.starts_with(b"=") && !rest.starts_with(b"==") {
            self.at += 1;
            self.blanks();
            let value = self.ternary()?;
            self.shell.set(&token, format!("{value}").as_bytes());
            return Some(value);
        }
        match self.shell.get(&token) {
            None => Some(0),
            Some(value) if value.trim_ascii().is_empty() => Some(0),
            Some(value) => parse_number(value.trim_ascii()),
        }
    }
}

fn parse_number(token: &[u8]) -> Option<i64> {
    let text = core::str::from_utf8(token).ok()?;
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    let value = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        i64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -value } else { value })
}

fn apply(operator: &str, left: i64, right: i64) -> Option<i64> {
    Some(match operator {
        "||" => i64::from(left != 0 || right != 0),
        "&&" => i64::from(left != 0 && right != 0),
        "|" => left | right,
        "^" => left ^ right,
        "&" => left & right,
        "==" => i64::from(left == right),
        "!=" => i64::from(left != right),
        "<=" => i64::from(left <= right),
        ">=" => i64::from(left >= right),
        "<" => i64::from(left < right),
        ">" => i64::from(left > right),
        "<<" => left.wrapping_shl(right as u32),
        ">>" => left.wrapping_shr(right as u32),
        "+" => left.wrapping_add(right),
        "-" => left.wrapping_sub(right),
        "*" => left.wrapping_mul(right),
        "/" => left.checked_div(right)?,
        _ => left.checked_rem(right)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let mut shell = Shell::new(b"sh");
        shell.set(b"x", b"5");
        for (text, value) in [
            ("1 + 2 * 3", Some(7)),
            ("(1+2)*3", Some(9)),
            ("10 - 3 - 2", Some(5)),
            ("x * x", Some(25)),
            ("-x", Some(-5)),
            ("1 << 4 | 1", Some(17)),
            ("x > 3 && x < 9", Some(1)),
            ("x == 5 ? 7 : 8", Some(7)),
            ("0x10 + 010", Some(24)),
            ("1 / 0", None),
            ("1 +", None),
            ("", Some(0)),
            ("y = 3", Some(3)),
            ("y", Some(3)),
            ("2 3", None),
            ("!0", Some(1)),
        ] {
            assert_eq!(evaluate(&mut shell, text.as_bytes()), value, "{text}");
        }
        assert_eq!(evaluate(&mut shell, &b"(".repeat(100_000)), None);
    }
}
