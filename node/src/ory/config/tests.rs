//! A configuration of Kratos, and what becomes of it.

use super::*;

const KRATOS: &str = r#"
version: v1.3.0
dsn: postgres://kratos:secret@db/kratos
serve:
  public: {base_url: "https://id.example.org/", cors: {enabled: true, allowed_origins: ["https://app.example.org"]}}
  admin: {base_url: "http://kratos:4434/"}
session:
  lifespan: 720h
  cookie: {domain: example.org, same_site: Lax}
selfservice:
  default_browser_return_url: https://www.example.org/
  allowed_return_urls: ["https://www.example.org", "https://app.example.org", "https://*.example.org"]
  methods:
    password: {enabled: true, config: {haveibeenpwned_enabled: false, haveibeenpwned_host: pwned.example.org, min_password_length: 10, max_breaches: 3, migrate_hook: {enabled: true, config: {url: "https://old.example.org/check", method: POST, auth: {type: api_key, config: {name: X-Key, value: s3cret, in: header}}}}}}
    totp: {enabled: true, config: {issuer: Example}}
    passkey: {enabled: true, config: {rp: {id: example.org, origins: ["https://id.example.org"]}}}
    webauthn: {enabled: true, config: {passwordless: true, rp: {id: example.org, display_name: X}}}
    code: {mfa_enabled: true, passwordless_enabled: true, config: {lifespan: 15m}}
    oidc: {enabled: true, config: {providers: [{id: google, client_secret: s3cret}]}}
  flows:
    login: {ui_url: "https://www.example.org/login", lifespan: 10m}
    settings: {privileged_session_max_age: 15m}
    recovery: {enabled: true, use: link}
hashers: {algorithm: bcrypt, argon2: {memory: 128MB, iterations: 3}}
courier: {smtp: {connection_uri: "smtps://me:pass@mail.example.org:465/?skip_ssl_verify=true", from_address: id@example.org}}
secrets: {cookie: [PLEASE-CHANGE-ME]}
identity:
  default_schema_id: customer
  schemas:
    - {id: customer, url: "base64://eyJ0eXBlIjoib2JqZWN0In0="}
    - {id: partner, url: "base64://eyJ0eXBlIjoib2JqZWN0In0=", selfservice_selectable: true}
    - {id: staff, url: "base64://eyJ0eXBlIjoib2JqZWN0In0=", selfservice_selectable: false}
"#;

#[test]
fn configuration_is_translated_and_what_is_not_is_named() {
    let parts = [
        "url = \"https://id.example.org/\"",
        "lifespan = \"720h\"",
        "cookie_same_site = \"lax\"",
        "allowed_return_urls = [\"https://www.example.org\", \"https://app.example.org\"]",
        "code_lifespan = \"15m\"",
        "code_login = true",
        "[factors]\ncode = true\ntotp = true\ntotp_issuer = \"Example\"",
        "rp_id = \"example.org\"",
        "rp_origins = [\"https://id.example.org\"]",
        "security_keys_passwordless = true",
        "memory = \"128MiB\"",
        "smtp_url = \"smtps://me@mail.example.org:465\"",
        "recovery = true",
        "registration_schemas = [\"partner\"]",
        "recovery_use = \"link\"",
        "[password_migration]\nurl = \"https://old.example.org/check\"\napi_key_name = \"X-Key\"",
        "cors_origins = [\"https://app.example.org\"]",
        "min_length = 10",
        "min_length_with_second_factor = 10",
        "breaches = false",
        "breaches_url = \"https://pwned.example.org\"",
        "breaches_max = 3",
    ];
    let left = [
        "selfservice.methods.oidc.config.providers[0].client_secret",
        "secrets.cookie",
        "courier.smtp.connection_uri",
        "selfservice.allowed_return_urls",
    ];
    let translated = assert_translated(KRATOS, &parts, &left);
    assert!(!translated.toml.contains("pass@"));
    let unsafe_wish = "skip_ssl_verify=true is not carried; ";
    assert!(translated.left.iter().any(|left| left.why.starts_with(unsafe_wish)));
    let left: Vec<&str> = translated.left.iter().map(|left| left.setting.as_str()).collect();
    assert!(!left.contains(&"selfservice.methods.webauthn.config.rp.id"), "{left:?}");
    assert!(!left.contains(&"version") && !left.contains(&"session.lifespan"));
    let shown = serde_json::to_string(&translated).unwrap();
    for secret in ["s3cret", "PLEASE", "pass\""] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn mail_server_in_the_clear_stays_one() {
    let of = |uri: &'static str| mail_server(uri).map(|server| (server.url, server.wishes));
    let clear = "smtp://mail.example.org:25?disable_starttls=true";
    let uri = "smtp://mail.example.org:25/?disable_starttls=true&skip_ssl_verify=false";
    assert_eq!(of(uri), Some((clear.to_owned(), vec![])));
    let uri = "smtp://a%40b.org:p@mail.example.org/?legacy_ssl=true";
    let (url, wishes) = of(uri).unwrap();
    assert_eq!(
        (url.as_str(), wishes),
        ("smtp://a%40b.org@mail.example.org", vec!["legacy_ssl=true"])
    );
    assert_eq!(of("http://mail.example.org"), None);
}

#[test]
fn schemas_are_read_from_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bot.json"), "{\"a\": 1}").unwrap();
    let mut kratos = read(KRATOS).unwrap();
    let found = schemas(&kratos, folder.path()).unwrap();
    assert_eq!((found[0].id.as_str(), found[0].is_default), ("customer", true));
    assert_eq!(found[0].document, serde_json::json!({"type": "object"}));
    kratos["identity"]["schemas"][0]["url"] = "file://bot.json".into();
    let found = schemas(&kratos, folder.path()).unwrap();
    assert_eq!(found[0].document, serde_json::json!({"a": 1}));
    kratos["identity"]["schemas"][0]["url"] = "https://example.org/schema.json".into();
    assert!(schemas(&kratos, folder.path()).is_err());
}

#[test]
fn values_of_other_forms_are_left() {
    for (value, form) in [
        (Value::from(1), Form::Text),
        (Value::from("1.5h"), Form::Duration),
        (Value::from("yes"), Form::Flag),
        (Value::from(-1), Form::Number),
        (Value::from("much"), Form::Size),
        (serde_json::json!(["a", 1]), Form::Texts),
    ] {
        assert!(written(&value, form).is_err(), "{value}");
    }
    assert!(read("a: [").is_err());
}
