//! Precedence, origins, and a table of configurations that must be refused.

use std::{net::SocketAddr, time::Duration};

use super::*;

/// The least that is accepted: loopback without TLS between nodes.
const LEAST: &str = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n";

fn sources(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cardea.toml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources {
        file: Some(file),
        environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        flags: flags
            .iter()
            .map(|(name, value)| Override {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                flag: format!("--set {name}"),
            })
            .collect(),
    };
    (dir, sources)
}

fn load_text(text: &str) -> Result<Loaded, Refused> {
    let (_dir, sources) = sources(text, &[], &[]);
    load(sources)
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let text = format!(
        "{LEAST}[public]\nlisten = \"127.0.0.1:1\"\n[node]\nregion = \"file\"\nzone = \"file\"\n"
    );
    let (_dir, sources) = sources(
        &text,
        &[("CARDEA_PUBLIC_LISTEN", "127.0.0.1:2"), ("CARDEA_NODE_REGION", "environment")],
        &[("public.listen", "127.0.0.1:3")],
    );
    let loaded = load(sources).unwrap();
    assert_eq!(loaded.config.public.listen, "127.0.0.1:3".parse::<SocketAddr>().unwrap());
    assert_eq!(loaded.config.node.region, "environment");
    assert_eq!(loaded.config.node.zone.as_deref(), Some("file"));
    assert_eq!(loaded.config.sessions.lifespan, Duration::from_secs(86_400));
    assert_eq!(
        loaded.layers.origin("public.listen"),
        Origin::Flag("--set public.listen".to_owned())
    );
    assert_eq!(
        loaded.layers.origin("node.region"),
        Origin::Environment("CARDEA_NODE_REGION".to_owned())
    );
    assert!(matches!(loaded.layers.origin("node.zone"), Origin::File { line: 8, .. }));
    assert_eq!(loaded.layers.origin("sessions.lifespan"), Origin::Default);
}

#[test]
fn every_effective_value_is_explained() {
    let explained = load_text(LEAST).unwrap().layers.explain();
    assert_eq!(explained.len(), settings::settings().count());
    let listen = explained.iter().find(|e| e.setting.name() == "public.listen").unwrap();
    assert_eq!(listen.value, "127.0.0.1:4433");
    let lifespan = explained.iter().find(|e| e.setting.name() == "sessions.lifespan").unwrap();
    assert_eq!((lifespan.value.as_str(), lifespan.origin.to_string().as_str()), ("24h", "default"));
}

#[test]
fn paths_in_the_file_start_at_the_file() {
    let (dir, sources) = sources(&format!("{LEAST}[node]\ndata_dir = \"data\"\n"), &[], &[]);
    assert_eq!(load(sources).unwrap().config.node.data_dir, dir.path().join("data"));
}

#[test]
fn every_path_in_the_file_starts_at_the_file() {
    let is_path =
        |setting: &&settings::Setting| setting.form == <std::path::PathBuf as value::FromRaw>::FORM;
    let mut text = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n".to_owned();
    let mut tables: Vec<(&str, String)> = Vec::new();
    for setting in settings::settings().filter(is_path) {
        let line = format!("{} = \"beside\"\n", setting.key);
        match tables.iter_mut().find(|(section, _)| *section == setting.section) {
            Some((_, lines)) => lines.push_str(&line),
            None => tables.push((setting.section, line)),
        }
    }
    let program = "body = \"file://beside\"\n";
    tables.sort_by_key(|(section, _)| *section != "cluster");
    for (section, lines) in tables {
        match section {
            "cluster" => text.push_str(&lines),
            "password_migration" => text.push_str(&format!("[{section}]\n{program}{lines}")),
            _ => text.push_str(&format!("[{section}]\n{lines}")),
        }
        if section == "secrets" {
            text.push_str("former_master_key_files = [\"beside\"]\n");
        }
    }
    text.push_str(&format!(
        "[oidc.work]\nclient_secret_file = \"beside\"\napple_private_key_file = \"beside\"\n\
         mapper = \"file://beside\"\n[tokenizers.api]\njwks_file = \"beside\"\n\
         claims_mapper = \"beside\"\n[[hooks]]\n{program}signing_key_file = \"beside\"\n"
    ));
    let (dir, mut sources) = sources(&text, &[], &[("courier.templates_dir", "beside")]);
    let shown = format!("{:?}", load(sources.clone()).unwrap().config);
    let anchored = format!("{:?}", dir.path().join("beside"));
    assert_eq!(shown.matches("\"beside\"").count(), 1, "the flag's: {shown}");
    assert!(!shown.contains("file://"), "{shown}");
    sources.flags.clear();
    let shown = format!("{:?}", load(sources).unwrap().config);
    assert_eq!(shown.matches(&anchored).count(), text.matches("beside").count(), "{shown}");
}

