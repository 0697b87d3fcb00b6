//! Hashes that other implementations made, and what is refused.

use super::*;

const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

#[test]
fn hash_that_was_made_is_read_and_verifies() {
    let made = PasswordHash::make(b"secret", &[7; 16], CHEAP, &mut Vec::new()).unwrap();
    let read = PasswordHash::parse(made.as_str()).unwrap();
    assert!(read == made && read.is_current(CHEAP));
    assert!(read.verify(b"secret", &mut Vec::new()));
    for wrong in [&b"Secret"[..], b"secret ", b""] {
        assert!(!read.verify(wrong, &mut Vec::new()));
    }
    assert!(!read.is_current(Argon2Cost { passes: 2, ..CHEAP }));
}

#[test]
fn scratch_of_another_size_changes_no_hash() {
    let hash = |scratch: &mut Vec<Block>| {
        PasswordHash::make(b"secret", &[7; 16], CHEAP, scratch).unwrap().text
    };
    let mut used = vec![Block::default(); 10];
    assert_eq!(hash(&mut used), hash(&mut Vec::new()));
    used.resize(1000, Block::default());
    assert_eq!(hash(&mut used), hash(&mut Vec::new()));
    // What an earlier password left behind does not matter.
    assert_eq!(hash(&mut used), hash(&mut Vec::new()));
}

