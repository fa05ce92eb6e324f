//! Messages of `google.protobuf` that stand for one value.

use super::Tree;
use crate::json::{Exact, Node};
use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};

/// Digits of a duration behind the point: nanoseconds.
const NANOS: u8 = 9;

/// The value that a message stands for; `None` if it is a message like others.
pub(super) fn value(tree: &mut Tree, message: &DynamicMessage) -> Option<Result<Node<'static>, String>> {
    let name = message.descriptor();
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
            let (field, value) = message.fields().next()?;
            match (field.kind(), value) {
                (Kind::Enum(_), Value::EnumNumber(_)) => Ok(Node::Null),
                _ => tree.field(&field, value),
            }
        }
        _ => return None,
    })
}

fn seconds_and_nanos(message: &DynamicMessage) -> Option<(i64, i32)> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    Some((seconds, message.get_field_by_name("nanos")?.as_i32()?))
}
