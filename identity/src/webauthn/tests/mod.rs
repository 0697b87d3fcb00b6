//! Both ceremonies with every algorithm, and every rule that refuses an answer.

pub(crate) mod soft;

use serde_json::Value;
use soft::{Key, PRESENT, Soft, VERIFIED};

use super::{ceremony::KeptKey, options::User, *};

const MADE: Challenge = Challenge([1; 32]);
const USED: Challenge = Challenge([2; 32]);

fn party() -> RelyingParty {
    RelyingParty {
        id: "example.org".to_owned(),
        name: "Example".to_owned(),
        origins: vec!["https://id.example.org".to_owned()],
    }
}

fn make() -> Value {
    creation(&party(), &MADE, User { handle: b"ann", name: "Ann" }, true, &[])
}

fn ask() -> Value {
    request(&party(), &USED, UserVerification::Required, &[])
}

fn register(soft: &mut Soft) -> Result<Registered, Refused> {
    registration(&soft.create(&make()), &MADE, &party(), UserVerification::Required)
}

fn authenticate(soft: &Soft, key: &Registered) -> Result<ceremony::Used, Refused> {
    let kept = KeptKey {
        public_key: &key.public_key,
        counter: key.counter,
        backup_eligible: Some(key.backup_eligible),
    };
    let answer = assertion(&soft.get(&ask()))?;
    answer.verify(kept, &USED, &party(), UserVerification::Required)
}

#[test]
fn keys_of_every_algorithm_are_registered_and_used() {
    for key in [Key::es256(), Key::ed_dsa(), Key::rs256()] {
        let mut soft = Soft::new(key);
        soft.counter = 4;
        let kept = register(&mut soft).unwrap();
        assert_eq!(kept.id, soft.id);
        assert_eq!(kept.counter, 4);
        assert_eq!(kept.transports, ["internal", "hybrid"]);
        assert!(kept.user_verified);
        soft.counter = 5;
        assert_eq!(authenticate(&soft, &kept).unwrap().counter, 5);
        let answer = assertion(&soft.get(&ask())).unwrap();
        assert_eq!(answer.id, soft.id);
        assert_eq!(answer.user_handle.unwrap(), b"ann");
    }
}

/// What is told to do wrong, and the refusal that it meets.
type Wrong = (fn(&mut Soft), Refused);

const WRONG: [Wrong; 8] = [
    (|soft| soft.origin = "https://evil.example".to_owned(), Refused::Origin),
    (|soft| soft.origin = "https://id.example.org.evil.example".to_owned(), Refused::Origin),
    (|soft| soft.cross_origin = true, Refused::Origin),
    (|soft| soft.rp_id = "evil.example".to_owned(), Refused::RelyingParty),
    (|soft| soft.challenge = Some(vec![9; 32]), Refused::Challenge),
    (|soft| soft.flags = PRESENT, Refused::UserVerification),
    (|soft| soft.flags = 0b100, Refused::UserPresence),
    (|soft| soft.flags = VERIFIED | 0b1_0000, Refused::Backup),
];

#[test]
fn registration_refuses_what_is_wrong() {
    for (wrong, refused) in WRONG {
        let mut soft = Soft::new(Key::es256());
        wrong(&mut soft);
        assert_eq!(register(&mut soft).unwrap_err(), refused);
    }
    let mut soft = Soft::new(Key::es256());
    soft.kind = Some("webauthn.get");
    assert_eq!(register(&mut soft).unwrap_err(), Refused::Type);
    soft.kind = None;
    soft.behind = vec![0];
    assert!(matches!(register(&mut soft), Err(Refused::Malformed(_))));
    soft.behind.clear();
    soft.id = vec![1; 1024];
    assert!(matches!(register(&mut soft), Err(Refused::Malformed(_))));
}

#[test]
fn authentication_refuses_what_is_wrong() {
    for (wrong, refused) in WRONG {
        let mut soft = Soft::new(Key::es256());
        let key = register(&mut soft).unwrap();
        wrong(&mut soft);
        assert_eq!(authenticate(&soft, &key).unwrap_err(), refused);
    }
    let mut soft = Soft::new(Key::es256());
    let key = register(&mut soft).unwrap();
    soft.kind = Some("webauthn.create");
    assert_eq!(authenticate(&soft, &key).unwrap_err(), Refused::Type);
    soft.kind = None;
    soft.flags = VERIFIED | 0b1000;
    assert_eq!(authenticate(&soft, &key).unwrap_err(), Refused::Backup, "eligibility changed");
    soft.flags = VERIFIED;
    let stranger = Soft { key: Key::es256(), ..Soft::new(Key::es256()) };
    assert_eq!(authenticate(&stranger, &key).unwrap_err(), Refused::Signature);
}

