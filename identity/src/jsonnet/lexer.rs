//! Programs as tokens.

use std::rc::Rc;

use super::{Failed, syntax::Text};

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(Text),
    Number(f64),
    Text(Text),
    /// An operator, a bracket or a comma.
    Sign(&'static str),
    End,
}

/// The longest first.
const SIGNS: &[&str] = &[
    ":::", "==", "!=", "<=", ">=", "<<", ">>", "&&", "||", "::", "{", "}", "[", "]", "(", ")", ",",
    ".", ";", "+", "-", "*", "/", "%", "&", "|", "^", "<", ">", "!", "~", "=", ":", "$",
];

/// The tokens of a program, each with its line.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, Failed> {
    let mut lexer = Lexer { source, at: 0, line: 1 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let line = lexer.line;
        let token = lexer.next()?;
        let is_last = token == Token::End;
        found.push((token, line));
        if is_last {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn wrong(&self, what: impl Into<String>) -> Failed {
        Failed::Syntax { line: self.line, what: what.into() }
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.source[self.at..self.at + bytes];
        self.line += passed.matches('\n').count();
        self.at += bytes;
    }

    fn skip_blanks(&mut self) -> Result<(), Failed> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            if blanks > 0 {
                self.advance(blanks);
            } else if rest.starts_with("//") || rest.starts_with('#') {
                let end = rest.find('\n').unwrap_or(rest.len());
                self.advance(end);
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or_else(|| self.wrong("a comment has no end"))?;
                self.advance(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Token, Failed> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let name = Rc::from(&rest[..end]);
            self.advance(end);
            return Ok(Token::Name(name));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if rest.starts_with("|||") {
            return self.block();
        }
        match first {
            '"' | '\'' => return self.text(first),
            '@' => {
                if let Some(quote @ ('"' | '\'')) = rest.chars().nth(1) {
                    return self.verbatim(quote);
                }
            }
            _ => {}
        }
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        let sign = *sign.ok_or_else(|| self.wrong(format!("{first:?} is not understood")))?;
        self.advance(sign.len());
        Ok(Token::Sign(sign))
    }

    fn number(&mut self) -> Result<Token, Failed> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end += 1;
            end += digits(end);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + signed);
            if exponent > 0 {
                end += 1 + signed + exponent;
            }
        }
        let number: f64 =
            self.rest()[..end].parse().map_err(|_| self.wrong("a number is malformed"))?;
        if !number.is_finite() {
            return Err(self.wrong("a number is too large"));
        }
        self.advance(end);
        Ok(Token::Number(number))
    }

    fn text(&mut self, quote: char) -> Result<Token, Failed> {
        let unclosed = self.wrong("a string has no end");
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        let end = loop {
            let (at, c) = chars.next().ok_or_else(|| unclosed.clone())?;
            if c == quote {
                break at + 1;
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let (_, escaped) = chars.next().ok_or_else(|| unclosed.clone())?;
            let mut unit = || -> Option<u32> {
                let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)
            };
            let plain = match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                '"' | '\'' | '\\' | '/' => escaped,
                'u' => {
                    let bad = || self.wrong("a \\u escape is malformed");
                    let mut code = unit().ok_or_else(bad)?;
                    if (0xd800..0xdc00).contains(&code) {
                        let pair: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                        let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        let low = u32::from_str_radix(&digits, 16).map_err(|_| bad())?;
                        if pair != "\\u" || !(0xdc00..0xe000).contains(&low) {
                            return Err(bad());
                        }
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    }
                    char::from_u32(code).ok_or_else(bad)?
                }
                _ => return Err(self.wrong(format!("the escape \\{escaped} is not understood"))),
            };
            out.push(plain);
        };
        self.advance(end);
        Ok(Token::Text(out.into()))
    }

    fn verbatim(&mut self, quote: char) -> Result<Token, Failed> {
        let body = &self.rest()[2..];
        let mut out = String::new();
        let mut chars = body.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != quote {
                out.push(c);
            } else if chars.next_if(|(_, next)| *next == quote).is_some() {
                out.push(quote);
            } else {
                self.advance(2 + at + 1);
                return Ok(Token::Text(out.into()));
            }
        }
        Err(self.wrong("a string has no end"))
    }

    /// `|||`, then lines with a common indent, then `|||` with less.
    fn block(&mut self) -> Result<Token, Failed> {
        let malformed = self.wrong("a text block is malformed");
        let body = &self.rest()[3..];
        let (drop_last, body) = match body.strip_prefix('-') {
            Some(body) => (true, body),
            None => (false, body),
        };
        let first = body.find('\n').ok_or_else(|| malformed.clone())?;
        if !body[..first].trim().is_empty() {
            return Err(malformed);
        }
        let lines = &body[first + 1..];
        let head = lines.trim_start_matches('\n');
        let indent: String = head.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
        if indent.is_empty() {
            return Err(malformed);
        }
        let mut out = String::new();
        let mut used = 3 + usize::from(drop_last) + first + 1;
        for line in lines.split_inclusive('\n') {
            if let Some(text) = line.strip_prefix(indent.as_str()) {
                out.push_str(text);
            } else if line.trim().is_empty() {
                out.push('\n');
            } else if let Some(at) = line.find("|||").filter(|at| line[..*at].trim().is_empty()) {
                used += at + 3;
                if drop_last {
                    out.truncate(out.trim_end_matches('\n').len());
                }
                self.advance(used);
                return Ok(Token::Text(out.into()));
            } else {
                return Err(malformed);
            }
            used += line.len();
        }
        Err(malformed)
    }
}
