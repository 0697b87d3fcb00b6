//! The language as it is written by people: what is taken, what is refused and how.

use proptest::prelude::*;

use super::{format::format, *};
use crate::testing::model::Chance;

fn errors(text: &str) -> Vec<String> {
    parse_text(text).unwrap_err().iter().map(ToString::to_string).collect()
}

const KETO: &str = r#"
import { Namespace, SubjectSet, Context } from '@ory/keto-namespace-types';

class User implements Namespace {
  related: {
    manager: User[]
  }
}

class Group implements Namespace {
  related: { members: (User | Group)[] }
}

export class Folder implements Namespace {
  related: {
    parents: (File | Folder)[],
    viewers: Array<User | SubjectSet<Group, "members">>;
    "odd name": User[]
  }

  permits = {
    view: (ctx: Context): boolean => this.related.viewers.includes(ctx.subject),
  }
}

class File implements Namespace {
  related: {
    parents: (File | Folder)[]
    viewers: (User | SubjectSet<Group, "members">)[]
    owners: (User | SubjectSet<Group, "members">)[]
    siblings: File[]
  }

  // Some comments
  permits = {
    view: (ctx) =>
      (
      this.related.parents.traverse((p) => p.related.viewers.includes(ctx.subject)) ||
      this.related.parents.traverse(p => p.permits.view(ctx)) ||
      (this.related.viewers.includes(ctx.subject) || this.related["owners"].includes(ctx.subject))
      ),
    'edit': (ctx: Context) => this.related.owners.includes(ctx.subject,),
    not: (ctx: Context): boolean => !this.related.owners.includes(ctx.subject) && !!this.permits.edit(ctx),
    rename: (ctx: Context): boolean => this.related.siblings.traverse(s => s.permits.edit(ctx,)),
  }
}
"#;

#[test]
fn what_keto_takes_is_taken() {
    let text = KETO.replace("edit(ctx,)", "edit(ctx)");
    let classes = parse_text(&text).unwrap();
    let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["User", "Group", "Folder", "File"]);
    assert_eq!(classes[2].relations[1].types[1].relation.as_deref(), Some("members"));
    assert_eq!(classes[2].relations[2].name, "odd name");
    let ExprKind::Or(terms) = &classes[3].permits[0].body.kind else { panic!("no alternatives") };
    assert_eq!(terms.len(), 3);
    assert!(parse_text("").unwrap().is_empty());
}

fn permit(body: &str) -> String {
    format!(
        "class D implements Namespace {{ related: {{ a: D[]; b: D[]; c: D[] }} permits = {{ \
         other: (ctx) => this.related.a.includes(ctx.subject), p: (ctx) => {body} }} }}"
    )
}

const A: &str = "this.related.a.includes(ctx.subject)";
const B: &str = "this.related.b.includes(ctx.subject)";
const C: &str = "this.related.c.includes(ctx.subject)";

#[test]
fn mix_of_operators_is_refused_with_both_readings() {
    let found = errors(&permit(&format!("{A} || {B} && {C}")));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains(&format!("left to right: ({A} || {B}) && {C} ")), "{}", found[0]);
    assert!(found[0].contains(&format!("\"&&\" first: {A} || ({B} && {C}) ")), "{}", found[0]);
    assert!(parse_text(&permit(&format!("({A} || {B}) && {C}"))).is_ok());
    assert!(parse_text(&permit(&format!("{A} || ({B} && {C})"))).is_ok());
    // Within a traversal, too.
    let body = "this.related.a.traverse(x => x.permits.p(ctx) && x.permits.p(ctx) || \
                x.permits.p(ctx))";
    assert_eq!(errors(&permit(body)).len(), 1);
}

#[test]
fn precedence_decides_a_mix() {
    let read = |precedence: &str| {
        let text = permit(&format!("{A} || {B} && {C}"));
        let text = text.replace("permits =", &format!("precedence = {precedence}; permits ="));
        format::inline(&parse_text(&text).unwrap()[0].permits[1].body, "this")
    };
    assert_eq!(read("keto"), format!("({A} || {B}) && {C}"));
    assert_eq!(read("\"keto\""), format!("({A} || {B}) && {C}"));
    assert_eq!(read("typescript"), format!("{A} || ({B} && {C})"));
    // Behind what it is about, it counts as well.
    let text = permit(&format!("{A} || {B} && {C}"));
    let text = format!("{} precedence = \"keto\" }}", &text[..text.len() - 1]);
    assert!(parse_text(&text).is_ok());
}

