//! The register of tags: one number for every kind of row. A number once
//! assigned is never used for anything else; a retired one stays here.

use std::fmt;

/// The kind of a row; bytes 2 and 3 of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u16);

macro_rules! register {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl Tag {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Every assigned tag with its name.
            pub const REGISTER: &'static [(u16, &'static str)] =
                &[$(($number, stringify!($name))),*];
        }
    };
}

register! {
    // 0x00xx: the store itself
    /// A slot moved: where an object lives whose computed slot is not its own.
    MOVED = 0x0001;
    /// Rows of tests.
    TEST = 0x00f0;
    /// Index rows of tests.
    TEST_INDEX = 0x00f1;
    /// Index rows of tests, of an index that came later.
    TEST_LATE_INDEX = 0x00f2;

    // 0x01xx: directory
    /// A node of the cluster.
    NODE = 0x0101;
    /// A shard: slots, group, replicas, placement.
    SHARD = 0x0102;
    /// A replica id that was given and dropped.
    REPLICA_TOMBSTONE = 0x0103;
    /// Facts of the whole cluster: version, counters of ids.
    CLUSTER = 0x0104;
    /// A sealed key of the cluster: token, index and sealing keys.
    CLUSTER_KEY = 0x0105;
    /// An identity schema.
    IDENTITY_SCHEMA = 0x0106;
    /// Which version of a tenant's permission language is in force.
    PERMISSION_LANGUAGE = 0x0107;
    /// A version of a permission language.
    PERMISSION_LANGUAGE_VERSION = 0x0108;
    /// How far an index is built.
    INDEX = 0x0109;

    // 0x02xx: access of operators
    /// An API key by the digest of its id.
    API_KEY = 0x0201;
    /// A tenant's API keys, for lists.
    API_KEY_BY_TENANT = 0x0202;

    // 0x03xx: identity, home space
    /// An identity.
    IDENTITY = 0x0301;
    /// A credential of an identity.
    CREDENTIAL = 0x0302;
    /// A session.
    SESSION = 0x0303;
    /// A session token's digest, leading to its session.
    SESSION_TOKEN = 0x0304;
    /// A self-service flow.
    FLOW = 0x0305;
    /// A flow that was completed: the put-if-absent that makes it single use.
    USED_FLOW = 0x0306;
    /// Counters of attempts.
    ATTEMPTS = 0x0307;
    /// Identities of a slot by time of creation, for lists.
    IDENTITY_BY_CREATION = 0x0308;
    /// Sessions of an identity by time.
    SESSION_BY_IDENTITY = 0x0309;
    /// An error to be shown to a person.
    FLOW_ERROR = 0x030a;
    /// A message to be sent.
    MESSAGE = 0x030b;
    /// Messages that wait, by when they are due.
    MESSAGE_DUE = 0x030c;
    /// Messages by time of creation, for lists.
    MESSAGE_BY_CREATION = 0x030d;
    /// Identities of an organization.
    IDENTITY_BY_ORGANIZATION = 0x031a;
    /// Credential identifiers in clear, for searches by how they begin.
    IDENTIFIER_BY_TEXT = 0x031b;
    /// Sessions by time of issue, for lists.
    SESSION_BY_ISSUE = 0x031c;
    /// The era of a lane's sessions: raising it ends them all.
    SESSION_ERA = 0x031d;
    /// What happened, by identity.
    AUDIT_EVENT = 0x031e;
    /// What happened, by time.
    AUDIT_EVENT_BY_TIME = 0x031f;
    /// A call of a web hook, to be made.
    HOOK_CALL = 0x0320;
    /// Calls that wait, by when they are due.
    HOOK_CALL_DUE = 0x0321;
    /// Calls by time of creation, for lists.
    HOOK_CALL_BY_CREATION = 0x0322;

    // 0x04xx: identity, index space
    /// A credential identifier's keyed digest, leading to homes.
    CREDENTIAL_IDENTIFIER = 0x0401;
    /// Failures by source.
    SOURCE_FAILURES = 0x0402;
    /// A verifiable address's keyed digest, leading to its identity.
    VERIFIABLE_ADDRESS = 0x0403;
    /// A recovery address's keyed digest, leading to its identity.
    RECOVERY_ADDRESS = 0x0404;
    /// What passkeys know their owner by, as a keyed digest, leading to its identity.
    PASSKEY_HANDLE = 0x0405;
    /// An external id's keyed digest, leading to its identity.
    EXTERNAL_ID = 0x040b;
    /// What an item of a batch made, so that sending it again makes it once.
    BATCH_RECEIPT = 0x040c;
    /// The end of an identity's chain of events; in the home space.
    AUDIT_HEAD = 0x040d;
    /// The seals of a lane's events; in the home space.
    AUDIT_SEAL = 0x040e;
    /// What is left to be erased of an identity; in the home space.
    ERASURE = 0x040f;
    /// Messages that strangers brought about, by what is counted.
    MESSAGE_COUNT = 0x0410;
    /// The digest of a session token that another system made, leading to its session.
    IMPORTED_TOKEN = 0x0411;
    /// An account at a provider, leading to the identity that it is linked to.
    PROVIDER_SUBJECT = 0x0408;

    // 0x05xx: permission, graph space
    /// A relation tuple, by object.
    RELATION_TUPLE = 0x0501;
    /// A relation tuple, by subject.
    RELATION_TUPLE_BY_SUBJECT = 0x0502;
    /// A relation tuple, by relation.
    RELATION_TUPLE_BY_RELATION = 0x0503;
    /// A deletion of relation tuples that was too large for one transaction.
    RELATION_TUPLE_DELETION = 0x0504;
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::REGISTER.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(&name.to_ascii_lowercase()),
            None => write!(f, "tag:{:04x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_and_no_name_is_given_twice() {
        for (at, (number, name)) in Tag::REGISTER.iter().enumerate() {
            for (other_number, other_name) in &Tag::REGISTER[at + 1..] {
                assert_ne!(number, other_number, "{name} and {other_name}");
                assert_ne!(name, other_name);
            }
        }
    }

    #[test]
    fn assigned_tags_are_frozen() {
        let frozen = [
            (0x0001, "MOVED"),
            (0x0101, "NODE"),
            (0x0102, "SHARD"),
            (0x0103, "REPLICA_TOMBSTONE"),
            (0x0104, "CLUSTER"),
            (0x0105, "CLUSTER_KEY"),
            (0x0106, "IDENTITY_SCHEMA"),
            (0x0107, "PERMISSION_LANGUAGE"),
            (0x0108, "PERMISSION_LANGUAGE_VERSION"),
            (0x0109, "INDEX"),
            (0x0201, "API_KEY"),
            (0x0202, "API_KEY_BY_TENANT"),
            (0x0301, "IDENTITY"),
            (0x0302, "CREDENTIAL"),
            (0x0303, "SESSION"),
            (0x0304, "SESSION_TOKEN"),
            (0x0305, "FLOW"),
            (0x0306, "USED_FLOW"),
            (0x0307, "ATTEMPTS"),
            (0x0308, "IDENTITY_BY_CREATION"),
            (0x0309, "SESSION_BY_IDENTITY"),
            (0x030a, "FLOW_ERROR"),
            (0x030b, "MESSAGE"),
            (0x030c, "MESSAGE_DUE"),
            (0x030d, "MESSAGE_BY_CREATION"),
            (0x031a, "IDENTITY_BY_ORGANIZATION"),
            (0x031b, "IDENTIFIER_BY_TEXT"),
            (0x031c, "SESSION_BY_ISSUE"),
            (0x031d, "SESSION_ERA"),
            (0x031e, "AUDIT_EVENT"),
            (0x031f, "AUDIT_EVENT_BY_TIME"),
            (0x0320, "HOOK_CALL"),
            (0x0321, "HOOK_CALL_DUE"),
            (0x0322, "HOOK_CALL_BY_CREATION"),
            (0x0401, "CREDENTIAL_IDENTIFIER"),
            (0x0402, "SOURCE_FAILURES"),
            (0x0403, "VERIFIABLE_ADDRESS"),
            (0x0404, "RECOVERY_ADDRESS"),
            (0x0405, "PASSKEY_HANDLE"),
            (0x040b, "EXTERNAL_ID"),
            (0x040c, "BATCH_RECEIPT"),
            (0x040d, "AUDIT_HEAD"),
            (0x040e, "AUDIT_SEAL"),
            (0x040f, "ERASURE"),
            (0x0410, "MESSAGE_COUNT"),
            (0x0411, "IMPORTED_TOKEN"),
            (0x0408, "PROVIDER_SUBJECT"),
            (0x0501, "RELATION_TUPLE"),
            (0x0502, "RELATION_TUPLE_BY_SUBJECT"),
            (0x0503, "RELATION_TUPLE_BY_RELATION"),
            (0x0504, "RELATION_TUPLE_DELETION"),
        ];
        for entry in frozen {
            assert!(Tag::REGISTER.contains(&entry), "{entry:?} was changed or removed");
        }
    }
}
