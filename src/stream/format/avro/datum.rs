//! One datum of a schema to a tree. Texts and bytes are slices of the record.

use super::schema::{Meaning, Schema, Type};
use crate::json::{Exact, Node, with_point};
use arrow::datatypes::i256;
use std::borrow::Cow;

/// How deep values may stand in each other; a schema that names itself has no end of its own. JSON's is 128.
const DEPTH_MAX: u32 = 100;
/// Values without a byte (null, an empty record) that a datum may have beyond one for each of its bytes.
const EMPTY_MAX: usize = 10_000;

impl Schema {
    /// Reads a datum that takes all of the bytes.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(in crate::stream::format) fn read<'a>(&'a self, bytes: &'a [u8]) -> Result<Node<'a>, String> {
        let mut reader = Reader { schema: self, rest: bytes, values_left: bytes.len().saturating_add(EMPTY_MAX) };
        let node = reader.value(self.root, 0)?;
        match reader.rest.len() {
            0 => Ok(node),
            left => Err(format!("{left} bytes are left over behind the datum: it was written with another schema")),
        }
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, kind: usize, depth: u32) -> Result<Node<'a>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("values stand more than {DEPTH_MAX} deep"));
        }
        self.values_left = self.values_left.checked_sub(1).ok_or("it has more values than bytes")?;
        Ok(match &self.schema.types[kind] {
            Type::Null => Node::Null,
            Type::Boolean => match self.take(1)? {
                [0] => Node::Bool(false),
                [1] => Node::Bool(true),
                _ => return Err("a boolean is 0 or 1".to_owned()),
            },
            Type::Int(meaning) => {
                let value = self.long()?;
                let value = i32::try_from(value).map_err(|_| format!("the int {value} has more than 32 bits"))?;
                match meaning {
                    Meaning::Date => Node::Exact(Exact::Days(value)),
                    _ => Node::Int(value.into()),
                }
            }
            Type::Long(meaning) => time(self.long()?, *meaning),
            Type::Float => Node::Float(f32::from_le_bytes(self.array()?).into()),
            Type::Double => Node::Float(f64::from_le_bytes(self.array()?)),
            Type::Bytes(meaning) => {
                let size = self.size()?;
                bytes(self.take(size)?, *meaning)
            }
            Type::Text => Node::Text(Cow::Borrowed(self.text()?)),
            Type::Fixed(size, meaning) => bytes(self.take(*size)?, *meaning),
            Type::Enum(symbols) => {
                let at = self.long()?;
                let symbol = usize::try_from(at).ok().and_then(|at| symbols.get(at));
                let symbol = symbol.ok_or_else(|| format!("an enum of {} symbols has none at {at}", symbols.len()))?;
                Node::Text(Cow::Borrowed(symbol))
            }
            Type::List(item) => {
                let mut items = Vec::new();
                self.blocks(|reader| {
                    items.push(reader.value(*item, depth + 1)?);
                    Ok(())
                })?;
                Node::List(items)
            }
            Type::Map(value) => {
                let mut fields = Vec::new();
                self.blocks(|reader| {
                    let name = reader.text()?;
                    fields.push((Cow::Borrowed(name), reader.value(*value, depth + 1)?));
                    Ok(())
                })?;
                Node::Object(fields)
            }
            Type::Union(branches) => {
                let at = self.long()?;
                let branch = usize::try_from(at).ok().and_then(|at| branches.get(at));
                let branch = branch.ok_or_else(|| format!("a union of {} types has none at {at}", branches.len()))?;
                // No union stands in a union, so this comes to an end.
                self.value(*branch, depth)?
            }
            Type::Record(fields) => {
                let field = |(name, kind): &'a (String, usize)| {
                    let value = self.value(*kind, depth + 1);
                    value.map(|value| (Cow::Borrowed(name.as_str()), value)).map_err(|error| within(name, error, depth))
                };
                Node::Object(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Items of an array or a map, which come in blocks of a count; a negative one has the block's size behind it.
    fn blocks(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                each(self)?;
            }
        }
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let size = self.size()?;
        std::str::from_utf8(self.take(size)?).map_err(|error| format!("a string is not UTF-8: {error}"))
    }

    fn size(&mut self) -> Result<usize, String> {
        let size = self.long()?;
        usize::try_from(size).map_err(|_| format!("{size} is no size"))
    }

    /// A variable-length zigzag number.
    fn long(&mut self) -> Result<i64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number has more than 64 bits".to_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| ends(N, self.rest.len()))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or_else(|| ends(size, self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }
}

