//! What of a request comes into the log.

use super::*;

/// N26: whatever part of a request it comes in.
#[test]
fn no_secret_of_a_request_enters_a_log_line() {
    #[derive(Clone, Default)]
    struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = crate::telemetry::logs::subscriber(
        crate::config::settings::LogFormat::Json,
        "trace",
        false,
        move || writer.clone(),
    )
    .unwrap();
    let shown = key(ALL).reveal().to_string();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = gate(Side::Public, false);
            // A probe that is answered well is no line.
            let probe = request(&Method::GET, "/health/alive").body(Body::empty()).unwrap();
            assert_eq!(send(&gate, probe).await.status(), 200);
            for path in ["/sessions/whoami?token=s3cret", "/admin/identities/s3cret", "/s3cret"] {
                let request = request(&Method::GET, path)
                    .header(header::AUTHORIZATION, format!("Bearer {shown}"))
                    .header("x-session-token", "s3cret")
                    .header("x-request-id", shown.as_str())
                    .header(header::COOKIE, "ory_kratos_session=s3cret")
                    .body(Body::from("{\"password\":\"s3cret\"}"))
                    .unwrap();
                send(&gate, request).await;
            }
        });
    });
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert_eq!(text.matches("cardea::access").count(), 3, "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!(!text.contains(&shown[..40]), "{text}");
}
