//! Parts of an import, and exports that fail.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::cli::output::Format;

/// Reads a request to its end.
async fn whole_request(stream: &mut TcpStream) {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return;
            }
        }
        let more = stream.read(&mut buffer).await.unwrap();
        assert!(more > 0, "the request broke off");
        read.extend_from_slice(&buffer[..more]);
    }
}

/// A node that answers everything so.
async fn node(body: String) -> OperatorClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        while let Ok((mut stream, _)) = listener.accept().await {
            whole_request(&mut stream).await;
            // Who goes away reads not all of it.
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    OperatorClient::of_this_machine(port).unwrap()
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_named_with_where_to_go_on() {
    let client = node(r#"{"imported": 20000, "repeated": 0}"#.to_owned()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tuples");
    let mut text = "d:1#v@a\n".repeat(20_003).into_bytes();
    text.extend(b"d:\xff#v@a\n");
    std::fs::write(&file, text).unwrap();
    let told = import(&client, &file, 1, 3).await.unwrap_err().to_string();
    assert!(told.contains("line 20004 cannot be read"), "{told}");
    assert!(told.contains("Continue with --from-line 20001"), "{told}");
}

#[tokio::test]
async fn a_full_disk_is_told_as_one_and_nothing_is_left_of_the_export() {
    let client = node("x".repeat(1 << 20)).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, part) = (folder.path().join("tuples"), folder.path().join("tuples.part"));
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let told = export(&client, None, Some(&file), Printer::new(Format::Json)).await;
    let told = told.unwrap_err();
    assert!(matches!(told, Failure::Failed(_)), "the node answers: {told}");
    assert!(std::fs::symlink_metadata(part).is_err() && !file.exists());
}

#[tokio::test]
async fn an_export_goes_where_links_and_pipes_lead_and_replaces_neither() {
    let client = node("d:1#v@a\n".to_owned()).await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("real"), "before").unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    let printer = || Printer::new(Format::Json);
    export(&client, None, Some(&at("link")), printer()).await.unwrap();
    assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "d:1#v@a\n");
    assert!(at("link").is_symlink());
    std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
    export(&client, None, Some(&at("device")), printer()).await.unwrap();
    assert_eq!(at("device").canonicalize().unwrap(), Path::new("/dev/null"));
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 3, "nothing is left beside them");
}

#[test]
fn a_reader_that_went_away_is_told_from_other_failures() {
    let failed = |kind| Failure::from(anyhow::Error::from(std::io::Error::from(kind)));
    assert!(is_closed(&failed(std::io::ErrorKind::BrokenPipe)));
    assert!(!is_closed(&failed(std::io::ErrorKind::StorageFull)));
    assert!(!is_closed(&Failure::Unavailable("no".to_owned())));
}

fn parts_of(text: &str, from: u64) -> anyhow::Result<Vec<(std::ops::Range<u64>, String)>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("tuples");
    std::fs::write(&file, text)?;
    let mut parts = Parts::open(&file)?;
    parts.skip_to(from)?;
    let mut found = Vec::new();
    while let Some(part) = parts.next()? {
        found.push((part.lines, part.text));
    }
    Ok(found)
}

#[test]
fn lines_are_counted_over_parts_and_skipped() {
    let text: String = (1..=45_000).map(|line| format!("d:{line}#v@ann\n")).collect();
    let parts = parts_of(&text, 1).unwrap();
    let lines: Vec<_> = parts.iter().map(|(lines, _)| lines.clone()).collect();
    assert_eq!(lines, [1..20_001, 20_001..40_001, 40_001..45_001]);
    assert_eq!(parts.iter().map(|(_, text)| text.as_str()).collect::<String>(), text);
    let rest = parts_of(&text, 44_999).unwrap();
    assert_eq!(rest, [(44_999..45_001, "d:44999#v@ann\nd:45000#v@ann\n".to_owned())]);
    assert!(parts_of("d:1#v@ann", 3).is_err(), "there is no such line");
}

#[test]
fn an_array_is_taken_line_by_line() {
    let parts = parts_of(" [{\"object\": \"1\"},\n {\"object\": \"2\"}]", 1).unwrap();
    assert_eq!(parts, [(1..3, "{\"object\":\"1\"}\n{\"object\":\"2\"}\n".to_owned())]);
}