#[test]
fn messages_say_where_and_what() {
    let table = [
        ("klass A", "1:1: expected \"class\" or \"import\", found \"klass\""),
        ("class A {", "1:9: expected \"implements\" behind the name of the class, found \"{\""),
        (
            "class A implements Namespace { related: { a: B[] } }",
            "1:46: the namespace B is not declared",
        ),
        (
            "class User implements Namespace {}\nclass A implements Namespace {\n related: { a: Usr[] } }",
            "3:16: the namespace Usr is not declared; did you mean User?",
        ),
        (
            "class A implements Namespace { related: { a: A } }",
            "1:48: expected \"[\" behind the type: relations are lists, such as \"User[]\", found \"}\"",
        ),
        (
            "class A implements Namespace { related: { a: SubjectSet<A, \"b\">[] } }",
            "1:46: A has no relation or permission b",
        ),
        ("class A implements Namespace { related: { a: A[] a: A[] } }", "1:50: A declares a twice"),
        (
            "class A implements Namespace {}\nclass A implements Namespace {}",
            "2:7: the namespace A is declared twice",
        ),
        ("/* no end", "1:1: this comment has no end: \"*/\" is missing"),
        (
            "class A implements Namespace { related: { \"a: A[] } }",
            "1:43: this text has no end: \" is missing on its line",
        ),
        (
            "class A implements Namespace { ; related: {} related: {} }",
            "1:46: A has \"related\" twice",
        ),
        ("#", "1:1: '#' has no place in the permission language"),
    ];
    for (text, expected) in table {
        assert_eq!(errors(text), [expected], "{text}");
    }
    let bodies = [
        ("this.related.x.includes(ctx.subject)", "D has no relation x"),
        (
            "this.related.p.includes(ctx.subject)",
            "p is a permission of D, not a relation: ask permits.p(ctx)",
        ),
        (
            "this.permits.a(ctx)",
            "a is a relation of D, not a permission: ask related.a.includes(ctx.subject)",
        ),
        ("this.permits.othr(ctx)", "D has no permission othr; did you mean other?"),
        (
            "this.related.a.traverse(x => x.related.nope.includes(ctx.subject))",
            "D has no relation nope",
        ),
        (
            "this.related.a.traverse(x => this.permits.p(ctx))",
            "expected \"x\", \"!\", \"(\" or \"ctx.subject\", found \"this\": within a traversal only \
          what was found is at hand",
        ),
        (
            "this.related.a.contains(ctx.subject)",
            "expected \"includes\" or \"traverse\", found \"contains\"",
        ),
        (
            "this.relatd.a.includes(ctx.subject)",
            "expected \"related\" or \"permits\" behind \"this\", found \"relatd\"",
        ),
        ("", "expected \"this\", \"!\", \"(\" or \"ctx.subject\", found \"}\""),
        ("(this.permits.p(ctx)", "expected \")\" to close the parenthesis, found \"}\""),
        ("this != ctx.subject", "expected \".\" before \"related\" or \"permits\", found \"!=\""),
    ];
    for (body, expected) in bodies {
        let found = errors(&permit(body));
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert!(found[0].ends_with(expected), "{body}: {}", found[0]);
    }
}

#[test]
fn errors_of_several_classes_and_files_are_told_together() {
    let file = |text: &str| SourceFile { name: "f".to_owned(), text: text.to_owned() };
    let bad = "class A implements Namespace { x } class B implements Namespace { y }";
    let found = parse(&[file("class C implements Namespace {}"), file(bad)]).unwrap_err();
    assert_eq!(found.iter().map(|error| error.file).collect::<Vec<_>>(), [1, 1]);
    let other = "class D implements Namespace { related: { c: C[] } }";
    assert!(parse(&[file("class C implements Namespace {}"), file(other)]).is_ok());
}

#[test]
fn hostile_sources_are_refused_within_bounds() {
    let deep = |n: usize| permit(&format!("{}{A}{}", "(".repeat(n), ")".repeat(n)));
    assert!(parse_text(&deep(30)).is_ok());
    assert!(errors(&deep(40))[0].ends_with("nested more than 32 deep"));
    assert!(errors(&deep(100_000))[0].ends_with("nested more than 32 deep"));
    assert!(errors(&permit(&"!".repeat(200_000)))[0].ends_with("nested more than 32 deep"));
    let terms = vec![A; 501].join(" || ");
    assert!(errors(&permit(&terms))[0].ends_with("more than 500 terms"));
    assert!(errors(&" ".repeat(SOURCE_BYTES_MAX + 1))[0].contains("at most 524288 are taken"));
    let long = format!("class {} implements Namespace {{}}", "x".repeat(129));
    assert!(errors(&long)[0].contains("at most 128 are taken"));
    let many = "class A implements Namespace { x }\n".repeat(500);
    assert_eq!(errors(&many).len(), ERRORS_MAX);
}