/// Made with other implementations: the argon2 command of its reference sources,
/// Debian's libcrypt by way of Perl, Python's hashlib and hmac, OpenSSL's MD4, and
/// Firebase itself (the example of its scrypt's documentation).
#[test]
fn hashes_made_elsewhere_verify() {
    let table = [
        (
            "password",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ),
        (
            "password",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
        ),
        (
            "password",
            "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        ),
        ("password", "$2b$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu"),
        ("password", "$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu"),
        (
            "password",
            "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHQ$E196ZhRPzw+wA84EjzHwJO1cv/MFJdO6C/sxmUeTYqY",
        ),
        (
            "password",
            "$pbkdf2-sha512$i=1000,l=64$c2FsdHNhbHQ=$Q6v4xwJ8a9nWPp2BeEoAYYhHSo2xRmPWART17vTpSxt2q6iNp7BOozW557qqa95eNjUO4gKs0CyvJbYGGku1tA==",
        ),
        (
            "password",
            "$scrypt$ln=1024,r=8,p=1$c2FsdHNhbHQ$AOLXEESCcPmf2DxU3D47ZJxp5ZTcHC0S2Mb2eFXc4tI",
        ),
        (
            "password",
            "$pbkdf2-sha1$i=1000,l=32$c2FsdHNhbHQ$6f6/9Uv85mj94wGsyFVjzJ3HHvb416rvBnNlvg5eZSI",
        ),
        (
            "password",
            "$pbkdf2-sha224$i=1000,l=32$c2FsdHNhbHQ$URQI+OoXTzMyYRh0LssENhH6WeNOPK41bhwhUeN7BGg",
        ),
        (
            "password",
            "$pbkdf2-sha384$i=1000,l=32$c2FsdHNhbHQ$nCrydBDGv+KU/akLeXNmmfXHNd3LTXQydMcgVLgq6sY",
        ),
        (
            "user1password",
            "$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==$Bw==$jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
        ),
        ("password", "{SSHA}yrht1iYXEIkejLVu42JWkadd80RzYWx0c2FsdA=="),
        ("password", "{SSHA256}DIzeh0gCRMTRu9dAH3C3rr7fWkRT0Bp2ZdtRqvTX3XJzYWx0c2FsdA=="),
        (
            "password",
            "{SSHA512}9ZxHVj4YomwqqFiYKcIjExMLx2ZblYfXRGc4KMqbgvHq2+HOgwiTIi+eO/Uam/8D0beDAkGpvx14+UFlfBskLnNhbHRzYWx0",
        ),
        ("password", "$sha1$pf=e1NBTFR9e1BBU1NXT1JEfSE=$c2FsdHNhbHQ=$SssYKS8bbp90QVUl5Mp9uFANSms="),
        (
            "password",
            "$sha256$pf=e1NBTFR9e1BBU1NXT1JEfSE=$c2FsdHNhbHQ=$gYxsDmOEEzgUIamyXpi6vNimvWm27noNRs3934Ufr1g=",
        ),
        (
            "password",
            "$sha512$pf=e1NBTFR9e1BBU1NXT1JEfSE=$c2FsdHNhbHQ=$KPgaPJckWxptnwb5x6BXVEM8X6B8OwWy2QZkufwq13htSyZRxXkSoX4TbryyVmdw6z2CSqsIb2NyPUD5+XH80w==",
        ),
        ("password", "$md5$X03MO1qnZdYdgyfeuILPmQ=="),
        ("password", "$md5$pf=e1BBU1NXT1JEfTp7U0FMVH0=$c2FsdHNhbHQ=$OnZ03KO3WPxOAQN8l1gDbA=="),
        ("password", "$hmac-md4$ZmNkM2E4ZmYwNGI4MjAwNzg0ZjFjNGE3M2NjZTM0NWQ=$a2V5"),
        ("password", "$hmac-md5$YTk1NjY5YzU1MGMwYzljYzkxZWYyOWE5MTg3M2NhNGY=$a2V5"),
        ("password", "$hmac-sha1$NDI5MGJhYzI0ZDc4ZTc1NjE2M2Q4ZGU5ZGI1ZDZkYzE1YzFkYTg0NQ==$a2V5"),
        (
            "password",
            "$hmac-sha224$YWIyNmYzMzFkNDhmMWUwODkyMmMyMjliZjc0MmJjNDNiOGFkNzIzMGQ3ZTU4MWNlMDhlNWE3MDA=$a2V5",
        ),
        (
            "password",
            "$hmac-sha256$NGQ0MmZiOWZmYzhkN2QwYTI0NTQyOTQzOGI0YmM3M2RiMTAwN2ExNjcwMjZhMGEwYzZhNzRmYTU4ZThlODZjYQ==$a2V5",
        ),
        (
            "password",
            "$hmac-sha384$MjA4MDM3OGFhYjE2ZDBmYmI5NmZhYzA5YzRhNjc2MzM5YjM1MzE4ZTZkMTdjNzlkNmI1ZTQ2ZTY0MWY2MDcxNzk0Y2ZjOTNkMDI0YTJmNDI3OWI0NDFiNzg1YzI4NmJk$a2V5",
        ),
        (
            "password",
            "$hmac-sha512$MjM5YjkyMDllOWUxOWQyZGQzNWUzM2FmOTBiNjNlM2U2YzE1NjQzNjIzODM5M2M3ZDJhNThhZGI3NTRmYTdkNzI3ZWJhMDUxN2NmZjRiNjIwNzRjZDI3NTIzYTQyYzU2YzA2N2I4MDQ3YjNiZDliMDk5NDBlOTRmY2VhN2Y5NjA=$a2V5",
        ),
        ("password", "$md5-crypt$saltsalt$qjXMvbEw8oaL.CzflDtaK/"),
        ("", "$md5-crypt$abc$Or2rbeUYTvt12aiVzMuS/."),
        ("password", "$sha256-crypt$saltsalt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC."),
        (
            "password",
            "$sha512-crypt$rounds=1400$anotherlongsaltstring$PAZqpKUKGek9w8oPgIGPxV0Y72OmDpdCthOX9H9O.5R1UbUeZcZS09hlVOfEnTt.66Pdgt7Jvf5Fcex6JIQox/",
        ),
        (
            "a very much longer text to encrypt.  This one even stretches over morethan one line.",
            "$sha512-crypt$rounds=1400$anotherlongsaltstring$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
        ),
        (
            "pässwörd 1234567890123456789",
            "$sha256-crypt$rounds=10$saltstring12345678$lqBcUIRqoOfAduyOdHNmMNt9Ts/HnR1mxDqRrjmRoa4",
        ),
    ];
    for (password, text) in table {
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.verify(password.as_bytes(), &mut Vec::new()), "{text}");
        assert!(!hash.verify(b"other", &mut Vec::new()), "{text}");
        assert!(!hash.is_current(Argon2Cost::default()), "{text}");
    }
}

