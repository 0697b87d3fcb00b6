//! Kinds and values, and how JSON is read as them.

use std::net::IpAddr;

use cardea_storage::Timestamp;
use serde_json::Value as Json;

/// What a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// A text.
    Text,
    /// A point in time; in JSON as RFC 3339 has it.
    Timestamp,
    /// A span of time; in JSON such as `1h30m`, `45s`, `250ms`.
    Duration,
    /// An address of IPv4 or IPv6.
    Address,
    /// Values of one kind; `None` of an empty list, which is of any.
    List(Option<Box<Kind>>),
}

/// A value. Times and spans are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// See [`Kind::Bool`].
    Bool(bool),
    /// See [`Kind::Int`].
    Int(i64),
    /// See [`Kind::Text`].
    Text(String),
    /// See [`Kind::Timestamp`].
    Timestamp(i64),
    /// See [`Kind::Duration`].
    Duration(i64),
    /// See [`Kind::Address`].
    Address(IpAddr),
    /// See [`Kind::List`].
    List(Vec<Value>),
}

impl Value {
    pub(super) fn of_time(at: Timestamp) -> Self {
        Self::Timestamp(i64::try_from(at.0).unwrap_or(i64::MAX))
    }
}

impl Kind {
    /// Reads a kind's name.
    pub fn read(text: &str) -> Option<Self> {
        Some(match text {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "string" => Self::Text,
            "timestamp" => Self::Timestamp,
            "duration" => Self::Duration,
            "ipaddress" => Self::Address,
            _ => {
                let inner = text.strip_prefix("list<")?.strip_suffix('>')?;
                // Lists of lists compare with nothing, and so are not there.
                match Self::read(inner)? {
                    Self::List(_) => return None,
                    kind => Self::List(Some(Box::new(kind))),
                }
            }
        })
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Bool => "bool".to_owned(),
            Self::Int => "int".to_owned(),
            Self::Text => "string".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Address => "ipaddress".to_owned(),
            Self::List(None) => "list".to_owned(),
            Self::List(Some(kind)) => format!("list<{}>", kind.name()),
        }
    }

    /// Reads a value of this kind.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn value(&self, json: &Json) -> Result<Value, String> {
        let refused = || Err(format!("{} is no {}", shortened(json), self.name()));
        let text = json.as_str();
        let read = match self {
            Self::Bool => json.as_bool().map(Value::Bool),
            Self::Int => json.as_i64().map(Value::Int),
            Self::Text => text.map(|text| Value::Text(text.to_owned())),
            Self::Timestamp => text.and_then(timestamp).map(Value::Timestamp),
            Self::Duration => text.and_then(duration).map(Value::Duration),
            Self::Address => text.and_then(address).map(Value::Address),
            Self::List(kind) => match (json.as_array(), kind) {
                (Some(items), Some(kind)) => {
                    let items = items.iter().map(|item| kind.value(item));
                    Some(Value::List(items.collect::<Result<_, _>>()?))
                }
                _ => None,
            },
        };
        read.map_or_else(refused, Ok)
    }
}

fn shortened(json: &Json) -> String {
    let text = json.to_string();
    if text.len() <= 60 {
        text
    } else {
        format!("{}…", text.chars().take(60).collect::<String>())
    }
}

/// A time of RFC 3339, in milliseconds since the Unix epoch.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

/// A span such as `-1h30m` in milliseconds.
pub(super) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit());
        let (unit, behind) = rest[digits..].split_at(unit_end.unwrap_or(rest.len() - digits));
        let ms = match unit {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(ms)?)?;
        rest = behind;
    }
    Some(if negative { -total } else { total })
}

/// An address. One of IPv4 in IPv6's clothes, as a socket of both gives it, is the address
/// of IPv4: nobody is another by the socket that he came through.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Whether an address lies in a network such as `10.0.0.0/8`; `None` if that is none.
pub(super) fn in_network(address: IpAddr, network: &str) -> Option<bool> {
    let (base, length) = network.split_once('/')?;
    let (base, length): (IpAddr, u32) = (base.parse().ok()?, length.parse().ok()?);
    // A network in those clothes, too.
    let (base, length) = match (base.to_canonical(), base) {
        (four @ IpAddr::V4(_), IpAddr::V6(_)) if length >= 96 => (four, length - 96),
        _ => (base, length),
    };
    match (address.to_canonical(), base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Some(u32::from(address) & mask == u32::from(base) & mask)
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Some(u128::from(address) & mask == u128::from(base) & mask)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) if length <= 128 => Some(false),
        (IpAddr::V6(_), IpAddr::V4(_)) if length <= 32 => Some(false),
        _ => None,
    }
}
