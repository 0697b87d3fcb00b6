//! Expressions of permissions.
//!
//! `&&` and `||` side by side mean one thing to Keto, which reads from left to
//! right, and another to TypeScript, which reads `&&` first. So a mix without
//! parentheses is refused, with both readings shown, unless the class says which
//! one is meant.

use super::{
    NESTING_MAX, SourceError, TERMS_MAX,
    format::inline,
    parser::{Parsed, Parser},
    syntax::{Expr, ExprKind, Place, Precedence},
    token::{Kind, Span},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
}

impl Parser {
    /// The whole expression of a permission.
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.terms = 0;
        self.mix("this", 0)
    }

    /// Terms with operators between them. `subject` is what the object at hand is
    /// called.
    fn mix(&mut self, subject: &str, depth: usize) -> Parsed<Expr> {
        let mut terms = vec![self.term(subject, depth)?];
        let mut operators = Vec::new();
        loop {
            let operator = match self.peek().kind {
                Kind::Sign("&&") => Operator::And,
                Kind::Sign("||") => Operator::Or,
                _ => break,
            };
            self.next();
            operators.push(operator);
            terms.push(self.term(subject, depth)?);
        }
        let mixed = operators.iter().any(|operator| *operator != operators[0]);
        if !mixed {
            let operator = operators.first().copied();
            return Ok(join(operator, terms));
        }
        match self.precedence {
            Some(Precedence::Keto) => Ok(left_to_right(terms, &operators)),
            Some(Precedence::TypeScript) => Ok(and_first(terms, &operators)),
            None => {
                let span = terms[0].span.0.to(terms[terms.len() - 1].span.0);
                let keto = inline(&left_to_right(terms.clone(), &operators), subject);
                let typescript = inline(&and_first(terms, &operators), subject);
                Err(SourceError::new(
                    span,
                    format!(
                        "\"&&\" and \"||\" stand side by side without parentheses. Keto reads \
                         from left to right: {keto} — TypeScript reads \"&&\" first: \
                         {typescript} — Write the parentheses that you mean, or say \
                         precedence = \"keto\" or precedence = \"typescript\" in the class"
                    ),
                ))
            }
        }
    }

    fn term(&mut self, subject: &str, depth: usize) -> Parsed<Expr> {
        let span = self.peek().span;
        if depth > NESTING_MAX {
            return Err(SourceError::new(
                span,
                format!("the expression is nested more than {NESTING_MAX} deep"),
            ));
        }
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(SourceError::new(
                span,
                format!("the expression has more than {TERMS_MAX} terms"),
            ));
        }
        if self.eat("!") {
            let inner = self.term(subject, depth + 1)?;
            let whole = span.to(inner.span.0);
            return Ok(expr(ExprKind::Not(Box::new(inner)), whole));
        }
        if self.eat("(") {
            let mut inner = self.mix(subject, depth + 1)?;
            let end = self.sign(")", "to close the parenthesis")?;
            inner.span = Place(span.to(end));
            return Ok(inner);
        }
        if self.is_word("ctx") {
            self.context_subject()?;
            self.equals()?;
            let end = self.word(subject, "to be compared with ctx.subject")?;
            return Ok(expr(ExprKind::IsSubject, span.to(end)));
        }
        if !self.is_word(subject) {
            let mut error =
                self.unexpected(&format!("{subject:?}, \"!\", \"(\" or \"ctx.subject\""));
            if subject != "this" && self.is_word("this") {
                error.message.push_str(": within a traversal only what was found is at hand");
            }
            return Err(error);
        }
        self.next();
        if self.is_sign("==") || self.is_sign("===") {
            self.equals()?;
            let end = self.context_subject()?;
            return Ok(expr(ExprKind::IsSubject, span.to(end)));
        }
        let (part, _) = self.member("\"related\" or \"permits\"")?;
        match part.as_str() {
            "related" => self.related(span, depth),
            "permits" => {
                let (name, _) = self.member("the name of a permission")?;
                self.sign("(", "before \"ctx\"")?;
                self.word("ctx", "as the only argument")?;
                let end = self.sign(")", "behind \"ctx\"")?;
                Ok(expr(ExprKind::Permits(name), span.to(end)))
            }
            other => Err(SourceError::new(
                span.to(self.peek().span),
                format!("expected \"related\" or \"permits\" behind {subject:?}, found {other:?}"),
            )),
        }
    }

    fn related(&mut self, start: Span, depth: usize) -> Parsed<Expr> {
        let (relation, _) = self.member("the name of a relation")?;
        let (verb, verb_span) = self.member("\"includes\" or \"traverse\"")?;
        self.sign("(", "behind the verb")?;
        match verb.as_str() {
            "includes" => {
                self.context_subject()?;
                self.eat(",");
                let end = self.sign(")", "behind \"ctx.subject\"")?;
                Ok(expr(ExprKind::Includes(relation), start.to(end)))
            }
            "traverse" => {
                let parenthesis = self.eat("(");
                let (variable, variable_span) = self.name("a name for what is found")?;
                if variable == "this" || variable == "ctx" {
                    return Err(SourceError::new(
                        variable_span,
                        format!("{variable:?} cannot name what is found"),
                    ));
                }
                if parenthesis {
                    if self.eat(":") {
                        self.name("a type")?;
                    }
                    self.sign(")", "behind the name of what is found")?;
                }
                self.sign("=>", "behind the name of what is found")?;
                let body = self.mix(&variable, depth + 1)?;
                self.eat(",");
                let end = self.sign(")", "to close \"traverse(\"")?;
                let body = Box::new(body);
                Ok(expr(ExprKind::Traverse { relation, variable, body }, start.to(end)))
            }
            other => Err(SourceError::new(
                verb_span,
                format!("expected \"includes\" or \"traverse\", found {other:?}"),
            )),
        }
    }

    fn equals(&mut self) -> Parsed<()> {
        if self.eat("==") || self.eat("===") {
            return Ok(());
        }
        Err(self.unexpected("\"==\""))
    }

    fn context_subject(&mut self) -> Parsed<Span> {
        let start = self.word("ctx", "before \".subject\"")?;
        self.sign(".", "behind \"ctx\"")?;
        Ok(start.to(self.word("subject", "behind \"ctx.\"")?))
    }
}

