//! How a source is written: two spaces, one relation or permission a line, long
//! expressions broken at their operators. Comments stay before, or behind, what
//! they stood by. What is formatted means the same, and is not changed by being
//! formatted again.

use super::{
    SourceError,
    parser::parse_file,
    syntax::{Class, Expr, ExprKind, File, Precedence, SubjectType},
    token::{Comment, Position, Span},
};

/// Longest line that an expression is kept on.
const WIDTH: usize = 100;

/// Formats a source.
///
/// # Errors
/// If it cannot be parsed, or not be written so that it means the same.
pub fn format(text: &str) -> Result<String, Vec<SourceError>> {
    let file = parse_file(text)?;
    let mut writer = Writer { out: String::new(), remarked: false, comments: &file.comments };
    writer.file(&file);
    // A mix that is read from left to right needs parentheses, which may be nested too deep.
    match parse_file(&writer.out) {
        Ok(again) if again.classes == file.classes => Ok(writer.out),
        _ => {
            let message = "this cannot be written so that it means the same: its expressions \
                           are too long";
            Err(vec![SourceError::new(Span::default(), message)])
        }
    }
}

/// An expression on one line, with parentheses wherever two readings are possible.
pub fn inline(expr: &Expr, subject: &str) -> String {
    match &expr.kind {
        ExprKind::Or(terms) => operands(terms, subject).join(" || "),
        ExprKind::And(terms) => operands(terms, subject).join(" && "),
        _ => atom(expr, subject),
    }
}

fn operands(terms: &[Expr], subject: &str) -> Vec<String> {
    terms.iter().map(|term| atom(term, subject)).collect()
}

/// An expression that may stand beside any operator.
fn atom(expr: &Expr, subject: &str) -> String {
    match &expr.kind {
        ExprKind::Or(_) | ExprKind::And(_) => format!("({})", inline(expr, subject)),
        ExprKind::Not(inner) => format!("!{}", atom(inner, subject)),
        ExprKind::Includes(name) => {
            format!("{subject}.related{}.includes(ctx.subject)", member(name))
        }
        ExprKind::Permits(name) => format!("{subject}.permits{}(ctx)", member(name)),
        ExprKind::IsSubject => format!("{subject} == ctx.subject"),
        ExprKind::Traverse { relation, variable, body } => format!(
            "{subject}.related{}.traverse(({variable}) => {})",
            member(relation),
            inline(body, variable)
        ),
    }
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '$');
    first && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

fn quoted(name: &str) -> String {
    let quote = if name.contains('"') { '\'' } else { '"' };
    format!("{quote}{name}{quote}")
}

fn member(name: &str) -> String {
    if is_name(name) { format!(".{name}") } else { format!("[{}]", quoted(name)) }
}

fn key(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { quoted(name) }
}

fn types(types: &[SubjectType]) -> String {
    let names: Vec<String> = types
        .iter()
        .map(|of| match &of.relation {
            None => of.namespace.clone(),
            Some(relation) => format!("SubjectSet<{}, {}>", of.namespace, quoted(relation)),
        })
        .collect();
    if names.len() == 1 { format!("{}[]", names[0]) } else { format!("({})[]", names.join(" | ")) }
}

struct Writer<'a> {
    out: String,
    /// Whether the last line ends in a comment that goes to its end.
    remarked: bool,
    /// Those that are not written yet.
    comments: &'a [Comment],
}

