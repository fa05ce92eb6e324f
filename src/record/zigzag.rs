//! Kafka's variable-length integers: zigzag, seven bits a byte, low bits first.

/// The longest encoding of a 64-bit number.
pub(super) const SIZE_MAX: usize = 10;

/// Appends `value` to `out`.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] takes for `value`.
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (((value << 1) ^ (value >> 63)) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads one number from the front of `bytes`; `None` if it is cut off or longer than 64 bits.
#[inline]
pub(super) fn get(bytes: &[u8]) -> Option<(i64, usize)> {
    let plain = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
    match *bytes {
        [one, ..] if one < 0x80 => Some((plain(one.into()), 1)),
        [one, two, ..] if two < 0x80 => Some((plain(u64::from(one & 0x7f) | u64::from(two) << 7), 2)),
        _ => long(bytes),
    }
}

fn long(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(SIZE_MAX).enumerate() {
        if at == SIZE_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_got(value: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(bytes.len(), size(value));
            prop_assert_eq!(get(&bytes), Some((value, bytes.len())));
            prop_assert_eq!(get(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        assert_eq!(get(&[0xff; 11]), None);
        assert_eq!(get(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
    }
}