/// A short source can be wrong in millions of ways.
#[test]
fn no_more_errors_are_looked_for_than_are_told() {
    let classes: String =
        (0..900).map(|at| format!("class C{at} implements Namespace {{}}\n")).collect();
    let types: Vec<String> = (0..900).map(|at| format!("C{at}")).collect();
    let term = "p.related.x.includes(ctx.subject)";
    let body = format!("this.related.r.traverse((p) => {})", vec![term; 400].join(" || "));
    let text = format!(
        "{classes}class D implements Namespace {{ related: {{ r: ({})[] }} permits = {{ p: (ctx) => {body} }} }}",
        types.join(" | ")
    );
    let parsed = |text: &str| {
        let classes = parser::parse_file(text).unwrap().classes;
        classes.into_iter().map(|class| (0, class)).collect::<Vec<_>>()
    };
    assert_eq!(types::check(&parsed(&text)).len(), ERRORS_MAX);
    let undeclared = vec!["X"; 5_000].join(" | ");
    let text = format!("class D implements Namespace {{ related: {{ r: ({undeclared})[] }} }}");
    assert_eq!(types::check(&parsed(&text)).len(), ERRORS_MAX);
    // Each of these is looked through to the end for what it says of precedence.
    let open = "class A implements Namespace { related: { a: (\n".repeat(1_000);
    assert_eq!(parser::parse_file(&open).unwrap_err().len(), ERRORS_MAX);
}

#[test]
fn traversals_that_are_nested_find_what_their_relations_lead_to() {
    let text = "class A implements Namespace { related: { to: (B | C)[] } }
        class B implements Namespace { related: { to: C[]; x: A[] } }
        class C implements Namespace { related: { to: B[]; x: A[] } }
        class D implements Namespace { related: { a: A[] } permits = {
          p: (ctx) => this.related.a.traverse(a => a.related.to.traverse(t => t.related.x.includes(ctx.subject))),
          q: (ctx) => this.related.a.traverse(a => a.related.to.traverse(t =>
            t.related.to.traverse(u => u.related.y.includes(ctx.subject)))) } }";
    let found = errors(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("B has no relation y") && found[1].contains("C has no relation y"));
}

#[test]
fn formatting_never_breaks_a_source() {
    let text = "class A implements Namespace {
  related: {
    x: ( // one
      A)[] /* two
      three */
    y: A[] // four
    // five
  } // six
}";
    let formatted = format(text).unwrap();
    assert_eq!(format(&formatted).unwrap(), formatted);
    for comment in ["// one", "/* two\n      three */", "// four", "// five", "// six"] {
        assert_eq!(formatted.matches(comment).count(), 1, "{formatted}");
    }
    // Parentheses that it would need are nested too deep to be read again.
    let mut mix = A.to_owned();
    for at in 0..80 {
        mix.push_str(if at % 2 == 0 { " || " } else { " && " });
        mix.push_str(B);
    }
    let text = permit(&mix).replace("permits =", "precedence = keto; permits =");
    assert!(parse_text(&text).is_ok());
    assert!(format(&text).unwrap_err()[0].message.contains("cannot be written"));
}

#[test]
fn formatted_source_reads_well_and_keeps_comments() {
    let text = "// of people\nimport {Namespace} from \"x\"\nclass User implements Namespace {}\n\
        // what is shared\nclass D implements Namespace { related: { owners: User[] // who made it\n\
        parents: (D|SubjectSet<D,'owners'>)[] }\npermits = { // reading\nview: (ctx) => \
        this.related.owners.includes(ctx.subject) || this.related.parents.traverse(p => \
        p.permits.view(ctx)), own: ctx_is } }";
    let text = text.replace("own: ctx_is", "own: (ctx) => this == ctx.subject /* itself */");
    let expected = "// of people
import { Namespace } from \"x\"

class User implements Namespace {}

// what is shared
class D implements Namespace {
  related: {
    owners: User[] // who made it
    parents: (D | SubjectSet<D, \"owners\">)[]
  }

  permits = {
    // reading
    view: (ctx: Context): boolean =>
      this.related.owners.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
    own: (ctx: Context): boolean => this == ctx.subject, /* itself */
  }
}
";
    assert_eq!(format(&text).unwrap(), expected);
    assert_eq!(format(expected).unwrap(), expected);
}

proptest! {
    #[test]
    fn formatting_keeps_the_meaning_and_is_done_once(seed in any::<u64>()) {
        let text = Chance::new(seed).language(true);
        let formatted = format(&text).unwrap();
        let meaning = |text: &str| {
            parse_text(text).unwrap().into_iter().map(|class| {
                let permits = class.permits.iter().map(|p| format::inline(&p.body, "this"));
                (class.name.clone(), class.relations.clone(), permits.collect::<Vec<_>>())
            }).collect::<Vec<_>>()
        };
        prop_assert_eq!(meaning(&text), meaning(&formatted));
        prop_assert_eq!(format(&formatted).unwrap(), formatted);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = parse_text(&text);
    }

    #[test]
    fn no_part_of_a_language_makes_the_parser_panic(from in 0_usize..1600, to in 0_usize..1600) {
        if let Some(part) = KETO.get(from.min(to)..from.max(to)) {
            let _ = parse_text(part);
        }
    }
}
