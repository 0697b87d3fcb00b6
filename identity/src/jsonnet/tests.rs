//! The language by examples, and every bound by a program that runs into it.

use serde_json::{Value, json};

use super::*;

fn run(source: &str) -> Result<Value, Failed> {
    with(source, json!({}), Limits::default())
}

fn with(source: &str, claims: Value, limits: Limits) -> Result<Value, Failed> {
    let program = Program::parse(source, limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(program.run(vec![("claims".to_owned(), claims)], json!({"flow": {"id": 7}})))
}

#[test]
fn programs_of_the_language_give_what_they_say() {
    let table = [
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3 - -4", json!(13)),
        ("7 % 4 + 1 / 2", json!(3.5)),
        ("5 & 3 | 8 ^ 1 << 2", json!(13)),
        ("[1, 2][1] == 2 && !false", json!(true)),
        ("'a' + 1 + [true]", json!("a1[true]")),
        ("\"\\u00e9\\n\" + @'it''s \\n'", json!("é\nit's \\n")),
        ("|||\n  two\n    lines\n|||", json!("two\n  lines\n")),
        ("local x = 1, f(y, z=x) = y + z; [f(1), f(1, 5), f(z=2, y=3)]", json!([2, 6, 5])),
        ("if 1 > 2 then 'a'", json!(null)),
        ("[x * y for x in [1, 2, 3] if x != 2 for y in [10, 100]]", json!([10, 100, 30, 300])),
        ("{[k]: std.length(k) for k in ['a', 'bb']}", json!({"a": 1, "bb": 2})),
        ("{a: 1, b: self.a + 1, c:: 3, d: $.c, [null]: 4}", json!({"a": 1, "b": 2, "d": 3})),
        ("{a: 1, b: self.a} + {a: 2}", json!({"a": 2, "b": 2})),
        ("{a: {x: 1}} + {a+: {y: super.x}} { b: 1 }", json!({"a": {"x": 1, "y": 1}, "b": 1})),
        ("{a: [1]} + {a+: [2]}", json!({"a": [1, 2]})),
        ("({f:: 1} + {f: 2}) + ({g: 1} + {g:: 2}) + {h:: 1} + {h::: 2}", json!({"h": 2})),
        ("{local a = 1, b: a, assert self.b == 1 : 'no'}", json!({"b": 1})),
        ("{f(x):: x + 1, y: self.f(1)}.y", json!(2)),
        ("local o = {a: 1} + {b: super.a, c: 'a' in super}; o", json!({"a": 1, "b": 1, "c": true})),
        ("'abc'[1:] + 'abcdef'[::2] + 'abc'[-1:]", json!("bcacec")),
        ("[1, 2, 3][:2]", json!([1, 2])),
        ("local f(n) = if n == 0 then 0 else n + f(n - 1); f(20)", json!(210)),
        ("{a: error 'never', b: 1}.b", json!(1)),
        ("// one\n# two\n/* three */ 1", json!(1)),
        (
            "'%s is %03d and %.2f, %x, 100%%' % ['a', 7, 1.234, 255]",
            json!("a is 007 and 1.23, ff, 100%"),
        ),
        ("'%(a)s-%(b)5s|' % {a: 1, b: [2]}", json!("1-  [2]|")),
        ("std.foldl(function(a, b) a + b, std.range(1, 4), 0)", json!(10)),
        ("std.sort([3, 1, 2]) + std.set(['b', 'a', 'b'])", json!([1, 2, 3, "a", "b"])),
        ("std.map(function(x) x * 2, [1, 2])", json!([2, 4])),
        ("std.join(', ', ['a', null, 'b'])", json!("a, b")),
        (
            "std.split('a.b.c', '.') + std.splitLimit('a.b.c', '.', 1)",
            json!(["a", "b", "c", "a", "b.c"]),
        ),
        ("std.get({a: 1}, 'b', 2) + std.get({a: 1}, 'a')", json!(3)),
        ("std.mergePatch({a: 1, b: {c: 1}}, {a: null, b: {d: 2}})", json!({"b": {"c": 1, "d": 2}})),
        ("std.prune({a: null, b: [], c: {d: {}}, e: 0})", json!({"e": 0})),
        ("std.toString({a: [1, 2.5], b: 'x'})", json!("{\"a\": [1, 2.5], \"b\": \"x\"}")),
        ("std.manifestJsonMinified({b: 1, a: [1, {}]})", json!("{\"a\":[1,{}],\"b\":1}")),
        ("std.parseJson('{\"a\": [1, null]}').a", json!([1, null])),
        ("std.base64Decode(std.base64('héllo'))", json!("héllo")),
        ("std.objectFields({b: 1, a: 2, c:: 3})", json!(["a", "b"])),
        ("std.strReplace('a-b-c', '-', '+') + std.asciiUpper('x')", json!("a+b+cX")),
        ("function(ctx) ctx.flow.id + 1", json!(8)),
    ];
    for (source, expected) in table {
        let found = run(source);
        assert_eq!(found, Ok(expected), "{source}");
    }
}

/// The mappers that Kratos's guides show.
#[test]
fn mappers_as_people_write_them_work() {
    let source = "local claims = {
          email_verified: false,
        } + std.extVar('claims');
        {
          identity: {
            traits: {
              [if 'email' in claims && claims.email_verified then 'email' else null]: claims.email,
              name: { first: claims.given_name, last: std.get(claims, 'family_name', '') },
              [if 'hd' in claims then 'hd' else null]: claims.hd,
            },
            metadata_public: { groups: std.get(claims, 'groups', []) },
            verified_addresses: std.prune([
              if claims.email_verified then { via: 'email', value: claims.email },
            ]),
          },
        }";
    let claims = json!({"email": "a@b.c", "email_verified": true, "given_name": "Ann"});
    assert_eq!(
        with(source, claims, Limits::default()).unwrap(),
        json!({"identity": {
            "traits": {"email": "a@b.c", "name": {"first": "Ann", "last": ""}},
            "metadata_public": {"groups": []},
            "verified_addresses": [{"via": "email", "value": "a@b.c"}],
        }})
    );
    let unverified = json!({"email": "a@b.c", "given_name": "Ann"});
    let mapped = with(source, unverified, Limits::default()).unwrap();
    assert_eq!(mapped["identity"]["traits"].get("email"), None);
}

