//! Against a real server on loopback, which speaks SMTP over TCP, in the clear and by
//! STARTTLS, and writes down what it was told.

use std::{sync::Arc, time::Duration};

use cardea_identity::{courier::Template, schema::Channel};
use cardea_storage::Secret;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::cli::cert::{make_authority, make_node};

/// What the server was told, and what it is to answer to a recipient.
#[derive(Default)]
struct Post {
    lines: Mutex<Vec<String>>,
    refuses: Mutex<Option<&'static str>>,
}

/// One conversation; says whether TLS was asked for.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    post: &Post,
    greet: bool,
    offers: &str,
) -> std::io::Result<bool> {
    let mut stream = BufReader::new(stream);
    if greet {
        stream.write_all(b"220 post.example ESMTP\r\n").await?;
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let line = line.trim_end().to_owned();
        post.lines.lock().push(line.clone());
        if in_data {
            in_data = line != ".";
            if !in_data {
                stream.write_all(b"250 taken\r\n").await?;
            }
            continue;
        }
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let refuses = *post.refuses.lock();
        let answer = match verb.as_str() {
            "EHLO" => format!("250-post.example\r\n{offers}250 8BITMIME\r\n"),
            "STARTTLS" => {
                stream.write_all(b"220 go on\r\n").await?;
                return Ok(true);
            }
            "AUTH" if line.contains("AGFubgBzZXNhbWU=") => "235 welcome\r\n".to_owned(),
            "AUTH" => "535 no\r\n".to_owned(),
            "RCPT" => refuses.map_or_else(|| "250 fine\r\n".to_owned(), |no| format!("{no}\r\n")),
            "DATA" => {
                in_data = true;
                "354 go on\r\n".to_owned()
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(false);
            }
            _ => "250 fine\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// A server on a free port.
async fn serve(post: Arc<Post>, tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let (post, tls) = (post.clone(), tls.clone());
            tokio::spawn(async move {
                let offers = if tls.is_some() { "250-STARTTLS\r\n" } else { "" };
                let wants_tls = converse(&mut stream, &post, true, offers).await?;
                if let Some(tls) = tls.filter(|_| wants_tls) {
                    let stream = tls.accept(stream).await?;
                    converse(stream, &post, false, "250-AUTH PLAIN\r\n").await?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    port
}

fn smtp(url: String, password: Option<&str>, authority: Option<Vec<u8>>) -> Smtp {
    Smtp::new(SmtpOptions {
        url,
        password: password.map(|text| Secret::new(Zeroizing::new(text.to_owned()))),
        authority,
        sender: Sender { address: "id@example.org".to_owned(), name: Some("Example".to_owned()) },
    })
    .unwrap()
}

fn mail() -> Mail {
    Mail {
        id: Uuid::from_u128(7),
        via: Channel::Email,
        template: Template::LoginCode,
        recipient: "ann@example.net".to_owned(),
        subject: "Grüße, 123456 is your code".to_owned(),
        text: "123456".to_owned(),
        html: "<p>123456</p>".to_owned(),
        model: Default::default(),
    }
}

#[tokio::test]
async fn message_arrives_with_its_parts_and_the_same_id_each_time() {
    let post = Arc::new(Post::default());
    let port = serve(post.clone(), None).await;
    let smtp = smtp(format!("smtp://127.0.0.1:{port}?disable_starttls=true"), None, None);
    smtp.carry(&mail()).await.unwrap();
    smtp.carry(&mail()).await.unwrap();
    let lines = post.lines.lock().clone();
    let id = "Message-ID: <00000000-0000-0000-0000-000000000007@example.org>";
    assert_eq!(lines.iter().filter(|line| *line == id).count(), 2, "{lines:#?}");
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(has("MAIL FROM:<id@example.org>") && has("RCPT TO:<ann@example.net>"), "{lines:#?}");
    assert!(has("From: Example <id@example.org>") && has("To: ann@example.net"), "{lines:#?}");
    assert!(has("multipart/alternative") && has("text/plain") && has("text/html"), "{lines:#?}");
    assert!(has("<p>123456</p>") && has("Date: "), "{lines:#?}");
}

#[tokio::test]
async fn encryption_and_login_are_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let lifespan = Duration::from_secs(3600);
    let (authority, _) = make_authority(dir.path(), lifespan).unwrap();
    let subject = cardea_raft::tls::Subject {
        node: "post".to_owned(),
        hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    make_node(dir.path(), &subject, dir.path(), lifespan).unwrap();
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let chain = CertificateDer::pem_slice_iter(&read("post.pem")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&read("post.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let post = Arc::new(Post::default());
    let port = serve(post.clone(), Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("smtp://ann@localhost:{port}");
    let trusted = Some(std::fs::read(authority).unwrap());

    smtp(url.clone(), Some("sesame"), trusted.clone()).carry(&mail()).await.unwrap();
    let lines = post.lines.lock().clone();
    let at = |text: &str| lines.iter().position(|line| line.starts_with(text)).unwrap();
    assert!(at("STARTTLS") < at("AUTH") && at("AUTH") < at("MAIL"), "{lines:#?}");

    // A wrong password is the operator's to mend: the message waits.
    let wrong = smtp(url.clone(), Some("wrong"), trusted.clone()).carry(&mail()).await;
    assert!(matches!(wrong, Err(Undelivered::Failed(_))), "{wrong:?}");
    let stranger = smtp(url, Some("sesame"), None).carry(&mail()).await;
    assert!(matches!(stranger, Err(Undelivered::Unreachable(_))), "{stranger:?}");

    // A server without TLS gets neither password nor message.
    let plain = Arc::new(Post::default());
    let port = serve(plain.clone(), None).await;
    let url = format!("smtp://ann@localhost:{port}");
    let refused = smtp(url, Some("sesame"), trusted).carry(&mail()).await;
    assert!(matches!(refused, Err(Undelivered::Unreachable(_))), "{refused:?}");
    let told = plain.lines.lock().clone();
    assert!(!told.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")));
}

#[tokio::test]
async fn refused_recipients_are_told_from_servers_that_are_busy_or_away() {
    let post = Arc::new(Post::default());
    let port = serve(post.clone(), None).await;
    let smtp =
        |port: u16| smtp(format!("smtp://127.0.0.1:{port}?disable_starttls=true"), None, None);
    *post.refuses.lock() = Some("550 no such user");
    let refused = smtp(port).carry(&mail()).await;
    assert!(matches!(refused, Err(Undelivered::Refused(_))), "{refused:?}");
    *post.refuses.lock() = Some("451 come back");
    let busy = smtp(port).carry(&mail()).await;
    assert!(matches!(busy, Err(Undelivered::Failed(_))), "{busy:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    let away = smtp(free).carry(&mail()).await;
    assert!(matches!(away, Err(Undelivered::Unreachable(_))), "{away:?}");
    let nobody = Mail { recipient: "nobody".to_owned(), ..mail() };
    let refused = smtp(port).carry(&nobody).await;
    assert!(matches!(refused, Err(Undelivered::Refused(_))), "{refused:?}");
}

#[test]
fn servers_are_read_strictly() {
    let place = |url: &'static str| Place::of(url).unwrap();
    let of = |encryption, user: Option<&str>, host, port| Place {
        encryption,
        user: user.map(str::to_owned),
        host,
        port,
    };
    let (start, asked, off) = (Encryption::FromTheStart, Encryption::AskedFor, Encryption::Off);
    assert_eq!(place("smtps://post.example"), of(start, None, "post.example", 465));
    assert_eq!(place("smtp://ann@post.example/"), of(asked, Some("ann"), "post.example", 587));
    assert_eq!(
        place("smtp://a@b.c@post:25?disable_starttls=true"),
        of(off, Some("a@b.c"), "post", 25)
    );
    let encoded = place("smtps://ann%40post.example%25@post.example");
    assert_eq!(encoded, of(start, Some("ann@post.example%"), "post.example", 465));
    assert_eq!(place("smtp://[fd00::25]"), of(asked, None, "fd00::25", 587));
    assert_eq!(place("smtps://[fd00::25]:46"), of(start, None, "fd00::25", 46));
    for url in [
        "post.example",
        "http://post.example",
        "smtp://ann:sesame@post.example",
        "smtp://post.example?skip_ssl_verify=true",
        "smtps://post.example?disable_starttls=true",
        "smtp://post.example:x",
        "smtp://[fd00::25]x",
        "smtp://fd00::25",
        "smtp://50%@post.example",
        "smtp://",
    ] {
        assert!(Place::of(url).is_err(), "{url}");
    }
}
