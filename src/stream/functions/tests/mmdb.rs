//! Small MaxMind DB files, written for tests: there is none that may be shipped.

/// A MaxMind DB of one network, 203.0.113.0/24, in the layout of the format's specification 2.0: the tree (24-bit records), 16 zero
/// bytes, the data, the marker, the metadata.
fn database(kind: &str, data: &[u8]) -> Vec<u8> {
    let bits = 24;
    let network = u32::from(std::net::Ipv4Addr::new(203, 0, 113, 0));
    let record = |number: u32| number.to_be_bytes()[1..].to_vec();
    let mut out = Vec::new();
    for depth in 0..bits {
        let goes_on = if depth + 1 == bits { bits + 16 } else { depth + 1 };
        let pair = if network >> (31 - depth) & 1 == 1 { [bits, goes_on] } else { [goes_on, bits] };
        pair.iter().for_each(|number| out.extend(record(*number)));
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    out.extend(map(&[
        ("binary_format_major_version", u16(2)),
        ("binary_format_minor_version", u16(0)),
        // An unsigned number of 64 bits is an extended type: 9 - 7.
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text(kind)),
        ("description", map(&[("en", text("test"))])),
        ("ip_version", u16(4)),
        // An array is an extended type: 11 - 7.
        ("languages", vec![0x00, 0x04]),
        ("node_count", u32(bits)),
        ("record_size", u16(24)),
    ]));
    out
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 29 + 256);
    let mut out = match text.len() {
        size @ ..29 => vec![0x40 | size as u8],
        size => vec![0x40 | 29, (size - 29) as u8],
    };
    out.extend(text.as_bytes());
    out
}

fn u16(number: u16) -> Vec<u8> {
    [&[0xa2], &number.to_be_bytes()[..]].concat()
}

fn u32(number: u32) -> Vec<u8> {
    [&[0xc4], &number.to_be_bytes()[..]].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xe0 | entries.len() as u8];
    entries.iter().for_each(|(key, value)| out.extend([text(key), value.clone()].concat()));
    out
}

/// An array is an extended type: 11 - 7.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [vec![items.len() as u8, 0x04], items.concat()].concat()
}

pub(in crate::stream) fn city() -> Vec<u8> {
    let names = map(&[("en", text("Linköping"))]);
    let country = map(&[("iso_code", text("SE"))]);
    let region = map(&[("iso_code", text("E")), ("names", map(&[("en", text("Östergötland County"))]))]);
    let fields =
        [("city", map(&[("names", names)])), ("country", country), ("subdivisions", list(&[region.clone(), region]))];
    database("GeoLite2-City", &map(&fields))
}

pub(in super::super) fn regions_without_codes() -> Vec<u8> {
    let region = map(&[("names", map(&[("en", text("Skåne County"))]))]);
    database("DBIP-City-Lite", &map(&[("subdivisions", list(&[region]))]))
}

pub(in super::super) fn networks() -> Vec<u8> {
    let network = [("autonomous_system_number", u32(64_500)), ("autonomous_system_organization", text("Example Net"))];
    database("GeoLite2-ASN", &map(&network))
}