fn ends(wanted: usize, left: usize) -> String {
    format!("it ends: {wanted} bytes are wanted where {left} are left")
}

/// The field that an error is in, once, by the outermost record; deeper paths would grow with each level.
fn within(name: &str, error: String, depth: u32) -> String {
    if depth == 0 { format!("field {name}: {error}") } else { error }
}

fn time<'a>(value: i64, meaning: Meaning) -> Node<'a> {
    let micros = match meaning {
        Meaning::Millis => value.checked_mul(1_000),
        Meaning::Micros => Some(value),
        Meaning::Nanos => Some(value.div_euclid(1_000)),
        _ => None,
    };
    micros.map_or(Node::Int(value), |micros| Node::Exact(Exact::Micros(micros)))
}

fn bytes(bytes: &[u8], meaning: Meaning) -> Node<'_> {
    match meaning {
        Meaning::Decimal(scale) => match big_endian(bytes) {
            Some(digits) => Node::Exact(Exact::Decimal { digits, scale }),
            None => Node::Exact(match wide(bytes, scale) {
                Some(number) => Exact::Number(number.into()),
                None => Exact::Bytes(Cow::Borrowed(bytes)),
            }),
        },
        Meaning::Uuid => match uuid::Uuid::from_slice(bytes) {
            Ok(id) => Node::Text(id.to_string().into()),
            Err(_) => Node::Exact(Exact::Bytes(Cow::Borrowed(bytes))),
        },
        _ => Node::Exact(Exact::Bytes(Cow::Borrowed(bytes))),
    }
}

/// The text of a decimal of more than 128 bits; `None` beyond 256.
fn wide(bytes: &[u8], scale: u8) -> Option<String> {
    let sign = if *bytes.first()? >= 0x80 { 0xff } else { 0 };
    let mut all = [sign; 32];
    all[32usize.checked_sub(bytes.len())?..].copy_from_slice(bytes);
    Some(with_point(&i256::from_be_bytes(all).to_string(), scale))
}

/// A two's complement number; `None` if it has more than 128 bits.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let start = bytes.len().saturating_sub(16);
    let (above, low) = bytes.split_at(start);
    let is_same_sign = low.first().is_none_or(|first| (*first >= 0x80) == (sign == 0xff));
    if above.iter().any(|byte| *byte != sign) || !is_same_sign {
        return None;
    }
    let mut all = [sign; 16];
    all[16 - low.len()..].copy_from_slice(low);
    Some(i128::from_be_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_numbers_of_any_length_are_read() {
        assert_eq!(big_endian(&[]), Some(0));
        assert_eq!(big_endian(&[0xff]), Some(-1));
        assert_eq!(big_endian(&[0, 0xff]), Some(255));
        assert_eq!(big_endian(&[[0xff; 5].as_slice(), &[0x80]].concat()), Some(-128));
        assert_eq!(big_endian(&i128::MIN.to_be_bytes()), Some(i128::MIN));
        assert_eq!(big_endian(&[[0u8; 3].as_slice(), &i128::MAX.to_be_bytes()].concat()), Some(i128::MAX));
        assert_eq!(big_endian(&[[0u8].as_slice(), &i128::MIN.to_be_bytes()].concat()), None);
        assert_eq!(big_endian(&[1; 17]), None);
        let wide = [[0u8].as_slice(), &u128::MAX.to_be_bytes()].concat();
        let Node::Exact(more) = bytes(&wide, Meaning::Decimal(4)) else { panic!("it is a decimal") };
        assert_eq!(more.to_text(), "34028236692093846346337460743176821.1455");
        let negative = [[0xfeu8].as_slice(), &[0xff; 16]].concat();
        let Node::Exact(less) = bytes(&negative, Meaning::Decimal(0)) else { panic!("it is a decimal") };
        assert_eq!(less.to_text(), "-340282366920938463463374607431768211457");
    }
}
