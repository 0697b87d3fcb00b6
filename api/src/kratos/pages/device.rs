//! What a session was used with, in words.

use cardea_identity::model::Session;

use super::words::Words;

/// Browsers by what they call themselves: whose name contains another's comes first.
const BROWSERS: [(&str, &str); 7] = [
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
];
const SYSTEMS: [(&str, &str); 6] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];

/// `Firefox on Linux`, as far as it can be told.
pub(super) fn name(words: Words, session: &Session) -> String {
    let agent = session.devices.last().map_or("", |device| device.user_agent.as_str());
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => words
            .say("{browser} on {system}")
            .replace("{browser}", browser)
            .replace("{system}", system),
        (Some(known), None) | (None, Some(known)) => known.to_owned(),
        (None, None) => words.say("Unknown device").into_owned(),
    }
}

/// The address that it came from.
pub(super) fn address(session: &Session) -> &str {
    session.devices.last().map_or("", |device| device.ip_address.as_str())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_that_contain_others_come_first() {
        for (at, (mark, _)) in super::BROWSERS.iter().enumerate() {
            assert!(super::BROWSERS[..at].iter().all(|(earlier, _)| !mark.contains(earlier)));
        }
    }
}
