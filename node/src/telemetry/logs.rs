//! Log lines: JSON for machines, or short lines for people.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::config::settings::LogFormat;

/// The level filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log.level: \"{0}\" is no list of levels such as info or info,cardea_raft=debug")]
pub struct BadLevel(String);

/// Installs the process's subscriber; lines go to standard error.
pub fn install(format: LogFormat, level: &str) -> Result<(), BadLevel> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second installation (in tests) leaves the first in place.
    subscriber(format, level, colour, io::stderr)?.try_init().ok();
    Ok(())
}

/// A subscriber that writes to `writer`.
pub fn subscriber<W>(
    format: LogFormat,
    level: &str,
    colour: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, BadLevel>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(level).map_err(|_| BadLevel(level.to_owned()))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    Ok(match format {
        LogFormat::Json => {
            Box::new(registry.with(
                layer.json().flatten_event(true).with_current_span(true).with_span_list(false),
            ))
        }
        LogFormat::Human => Box::new(registry.with(layer.compact().with_ansi(colour))),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::{apikey::ApiKey, config::secret::SecretBytes};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    fn logged(format: LogFormat, level: &str, work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, level, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        lines.text()
    }

    #[test]
    fn json_lines_are_json_with_their_fields_at_the_top() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(shard = 7, "opened");
            tracing::debug!("not shown");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (&line["message"], &line["shard"], &line["level"]),
            (&"opened".into(), &7.into(), &"INFO".into())
        );
    }

    /// N26: by its name, wherever it is logged.
    #[test]
    fn what_holds_a_secret_is_redacted_in_every_format() {
        let key = ApiKey::from_random([5; 40]);
        let secret = SecretBytes::new(b"hunter2-hunter2-hunter2-hunter2!".to_vec());
        for format in [LogFormat::Json, LogFormat::Human] {
            let text = logged(format, "trace", || {
                tracing::error!(?key, digest = ?key.digest(), ?secret, "everything at once");
            });
            assert!(
                text.contains("<secret>")
                    && text.contains("Secret(…)")
                    && text.contains(&key.id().to_string()),
                "{text}"
            );
            assert!(!text.contains("hunter2"), "{text}");
            assert!(!text.contains(&key.reveal()[28..]), "{text}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        assert!(subscriber(LogFormat::Json, "cardea=loud", false, io::stderr).is_err());
    }
}