impl Writer<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        if !text.is_empty() {
            self.out.push_str(&"  ".repeat(indent));
            self.out.push_str(text);
        }
        self.out.push('\n');
        self.remarked = text.starts_with("//");
    }

    /// Writes the comments that stand before a place.
    fn comments_before(&mut self, place: Position, indent: usize) {
        while let Some((comment, rest)) = self.comments.split_first() {
            if comment.span.start >= place {
                return;
            }
            self.comments = rest;
            let on_a_line = self.out.ends_with('\n') && !self.out.ends_with("{\n");
            if comment.trails && on_a_line && !self.remarked {
                self.out.pop();
                self.out.push(' ');
                self.out.push_str(&comment.text);
                self.out.push('\n');
                self.remarked = comment.text.starts_with("//");
            } else {
                self.line(indent, &comment.text);
            }
        }
    }

    fn file(&mut self, file: &File) {
        let mut last_line = 0;
        for import in &file.imports {
            last_line = import.span.0.end.line;
            self.comments_before(import.span.0.start, 0);
            let names = import.names.join(", ");
            self.line(0, &format!("import {{ {names} }} from {}", quoted(&import.from)));
        }
        for class in &file.classes {
            self.comments_on_line(last_line);
            last_line = class.span.0.end.line;
            if !self.out.is_empty() {
                self.out.push('\n');
            }
            self.comments_before(class.span.0.start, 0);
            self.class(class);
        }
        let end = Position { line: u32::MAX, column: 1 };
        self.comments_before(end, 0);
    }

    /// Writes the comments that trail what was written last, and ended on this line.
    fn comments_on_line(&mut self, line: u32) {
        while let Some(first) = self.comments.first()
            && first.trails
            && first.span.start.line == line
        {
            let start = first.span.start;
            self.comments_before(Position { column: start.column + 1, ..start }, 0);
        }
    }

    fn class(&mut self, class: &Class) {
        let head = format!("class {} implements Namespace {{", class.name);
        let inner = class.span.0.end;
        let last = Position { column: inner.column.saturating_sub(1), ..inner };
        let has_comments = self.comments.first().is_some_and(|comment| comment.span.start < last);
        let bare = class.relations.is_empty() && class.permits.is_empty();
        if bare && class.precedence.is_none() && !has_comments {
            self.line(0, &format!("{head}}}"));
            return;
        }
        self.line(0, &head);
        if let Some(precedence) = class.precedence {
            let name = match precedence {
                Precedence::Keto => "keto",
                Precedence::TypeScript => "typescript",
            };
            self.line(1, &format!("precedence = \"{name}\""));
        }
        if !class.relations.is_empty() {
            self.comments_before(class.relations[0].span.0.start, 1);
            self.line(1, "related: {");
            for relation in &class.relations {
                self.comments_before(relation.span.0.start, 2);
                self.line(2, &format!("{}: {}", key(&relation.name), types(&relation.types)));
            }
            let last_relation = class.relations.last().map(|relation| relation.span.0.end.line);
            self.comments_on_line(last_relation.unwrap_or(0));
            self.line(1, "}");
        }
        if !class.permits.is_empty() {
            if !class.relations.is_empty() {
                self.out.push('\n');
            }
            self.line(1, "permits = {");
            for permit in &class.permits {
                self.comments_before(permit.span.0.start, 2);
                self.comments_within(permit.body.span.0, 2);
                self.permit(&permit.name, &permit.body);
            }
            let last_permit = class.permits.last().map(|permit| permit.body.span.0.end.line);
            self.comments_on_line(last_permit.unwrap_or(0));
            self.line(1, "}");
        }
        self.comments_before(last, 1);
        self.line(0, "}");
    }

    /// Comments within an expression are moved before it.
    fn comments_within(&mut self, span: Span, indent: usize) {
        while let Some((comment, rest)) = self.comments.split_first() {
            if comment.span.start >= span.end {
                return;
            }
            self.comments = rest;
            self.line(indent, &comment.text);
        }
    }

    fn permit(&mut self, name: &str, body: &Expr) {
        let head = format!("{}: (ctx: Context): boolean =>", key(name));
        let flat = inline(body, "this");
        if head.len() + flat.len() + 6 <= WIDTH {
            self.line(2, &format!("{head} {flat},"));
            return;
        }
        self.line(2, &head);
        match &body.kind {
            ExprKind::Or(terms) => self.broken(terms, " ||"),
            ExprKind::And(terms) => self.broken(terms, " &&"),
            _ => self.line(3, &format!("{flat},")),
        }
    }

    fn broken(&mut self, terms: &[Expr], operator: &str) {
        let operands = operands(terms, "this");
        for (at, operand) in operands.iter().enumerate() {
            let end = if at + 1 == operands.len() { "," } else { operator };
            self.line(3, &format!("{operand}{end}"));
        }
    }
}
