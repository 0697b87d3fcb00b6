//! What is read of CBOR (RFC 8949): maps without repeated keys, as CTAP2 has them.

use ciborium::Value;

use super::Refused;

/// A value and what stands behind it.
pub(super) fn split(mut bytes: &[u8]) -> Result<(Value, &[u8]), Refused> {
    let value = ciborium::from_reader(&mut bytes).map_err(|_| Refused::Malformed("CBOR"))?;
    Ok((value, bytes))
}

/// A map.
pub(super) struct Fields(Vec<(Value, Value)>);

impl Fields {
    pub(super) fn of(value: Value) -> Result<Self, Refused> {
        let Value::Map(fields) = value else { return Err(Refused::Malformed("no CBOR map")) };
        for (at, (key, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Refused::Malformed("a repeated key in a CBOR map"));
            }
        }
        Ok(Self(fields))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, name: &Value) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        self.get(&Value::Text(name.to_owned()))
    }

    pub(super) fn integer(&self, label: i64) -> Option<i64> {
        let value = self.get(&Value::Integer(label.into()))?;
        value.as_integer()?.try_into().ok()
    }

    pub(super) fn bytes(&self, label: i64) -> Option<&[u8]> {
        self.get(&Value::Integer(label.into()))?.as_bytes().map(Vec::as_slice)
    }
}
