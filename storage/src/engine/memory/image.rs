//! The one file, `data`, that a memory engine shows in its directory, so that a
//! checkpoint can be streamed to another disk: a magic, the number of pairs,
//! each key and value with its length before it (u32, big-endian), and a BLAKE3
//! digest of all of that.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::rows::Rows;
use crate::fault::Fault;

const MAGIC: &[u8; 8] = b"cardeam1";
const DIGEST: usize = blake3::OUT_LEN;

pub(super) fn encode(rows: &Rows) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(MAGIC);
    out.put_u64(rows.len() as u64);
    for (key, value) in rows {
        for part in [key, value] {
            out.put_u32(part.len() as u32);
            out.put_slice(part);
        }
    }
    let digest = blake3::hash(&out);
    out.put_slice(digest.as_bytes());
    out.freeze()
}

pub(super) fn decode(image: &Bytes) -> Result<Rows, Fault> {
    let broken = |why: &str| Fault::new(format!("read the image of a memory engine: {why}"));
    if image.len() < MAGIC.len() + 8 + DIGEST {
        return Err(broken("cut short"));
    }
    let (body, digest) = image.split_at(image.len() - DIGEST);
    if blake3::hash(body).as_bytes() != digest {
        return Err(broken("the digest differs"));
    }
    let mut rest = image.slice(..body.len());
    if rest.split_to(MAGIC.len()) != MAGIC[..] {
        return Err(broken("unknown format"));
    }
    let mut rows = Rows::new();
    for _ in 0..rest.get_u64() {
        let key = part(&mut rest).ok_or_else(|| broken("a pair is cut"))?;
        let value = part(&mut rest).ok_or_else(|| broken("a pair is cut"))?;
        rows.insert(key, value);
    }
    if rest.is_empty() { Ok(rows) } else { Err(broken("bytes after the last pair")) }
}

fn part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (rest.len() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gives_back_its_rows_and_refuses_any_changed_byte() {
        let mut rows = Rows::new();
        rows.insert(Bytes::from_static(b""), Bytes::from_static(b"empty key"));
        rows.insert(Bytes::from_static(b"k"), Bytes::from_static(b""));
        let image = encode(&rows);
        assert_eq!(decode(&image).unwrap(), rows);
        for at in 0..image.len() {
            let mut harmed = image.to_vec();
            harmed[at] ^= 1;
            assert!(decode(&harmed.into()).is_err(), "byte {at}");
            assert!(decode(&image.slice(..at)).is_err(), "cut at {at}");
        }
    }
}