#[test]
fn forms_beyond_the_bounds_are_refused() {
    let costly = [
        "$argon2id$v=19$m=1048577,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$argon2id$v=19$m=64,t=11,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$argon2i$v=19$m=256,t=1,p=17$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$2b$16$wJq5l1n1Xo1Ykz8a0vKJ8uOe6CqBzRkYw7sWk5xQ0YyT0ZgGm0G3K",
        "$pbkdf2-sha256$i=10000001,l=32$c2FsdHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$firescrypt$ln=18,r=8,p=1$42xEC+ixf3L2lw==$AAAAAAAAAAAAAAAA$Bw==$AAAAAAAAAAAAAAAA",
        "$firescrypt$ln=4294967295,r=8,p=1$42xEC+ixf3L2lw==$AAAAAAAAAAAAAAAA$Bw==$AAAAAAAAAAAAAAAA",
        "$sha512-crypt$rounds=1000001$salt$PAZqpKUKGek9w8oPgIGPxV0Y72OmDpdCthOX9H9O.5R1UbUeZcZS09hlVOfEnTt.66Pdgt7Jvf5Fcex6JIQox/",
        "$sha256-crypt$rounds=99999999999999$salt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC.",
        "$scrypt$ln=262144,r=8,p=1$c2FsdHNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    ];
    for text in costly {
        let refused = PasswordHash::parse(text);
        assert!(matches!(refused, Err(HashRefused::TooCostly { .. })), "{text}: {refused:?}");
    }
}

#[test]
fn malformed_hashes_are_refused() {
    let unknown = [
        "",
        "plain",
        "$md6$x",
        "{SHA}abc",
        "{SSHA",
        "{SSHA384}abc",
        "$2x$10$abc",
        "$argon2d$v=19$m=1,t=1,p=1$a$b",
        "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
        "$sha224$pf=e1BBU1NXT1JEfQ==$c2FsdA==$X03MO1qnZdYdgyfeuILPmQ==",
        "$hmac-sha3$AA==$a2V5",
    ];
    for text in unknown {
        assert_eq!(PasswordHash::parse(text), Err(HashRefused::UnknownForm), "{text}");
    }
    let malformed = [
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ",
        "$argon2id$v=18$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
        "$argon2id$v=19$t=1,m=64,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
        "$argon2id$v=19$m=64,t=1,p=1,x=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
        "$argon2id$v=19$m=+64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5Q",
        "$argon2id$v=19$m=64,t=1,p=1$c29t$CTFhFdXPJO1aFaMaO6Mm5Q",
        "$argon2id$v=19$m=64,t=1,p=1$!!$CTFhFdXPJO1aFaMaO6Mm5Q",
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AA",
        "{SSHA}yrht1iYXEIkejLVu42JWkadd80Q=",
        "{SSHA}!!",
        "$md5$",
        "$md5$AAAA",
        "$md5$pf=e1NBTFR9$c2FsdHNhbHQ=$OnZ03KO3WPxOAQN8l1gDbA==",
        "$md5$e1BBU1NXT1JEfQ==$c2FsdHNhbHQ=$OnZ03KO3WPxOAQN8l1gDbA==",
        "$sha1$X03MO1qnZdYdgyfeuILPmQ==",
        "$hmac-md5$X03MO1qnZdYdgyfeuILPmQ==$a2V5",
        "$hmac-md5$YTk1NjY5$a2V5",
        "$md5-crypt$rounds=5$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
        "$md5-crypt$saltsalt$qjXMvbEw8oaL.CzflDtaK",
        "$sha256-crypt$rounds=$saltsalt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC.",
        "$sha256-crypt$rounds=+5$saltsalt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC.",
        "$sha256-crypt$saltsalt$gOjOtoMpVhru2uyjeJSEc/JaLQWOXMNmlOnj6T4AtC!",
        "$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$AAAAAAAAAAAAAAAA$Bw==$AAAA",
        "$2b$10$short",
        "$2b$03$wJq5l1n1Xo1Ykz8a0vKJ8uOe6CqBzRkYw7sWk5xQ0YyT0ZgGm0G3K",
        "$pbkdf2-sha256$i=0,l=32$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$pbkdf2-sha256$i=1,l=31$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$scrypt$ln=1000,r=8,p=1$c2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    ];
    for text in malformed {
        let refused = PasswordHash::parse(text);
        assert!(matches!(refused, Err(HashRefused::Malformed { .. })), "{text}: {refused:?}");
    }
}

#[test]
fn debug_output_shows_no_hash() {
    let made = PasswordHash::make(b"secret", &[7; 16], CHEAP, &mut Vec::new()).unwrap();
    assert_eq!(format!("{made:?}"), "PasswordHash(…)");
}
