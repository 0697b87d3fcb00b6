//! From tokens to a tree.

use std::rc::Rc;

use super::{
    Failed,
    lexer::{Token, tokens},
    syntax::{
        Argument, Binary, Bind, Clause, Expr, Field, Function, Members, Node, ObjectFor, Text,
        Unary, Visibility,
    },
};

/// How deep a program may nest as it is written.
const DEPTH_MAX: usize = 200;
const KEYWORDS: [&str; 17] = [
    "assert",
    "else",
    "error",
    "false",
    "for",
    "function",
    "if",
    "import",
    "importstr",
    "importbin",
    "in",
    "local",
    "null",
    "self",
    "super",
    "then",
    "true",
];

/// Reads a whole program.
pub(super) fn parse(source: &str) -> Result<Node, Failed> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0 };
    let program = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(program),
        _ => Err(parser.wrong("more follows than one expression")),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

/// What stands before the colon of a member.
enum Head {
    Name(Node),
    Method(Node, Vec<(Text, Option<Node>)>),
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        // The last token is the end, and stays.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn wrong(&self, what: impl Into<String>) -> Failed {
        Failed::Syntax { line: self.tokens[self.at].1, what: what.into() }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if &**found == word)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.next();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Failed> {
        if self.take(sign) { Ok(()) } else { Err(self.wrong(format!("expected {sign:?}"))) }
    }

    fn name(&mut self) -> Result<Text, Failed> {
        match self.peek() {
            Token::Name(name) if !KEYWORDS.contains(&&**name) => {
                let name = name.clone();
                self.next();
                Ok(name)
            }
            _ => Err(self.wrong("expected a name")),
        }
    }

    fn expression(&mut self) -> Result<Node, Failed> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("the program nests too deep"));
        }
        let found = self.loose();
        self.depth -= 1;
        found
    }

    /// What reaches as far as it can.
    fn loose(&mut self) -> Result<Node, Failed> {
        if self.take_word("local") {
            let mut binds = vec![self.bind()?];
            while self.take(",") {
                binds.push(self.bind()?);
            }
            self.expect(";")?;
            let body = self.expression()?;
            return Ok(Rc::new(Expr::Local(Rc::new(binds), body)));
        }
        if self.take_word("if") {
            let condition = self.expression()?;
            if !self.take_word("then") {
                return Err(self.wrong("expected \"then\""));
            }
            let then = self.expression()?;
            let otherwise = if self.take_word("else") { Some(self.expression()?) } else { None };
            return Ok(Rc::new(Expr::If(condition, then, otherwise)));
        }
        if self.take_word("function") {
            self.expect("(")?;
            let parameters = self.parameters()?;
            let body = self.expression()?;
            return Ok(Rc::new(Expr::Function(Rc::new(Function { parameters, body }))));
        }
        if self.take_word("assert") {
            let (condition, message) = self.assertion()?;
            self.expect(";")?;
            let rest = self.expression()?;
            return Ok(Rc::new(Expr::Assert(condition, message, rest)));
        }
        if self.take_word("error") {
            return Ok(Rc::new(Expr::Raise(self.expression()?)));
        }
        self.binary(0)
    }

    fn assertion(&mut self) -> Result<(Node, Option<Node>), Failed> {
        let condition = self.expression()?;
        let message = if self.take(":") { Some(self.expression()?) } else { None };
        Ok((condition, message))
    }

    fn bind(&mut self) -> Result<Bind, Failed> {
        let name = self.name()?;
        if self.take("(") {
            let parameters = self.parameters()?;
            self.expect("=")?;
            let body = self.expression()?;
            let value = Rc::new(Expr::Function(Rc::new(Function { parameters, body })));
            return Ok(Bind { name, value });
        }
        self.expect("=")?;
        Ok(Bind { name, value: self.expression()? })
    }

    /// After the opening bracket.
    fn parameters(&mut self) -> Result<Vec<(Text, Option<Node>)>, Failed> {
        let mut found: Vec<(Text, Option<Node>)> = Vec::new();
        while !self.take(")") {
            let name = self.name()?;
            if found.iter().any(|(known, _)| *known == name) {
                return Err(self.wrong(format!("the parameter {name} is there twice")));
            }
            let default = if self.take("=") { Some(self.expression()?) } else { None };
            found.push((name, default));
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(found)
    }

    /// The operator that stands here, and how tightly it binds.
    fn operator(&self) -> Option<(Binary, u8)> {
        let sign = match self.peek() {
            Token::Sign(sign) => sign,
            Token::Name(name) if &**name == "in" => return Some((Binary::In, 7)),
            _ => return None,
        };
        Some(match *sign {
            "||" => (Binary::Or, 1),
            "&&" => (Binary::And, 2),
            "|" => (Binary::BitOr, 3),
            "^" => (Binary::BitXor, 4),
            "&" => (Binary::BitAnd, 5),
            "==" => (Binary::Equal, 6),
            "!=" => (Binary::Unequal, 6),
            "<" => (Binary::Less, 7),
            ">" => (Binary::Greater, 7),
            "<=" => (Binary::LessEqual, 7),
            ">=" => (Binary::GreaterEqual, 7),
            "<<" => (Binary::ShiftLeft, 8),
            ">>" => (Binary::ShiftRight, 8),
            "+" => (Binary::Add, 9),
            "-" => (Binary::Subtract, 9),
            "*" => (Binary::Multiply, 10),
            "/" => (Binary::Divide, 10),
            "%" => (Binary::Remainder, 10),
            _ => return None,
        })
    }

    fn binary(&mut self, above: u8) -> Result<Node, Failed> {
        let mut left = self.unary()?;
        while let Some((operator, strength)) = self.operator().filter(|(_, s)| *s > above) {
            self.next();
            if operator == Binary::In && self.is_word("super") {
                self.next();
                left = Rc::new(Expr::InSuper(left));
                continue;
            }
            let right = self.binary_right(strength)?;
            left = Rc::new(Expr::Binary(operator, left, right));
        }
        Ok(left)
    }

    fn binary_right(&mut self, strength: u8) -> Result<Node, Failed> {
        // `1 + if x then y else z` reaches as far as it can, too.
        let loose = ["local", "if", "function", "assert", "error"];
        if loose.iter().any(|word| self.is_word(word)) {
            return self.expression();
        }
        self.binary(strength)
    }

    fn unary(&mut self) -> Result<Node, Failed> {
        let operator = match self.peek() {
            Token::Sign("!") => Unary::Not,
            Token::Sign("~") => Unary::BitNot,
            Token::Sign("-") => Unary::Minus,
            Token::Sign("+") => Unary::Plus,
            _ => return self.applied(),
        };
        self.next();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong("the program nests too deep"));
        }
        let value = self.unary();
        self.depth -= 1;
        Ok(Rc::new(Expr::Unary(operator, value?)))
    }

    fn applied(&mut self) -> Result<Node, Failed> {
        let mut value = self.primary()?;
        loop {
            if self.take(".") {
                let name = self.name()?;
                value = Rc::new(Expr::Index(value, Rc::new(Expr::Text(name))));
            } else if self.take("[") {
                value = self.index(value)?;
            } else if self.take("(") {
                let arguments = self.arguments()?;
                self.take_word("tailstrict");
                value = Rc::new(Expr::Call(value, arguments));
            } else if self.take("{") {
                let object = self.object()?;
                value = Rc::new(Expr::Binary(Binary::Add, value, object));
            } else {
                return Ok(value);
            }
        }
    }

    fn index(&mut self, value: Node) -> Result<Node, Failed> {
        let ends = |p: &Self| p.is_sign(":") || p.is_sign("::") || p.is_sign("]");
        let mut parts = [None, None, None];
        let mut part = 0;
        let mut is_slice = false;
        loop {
            if !ends(self) {
                parts[part] = Some(self.expression()?);
            }
            let colons = match self.next() {
                Token::Sign("]") => break,
                Token::Sign(":") => 1,
                Token::Sign("::") => 2,
                _ => return Err(self.wrong("expected \"]\"")),
            };
            is_slice = true;
            part += colons;
            if part > 2 {
                return Err(self.wrong("a slice has at most three parts"));
            }
        }
        match (is_slice, parts) {
            (true, parts) => Ok(Rc::new(Expr::Slice(value, parts))),
            (false, [Some(index), ..]) => Ok(Rc::new(Expr::Index(value, index))),
            (false, _) => Err(self.wrong("expected an index")),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Argument>, Failed> {
        let mut found = Vec::new();
        while !self.take(")") {
            let next = self.tokens.get(self.at + 1).map(|(token, _)| token);
            let is_named = matches!(self.peek(), Token::Name(_)) && next == Some(&Token::Sign("="));
            let name = if is_named {
                let name = self.name()?;
                self.expect("=")?;
                Some(name)
            } else {
                None
            };
            if name.is_none() && found.iter().any(|a: &Argument| a.name.is_some()) {
                return Err(self.wrong("a positional argument follows a named one"));
            }
            found.push(Argument { name, value: self.expression()? });
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(found)
    }

    fn primary(&mut self) -> Result<Node, Failed> {
        let here = self.wrong("expected an expression");
        let expr = match self.next() {
            Token::Number(number) => Expr::Number(number),
            Token::Text(text) => Expr::Text(text),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => return self.array(),
            Token::Sign("{") => return self.object(),
            Token::Sign("$") => Expr::Variable("$".into()),
            Token::Name(name) => match &*name {
                "null" => Expr::Null,
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "self" => Expr::This,
                "super" => {
                    if self.take(".") {
                        Expr::Super(Rc::new(Expr::Text(self.name()?)))
                    } else {
                        self.expect("[")?;
                        let index = self.expression()?;
                        self.expect("]")?;
                        Expr::Super(index)
                    }
                }
                "import" | "importstr" | "importbin" => {
                    return Err(Failed::Syntax {
                        line: self.tokens[self.at.saturating_sub(1)].1,
                        what: "a program may not import anything".to_owned(),
                    });
                }
                keyword if KEYWORDS.contains(&keyword) => return Err(here),
                _ => Expr::Variable(name),
            },
            _ => return Err(here),
        };
        Ok(Rc::new(expr))
    }

    fn array(&mut self) -> Result<Node, Failed> {
        let mut items = Vec::new();
        while !self.take("]") {
            items.push(self.expression()?);
            let comma = self.take(",");
            if items.len() == 1 && self.is_word("for") {
                let clauses = self.clauses()?;
                self.expect("]")?;
                return Ok(Rc::new(Expr::ArrayFor(items.remove(0), clauses)));
            }
            if !comma {
                self.expect("]")?;
                break;
            }
        }
        Ok(Rc::new(Expr::Array(items)))
    }

    fn clauses(&mut self) -> Result<Vec<Clause>, Failed> {
        let mut found = Vec::new();
        loop {
            if self.take_word("for") {
                let name = self.name()?;
                if !self.take_word("in") {
                    return Err(self.wrong("expected \"in\""));
                }
                found.push(Clause::For(name, self.expression()?));
            } else if !found.is_empty() && self.take_word("if") {
                found.push(Clause::If(self.expression()?));
            } else {
                return Ok(found);
            }
        }
    }

    /// After the opening brace.
    fn object(&mut self) -> Result<Node, Failed> {
        let (mut locals, mut asserts, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            if self.take("}") {
                break;
            }
            if self.is_word("for") && fields.len() == 1 && asserts.is_empty() {
                let clauses = self.clauses()?;
                self.expect("}")?;
                let locals = Rc::new(locals);
                let field = fields.remove(0);
                return Ok(Rc::new(Expr::ObjectFor(Rc::new(ObjectFor { locals, field, clauses }))));
            }
            if self.take_word("local") {
                locals.push(self.bind()?);
            } else if self.take_word("assert") {
                asserts.push(self.assertion()?);
            } else {
                fields.push(self.field()?);
            }
            if !self.take(",") && !self.is_sign("}") && !self.is_word("for") {
                return Err(self.wrong("expected \",\" or \"}\""));
            }
        }
        let members = Members { locals: Rc::new(locals), asserts, fields };
        Ok(Rc::new(Expr::Object(Rc::new(members))))
    }

    fn head(&mut self) -> Result<Head, Failed> {
        let name = match self.next() {
            Token::Text(text) => Rc::new(Expr::Text(text)),
            Token::Sign("[") => {
                let name = self.expression()?;
                self.expect("]")?;
                name
            }
            Token::Name(name) if !KEYWORDS.contains(&&*name) => Rc::new(Expr::Text(name)),
            _ => return Err(self.wrong("expected the name of a field")),
        };
        if self.take("(") {
            return Ok(Head::Method(name, self.parameters()?));
        }
        Ok(Head::Name(name))
    }

    fn field(&mut self) -> Result<Field, Failed> {
        let head = self.head()?;
        let adds = self.take("+");
        let visibility = match self.next() {
            Token::Sign(":") => Visibility::Inherited,
            Token::Sign("::") => Visibility::Hidden,
            Token::Sign(":::") => Visibility::Visible,
            _ => return Err(self.wrong("expected \":\" after the name of a field")),
        };
        let value = self.expression()?;
        Ok(match head {
            Head::Name(name) => Field { name, value, adds, visibility },
            Head::Method(name, parameters) => {
                let function = Rc::new(Function { parameters, body: value });
                let value = Rc::new(Expr::Function(function));
                Field { name, value, adds, visibility }
            }
        })
    }
}
