//! From text to a tree, by precedence climbing with a bounded depth. Precedence is
//! that of CEL: `?:`, `||`, `&&`, comparisons and `in`, `+ -`, `! -`, calls.

use super::{ConditionRefused, EXPRESSION_BYTES_MAX, Value};

/// Deepest nesting.
pub const NESTING_MAX: usize = 24;
/// Most nodes.
pub const NODES_MAX: usize = 200;

/// Part of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The character where it stands, from 1.
    pub at: usize,
}

/// What a part of an expression is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A value that is written out.
    Literal(Value),
    /// The value of a parameter.
    Parameter(String),
    /// Values in a row.
    List(Vec<Node>),
    /// Not this.
    Not(Box<Node>),
    /// The number or span with the other sign.
    Negative(Box<Node>),
    /// Two parts with a sign between them.
    Between(Sign, Box<Node>, Box<Node>),
    /// If the first, the second, else the third.
    Choice(Box<Node>, Box<Node>, Box<Node>),
    /// A function of some parts; of a method, the first is what it is called on.
    Call(Function, Vec<Node>),
}

/// A sign between two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `timestamp("2030-01-01T00:00:00Z")`
    Timestamp,
    /// `duration("1h30m")`
    Duration,
    /// `ipaddress("10.0.0.1")`
    Address,
    /// `size(list)` or `size(text)`
    Size,
    /// `address.in_cidr("10.0.0.0/8")`
    InCidr,
    /// `text.startsWith("a")`
    StartsWith,
    /// `text.endsWith("a")`
    EndsWith,
    /// `text.contains("a")`
    Contains,
    /// `time.getHours()`, of UTC
    Hours,
    /// `time.getMinutes()`, of UTC
    Minutes,
    /// `time.getDayOfWeek()`, of UTC; 0 is Sunday, as in CEL
    DayOfWeek,
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("timestamp", Function::Timestamp),
    ("duration", Function::Duration),
    ("ipaddress", Function::Address),
    ("size", Function::Size),
];

const METHODS: &[(&str, Function)] = &[
    ("in_cidr", Function::InCidr),
    ("startsWith", Function::StartsWith),
    ("endsWith", Function::EndsWith),
    ("contains", Function::Contains),
    ("getHours", Function::Hours),
    ("getMinutes", Function::Minutes),
    ("getDayOfWeek", Function::DayOfWeek),
    ("size", Function::Size),
];

/// Words that name no parameter.
const RESERVED: &[&str] = &["true", "false", "null", "in"];

const SIGNS: &[&str] = &[
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "?", ":", "(", ")", "[", "]", ",",
    ".",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Int(i64),
    Text(String),
    Sign(&'static str),
    End,
}

/// Whether a text can name a parameter.
pub fn is_name(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&text)
}

/// Parses an expression.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(text: &str) -> Result<Node, ConditionRefused> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!(
            "the expression has {} bytes, at most {EXPRESSION_BYTES_MAX} are taken",
            text.len()
        );
        return Err(ConditionRefused::new(0, message));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, deep: 0, nodes: 0 };
    let root = parser.choice()?;
    match parser.peek() {
        (Token::End, _) => Ok(root),
        (_, at) => Err(ConditionRefused::new(at, "nothing is expected here")),
    }
}

fn tokens(text: &str) -> Result<Vec<(Token, usize)>, ConditionRefused> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&first) = chars.get(at) {
        let start = at;
        let until = |from: usize, ends: &dyn Fn(char) -> bool| {
            chars[from..].iter().position(|c| ends(*c)).map_or(chars.len(), |n| from + n)
        };
        let token = if first.is_whitespace() {
            at += 1;
            continue;
        } else if first.is_ascii_digit() {
            at = until(at, &|c| !c.is_ascii_alphanumeric());
            let digits: String = chars[start..at].iter().collect();
            let number = digits.parse().map_err(|_| {
                ConditionRefused::new(start + 1, format!("{digits} is no number of 64 bits"))
            })?;
            Token::Int(number)
        } else if first.is_ascii_alphabetic() || first == '_' {
            at = until(at, &|c| !(c.is_ascii_alphanumeric() || c == '_'));
            Token::Word(chars[start..at].iter().collect())
        } else if first == '"' || first == '\'' {
            let mut read = String::new();
            at += 1;
            loop {
                match chars.get(at) {
                    None => return Err(ConditionRefused::new(start + 1, "this text has no end")),
                    Some('\\') => {
                        match chars.get(at + 1) {
                            Some(&c @ ('\\' | '"' | '\'')) => read.push(c),
                            _ => {
                                let message = "only \\\\, \\\" and \\' are escaped in texts";
                                return Err(ConditionRefused::new(at + 1, message));
                            }
                        }
                        at += 2;
                    }
                    Some(&c) => {
                        at += 1;
                        if c == first {
                            break;
                        }
                        read.push(c);
                    }
                }
            }
            Token::Text(read)
        } else {
            let sign = SIGNS
                .iter()
                .find(|sign| sign.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c)));
            let Some(sign) = sign else {
                return Err(ConditionRefused::new(at + 1, format!("{first:?} has no place here")));
            };
            at += sign.len();
            Token::Sign(sign)
        };
        tokens.push((token, start + 1));
    }
    tokens.push((Token::End, chars.len() + 1));
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    deep: usize,
    nodes: usize,
}

