//! Counters of messages, by what is counted, in the index space.

use cardea_storage::{Key, Slot, Space, Tag, Tenant, key::KeyWriter};

/// `message_count/<digest>`: a counter of the store, so that many messages at once do not
/// meet as conflicts. It expires with the window that began with its first message.
pub fn message_count_key(tenant: Tenant, what: &[u8; 32]) -> Key {
    let slot = Slot::of_digest(Space::Index, what);
    let mut key = KeyWriter::new(slot, Tag::MESSAGE_COUNT, tenant);
    key.fixed(what);
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_frozen() {
        let key = message_count_key(Tenant(3), &[0xab; 32]);
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, format!("1aba041000000003{}", "ab".repeat(32)));
    }
}
