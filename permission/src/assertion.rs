//! Assertions about a language, in text: tuples, and what must follow from them.
//!
//! ```text
//! # Ann owns the document.
//! Document:1#owners@ann
//! yes Document:1#view@ann
//! no  Document:1#view@eve
//! error Document:1#strange@ann
//! ```
//!
//! A line is a tuple, or an assertion about the tuples before it. `error` asserts that
//! there is neither a yes nor a no.

use cardea_storage::{Consistency, Tenant};
use thiserror::Error;

use crate::{ReadRejection, Service, Tuple, WriteRejection, model::TupleRefused};

/// What an assertion says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is allowed.
    Yes,
    /// It is not.
    No,
    /// It cannot be answered.
    Error,
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A tuple is there from here on.
    Given(Tuple),
    /// An assertion.
    Asserted(Expected, Tuple),
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {refused}")]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// Why.
    pub refused: TupleRefused,
}

/// An assertion that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its line, from 1.
    pub line: usize,
    /// What was asked.
    pub asked: Tuple,
    /// What was found instead.
    pub found: String,
}

/// What became of assertions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many there were.
    pub asserted: usize,
    /// Those that do not hold.
    pub broken: Vec<Broken>,
}

/// Reads statements, each with its line.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Vec<(usize, Statement)>, BadLine> {
    let mut statements = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        let (expected, rest) = match line.split_once(char::is_whitespace) {
            Some(("yes", rest)) => (Some(Expected::Yes), rest),
            Some(("no", rest)) => (Some(Expected::No), rest),
            Some(("error", rest)) => (Some(Expected::Error), rest),
            Some((word, _)) if !word.contains(':') => {
                let refused = TupleRefused::Malformed(line.chars().take(200).collect());
                return Err(BadLine { line: line_number, refused });
            }
            _ => (None, line),
        };
        let tuple: Tuple =
            rest.trim().parse().map_err(|refused| BadLine { line: line_number, refused })?;
        statements.push((
            line_number,
            match expected {
                Some(expected) => Statement::Asserted(expected, tuple),
                None => Statement::Given(tuple),
            },
        ));
    }
    Ok(statements)
}

impl Service {
    /// Makes what is given, and asks what is asserted.
    ///
    /// # Errors
    /// If a tuple cannot be made.
    pub async fn assert(
        &self,
        tenant: Tenant,
        statements: &[(usize, Statement)],
    ) -> Result<Report, WriteRejection> {
        let mut report = Report::default();
        for (line, statement) in statements {
            let (expected, asked) = match statement {
                Statement::Given(tuple) => {
                    self.create_tuple(tenant, tuple.clone().into()).await?;
                    continue;
                }
                Statement::Asserted(expected, asked) => (*expected, asked),
            };
            report.asserted += 1;
            let answer = self.check(tenant, asked, 0, Consistency::Strong).await;
            let (holds, found) = match answer {
                Ok(answer) if answer.value => (expected == Expected::Yes, "yes".to_owned()),
                Ok(_) => (expected == Expected::No, "no".to_owned()),
                Err(ReadRejection::Store(error)) => return Err(error.into()),
                Err(rejection) => (expected == Expected::Error, rejection.to_string()),
            };
            if !holds {
                report.broken.push(Broken { line: *line, asked: asked.clone(), found });
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TENANT, World};

    #[tokio::test]
    async fn assertions_that_do_not_hold_are_told_with_their_lines() {
        let world = World::of("class D implements Namespace { related: { a: D[] } }", &[]).await;
        let text = "# first\nno D:1#a@ann\nD:1#a@ann\n\nyes   D:1#a@ann\nno D:1#a@ann\n\
                    error D:1#x@ann\nyes D:1#x@ann";
        let statements = parse(text).unwrap();
        let report = world.service.assert(TENANT, &statements).await.unwrap();
        assert_eq!(report.asserted, 5);
        let broken: Vec<_> =
            report.broken.iter().map(|one| (one.line, one.found.as_str())).collect();
        assert_eq!(
            broken,
            [(6, "yes"), (8, "The namespace \"D\" has no relation or permission \"x\".")]
        );
        assert_eq!(parse("D:1#a@ann\nperhaps D:1#a@ann").unwrap_err().line, 2);
    }
}