type Parsed = Result<Node, ConditionRefused>;

impl Parser {
    fn peek(&self) -> (&Token, usize) {
        // The last one is the end, and nobody goes behind it.
        let (token, at) = &self.tokens[self.at.min(self.tokens.len() - 1)];
        (token, *at)
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek().0, Token::Sign(found) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ConditionRefused> {
        if self.eat(sign) {
            return Ok(());
        }
        Err(ConditionRefused::new(self.peek().1, format!("{sign:?} is missing")))
    }

    fn node(&mut self, at: usize, kind: NodeKind) -> Parsed {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("the expression has more than {NODES_MAX} parts");
            return Err(ConditionRefused::new(at, message));
        }
        Ok(Node { kind, at })
    }

    fn between(&mut self, sign: Sign, left: Node, right: Node) -> Parsed {
        let at = left.at;
        self.node(at, NodeKind::Between(sign, Box::new(left), Box::new(right)))
    }

    fn choice(&mut self) -> Parsed {
        self.deep += 1;
        if self.deep > NESTING_MAX {
            let message = format!("the expression is nested more than {NESTING_MAX} deep");
            return Err(ConditionRefused::new(self.peek().1, message));
        }
        let first = self.or()?;
        let whole = if self.eat("?") {
            let yes = self.choice()?;
            self.expect(":")?;
            let no = self.choice()?;
            let at = first.at;
            self.node(at, NodeKind::Choice(Box::new(first), Box::new(yes), Box::new(no)))?
        } else {
            first
        };
        self.deep -= 1;
        Ok(whole)
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        while self.eat("||") {
            let right = self.and()?;
            left = self.between(Sign::Or, left, right)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        while self.eat("&&") {
            let right = self.comparison()?;
            left = self.between(Sign::And, left, right)?;
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        let signs = [
            ("==", Sign::Equal),
            ("!=", Sign::Unequal),
            ("<=", Sign::LessOrEqual),
            (">=", Sign::GreaterOrEqual),
            ("<", Sign::Less),
            (">", Sign::Greater),
        ];
        let mut sign = None;
        for (text, found) in signs {
            if sign.is_none() && self.eat(text) {
                sign = Some(found);
            }
        }
        if sign.is_none() && matches!(self.peek().0, Token::Word(word) if word == "in") {
            self.at += 1;
            sign = Some(Sign::In);
        }
        match sign {
            None => Ok(left),
            Some(sign) => {
                let right = self.sum()?;
                self.between(sign, left, right)
            }
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.signed()?;
        loop {
            let sign = if self.eat("+") {
                Sign::Plus
            } else if self.eat("-") {
                Sign::Minus
            } else {
                return Ok(left);
            };
            let right = self.signed()?;
            left = self.between(sign, left, right)?;
        }
    }

    fn signed(&mut self) -> Parsed {
        let (_, at) = self.peek();
        let mut signs = Vec::new();
        loop {
            if self.eat("!") {
                signs.push(true);
            } else if self.eat("-") {
                signs.push(false);
            } else {
                break;
            }
        }
        let mut node = self.member()?;
        while let Some(not) = signs.pop() {
            let inner = Box::new(node);
            node =
                self.node(at, if not { NodeKind::Not(inner) } else { NodeKind::Negative(inner) })?;
        }
        Ok(node)
    }

    fn member(&mut self) -> Parsed {
        let mut node = self.primary()?;
        while self.eat(".") {
            let (token, at) = self.peek();
            let Token::Word(name) = token.clone() else {
                return Err(ConditionRefused::new(at, "the name of a method is missing"));
            };
            let Some((_, function)) = METHODS.iter().find(|(known, _)| *known == name) else {
                return Err(ConditionRefused::new(at, format!("there is no method {name}")));
            };
            self.at += 1;
            self.expect("(")?;
            let mut parts = vec![node];
            parts.extend(self.parts(")")?);
            node = self.node(at, NodeKind::Call(*function, parts))?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Parsed {
        let (token, at) = self.peek();
        let token = token.clone();
        self.at += 1;
        match token {
            Token::Int(number) => self.node(at, NodeKind::Literal(Value::Int(number))),
            Token::Text(text) => self.node(at, NodeKind::Literal(Value::Text(text))),
            Token::Word(word) if word == "true" || word == "false" => {
                self.node(at, NodeKind::Literal(Value::Bool(word == "true")))
            }
            Token::Word(word) if self.eat("(") => {
                let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == word) else {
                    return Err(ConditionRefused::new(at, format!("there is no function {word}")));
                };
                let parts = self.parts(")")?;
                self.node(at, NodeKind::Call(*function, parts))
            }
            Token::Word(word) if is_name(&word) => self.node(at, NodeKind::Parameter(word)),
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                let parts = self.parts("]")?;
                self.node(at, NodeKind::List(parts))
            }
            _ => Err(ConditionRefused::new(at, "a value is missing")),
        }
    }

    /// Parts with commas between them, up to a sign.
    fn parts(&mut self, end: &str) -> Result<Vec<Node>, ConditionRefused> {
        let mut parts = Vec::new();
        while !self.eat(end) {
            if !parts.is_empty() {
                self.expect(",")?;
            }
            parts.push(self.choice()?);
        }
        Ok(parts)
    }
}
