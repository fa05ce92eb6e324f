//! What the first bytes of a picture say of it.

use super::call::{Function, Gives, Takes};
use arrow::array::{Int32Array, StringArray};
use imagesize::ImageType;

const VALUE: (&str, Takes) = ("value", Takes::Bytes);

// The bytes in the examples are the first of a GIF, 16 by 9.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "byte_size",
        takes: &[VALUE],
        optional: 0,
        gives: Gives::Int32,
        meaning: "how many bytes it has",
        examples: &[("byte_size(X'474946')", "3")],
        // A record's value is far smaller than 2 GiB.
        compute: |call| call.each_bytes::<Int32Array, _>(|bytes| i32::try_from(bytes.len()).ok()),
    },
    Function {
        name: "image_height",
        takes: &[VALUE],
        optional: 0,
        gives: Gives::Int32,
        meaning: "height in pixels of a JPEG, PNG, GIF or WebP; NULL for anything else",
        examples: &[("image_height(X'47494638396110000900000000')", "9")],
        compute: |call| call.each_bytes::<Int32Array, _>(|bytes| size(bytes).map(|(_, height)| height)),
    },
    Function {
        name: "image_type",
        takes: &[VALUE],
        optional: 0,
        gives: Gives::Text,
        meaning: "jpeg, png, gif, webp; NULL for anything else",
        examples: &[("image_type(X'47494638396110000900000000')", "gif"), ("image_type(X'3C416C6572742F3E')", "NULL")],
        compute: |call| call.each_bytes::<StringArray, _>(kind_of),
    },
    Function {
        name: "image_width",
        takes: &[VALUE],
        optional: 0,
        gives: Gives::Int32,
        meaning: "width in pixels, as image_height",
        examples: &[("image_width(X'47494638396110000900000000')", "16")],
        compute: |call| call.each_bytes::<Int32Array, _>(|bytes| size(bytes).map(|(width, _)| width)),
    },
];

fn size(bytes: &[u8]) -> Option<(i32, i32)> {
    let Ok(size) = imagesize::blob_size(bytes) else { return jpeg_size(bytes) };
    Some((i32::try_from(size.width).ok()?, i32::try_from(size.height).ok()?))
}

/// Of a JPEG with fill bytes before its markers (ITU T.81, B.1.1.2), which the library does not pass over.
fn jpeg_size(bytes: &[u8]) -> Option<(i32, i32)> {
    let number = |at: usize| Some(i32::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let mut at = bytes.starts_with(&[0xff, 0xd8]).then_some(2)?;
    while *bytes.get(at)? == 0xff {
        at += bytes[at..].iter().take_while(|byte| **byte == 0xff).count();
        match *bytes.get(at)? {
            // Frames; the three between them are tables.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Some((number(at + 6)?, number(at + 4)?)),
            0xd9 | 0xda => return None,
            _ => at += 1 + usize::try_from(number(at + 1)?).ok()?,
        }
    }
    None
}

/// jpeg, png, gif, webp.
pub(in crate::stream) fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    match imagesize::image_type(bytes).ok()? {
        ImageType::Jpeg => Some("jpeg"),
        ImageType::Png => Some("png"),
        ImageType::Gif => Some("gif"),
        ImageType::Webp => Some("webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_tells_its_size() {
        let mut bytes = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
        encoder.encode(&[128; 40 * 30 * 3], 40, 30, jpeg_encoder::ColorType::Rgb).unwrap();
        assert_eq!((kind_of(&bytes), size(&bytes)), (Some("jpeg"), Some((40, 30))));
        assert_eq!(jpeg_size(&bytes), Some((40, 30)));
        // Fill bytes before each marker up to the frame.
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes.splice(frame..frame, [0xff, 0xff]);
        bytes.splice(2..2, [0xff]);
        assert_eq!(size(&bytes), Some((40, 30)));
        assert!((0..bytes.len()).all(|end| jpeg_size(&bytes[..end]).is_none_or(|size| size == (40, 30))));
        assert_eq!((kind_of(b"no picture"), size(b"no picture")), (None, None));
    }
}
