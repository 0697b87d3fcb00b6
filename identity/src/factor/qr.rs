//! A text as a QR code, in a picture that any client can show: a PNG of one bit a
//! pixel, as a `data:` URL. The picture is small enough to go uncompressed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use qrcodegen::{QrCode, QrCodeEcc};

/// The width of the white margin that readers need, in modules.
const MARGIN: i32 = 4;
/// The width of a module, in pixels.
const SCALE: i32 = 5;
/// The most bytes of an uncompressed block of deflate.
const BLOCK: usize = 0xffff;

/// A picture and its width in pixels, which is its height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// A `data:` URL.
    pub url: String,
    /// Pixels.
    pub width: u32,
}

/// The picture of a text; `None` if no QR code can hold it.
pub fn picture(text: &str) -> Option<Picture> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let width = (code.size() + 2 * MARGIN) * SCALE;
    let mut rows = Vec::new();
    for y in 0..width {
        // No filter.
        rows.push(0);
        let mut row = vec![0_u8; usize::try_from(width).ok()?.div_ceil(8)];
        for x in 0..width {
            // What lies outside of the code is white.
            if !code.get_module(x / SCALE - MARGIN, y / SCALE - MARGIN) {
                let at = usize::try_from(x).ok()?;
                row[at / 8] |= 0x80 >> (at % 8);
            }
        }
        rows.extend(row);
    }
    let width = u32::try_from(width).ok()?;
    let url = format!("data:image/png;base64,{}", STANDARD.encode(png(width, &rows)));
    Some(Picture { url, width })
}

/// A greyscale PNG of one bit a pixel (W3C Portable Network Graphics).
fn png(width: u32, rows: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&width.to_be_bytes());
    // One bit, greyscale, and the only methods that there are.
    header.extend_from_slice(&[1, 0, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, *b"IHDR", &header);
    chunk(&mut file, *b"IDAT", &zlib(rows));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    file.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let from = file.len();
    file.extend_from_slice(&name);
    file.extend_from_slice(data);
    let sum = crc32(&file[from..]);
    file.extend_from_slice(&sum.to_be_bytes());
}

/// A stream of uncompressed blocks (RFC 1950, RFC 1951).
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks = data.len().div_ceil(BLOCK);
    for (number, block) in data.chunks(BLOCK).enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(number + 1 == blocks));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&adler32(data).to_be_bytes());
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn picture_is_a_png_of_the_width_it_says() {
        let url = format!("otpauth://totp/Cardea:{}?secret=X", "a".repeat(60));
        let picture = picture(&url).unwrap();
        let bytes = STANDARD.decode(picture.url.split_once(',').unwrap().1).unwrap();
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&bytes[16..20], picture.width.to_be_bytes());
        assert_eq!(&bytes[bytes.len() - 8..bytes.len() - 4], b"IEND");
        assert!(picture.url.len() < 24 * 1024, "{}", picture.url.len());
        assert!(super::picture(&"x".repeat(8000)).is_none());
    }
}
