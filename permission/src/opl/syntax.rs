//! What a source says, as a tree. Spans do not count when trees are compared.

use super::token::{Comment, Span};

/// A source file.
#[derive(Debug, Clone)]
pub struct File {
    /// Its imports; they mean nothing here, and the formatter keeps them.
    pub imports: Vec<Import>,
    /// Its classes.
    pub classes: Vec<Class>,
    /// Its comments, in order.
    pub comments: Vec<Comment>,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// What is imported.
    pub names: Vec<String>,
    /// From where.
    pub from: String,
    /// Where it stands.
    pub span: Place,
}

/// A place that does not count when trees are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place(pub Span);

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

/// How a mix of `&&` and `||` without parentheses is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// From left to right, as Keto does.
    Keto,
    /// `&&` first, as TypeScript does.
    TypeScript,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// How mixes are read; `None`: they are refused.
    pub precedence: Option<Precedence>,
    /// Its relations.
    pub relations: Vec<Relation>,
    /// Its permissions.
    pub permits: Vec<Permit>,
    /// Where it stands.
    pub span: Place,
    /// Where its name stands.
    pub name_span: Place,
}

/// A relation that tuples name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name.
    pub name: String,
    /// What its subjects may be.
    pub types: Vec<SubjectType>,
    /// Where it stands.
    pub span: Place,
}

/// What a subject may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectType {
    /// The namespace.
    pub namespace: String,
    /// For `SubjectSet<Namespace, "relation">`, the relation.
    pub relation: Option<String>,
    /// Where it stands.
    pub span: Place,
}

/// A permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Its name.
    pub name: String,
    /// What it is.
    pub body: Expr,
    /// Where it stands.
    pub span: Place,
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    /// What it says.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Place,
}

/// What an expression says of the object at hand: `this`, or what a traversal is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExprKind {
    /// One of these.
    Or(Vec<Expr>),
    /// All of these.
    And(Vec<Expr>),
    /// Not this.
    Not(Box<Expr>),
    /// `….related.RELATION.includes(ctx.subject)`.
    Includes(String),
    /// `….permits.PERMIT(ctx)`.
    Permits(String),
    /// `….related.RELATION.traverse((VARIABLE) => BODY)`.
    Traverse {
        /// The relation that is followed.
        relation: String,
        /// How the body calls what was found.
        variable: String,
        /// What must hold of it.
        body: Box<Expr>,
    },
    /// `… == ctx.subject`.
    IsSubject,
}

impl Class {
    /// A relation by name.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// A permission by name.
    pub fn permit(&self, name: &str) -> Option<&Permit> {
        self.permits.iter().find(|permit| permit.name == name)
    }
}

impl Expr {
    /// The expressions right beneath.
    pub fn children(&self) -> &[Expr] {
        match &self.kind {
            ExprKind::Or(children) | ExprKind::And(children) => children,
            ExprKind::Not(child) => std::slice::from_ref(child),
            ExprKind::Traverse { body, .. } => std::slice::from_ref(body),
            ExprKind::Includes(_) | ExprKind::Permits(_) | ExprKind::IsSubject => &[],
        }
    }
}
