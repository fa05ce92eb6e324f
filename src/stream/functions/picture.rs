//! What the first bytes of a picture say of it.

use super::udf::{Body, udf};
use datafusion_expr::ScalarUDF;
use imagesize::ImageType;

pub(super) fn kind(name: &'static str) -> ScalarUDF {
    udf(name, Body::BytesText(kind_of))
}

pub(super) fn width(name: &'static str) -> ScalarUDF {
    udf(name, Body::BytesNumber(|bytes| imagesize::blob_size(bytes).ok().map(|size| size.width as i32)))
}

pub(super) fn height(name: &'static str) -> ScalarUDF {
    udf(name, Body::BytesNumber(|bytes| imagesize::blob_size(bytes).ok().map(|size| size.height as i32)))
}

pub(super) fn byte_size(name: &'static str) -> ScalarUDF {
    // A record's value is far smaller than 2 GiB.
    udf(name, Body::BytesNumber(|bytes| Some(bytes.len() as i32)))
}

fn kind_of(bytes: &[u8]) -> Option<String> {
    let kind = match imagesize::image_type(bytes).ok()? {
        ImageType::Jpeg => "jpeg",
        ImageType::Png => "png",
        ImageType::Gif => "gif",
        ImageType::Webp => "webp",
        _ => return None,
    };
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_tells_its_size() {
        let mut bytes = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
        encoder.encode(&[128; 40 * 30 * 3], 40, 30, jpeg_encoder::ColorType::Rgb).unwrap();
        assert_eq!(kind_of(&bytes).as_deref(), Some("jpeg"));
        let size = imagesize::blob_size(&bytes).unwrap();
        assert_eq!((size.width, size.height), (40, 30));
        assert_eq!(kind_of(b"no picture"), None);
    }
}
