//! From tokens to a tree: imports, classes, relations, and the heads of
//! permissions. Their bodies are in [`expression`](super::expression).

use super::{
    ERRORS_MAX, RELATIONS_MAX, SourceError,
    lexer::tokens,
    syntax::{Class, File, Import, Permit, Place, Precedence, Relation, SubjectType},
    token::{Kind, Span, Token},
};

/// Parses one file.
///
/// # Errors
/// What is wrong, at most [`ERRORS_MAX`]; after an error within a class, the next class is
/// looked at.
pub fn parse_file(text: &str) -> Result<File, Vec<SourceError>> {
    let (tokens, comments) = tokens(text).map_err(|error| vec![error])?;
    let mut parser = Parser { tokens, at: 0, precedence: None, terms: 0 };
    let mut file = File { imports: Vec::new(), classes: Vec::new(), comments };
    let mut errors = Vec::new();
    // Behind an error, a class is looked through to the end of the file for its precedence.
    while !parser.is_end() && errors.len() < ERRORS_MAX {
        match parser.item(&mut file) {
            Ok(()) => {}
            Err(error) => {
                errors.push(error);
                parser.skip_to_class();
            }
        }
    }
    if errors.is_empty() { Ok(file) } else { Err(errors) }
}

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// That of the class under way.
    pub(super) precedence: Option<Precedence>,
    /// Terms of the expression under way.
    pub(super) terms: usize,
}