fn expr(kind: ExprKind, span: Span) -> Expr {
    Expr { kind, span: Place(span) }
}

/// Terms with one operator between all of them; what is of the same kind already is
/// not nested.
fn join(operator: Option<Operator>, mut terms: Vec<Expr>) -> Expr {
    let Some(operator) = operator else { return terms.swap_remove(0) };
    let span = terms[0].span.0.to(terms[terms.len() - 1].span.0);
    expr(
        match operator {
            Operator::And => ExprKind::And(terms),
            Operator::Or => ExprKind::Or(terms),
        },
        span,
    )
}

fn left_to_right(terms: Vec<Expr>, operators: &[Operator]) -> Expr {
    let mut terms = terms.into_iter();
    let mut runs: Vec<Expr> = terms.next().into_iter().collect();
    let mut of = None;
    for (operator, term) in operators.iter().zip(terms) {
        if of.is_some_and(|of| of != *operator) {
            runs = vec![join(of, runs)];
        }
        of = Some(*operator);
        runs.push(term);
    }
    join(of, runs)
}

fn and_first(terms: Vec<Expr>, operators: &[Operator]) -> Expr {
    let mut sums: Vec<Vec<Expr>> = vec![Vec::new()];
    for (at, term) in terms.into_iter().enumerate() {
        if at > 0 && operators[at - 1] == Operator::Or {
            sums.push(Vec::new());
        }
        if let Some(last) = sums.last_mut() {
            last.push(term);
        }
    }
    let products = sums.into_iter().map(|product| {
        let operator = (product.len() > 1).then_some(Operator::And);
        join(operator, product)
    });
    join(Some(Operator::Or), products.collect())
}