#[test]
fn tampered_bytes_are_refused() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    for key in [Key::es256(), Key::ed_dsa(), Key::rs256()] {
        let mut soft = Soft::new(key);
        let key = register(&mut soft).unwrap();
        let kept =
            KeptKey { public_key: &key.public_key, counter: 0, backup_eligible: Some(false) };
        for (member, at) in [("signature", 20), ("authenticatorData", 36), ("clientDataJSON", 1)] {
            let mut answer = soft.get_json(&ask());
            let text = answer["response"][member].as_str().unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            if member == "clientDataJSON" {
                // A space more: the same to every reader but the signature.
                bytes.insert(at, b' ');
            } else {
                bytes[at] ^= 1;
            }
            answer["response"][member] = URL_SAFE_NO_PAD.encode(bytes).into();
            let answer = assertion(&answer.to_string()).unwrap();
            let refused = answer.verify(kept, &USED, &party(), UserVerification::Required);
            assert_eq!(refused.unwrap_err(), Refused::Signature, "{member}");
        }
    }
}

#[test]
fn counters_only_rise() {
    let mut soft = Soft::new(Key::es256());
    soft.counter = 7;
    let key = register(&mut soft).unwrap();
    for (counter, fine) in [(8, true), (7, false), (6, false), (0, false)] {
        soft.counter = counter;
        let used = authenticate(&soft, &key);
        assert_eq!(used.is_ok(), fine, "{counter}: {used:?}");
    }
    soft.counter = 0;
    let key = Registered { counter: 0, ..key };
    assert!(authenticate(&soft, &key).is_ok(), "many authenticators do not count");
}

#[test]
fn a_key_may_be_used_without_verification_where_that_is_not_asked() {
    let mut soft = Soft::new(Key::es256());
    soft.flags = PRESENT;
    let answer = soft.create(&make());
    let key = registration(&answer, &MADE, &party(), UserVerification::Discouraged).unwrap();
    assert!(!key.user_verified);
}

/// N33: what registers is checked here, not by the browser.
#[test]
fn algorithms_that_were_not_asked_for_are_refused() {
    use ciborium::Value as Cbor;
    let integer = |n: i64| Cbor::Integer(n.into());
    let key = |fields: Vec<(i64, Cbor)>| {
        let mut bytes = Vec::new();
        let fields = fields.into_iter().map(|(label, value)| (integer(label), value)).collect();
        ciborium::into_writer(&Cbor::Map(fields), &mut bytes).unwrap();
        cose::PublicKey::parse(&bytes)
    };
    let short = || Cbor::Bytes(vec![1; 31]);
    let es384 = vec![(1, integer(2)), (3, integer(-35)), (-1, integer(2))];
    assert_eq!(key(es384).unwrap_err(), Refused::Algorithm);
    // One algorithm's key under another's name, points that are cut, keys said twice.
    for fields in [
        vec![(1, integer(1)), (3, integer(-7)), (-1, integer(6)), (-2, Cbor::Bytes(vec![1; 32]))],
        vec![(1, integer(2)), (3, integer(-7)), (-1, integer(1)), (-2, short()), (-3, short())],
        vec![(1, integer(1)), (3, integer(-8)), (-1, integer(6)), (-2, short())],
        vec![(1, integer(3)), (3, integer(-257)), (-1, Cbor::Bytes(vec![1; 128])), (-2, short())],
        vec![(1, integer(2)), (1, integer(2)), (3, integer(-7))],
        vec![(3, integer(-7))],
    ] {
        assert!(matches!(key(fields), Err(Refused::Malformed(_))));
    }
    assert!(matches!(cose::PublicKey::parse(&[]), Err(Refused::Malformed(_))));
    // Nested beyond reason.
    assert!(matches!(cose::PublicKey::parse(&[0x81; 4096]), Err(Refused::Malformed(_))));
}

#[test]
fn answers_that_are_none_are_refused() {
    for answer in [
        "",
        "null",
        "{}",
        r#"{"rawId": "AA", "type": "public-key", "response": {}}"#,
        r#"{"rawId": "!", "type": "public-key", "response": {"authenticatorData": "",
            "clientDataJSON": "", "signature": ""}}"#,
        r#"{"rawId": "AA", "type": "password", "response": {"authenticatorData": "",
            "clientDataJSON": "", "signature": ""}}"#,
    ] {
        assert!(matches!(assertion(answer), Err(Refused::Malformed(_))), "{answer}");
    }
    let long = format!("\"{}\"", "x".repeat(70 * 1024));
    assert_eq!(assertion(&long).unwrap_err(), Refused::Malformed("it is too long"));
}

#[test]
fn options_are_those_of_the_standard() {
    let known = [KnownKey { id: vec![0xfb, 0xff], transports: vec!["usb".to_owned()] }];
    let options = &request(&party(), &USED, UserVerification::Discouraged, &known)["publicKey"];
    assert_eq!(options["rpId"], "example.org");
    assert_eq!(options["userVerification"], "discouraged");
    let descriptor = &options["allowCredentials"][0];
    assert_eq!(descriptor["id"], "-_8");
    assert_eq!(descriptor["transports"][0], "usb");
    let options = &make()["publicKey"];
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(options["attestation"], "none");
    let algorithms = options["pubKeyCredParams"].as_array().unwrap();
    let algorithms: Vec<_> = algorithms.iter().map(|a| a["alg"].as_i64().unwrap()).collect();
    assert_eq!(algorithms, [-7, -8, -257]);
}
