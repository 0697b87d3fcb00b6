//! From text to tokens. Comments are kept apart, for the formatter.

use super::{
    SourceError,
    token::{Comment, Kind, Position, SIGNS, Span, Token},
};

/// Longest name, in bytes.
pub const WORD_BYTES_MAX: usize = crate::model::NAME_BYTES_MAX;

/// Takes a source apart. The last token is [`Kind::End`].
///
/// # Errors
/// The first character that has no place, a text or comment without an end, or a
/// name that is too long.
pub fn tokens(text: &str) -> Result<(Vec<Token>, Vec<Comment>), SourceError> {
    let mut lexer = Lexer { rest: text, at: Position::default() };
    let (mut tokens, mut comments): (Vec<Token>, Vec<Comment>) = (Vec::new(), Vec::new());
    loop {
        lexer.skip_space();
        let start = lexer.at;
        if lexer.rest.is_empty() {
            tokens.push(Token { kind: Kind::End, span: Span { start, end: start } });
            return Ok((tokens, comments));
        }
        if let Some(text) = lexer.comment()? {
            let trails = tokens.last().is_some_and(|token| token.span.end.line == start.line);
            let span = Span { start, end: lexer.at };
            comments.push(Comment { text, span, trails });
            continue;
        }
        let kind = lexer.token()?;
        tokens.push(Token { kind, span: Span { start, end: lexer.at } });
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    /// Takes so many bytes, which end at a character.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        for c in taken.chars() {
            if c == '\n' {
                self.at = Position { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        taken
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn skip_space(&mut self) {
        self.take_while(|c| c.is_whitespace() || c == '\u{feff}');
    }

    fn comment(&mut self) -> Result<Option<String>, SourceError> {
        if self.rest.starts_with("//") {
            return Ok(Some(self.take_while(|c| c != '\n').trim_end().to_owned()));
        }
        if self.rest.starts_with("/*") {
            let Some(end) = self.rest.find("*/") else {
                return Err(self.error("this comment has no end: \"*/\" is missing"));
            };
            return Ok(Some(self.take(end + 2).to_owned()));
        }
        Ok(None)
    }

    fn token(&mut self) -> Result<Kind, SourceError> {
        let first = self.rest.chars().next().unwrap_or_default();
        if first.is_alphabetic() || first == '_' || first == '$' {
            let start = self.at;
            let word = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '$');
            if word.len() > WORD_BYTES_MAX {
                return Err(SourceError::new(
                    Span { start, end: self.at },
                    format!(
                        "this name has {} bytes, at most {WORD_BYTES_MAX} are taken",
                        word.len()
                    ),
                ));
            }
            return Ok(Kind::Word(word.to_owned()));
        }
        if first == '"' || first == '\'' {
            return self.text(first);
        }
        if let Some(sign) = SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            self.take(sign.len());
            return Ok(Kind::Sign(sign));
        }
        Err(self.error(format!("{first:?} has no place in the permission language")))
    }

    fn text(&mut self, quote: char) -> Result<Kind, SourceError> {
        let inner = &self.rest[1..];
        match inner.find([quote, '\n', '\\']) {
            Some(end) if inner[end..].starts_with('\\') => {
                Err(self.error("texts hold no backslashes in the permission language"))
            }
            Some(end) if inner[end..].starts_with(quote) => {
                let taken = self.take(end + 2);
                let text = &taken[1..taken.len() - 1];
                if text.len() > WORD_BYTES_MAX {
                    return Err(self.error(format!(
                        "the text before this has {} bytes, at most {WORD_BYTES_MAX} are taken",
                        text.len()
                    )));
                }
                Ok(Kind::Text(text.to_owned()))
            }
            _ => Err(self.error(format!("this text has no end: {quote} is missing on its line"))),
        }
    }

    fn error(&self, message: impl Into<String>) -> SourceError {
        let end = Position { line: self.at.line, column: self.at.column + 1 };
        SourceError::new(Span { start: self.at, end }, message)
    }
}
