//! How times are written: RFC 3339 in UTC.

use cardea_storage::Timestamp;

/// A time as RFC 3339 writes it, in UTC, with as many digits as it needs.
pub fn rfc3339(time: Timestamp) -> String {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// Reads a time that RFC 3339 writes; `None` for anything else and for times
/// before 1970.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        ];
        for (ms, text) in table {
            assert_eq!(rfc3339(Timestamp(ms)), text);
            assert_eq!(parse_rfc3339(text), Some(Timestamp(ms)));
        }
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20+01:00"), Some(Timestamp(1_700_000_000_000)));
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59Z"), None);
    }

    #[test]
    fn end_of_time_is_written_too() {
        assert!(rfc3339(Timestamp(u64::MAX)).starts_with("9999-"));
    }
}