pub(super) type Parsed<T> = Result<T, SourceError>;

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        // The last one is the end, and nobody goes behind it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn peek_at(&self, ahead: usize) -> &Kind {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].kind
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is_end(&self) -> bool {
        self.peek().kind == Kind::End
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek().kind, Kind::Sign(found) if found == sign)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Word(found) if found == word)
    }

    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn sign(&mut self, sign: &str, why: &str) -> Parsed<Span> {
        if self.is_sign(sign) {
            return Ok(self.next().span);
        }
        Err(self.unexpected(&format!("{sign:?} {why}")))
    }

    pub(super) fn word(&mut self, word: &str, why: &str) -> Parsed<Span> {
        if self.is_word(word) {
            return Ok(self.next().span);
        }
        Err(self.unexpected(&format!("{word:?} {why}")))
    }

    pub(super) fn name(&mut self, what: &str) -> Parsed<(String, Span)> {
        match self.peek().kind.clone() {
            Kind::Word(name) => Ok((name, self.next().span)),
            _ => Err(self.unexpected(what)),
        }
    }

    /// A name, bare or in quotes.
    fn quoted_name(&mut self, what: &str) -> Parsed<(String, Span)> {
        match self.peek().kind.clone() {
            Kind::Word(name) | Kind::Text(name) if !name.is_empty() => Ok((name, self.next().span)),
            _ => Err(self.unexpected(what)),
        }
    }

    /// `.name` or `["name"]`.
    pub(super) fn member(&mut self, what: &str) -> Parsed<(String, Span)> {
        if self.eat("[") {
            let Kind::Text(name) = self.peek().kind.clone() else {
                return Err(self.unexpected(&format!("{what} in quotes")));
            };
            let span = self.next().span;
            self.sign("]", "behind the name")?;
            return Ok((name, span));
        }
        self.sign(".", &format!("before {what}"))?;
        self.name(what)
    }

    pub(super) fn unexpected(&self, wanted: &str) -> SourceError {
        let token = self.peek();
        SourceError::new(token.span, format!("expected {wanted}, found {}", token.kind))
    }

    fn skip_to_class(&mut self) {
        while !self.is_end() {
            let heads = self.is_word("class")
                && matches!(self.peek_at(2), Kind::Word(word) if word == "implements");
            if heads {
                return;
            }
            self.at += 1;
        }
    }

    fn item(&mut self, file: &mut File) -> Parsed<()> {
        if self.eat(";") {
            return Ok(());
        }
        if self.is_word("import") {
            file.imports.push(self.import()?);
            return Ok(());
        }
        if self.is_word("export") {
            self.next();
        }
        if self.is_word("class") {
            file.classes.push(self.class()?);
            return Ok(());
        }
        Err(self.unexpected("\"class\" or \"import\""))
    }

    fn import(&mut self) -> Parsed<Import> {
        let start = self.next().span;
        if self.is_word("type") {
            self.next();
        }
        self.sign("{", "behind \"import\"")?;
        let mut names = Vec::new();
        while !self.is_sign("}") {
            names.push(self.name("a name to import")?.0);
            if !self.eat(",") {
                break;
            }
        }
        self.sign("}", "behind the imported names")?;
        self.word("from", "behind the imported names")?;
        let Kind::Text(from) = self.peek().kind.clone() else {
            return Err(self.unexpected("the name of a module, in quotes"));
        };
        let end = self.next().span;
        self.eat(";");
        Ok(Import { names, from, span: Place(start.to(end)) })
    }

    fn class(&mut self) -> Parsed<Class> {
        let start = self.next().span;
        let (name, name_span) = self.name("the name of a namespace")?;
        self.word("implements", "behind the name of the class")?;
        self.word("Namespace", "behind \"implements\"")?;
        self.sign("{", "to open the class")?;
        let mut class = Class {
            name,
            precedence: None,
            relations: Vec::new(),
            permits: Vec::new(),
            span: Place(start),
            name_span: Place(name_span),
        };
        self.precedence = self.precedence_ahead();
        let (mut related, mut permits) = (false, false);
        loop {
            if self.eat(";") {
                continue;
            }
            if self.is_sign("}") {
                let end = self.next().span;
                class.span = Place(start.to(end));
                if class.relations.len() + class.permits.len() > RELATIONS_MAX {
                    return Err(SourceError::new(
                        name_span,
                        format!(
                            "{} has more than {RELATIONS_MAX} relations and permissions",
                            class.name
                        ),
                    ));
                }
                return Ok(class);
            }
            let twice = |what: &str, span| {
                SourceError::new(span, format!("{} has \"{what}\" twice", class.name))
            };
            let span = self.peek().span;
            if self.is_word("related") {
                if std::mem::replace(&mut related, true) {
                    return Err(twice("related", span));
                }
                self.next();
                self.sign(":", "behind \"related\"")?;
                class.relations = self.relations()?;
            } else if self.is_word("permits") {
                if std::mem::replace(&mut permits, true) {
                    return Err(twice("permits", span));
                }
                self.next();
                self.sign("=", "behind \"permits\"")?;
                class.permits = self.permits()?;
            } else if self.is_word("precedence") {
                if class.precedence.is_some() {
                    return Err(twice("precedence", span));
                }
                class.precedence = Some(self.precedence()?);
            } else {
                return Err(self.unexpected("\"related\", \"permits\", \"precedence\" or \"}\""));
            }
        }
    }

    fn precedence(&mut self) -> Parsed<Precedence> {
        self.next();
        self.sign("=", "behind \"precedence\"")?;
        let (Kind::Word(name) | Kind::Text(name)) = self.peek().kind.clone() else {
            return Err(self.unexpected("\"keto\" or \"typescript\""));
        };
        let found = match name.as_str() {
            "keto" => Precedence::Keto,
            "typescript" => Precedence::TypeScript,
            _ => return Err(self.unexpected("\"keto\" or \"typescript\"")),
        };
        self.next();
        Ok(found)
    }

    /// What the class says of precedence, which may stand behind what it is about.
    fn precedence_ahead(&self) -> Option<Precedence> {
        let mut depth = 0_usize;
        for ahead in 0.. {
            match self.peek_at(ahead) {
                Kind::End => return None,
                Kind::Sign("{" | "(" | "[") => depth += 1,
                Kind::Sign("}" | ")" | "]") => depth = depth.checked_sub(1)?,
                Kind::Word(word) if depth == 0 && word == "precedence" => {
                    let (Kind::Word(name) | Kind::Text(name)) = self.peek_at(ahead + 2) else {
                        return None;
                    };
                    return match name.as_str() {
                        "keto" => Some(Precedence::Keto),
                        "typescript" => Some(Precedence::TypeScript),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        None
    }

    fn relations(&mut self) -> Parsed<Vec<Relation>> {
        self.sign("{", "to open the relations")?;
        let mut relations = Vec::new();
        while !self.is_sign("}") {
            if self.eat(",") || self.eat(";") {
                continue;
            }
            let (name, span) = self.quoted_name("the name of a relation, or \"}\"")?;
            self.sign(":", "behind the name of the relation")?;
            let types = self.types()?;
            let end = self.tokens[self.at - 1].span;
            relations.push(Relation { name, types, span: Place(span.to(end)) });
        }
        self.next();
        Ok(relations)
    }

    /// `A[]`, `(A | B)[]`, `Array<A | B>`, `SubjectSet<A, "r">[]`.
    fn types(&mut self) -> Parsed<Vec<SubjectType>> {
        let array = matches!(self.peek_at(1), Kind::Sign("<")) && self.is_word("Array");
        if array {
            self.next();
            self.next();
            let types = self.union()?;
            self.sign(">", "to close \"Array<\"")?;
            return Ok(types);
        }
        let types = if self.eat("(") {
            let types = self.union()?;
            self.sign(")", "behind the types")?;
            types
        } else {
            vec![self.subject_type()?]
        };
        self.sign("[", "behind the type: relations are lists, such as \"User[]\"")?;
        self.sign("]", "behind \"[\"")?;
        Ok(types)
    }

    fn union(&mut self) -> Parsed<Vec<SubjectType>> {
        self.eat("|");
        let mut types = vec![self.subject_type()?];
        while self.eat("|") {
            types.push(self.subject_type()?);
        }
        Ok(types)
    }

    fn subject_type(&mut self) -> Parsed<SubjectType> {
        let (name, span) = self.name("the name of a namespace, or \"SubjectSet<…>\"")?;
        if name != "SubjectSet" || !self.is_sign("<") {
            return Ok(SubjectType { namespace: name, relation: None, span: Place(span) });
        }
        self.next();
        let (namespace, _) = self.name("the name of a namespace")?;
        self.sign(",", "behind the namespace of the subject set")?;
        let Kind::Text(relation) = self.peek().kind.clone() else {
            return Err(self.unexpected("the name of a relation, in quotes"));
        };
        self.next();
        let end = self.sign(">", "to close \"SubjectSet<\"")?;
        Ok(SubjectType { namespace, relation: Some(relation), span: Place(span.to(end)) })
    }

    fn permits(&mut self) -> Parsed<Vec<Permit>> {
        self.sign("{", "to open the permissions")?;
        let mut permits = Vec::new();
        while !self.is_sign("}") {
            let (name, span) = self.quoted_name("the name of a permission, or \"}\"")?;
            self.sign(":", "behind the name of the permission")?;
            self.sign("(", "before \"ctx\"")?;
            self.word("ctx", "as the permission's only parameter")?;
            if self.eat(":") {
                self.word("Context", "as the type of \"ctx\"")?;
            }
            self.eat(",");
            self.sign(")", "behind \"ctx\"")?;
            if self.eat(":") {
                self.word("boolean", "as what the permission gives")?;
            }
            self.sign("=>", "before the permission's expression")?;
            let body = self.expression()?;
            permits.push(Permit { name, span: Place(span), body });
            if !self.eat(",") && !self.is_sign("}") {
                return Err(self.unexpected("\"&&\", \"||\", \",\" or \"}\""));
            }
        }
        self.next();
        Ok(permits)
    }
}