#[test]
fn what_is_wrong_is_told() {
    for (source, told) in [
        ("1 +", "expected an expression"),
        ("{a: 1", "expected"),
        ("'a", "has no end"),
        ("a", "no variable a"),
        ("{a: 1}.b", "no field b"),
        ("[1][2]", "not within"),
        ("1 / 0", "division by zero"),
        ("error 'cancel'", "cancel"),
        ("assert 1 == 2 : 'odd'; 3", "odd"),
        ("{assert false, a: 1}.a", "assertion"),
        ("std.extVar('none')", "no external variable none"),
        ("std.noSuch(1)", "no field noSuch"),
        ("local a = a; a", "depends on itself"),
        ("(function(x) x)()", "x is missing"),
        ("(function(x) x)(1, 2)", "takes 1"),
        ("(function(x) x)(y=1)", "missing"),
        ("std.parseInt('x')", "no whole number"),
        ("{a: 1, a: 2}", "twice"),
        ("[function(x) x]", "no form in JSON"),
        ("'%d' % 'x'", "%d is of numbers"),
        ("1e999", "too large"),
        ("1e308 * 10", "too large"),
        ("{} + 1", "cannot be added"),
    ] {
        let failed = run(source).unwrap_err().to_string();
        assert!(failed.contains(told), "{source}: {failed}");
    }
}

#[test]
fn nothing_is_imported() {
    for source in [
        "import '/etc/passwd'",
        "importstr '/etc/passwd'",
        "importbin 'x'",
        "local x = import 'a.libsonnet'; x",
        "{a: importstr '../secret'}",
    ] {
        let failed = Program::parse(source, Limits::default()).unwrap_err();
        assert!(failed.to_string().contains("may not import"), "{failed}");
    }
}

