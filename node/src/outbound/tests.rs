//! The client against servers on loopback: what it asks, and what it does not.

use std::time::Instant;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

fn options() -> OutboundOptions {
    OutboundOptions {
        allowed: vec!["127.0.0.1".parse().unwrap()],
        plain_http: true,
        timeout: Duration::from_secs(5),
        body_bytes_max: 1024,
    }
}

fn client(options: OutboundOptions) -> Client {
    Client::new(options, None).unwrap()
}

/// Answers one request with these bytes, then keeps still; gives what was asked.
async fn server(answer: Vec<u8>) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut some = [0; 1024];
            let read = stream.read(&mut some).await.unwrap();
            asked.extend_from_slice(&some[..read]);
            if read == 0 {
                break;
            }
        }
        // Who asked may have gone.
        stream.write_all(&answer).await.ok();
        stream.flush().await.ok();
        // Until it goes.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        String::from_utf8_lossy(&asked).into_owned()
    });
    (port, asked)
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn question_is_asked_as_it_is_and_the_answer_read_whole() {
    let (port, asked) = server(answer("200 OK", "{\"a\":1}")).await;
    let question = Question::get(&format!("http://127.0.0.1:{port}/x?y=z")).with("x-a", "b".into());
    let reply = client(options()).ask(question).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"{\"a\":1}"[..]));
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /x?y=z HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: 127.0.0.1:{port}")) && asked.contains("x-a: b"));
}

#[tokio::test]
async fn address_that_says_nothing_leaves_time_for_the_next() {
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = silent.listen(1).unwrap();
    let nowhere = silent.local_addr().unwrap();
    // Nobody accepts, and once the queue is full, nobody is answered.
    let mut queued = Vec::new();
    let patience = Duration::from_millis(300);
    while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(nowhere)).await {
        queued.push(stream.unwrap());
        assert!(queued.len() < 64, "the queue is never full");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let within = Duration::from_secs(2);
    let connected = tokio::time::timeout(within, connect(&[nowhere, there], within)).await;
    assert_eq!(connected.unwrap().unwrap().peer_addr().unwrap(), there);
}

/// N23: nor is a place asked that a redirect names.
#[tokio::test]
async fn redirect_is_an_answer_and_not_followed() {
    let head = "302 Found\r\nLocation: http://127.0.0.1:1/secret";
    let (port, _) = server(answer(head, "")).await;
    let reply = client(options()).ask(Question::get(&format!("http://127.0.0.1:{port}/"))).await;
    assert_eq!(reply.unwrap().status, 302);
}

/// N23. By name, by address, by other spellings: what counts is where it leads.
#[tokio::test]
async fn special_addresses_are_refused_however_they_are_written() {
    let guarded = client(OutboundOptions { allowed: Vec::new(), ..options() });
    let (port, _) = server(answer("200 OK", "secret")).await;
    for host in ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "0.0.0.0"]
    {
        let reply = guarded.ask(Question::get(&format!("http://{host}:{port}/"))).await;
        let refused = matches!(reply, Err(Unanswered::Forbidden | Unanswered::Unreachable(_)));
        assert!(refused, "{host}: {reply:?}");
    }
    let by_name = guarded.ask(Question::get(&format!("http://localhost:{port}/"))).await;
    assert_eq!(by_name.unwrap_err(), Unanswered::Forbidden);
}

#[tokio::test]
async fn urls_that_are_not_asked_are_refused_before_anything_is_looked_up() {
    let strict = client(OutboundOptions { plain_http: false, ..options() });
    for url in [
        "http://127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "https://user@127.0.0.1/",
        "https://user:password@127.0.0.1/",
        "//127.0.0.1/",
        "/etc/passwd",
        "https://",
        "https:///x",
        "https://a b/",
        "",
    ] {
        let reply = strict.ask(Question::get(url)).await;
        assert!(matches!(reply, Err(Unanswered::BadUrl(_))), "{url}: {reply:?}");
    }
    let (port, _) = server(answer("200 OK", "")).await;
    let url = format!("http://127.0.0.1:{port}/");
    let split = Question::get(&url).with("x-a", "b\r\nx-c: d".to_owned());
    assert!(matches!(client(options()).ask(split).await, Err(Unanswered::BadUrl(_))));
}

#[tokio::test]
async fn answers_are_read_up_to_their_bounds() {
    let url = |port: u16| Question::get(&format!("http://127.0.0.1:{port}/"));
    let (port, _) = server(answer("200 OK", &"x".repeat(1024))).await;
    assert_eq!(client(options()).ask(url(port)).await.unwrap().body.len(), 1024);
    let (port, _) = server(answer("200 OK", &"x".repeat(1025))).await;
    assert_eq!(client(options()).ask(url(port)).await.unwrap_err(), Unanswered::TooLarge(1024));
    // Without a length told beforehand.
    let endless = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n400\r\n" + &"x".repeat(1024)
    );
    let (port, _) = server(endless.into_bytes()).await;
    assert_eq!(client(options()).ask(url(port)).await.unwrap_err(), Unanswered::TooLarge(1024));
    let head = format!("200 OK\r\nX-Large: {}", "x".repeat(2 * HEAD_BYTES_MAX));
    let (port, _) = server(answer(&head, "")).await;
    let reply = client(options()).ask(url(port)).await;
    assert!(matches!(reply, Err(Unanswered::Unreachable(_))), "{reply:?}");
    let head = format!("200 OK{}", "\r\nX-A: b".repeat(HEADERS_MAX + 1));
    let (port, _) = server(answer(&head, "")).await;
    let reply = client(options()).ask(url(port)).await;
    assert!(matches!(reply, Err(Unanswered::Unreachable(_))), "{reply:?}");
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_given_up() {
    let (port, _) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab".to_vec()).await;
    let mut question = Question::get(&format!("http://127.0.0.1:{port}/"));
    question.within = Some(Duration::from_millis(200));
    let start = Instant::now();
    assert_eq!(client(options()).ask(question).await.unwrap_err(), Unanswered::TooLate);
    assert!(start.elapsed() < Duration::from_secs(3));
    let reply = client(options()).ask(Question::get("http://127.0.0.1:1/")).await;
    assert!(matches!(reply, Err(Unanswered::Unreachable(_))), "{reply:?}");
}

#[tokio::test]
async fn tls_of_a_stranger_is_not_trusted_unless_its_authority_is_named() {
    use crate::cli::cert::{AUTHORITY_FILE, make_authority, make_node};
    let dir = tempfile::tempdir().unwrap();
    let lifespan = Duration::from_secs(86_400);
    make_authority(dir.path(), lifespan).unwrap();
    let subject =
        cardea_raft::tls::Subject { node: "idp".to_owned(), hosts: vec!["127.0.0.1".to_owned()] };
    make_node(dir.path(), &subject, dir.path(), lifespan).unwrap();
    let (chain, key) = (dir.path().join("idp.pem"), dir.path().join("idp.key"));
    let acceptor = crate::listener::tls::acceptor(&chain, &key, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not trust it breaks off.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            stream.write_all(&answer("200 OK", "hello")).await.ok();
            stream.flush().await.ok();
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        }
    });
    let reply = client(options()).ask(Question::get(&url)).await;
    assert!(matches!(reply, Err(Unanswered::Unreachable(_))), "{reply:?}");
    let authority = dir.path().join(AUTHORITY_FILE);
    let trusting = Client::new(options(), Some(&authority)).unwrap();
    assert_eq!(&trusting.ask(Question::get(&url)).await.unwrap().body[..], b"hello");
}
