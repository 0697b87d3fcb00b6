//! Tokens and their places.

use std::fmt;

/// A place in a source, as editors count: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Default for Position {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

/// From a place up to, not including, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Where it begins.
    pub start: Position,
    /// The place behind it.
    pub end: Position,
}

impl Span {
    /// From the beginning of one to the end of another.
    pub fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A name or a word of the language.
    Word(String),
    /// A text in quotes, without them.
    Text(String),
    /// A sign, such as `{` or `&&`.
    Sign(&'static str),
    /// The end of the source.
    End,
}

/// The signs, longest first.
pub const SIGNS: &[&str] = &[
    "===", "!==", "=>", "==", "!=", "&&", "||", "{", "}", "(", ")", "[", "]", "<", ">", ",", ";",
    ":", ".", "=", "!", "|", "*",
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Sign(sign) => write!(f, "{sign:?}"),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

/// A comment, for the formatter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its text with its signs.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// Whether code stands before it on its line.
    pub trails: bool,
}
