//! Messages of `google.protobuf`, and Confluent's decimal, that stand for one value.

use super::Tree;
use crate::json::{Exact, Node};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};

/// Digits of a duration behind the point: nanoseconds.
const NANOS: u8 = 9;
/// Digits of a decimal of 128 bits.
const SCALE_MAX: u8 = 38;

/// The value that a message stands for; `None` if it is a message like others.
pub(super) fn value(tree: &mut Tree, message: &DynamicMessage) -> Option<Result<Node<'static>, String>> {
    let name = message.descriptor();
    if name.full_name() == "confluent.type.Decimal" {
        return decimal(message).map(Ok);
    }
    let name = name.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => {
            let (seconds, nanos) = seconds_and_nanos(message)?;
            let micros = seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos).div_euclid(1_000))?;
            Ok(Node::Exact(Exact::Micros(micros)))
        }
        "Duration" => {
            let (seconds, nanos) = seconds_and_nanos(message)?;
            let digits = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
            Ok(Node::Exact(Exact::Decimal { digits, scale: NANOS }))
        }
        "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value" | "StringValue"
        | "UInt32Value" | "UInt64Value" => {
            let field = message.descriptor().get_field_by_name("value")?;
            tree.field(&field, &message.get_field(&field))
        }
        "Struct" | "ListValue" => {
            let field = message.descriptor().fields().next()?;
            tree.field(&field, &message.get_field(&field))
        }
        "Value" => {
            // Of no kind it is null, as where it says so.
            let Some((field, value)) = message.fields().next() else { return Some(Ok(Node::Null)) };
            match (field.kind(), value) {
                (Kind::Enum(_), Value::EnumNumber(_)) => Ok(Node::Null),
                _ => tree.field(&field, value),
            }
        }
        _ => return None,
    })
}

/// Whether values of this message may look like anything: paths into them cannot be judged.
pub(super) fn has_any_shape(message: &MessageDescriptor) -> bool {
    message.full_name().strip_prefix("google.protobuf.").is_some_and(|name| !name.contains('.'))
}

fn seconds_and_nanos(message: &DynamicMessage) -> Option<(i64, i32)> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    Some((seconds, message.get_field_by_name("nanos")?.as_i32()?))
}

/// Digits in two's complement, big-endian, and how many of them stand behind the point; `None` if they are more than a decimal has.
fn decimal(message: &DynamicMessage) -> Option<Node<'static>> {
    let value = message.get_field_by_name("value")?;
    let bytes = value.as_bytes()?;
    let scale = u8::try_from(message.get_field_by_name("scale")?.as_i32()?).ok()?;
    let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let mut digits = [sign; 16];
    digits.get_mut(16usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    (scale <= SCALE_MAX).then(|| Node::Exact(Exact::Decimal { digits: i128::from_be_bytes(digits), scale }))
}
