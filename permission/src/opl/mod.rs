//! The permission language (OPL): a small part of TypeScript in which namespaces
//! declare relations, and permissions over them.
//!
//! ```text
//! class Document implements Namespace {
//!   related: { owners: User[]; parents: Folder[] }
//!   permits = {
//!     view: (ctx: Context): boolean =>
//!       this.related.owners.includes(ctx.subject) ||
//!       this.related.parents.traverse((p) => p.permits.view(ctx)),
//!   }
//! }
//! ```
//!
//! Reading order: [`token`], [`lexer`], [`syntax`] (what is parsed), [`parser`] and
//! [`expression`] (how), [`types`] (what makes sense), [`mod@format`] (how it is written).
//!
//! Where this differs from Keto: a mix of `&&` and `||` without parentheses is
//! refused, unless the class says which reading is meant (`precedence = "keto"` or
//! `"typescript"`); `traverse` may be nested and its body may be any expression;
//! `this == ctx.subject` is there.

pub mod expression;
pub mod format;
pub mod lexer;
pub mod parser;
pub mod syntax;
pub mod token;
pub mod types;

use std::fmt;

pub use syntax::{Class, Expr, ExprKind, Precedence};
pub use token::{Position, Span};

/// Longest source of one tenant's language, over all its files, in bytes.
pub const SOURCE_BYTES_MAX: usize = 512 * 1024;
/// Most files of one language.
pub const FILES_MAX: usize = 256;
/// Most classes.
pub const CLASSES_MAX: usize = 1_000;
/// Most relations and permissions of one class.
pub const RELATIONS_MAX: usize = 500;
/// Deepest nesting of an expression.
pub const NESTING_MAX: usize = 32;
/// Most terms in one permission's expression.
pub const TERMS_MAX: usize = 500;
/// Most errors that are told at once.
pub const ERRORS_MAX: usize = 100;

/// A source file of a language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, for messages.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What is wrong with a source, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// The file, by its place among those given.
    pub file: usize,
    /// What is wrong, and how to put it right.
    pub message: String,
    /// Where it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
}

impl SourceError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { file: 0, message: message.into(), start: span.start, end: span.end }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.start.line, self.start.column, self.message)
    }
}

/// Parses and checks a language of several files. The classes come in the order of
/// the files.
///
/// # Errors
/// Everything that is wrong, at most [`ERRORS_MAX`], in the order of the files.
pub fn parse(files: &[SourceFile]) -> Result<Vec<Class>, Vec<SourceError>> {
    let (classes, mut errors) = parse_files(files);
    if errors.is_empty() {
        errors = types::check(&classes);
    }
    errors.truncate(ERRORS_MAX);
    if errors.is_empty() {
        Ok(classes.into_iter().map(|(_, class)| class).collect())
    } else {
        Err(errors)
    }
}

/// Parses one text, as the syntax check of Keto does.
///
/// # Errors
/// See [`parse`].
pub fn parse_text(text: &str) -> Result<Vec<Class>, Vec<SourceError>> {
    parse(&[SourceFile { name: String::new(), text: text.to_owned() }])
}

fn parse_files(files: &[SourceFile]) -> (Vec<(usize, Class)>, Vec<SourceError>) {
    let nowhere = Span::default();
    let size: usize = files.iter().map(|file| file.text.len()).sum();
    if size > SOURCE_BYTES_MAX {
        let message =
            format!("the language has {size} bytes, at most {SOURCE_BYTES_MAX} are taken");
        return (Vec::new(), vec![SourceError::new(nowhere, message)]);
    }
    if files.len() > FILES_MAX {
        let message =
            format!("the language has {} files, at most {FILES_MAX} are taken", files.len());
        return (Vec::new(), vec![SourceError::new(nowhere, message)]);
    }
    let (mut classes, mut errors) = (Vec::new(), Vec::new());
    for (at, file) in files.iter().enumerate() {
        match parser::parse_file(&file.text) {
            Ok(found) => classes.extend(found.classes.into_iter().map(|class| (at, class))),
            Err(found) => {
                errors.extend(found.into_iter().map(|error| SourceError { file: at, ..error }));
            }
        }
    }
    if classes.len() > CLASSES_MAX {
        let message =
            format!("the language has {} classes, at most {CLASSES_MAX} are taken", classes.len());
        errors.push(SourceError::new(nowhere, message));
    }
    (classes, errors)
}

#[cfg(test)]
mod tests;