#[test]
fn what_runs_into_a_bound_is_stopped_there() {
    let limits = Limits::default();
    let loops = [
        "local f(n) = f(n + 1); f(0)",
        "local f(n) = [f(n + 1)]; f(0)",
        "{a: self.b, b: [self.a]}.a",
        "local o = {a: o}; o",
    ];
    for source in loops {
        let failed = run(source).unwrap_err();
        let stopped = matches!(failed, Failed::Depth(_) | Failed::Output(_) | Failed::Wrong(_));
        assert!(stopped, "{source}: {failed:?}");
    }
    let long = [
        "std.foldl(function(a, b) a + b, std.range(1, 10000000), 0)",
        "[x for a in std.range(1, 1000) for x in std.range(1, 1000)]",
        "std.length(std.makeArray(100000000, function(x) x))",
    ];
    for source in long {
        let failed = run(source).unwrap_err();
        assert!(matches!(failed, Failed::Steps(_) | Failed::Memory(_)), "{source}: {failed:?}");
    }
    let large = [
        "std.repeat('x', 1000000000)",
        "local d(s, n) = if n == 0 then s else d(s + s, n - 1); std.length(d('xxxxxxxx', 60))",
        "std.length(std.strReplace(std.repeat('a', 100000), 'a', std.repeat('b', 100000)))",
        "std.length('%1000s' % 'x' + std.foldl(function(a, b) a + a, std.range(1, 40), 'x'))",
    ];
    for source in large {
        let failed = run(source).unwrap_err();
        assert!(matches!(failed, Failed::Memory(_)), "{source}: {failed:?}");
    }
    let wide = "std.makeArray(20000, function(i) '0123456789abcdef')";
    assert_eq!(run(wide), Err(Failed::Output(limits.output_bytes_max)));
    let nested = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(run(&nested), Err(Failed::Syntax { .. })));
    let signs = format!("{}1", "-".repeat(5000));
    assert!(matches!(run(&signs), Err(Failed::Syntax { .. })));
    let long = "1 ".repeat(limits.source_bytes_max);
    assert_eq!(run(&long), Err(Failed::TooLong(limits.source_bytes_max)));
    let sum = "1 + ".repeat(10_000) + "1";
    assert!(matches!(run(&sum), Ok(_) | Err(Failed::Depth(_))), "no stack overflows");
}

#[test]
fn deep_input_is_stopped_too() {
    let mut deep = json!(1);
    for _ in 0..120 {
        deep = json!([deep]);
    }
    assert!(with("std.extVar('claims')", deep.clone(), Limits::default()).is_ok());
    for _ in 0..500 {
        deep = json!([deep]);
    }
    let failed = with("std.extVar('claims')", deep, Limits::default());
    assert!(matches!(failed, Err(Failed::Depth(_))), "{failed:?}");
}

#[test]
fn the_same_program_takes_the_same_steps() {
    let source = "std.length([x for x in std.range(1, 1000)])";
    let least = (0..20_000)
        .step_by(50)
        .find(|steps| {
            with(source, json!({}), Limits { steps_max: *steps, ..Limits::default() }).is_ok()
        })
        .unwrap();
    for _ in 0..3 {
        let less = Limits { steps_max: least - 50, ..Limits::default() };
        assert!(matches!(with(source, json!({}), less), Err(Failed::Steps(_))));
        let enough = Limits { steps_max: least, ..Limits::default() };
        assert!(with(source, json!({}), enough).is_ok());
    }
}

/// Every function that is listed is there: none falls through to "no such".
#[test]
fn every_listed_function_is_there() {
    for (name, parameters) in library::FUNCTIONS {
        let count = parameters.split('|').next().unwrap_or_default().split(',').count();
        let arguments = vec!["1"; count].join(", ");
        if let Err(failed) = run(&format!("std.{name}({arguments})")) {
            assert!(!failed.to_string().contains("there is no std."), "{name}: {failed}");
        }
    }
}