#[test]
fn what_is_wrong_is_refused_with_its_line_and_a_way_out() {
    let cases: &[(&str, &[&str])] = &[
        (
            "[public]\nlisen = \"127.0.0.1:1\"\n",
            &["cardea.toml:5:", "public.lisen", "did you mean public.listen?"],
        ),
        ("[pubilc]\nlisten = \"127.0.0.1:1\"\n", &["cardea.toml:4:", "did you mean [public]?"]),
        ("[zebra]\n", &["unknown section [zebra]"]),
        ("[public]\nlisten = 4433\n", &["cardea.toml:5:", "public.listen", "found an integer"]),
        ("[public]\nlisten = \"localhost\"\n", &["an address with a port"]),
        ("[sessions]\nlifespan = 24\n", &["a duration such as"]),
        ("[sessions]\nlifespan = \"24\"\n", &["which unit?"]),
        ("[sessions]\nlifespan = \"5s\"\n", &["one minute"]),
        ("[captcha]\nflows = [\"logout\"]\n", &["one of \"login\""]),
        ("[captcha]\nbits = 40\n", &["1 to 26"]),
        ("[sessions]\nlifespan = \"1h\"\nsliding = \"1h\"\n", &["must be shorter"]),
        ("[limits]\nbody = \"1M\"\n", &["a size such as"]),
        ("[limits]\nconnections = 0\n", &["at least 1"]),
        ("[limits]\nconnections = -4\n", &["whole number"]),
        ("[limits]\nconnections = 1.5\n", &["no setting is a fraction"]),
        ("[log]\nlevel = \"loud\"\n", &["\"loud\" is no level", "info"]),
        ("[admin]\nlisten = \"127.0.0.1:4433\"\n", &["admin.listen", "taken by public.listen"]),
        ("[permission]\nread_listen = \"0.0.0.0:7433\"\n", &["taken by cluster.listen"]),
        ("[log]\nformat = \"xml\"\n", &["one of \"json\" \"human\"", "\"xml\""]),
        ("[proxies]\ntrusted = [\"10.0.0.0/99\"]\n", &["an address range"]),
        ("[proxies]\ntrusted = \"10.0.0.0/8\"\n", &["a list of strings"]),
        ("[public]\ncors_origins = [\"*\"]\n", &["an origin such as"]),
        ("[permission]\ncors_origins = [\"https://*.example.com\"]\n", &["an origin such as"]),
        (
            "[secrets]\nmaster_key = \"hunter2\"\n",
            &["secrets.master_key_file", "CARDEA_SECRET_MASTER_KEY"],
        ),
        ("[admin]\nlisten = \"0.0.0.0:4434\"\n", &["reachable by others", "admin.auth"]),
        ("[admin]\nlisten = \"0.0.0.0:4434\"\nauth = \"key\"\n", &["in the clear"]),
        ("[admin]\nauth = \"mtls\"\n", &["client_authority_file"]),
        ("[admin]\nauth = \"maybe\"\n", &["\"mtls\""]),
        ("[public]\ntls_key_file = \"k\"\n", &["needs public.tls_certificate_file too"]),
        ("[public]\nurl = \"id.example.com\"\n", &["expected a URL"]),
        ("[public]\nredirect_admin = true\n", &["needs admin.url"]),
        ("[raft]\nheartbeat = \"300ms\"\n", &["raft.election_min"]),
        ("[disk]\nstall_handover = \"30s\"\n", &["disk.stall_stop"]),
        ("[argon2]\nmemory = \"64KiB\"\n", &["below the least"]),
        ("[argon2]\nmemory = \"2GiB\"\npool_memory = \"4GiB\"\n", &["argon2.memory", "at most"]),
        ("[argon2]\niterations = 11\n", &["argon2.iterations", "at most"]),
        ("[argon2]\niterations = 0\n", &["argon2.iterations"]),
        ("[argon2]\nparallelism = 32\n", &["argon2.parallelism", "at most"]),
        (
            "[passwords]\nbreaches = true\nbreaches_url = \"http://hibp.internal\"\n",
            &["passwords.breaches_url", "plain_http"],
        ),
        ("[sessions]\ncookie_same_site = \"none\"\ncookie_secure = false\n", &["SameSite=None"]),
        ("[sessions]\nrequired_aal = \"aal3\"\n", &["one of \"aal1\" \"highest_available\""]),
        ("[factors]\npasskeys = true\n", &["factors.passkeys", "domain", "127.0.0.1"]),
        ("[factors]\nrp_id = \"https://example.com\"\n", &["factors.rp_id", "a domain"]),
        (
            "[factors]\nrp_id = \"example.com\"\nrp_origins = [\"https://example.org\"]\n",
            &["factors.rp_origins", "example.org"],
        ),
        ("[factors]\nrp_origins = [\"http://example.com\"]\n", &["factors.rp_origins"]),
        ("[node]\nregion = \"EU Central\"\n", &["lower-case"]),
        (
            "advertise = \"eu-1.internal\"\n",
            &["cardea.toml:4: cluster.advertise", "expected host:port"],
        ),
        ("advertise = \"0.0.0.0:7433\"\n", &["cluster.advertise", "everywhere"]),
        ("join = [\"[::]:7433\"]\n", &["cluster.join", "everywhere"]),
        ("[admin]\nhosts = [\"admin.internal:4434\"]\n", &["admin.hosts", "without"]),
        (
            "[admin]\nclient_authority_file = \"ca\"\n",
            &["admin.client_authority_file", "tls_certificate_file"],
        ),
        ("[cluster.more]\nx = 1\n", &["unknown setting cluster.more"]),
        ("[public\n", &["cardea.toml:4:"]),
    ];
    for (text, parts) in cases {
        let refused = load_text(&format!("{LEAST}{text}")).expect_err(text).to_string();
        for part in *parts {
            assert!(refused.contains(part), "{text}\n{refused}\nlacks {part}");
        }
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn nodes_speak_in_the_clear_on_loopback_only() {
    let accepted = |text: &str| load_text(text).map(|_| ()).map_err(|refused| refused.to_string());
    accepted("[cluster]\ntls = \"off\"\nlisten = \"127.0.0.1:7433\"\n").unwrap();
    accepted("[cluster]\ntls = \"off\"\nlisten = \"[::1]:7433\"\n").unwrap();
    let error =
        accepted("[cluster]\ntls = \"off\"\nlisten = \"0.0.0.0:7433\"\nadvertise = \"a:1\"\n")
            .unwrap_err();
    assert!(error.contains("loopback"), "{error}");
    let error = accepted("[cluster]\nlisten = \"10.0.0.1:7433\"\n").unwrap_err();
    assert!(error.contains("cluster.certificate_file") && error.contains("cardea cert"), "{error}");
    let files = "authority_file = \"a\"\ncertificate_file = \"c\"\nkey_file = \"k\"\n";
    accepted(&format!("[cluster]\nlisten = \"10.0.0.1:7433\"\n{files}")).unwrap();
    let error = accepted(&format!("[cluster]\nlisten = \":7433\"\n{files}")).unwrap_err();
    assert!(error.contains("cluster.advertise"), "{error}");
}

#[test]
fn an_admin_listener_that_others_reach_says_how_it_knows_them() {
    for text in [
        "[admin]\nlisten = \"0.0.0.0:4434\"\nauth = \"none\"\n",
        "[admin]\nlisten = \"0.0.0.0:4434\"\nauth = \"key\"\ntls_certificate_file = \"c\"\ntls_key_file = \"k\"\n",
        "[admin]\nlisten = \"10.0.0.1:4434\"\nauth = \"key\"\n[proxies]\ntrusted = [\"10.0.0.2\"]\n",
    ] {
        load_text(&format!("{LEAST}{text}")).unwrap();
    }
}

#[test]
fn unknown_variables_are_refused_but_an_orchestrators_are_not() {
    let (_dir, accepted) = sources(
        LEAST,
        &[
            ("CARDEA_SERVICE_HOST", "10.0.0.1"),
            ("CARDEA_PORT", "tcp://10.0.0.1:4433"),
            ("CARDEA_PUBLIC_PORT_4433_TCP_ADDR", "10.0.0.1"),
            ("CARDEA_SECRET_MASTER_KEY", "x"),
            ("CARDEA_CONFIG", "x"),
            ("HOME", "/"),
        ],
        &[],
    );
    load(accepted).unwrap();
    let (_dir, refused) = sources(LEAST, &[("CARDEA_PUBLIC_LISTN", "127.0.0.1:1")], &[]);
    let error = load(refused).unwrap_err().to_string();
    assert!(error.contains("did you mean CARDEA_PUBLIC_LISTEN?"), "{error}");
}

#[test]
fn all_that_is_wrong_is_reported_at_once() {
    let refused = load_text("[public]\nlisen = \"x\"\n[log]\nformat = \"xml\"\n").unwrap_err();
    assert_eq!(refused.0.len(), 2);
}

#[test]
fn a_file_that_is_no_toml_is_told_alone() {
    let refused = load_text("[node]\nregion = eu\n").unwrap_err();
    assert_eq!(refused.0.len(), 1, "{refused}");
}

#[test]
fn a_flag_that_names_its_setting_names_it_once() {
    let (_dir, sources) = sources(LEAST, &[], &[("raft.heartbeat", "often")]);
    let told = load(sources).unwrap_err().to_string();
    assert_eq!(told.matches("raft.heartbeat").count(), 1, "{told}");
    assert!(told.contains("--set raft.heartbeat: expected a duration"), "{told}");
}
