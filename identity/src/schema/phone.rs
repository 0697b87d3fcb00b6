//! Telephone numbers (ITU-T E.164): `+`, a country calling code that is assigned, and the
//! rest, 15 digits at most. A number is kept without whatever separated its digits.
//!
//! Whether a number exists, and whether it takes text messages, nobody knows but the
//! gateway; numbers that cannot, because no country has them or because they are nobody's
//! own (freephone, premium rate), are none here.

/// Country calling codes of two digits (E.164, list of assigned codes, 2025).
const TWO: &[u8] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56,
    57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];
/// Those of three digits, as ranges with both ends. Left out: freephone (800), shared
/// cost (808), universal numbers (878), premium rate (979).
const THREE: &[(u16, u16)] = &[
    (211, 213),
    (216, 216),
    (218, 218),
    (220, 258),
    (260, 269),
    (290, 291),
    (297, 299),
    (350, 359),
    (370, 383),
    (385, 387),
    (389, 389),
    (420, 421),
    (423, 423),
    (500, 509),
    (590, 599),
    (670, 670),
    (672, 683),
    (685, 692),
    (850, 850),
    (852, 853),
    (855, 856),
    (870, 870),
    (880, 883),
    (886, 886),
    (960, 968),
    (970, 977),
    (992, 996),
    (998, 998),
];
/// Area codes within +1 of others than the United States and Canada: countries of their
/// own, with prices of their own.
const ISLANDS: &[u16] = &[
    242, 246, 264, 268, 284, 340, 345, 441, 473, 649, 658, 664, 670, 671, 684, 721, 758, 767, 784,
    787, 809, 829, 849, 868, 869, 876, 939,
];

/// A number in international form; `None` if it is none.
pub(crate) fn normalize_phone(text: &str) -> Option<String> {
    let digits = text.trim().strip_prefix('+')?;
    let mut out = String::from("+");
    for c in digits.chars() {
        match c {
            '0'..='9' => out.push(c),
            ' ' | '-' | '(' | ')' | '.' => {}
            _ => return None,
        }
    }
    ((8..=16).contains(&out.len()) && country_of(&out).is_some()).then_some(out)
}

/// The prefix of a number's country: `+49`, `+1`, `+1876`; `None` if no country has it.
pub(crate) fn country_of(number: &str) -> Option<&str> {
    let digits = number.strip_prefix('+')?;
    let first = |count: usize| digits.get(..count).and_then(|text| text.parse::<u16>().ok());
    let length = match digits.as_bytes().first()? {
        b'1' if first(4).is_some_and(|code| ISLANDS.contains(&(code - 1000))) => 4,
        b'1' | b'7' => 1,
        _ if first(2).is_some_and(|code| TWO.iter().any(|two| u16::from(*two) == code)) => 2,
        _ => {
            let code = first(3)?;
            THREE.iter().any(|(from, to)| (*from..=*to).contains(&code)).then_some(3)?
        }
    };
    number.get(..=length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_numbers_are_brought_to_international_form() {
        let table = [
            ("+49 (30) 901820", Some("+4930901820")),
            ("+1-202-456-1111", Some("+12024561111")),
            ("+44.20.7946.0018", Some("+442079460018")),
            ("030 901820", None),
            ("004930901820", None),
            ("+0123456789", None),
            ("+12", None),
            ("+1234567890123456", None),
            ("+49x30901820", None),
            ("+999123456789", None),
            ("+800123456789", None),
            ("+٤٩٣٠٩٠١٨٢٠", None),
        ];
        for (text, normal) in table {
            assert_eq!(normalize_phone(text).as_deref(), normal, "{text}");
        }
    }

    #[test]
    fn countries_are_told_by_the_codes_that_are_assigned() {
        for (number, country) in [
            ("+4930901820", Some("+49")),
            ("+12024561111", Some("+1")),
            ("+18765550100", Some("+1876")),
            ("+79161234567", Some("+7")),
            ("+35312345678", Some("+353")),
            ("+2011234567", Some("+20")),
            ("+2111234567", Some("+211")),
            ("+2101234567", None),
            ("+9791234567", None),
            ("+1", Some("+1")),
            ("+", None),
            ("49", None),
        ] {
            assert_eq!(country_of(number), country, "{number}");
        }
        // No code begins with another: of every number, one reading is right.
        for two in TWO {
            let begins = |code: u16| code / 10 == u16::from(*two);
            assert!(!THREE.iter().any(|(from, to)| (*from..=*to).any(begins)), "{two}");
        }
    }
}
