//! Query strings: parameters by name, percent-encoding undone.

/// All pairs, decoded. What is not valid percent-encoding stays as it is.
pub(super) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value)))
}

/// The first parameter of that name.
pub(in crate::server) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let found = query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    String::from_utf8(decoded(found.1)).ok()
}

fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(decoded("front%20door+2%"), b"front door 2%");
        assert_eq!(decoded("%+1%zz%C3%A4"), "% 1%zzä".as_bytes());
        assert_eq!(parameter(Some("a=1&b=x%3Dy"), "b").as_deref(), Some("x=y"));
        assert_eq!(parameter(Some("ab=1"), "b"), None);
    }
}
