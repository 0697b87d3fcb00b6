//! Every rule is shown what it must reject, and what it must let pass.

use crate::{
    CODE_LINES_MAX,
    exception::{stale_exceptions, stale_excuses},
    manifest::{edges, machine_paths, unheld},
    source::Source,
    words::take_apart,
};

fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

fn rejects(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> bool {
    !rule(&source(path, text)).is_empty()
}

#[test]
fn a_long_file_is_rejected_and_its_tests_and_comments_do_not_count() {
    let code = "let a = 1;\n".repeat(CODE_LINES_MAX);
    let rest = format!("\n// why\n/* and\nwhy */\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
    assert!(!rejects(Source::too_long, "raft/src/a.rs", &format!("//! A.\n{code}{rest}")));
    assert!(rejects(Source::too_long, "raft/src/a.rs", &format!("{code}let b = 2;\n{rest}")));
    // A marker that opens no module at the end hides nothing.
    for hidden in ["#[cfg(test)]\nmod tests;\n", "#[cfg(test)]\nuse a::b;\n"] {
        assert!(rejects(Source::too_long, "raft/src/a.rs", &format!("{hidden}{code}let b = 2;\n")));
    }
}

#[test]
fn an_exception_that_is_too_wide_is_rejected() {
    let sources = [source("raft/src/a.rs", "let a = 1;\n".repeat(7).as_str())];
    assert!(stale_exceptions(&sources, &[("raft/src/a.rs", 7)]).is_empty());
    assert_eq!(
        stale_exceptions(&sources, &[("raft/src/a.rs", 8), ("raft/src/gone.rs", 1)]).len(),
        2
    );
}

#[test]
fn an_excuse_for_what_is_not_there_is_rejected() {
    let sources = [source("raft/src/a.rs", "// rand\nlet now = Instant::now();\n")];
    let excuse: &[&str] = &["Instant::now", "rand"];
    assert_eq!(stale_excuses(&sources, &[("raft/src/a.rs", excuse, "why")]).len(), 1);
    assert_eq!(stale_excuses(&sources, &[("raft/src/b.rs", excuse, "why")]).len(), 2);
}

#[test]
fn a_file_without_its_idea_is_rejected() {
    assert!(!rejects(Source::undocumented, "raft/src/a.rs", "\n//! A.\n"));
    for text in ["", "use a;\n//! A.\n", "// A.\n", "/// A.\nstruct A;\n"] {
        assert!(rejects(Source::undocumented, "raft/src/a.rs", text), "{text:?}");
    }
}

#[test]
fn a_comparison_that_tells_how_far_a_guess_is_right_is_rejected() {
    let rejected = |text: &str| rejects(Source::leaking_comparisons, "identity/src/a.rs", text);
    for text in [
        "//! A.\nlet a = kept.digest == brought;\n",
        "let a = brought != *kept.csrf_token;\n",
        "let a = x\n    == &self.keys.client_secret;\n",
        "if mac != (found) {}\n",
    ] {
        assert!(rejected(text), "{text:?}");
    }
    for text in [
        "let a = digest.len() == 4;\n",
        "let a = kind == Kind::Token;\n",
        "let a = 4 == secret_length(x);\n",
        "// digest == digest\nlet a = \"digest == digest\";\n",
        "#[cfg(test)]\nmod tests {\n    let a = digest == other;\n}\n",
    ] {
        assert!(!rejected(text), "{text:?}");
    }
    assert!(!rejects(Source::leaking_comparisons, "raft/src/a.rs", "let a = digest == b;\n"));
}

#[test]
fn names_that_say_nothing_are_rejected() {
    for path in ["api/src/utils.rs", "api/src/helpers/a.rs", "api/src/common/mod.rs"] {
        assert!(rejects(Source::empty_names, path, "//! A.\n"), "{path}");
    }
    assert!(rejects(Source::empty_names, "api/src/a.rs", "pub(crate) mod manager {\n}\n"));
    let fine = "//! mod utils;\nmod utility_bill;\nlet manager = misc;\n";
    assert!(!rejects(Source::empty_names, "api/src/commons.rs", fine));
}

#[test]
fn clocks_and_chance_are_rejected_outside_of_node() {
    let clock = "let now = SystemTime::now();\n";
    assert!(rejects(Source::banned_names, "identity/src/a.rs", clock));
    assert!(!rejects(Source::banned_names, "node/src/clock.rs", clock));
    assert!(!rejects(Source::banned_names, "identity/tests/a.rs", clock));
    assert!(!rejects(
        Source::banned_names,
        "identity/src/a.rs",
        "// SystemTime::now()\nlet a = \"rand\";\n"
    ));
    assert!(!rejects(
        Source::banned_names,
        "identity/src/a.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{clock}}}\n")
    ));
    for line in ["getrandom::fill(b)", "let id = Uuid::new_v4();", "use rand::Rng;"] {
        assert!(rejects(Source::banned_names, "raft/src/a.rs", line), "{line}");
    }
    assert!(!rejects(Source::banned_names, "raft/src/a.rs", "let operand = brand;\n"));
    assert!(rejects(Source::banned_names, "api/src/a.rs", "let t = Instant::now();\n"));
}

#[test]
fn apply_may_not_iterate_hash_maps_wait_or_read_files() {
    let lines = [
        "use std::collections::HashMap;",
        "async fn f() {}",
        "f().await;",
        "std::fs::read(p)",
        "Instant::now()",
    ];
    for line in lines {
        assert!(rejects(Source::banned_names, "storage/src/machine/apply.rs", line), "{line}");
    }
    assert!(!rejects(
        Source::banned_names,
        "storage/src/machine/apply.rs",
        "let m = BTreeMap::new();"
    ));
    assert!(!rejects(Source::banned_names, "storage/src/tablet/mod.rs", "let m = HashMap::new();"));
}

#[test]
fn openraft_is_named_by_raft_alone() {
    let line = "use openraft::Raft;\n";
    assert!(rejects(Source::banned_names, "cluster/src/a.rs", line));
    assert!(!rejects(Source::banned_names, "raft/src/a.rs", line));
    assert!(rejects(Source::banned_names, "api/src/a.rs", "use cardea_cluster::Router;\n"));
}

#[test]
fn unfinished_work_is_rejected() {
    let marks = [
        concat!("// TO", "DO later"),
        concat!("/* FIX", "ME */"),
        concat!("let a = 1; // XX", "X"),
        concat!("to", "do!()"),
        concat!("unimple", "mented!(\"b\")"),
    ];
    for line in marks {
        assert!(rejects(Source::unfinished, "raft/src/a.rs", line), "{line}");
    }
    assert!(!rejects(
        Source::unfinished,
        "raft/src/a.rs",
        concat!("let a = \"TO", "DO\"; // TO", "DOS of a person\n")
    ));
}

#[test]
fn ignored_tests_are_rejected() {
    for line in ["#[ignore]", "#[ignore = \"slow\"]", "#[cfg_attr(miri, ignore)]"] {
        assert!(rejects(Source::ignored_tests, "raft/tests/a.rs", line), "{line}");
    }
    assert!(!rejects(Source::ignored_tests, "raft/tests/a.rs", "// #[ignore]\nlet ignore = 1;\n"));
}

#[test]
fn a_sleep_in_a_test_needs_its_reason() {
    for line in ["thread::sleep(a);", "tokio::time::sleep(a).await;", "    sleep(a).await;"] {
        assert!(rejects(Source::sleeping_tests, "raft/tests/a.rs", line), "{line}");
        assert!(rejects(
            Source::sleeping_tests,
            "raft/src/a.rs",
            &format!("#[cfg(test)]\nmod tests {{\n{line}\n}}")
        ));
        assert!(!rejects(Source::sleeping_tests, "raft/src/a.rs", line), "{line}");
        let why = format!("// Nothing announces the end of a lease.\n{line}");
        assert!(!rejects(Source::sleeping_tests, "raft/tests/a.rs", &why), "{line}");
        let line = line.trim();
        let poll = format!("while !done() {{\n    step();\n    {line}\n}}\n");
        assert!(!rejects(Source::sleeping_tests, "raft/tests/a.rs", &poll), "{line}");
        assert!(rejects(Source::sleeping_tests, "raft/tests/a.rs", &format!("{poll}{line}")));
    }
}

#[test]
fn tests_named_test_are_rejected() {
    assert!(rejects(Source::prefixed_tests, "raft/tests/a.rs", "#[test]\nfn test_it() {}\n"));
    assert!(rejects(
        Source::prefixed_tests,
        "raft/tests/a.rs",
        "#[tokio::test]\nasync fn test_it() {}\n"
    ));
    assert!(!rejects(
        Source::prefixed_tests,
        "raft/tests/a.rs",
        "#[test]\nfn a_vote_survives() {}\n"
    ));
}

#[test]
fn paths_of_one_machine_are_rejected() {
    assert_eq!(machine_paths("a.md", concat!("see /wo", "rk/main\nand /ho", "me/me")).len(), 2);
    assert!(machine_paths("a.md", "homework/1, $HOME/.cache, /var/lib/cardea").is_empty());
}

#[test]
fn forbidden_edges_are_rejected() {
    let manifest =
        |rest: &str| format!("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n\n{rest}");
    let wrong = [
        ("storage", "[dependencies]\ncardea-raft.workspace = true\n"),
        ("identity", "[dev-dependencies]\ncardea-cluster = { path = \"../cluster\" }\n"),
        ("cluster", "[dependencies]\nopenraft.workspace = true\n"),
        ("cluster", "[dependencies]\nagreement = { package = \"openraft\", version = \"1\" }\n"),
        ("cluster", "[dependencies.openraft]\nversion = \"1\"\n"),
        ("storage", "[target.'cfg(unix)'.dependencies]\naxum = \"1\"\n"),
        ("api", "[build-dependencies]\nanyhow = \"1\"\n"),
        ("oauth", "[dependencies]\n"),
    ];
    for (name, rest) in wrong {
        assert_eq!(edges(name, &manifest(rest)).len(), 1, "{name}: {rest}");
    }
    assert!(!edges("api", "[package]\nname = \"a\"\n").is_empty(), "lints are inherited");
    let fine =
        "[dependencies]\ncardea-storage.workspace = true\n# openraft\n[features]\nopenraft = []\n";
    assert_eq!(edges("identity", &manifest(fine)), Vec::<String>::new());
}

#[test]
fn sources_are_taken_apart_into_code_and_comments() {
    let text = "let a = r#\"// \"x\" no\"#; // yes\nlet b = '\"'; /* /* in */ on */ f::<'_>(b\"\\\"// no\");\n";
    let (code, comments) = take_apart(text);
    assert!(!code.contains("no") && !comments.contains("no"), "{code}{comments}");
    assert!(
        code.contains("let b") && code.contains("f::<'_>(b\"") && code.ends_with(");\n"),
        "{code}"
    );
    assert!(comments.contains("// yes") && comments.contains("on */"), "{comments}");
    assert_eq!((code.lines().count(), comments.lines().count()), (2, 2));
}

#[test]
fn a_test_that_a_document_names_and_nobody_has_is_found() {
    let sources = [source("raft/src/a.rs", "#[test]\nfn it_holds() {}\n// fn it_is_gone()\n")];
    let found = |text: &str| unheld("docs/a.md", text, &sources).len();
    assert_eq!(found("| `it_holds`, `no test` and `admin.auth` |"), 0);
    assert_eq!(found("| `it_is_gone`, `it_hold`, `it_holds_more` |"), 3);
}
