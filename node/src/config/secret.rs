//! Secrets: read from a file or from `CARDEA_SECRET_…`, never from a flag and
//! never from the configuration itself.

use std::path::Path;

use base64::Engine as _;
use cardea_storage::Secret;
use zeroize::{Zeroize as _, Zeroizing};

/// Secret bytes.
pub type SecretBytes = Secret<Vec<u8>>;

/// Why a secret could not be read. Never carries its text.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("cannot read the secret in {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file may be read by others.
    #[error("{0} can be read by others than its owner; run: chmod 600 {0}")]
    Exposed(String),
    /// The text is not a key.
    #[error("{0} does not hold 32 bytes in hex or base64")]
    Malformed(String),
}

/// The 32-byte key called `name`: `CARDEA_SECRET_<NAME>` if the lookup has it,
/// else the file, else nothing.
pub fn read_key(
    name: &str,
    file: Option<&Path>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<SecretBytes>, SecretError> {
    let variable = format!("{}{}", super::layers::SECRET_PREFIX, name.to_uppercase());
    if let Some(text) = lookup(&variable) {
        let text = Zeroizing::new(text);
        return parse_key(&text).map(Some).ok_or(SecretError::Malformed(variable));
    }
    file.map(read_key_file).transpose()
}

/// A secret text.
pub type SecretText = Secret<Zeroizing<String>>;

/// The text called `name`, without the line's end: `CARDEA_SECRET_<NAME>` if the lookup
/// has it, else the file, else nothing.
pub fn read_text(
    name: &str,
    file: Option<&Path>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<SecretText>, SecretError> {
    let variable = format!("{}{}", super::layers::SECRET_PREFIX, name.to_uppercase());
    let text = match (lookup(&variable), file) {
        (Some(text), _) => Zeroizing::new(text),
        (None, Some(file)) => read_private(file)?,
        (None, None) => return Ok(None),
    };
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Some(Secret::new(Zeroizing::new(text))))
}

/// The 32-byte key in a file that only its owner may read.
pub fn read_key_file(path: &Path) -> Result<SecretBytes, SecretError> {
    let shown = path.display().to_string();
    let text = read_private(path)?;
    parse_key(&text).ok_or(SecretError::Malformed(shown))
}

/// The text of a file that only its owner may read.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display().to_string();
    let failed = |source| SecretError::File { path: shown.clone(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    // A group may read it: secrets mounted by an orchestrator belong to one.
    if mode & 0o007 != 0 {
        return Err(SecretError::Exposed(shown));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}

fn parse_key(text: &str) -> Option<SecretBytes> {
    let text = text.trim();
    let mut bytes = if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        (0..32)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok())
            .collect::<Option<Vec<_>>>()?
    } else {
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .or_else(|_| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text))
            .ok()?
    };
    if bytes.len() != 32 {
        bytes.zeroize();
        return None;
    }
    Some(SecretBytes::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_read_from_hex_and_base64_and_nothing_else() {
        let hex = "00".repeat(31) + "ff";
        assert_eq!(parse_key(&hex).unwrap().expose()[31], 0xff);
        let base64 = base64::engine::general_purpose::STANDARD.encode([7_u8; 32]);
        assert_eq!(parse_key(&format!("{base64}\n")).unwrap().expose(), &[7; 32]);
        for text in ["", "password", &"0".repeat(63), &"zz".repeat(32)] {
            assert!(parse_key(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_secret_is_never_shown() {
        let hex = "11".repeat(32);
        let key = read_key("master_key", Some(Path::new("/nonexistent")), |name| {
            (name == "CARDEA_SECRET_MASTER_KEY").then(|| hex.clone())
        })
        .unwrap()
        .unwrap();
        assert_eq!(format!("{key:?}"), "Secret(…)");
        let error = read_key("master_key", None, |_| Some("hunter2".to_owned())).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "22".repeat(32)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_key_file(&path), Err(SecretError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_key_file(&path).unwrap().expose(), &[0x22; 32]);
    }
}
