//! Programs as trees.

use std::rc::Rc;

/// A name or a text.
pub(super) type Text = Rc<str>;
/// A part of a tree.
pub(super) type Node = Rc<Expr>;

/// An expression.
#[derive(Debug)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Number(f64),
    Text(Text),
    This,
    Variable(Text),
    Array(Vec<Node>),
    ArrayFor(Node, Vec<Clause>),
    Object(Rc<Members>),
    ObjectFor(Rc<ObjectFor>),
    Index(Node, Node),
    Slice(Node, [Option<Node>; 3]),
    Super(Node),
    InSuper(Node),
    Call(Node, Vec<Argument>),
    Local(Rc<Vec<Bind>>, Node),
    If(Node, Node, Option<Node>),
    Function(Rc<Function>),
    Binary(Binary, Node, Node),
    Unary(Unary, Node),
    Assert(Node, Option<Node>, Node),
    Raise(Node),
}

/// `for x in y` or `if z` of a comprehension.
#[derive(Debug)]
pub(super) enum Clause {
    For(Text, Node),
    If(Node),
}

/// `name = value`.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) name: Text,
    pub(super) value: Node,
}

/// A function with its parameters, some of which have defaults.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) parameters: Vec<(Text, Option<Node>)>,
    pub(super) body: Node,
}

/// What is given to a function.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) name: Option<Text>,
    pub(super) value: Node,
}

/// What is between the braces of an object.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) locals: Rc<Vec<Bind>>,
    pub(super) asserts: Vec<(Node, Option<Node>)>,
    pub(super) fields: Vec<Field>,
}

/// `name: value`.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Node,
    pub(super) value: Node,
    pub(super) adds: bool,
    pub(super) visibility: Visibility,
}

/// `{ [name]: value for … }`.
#[derive(Debug)]
pub(super) struct ObjectFor {
    pub(super) locals: Rc<Vec<Bind>>,
    pub(super) field: Field,
    pub(super) clauses: Vec<Clause>,
}

/// Whether a field is in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// As the field that it overrides; else yes.
    Inherited,
    Hidden,
    Visible,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Equal,
    Unequal,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    In,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Not,
    BitNot,
    Minus,
    Plus,
}
