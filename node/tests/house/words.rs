//! Words of Rust: where names stand, and where code ends and comments begin.

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `folder` (a crate's production code, or a folder with a slash at its end) holds `path`.
pub(crate) fn is_below(path: &str, folder: &str) -> bool {
    let below = if folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/src/") };
    path.starts_with(&below)
}

/// Whether `line` has `name` as words of its own.
pub(crate) fn names_word(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_word)
            && !line[at + name.len()..].chars().next().is_some_and(is_word)
    })
}

/// Splits Rust into code and comments, see [`Source`](crate::source::Source).
pub(crate) fn take_apart(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let starts = |at: usize, what: &str| {
        what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    let mut at = 0;
    while at < chars.len() {
        let (end, comment) = if starts(at, "//") {
            let length = chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
            (at + length, true)
        } else if starts(at, "/*") {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < chars.len() {
                let step = if starts(end, "/*") {
                    1
                } else if starts(end, "*/") {
                    -1
                } else {
                    0
                };
                depth += step;
                end += if step == 0 { 1 } else { 2 };
            }
            (end, true)
        } else {
            (literal_end(&chars, at), false)
        };
        for (i, &c) in chars[at..end.max(at + 1)].iter().enumerate() {
            // The quotes of a literal stay, so that `concat!("", x)` still looks like code.
            let blanked_literal = end > at + 1 && !comment && i > 0 && i + 1 < end - at;
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if comment || blanked_literal { blank } else { c });
            comments.push(if comment { c } else { blank });
        }
        at = end.max(at + 1);
    }
    (code, comments)
}

/// The end of the string, raw string or character that begins at `at`; `at + 1` if none does.
pub(crate) fn literal_end(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let escaped = |quote: char, mut i: usize| {
        while i < chars.len() && chars[i] != quote {
            i += if chars[i] == '\\' { 2 } else { 1 };
        }
        (i + 1).min(chars.len())
    };
    let joined = at > 0 && is_word(chars[at - 1]) && !matches!(chars[at - 1], 'b' | 'c');
    match get(at) {
        '"' => escaped('"', at + 1),
        'r' if !joined && matches!(get(at + 1), '"' | '#') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if get(at + 1 + hashes) != '"' {
                return at + 1;
            }
            let mut end = at + 2 + hashes;
            let closes = |i: usize| get(i) == '"' && (1..=hashes).all(|k| get(i + k) == '#');
            while end < chars.len() && !closes(end) {
                end += 1;
            }
            (end + 1 + hashes).min(chars.len())
        }
        // A character, not a lifetime.
        '\'' if get(at + 1) == '\\' || get(at + 2) == '\'' => escaped('\'', at + 1),
        _ => at + 1,
    }
}

/// Parts of names of what nobody may guess.
const SECRETS: &[&str] = &[
    "secret",
    "digest",
    "mac",
    "csrf",
    "token",
    "signature",
    "password",
    "verifier",
    "nonce",
    "otp",
    "code",
];

/// Whether a name is of a secret, or of what is kept of one. Types and constants are none.
pub(crate) fn is_secret(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    parts.iter().any(|part| SECRETS.contains(part))
        && !parts.iter().any(|part| part.chars().next().is_some_and(char::is_uppercase))
}

/// The names on either side of every `==` and `!=`, with where they stand: of a path the
/// last one before, so that `found.digest == x` and `x == &found.digest` both name
/// `digest`. What is called (`x.len()`) is not what is compared.
pub(crate) fn compared(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let places = ["==", "!="].iter().flat_map(|sign| code.match_indices(sign));
    places.flat_map(move |(at, _)| {
        let before = code[..at].trim_end();
        let start = before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
        let after = &code[at + 2..];
        let skipped = after.len() - after.trim_start_matches([' ', '\n', '&', '*', '(']).len();
        let after = &after[skipped..];
        let end = after.find(|c| !is_word(c) && c != '.').unwrap_or(after.len());
        let is_called = after[end..].starts_with(['(', ':', '!']);
        let last = after[..end].rsplit('.').next().unwrap_or_default();
        [&before[start..], if is_called { "" } else { last }].map(|name| (at, name))
    })
}
