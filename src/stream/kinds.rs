//! What each column type is in Arrow.

use super::columns::RECORD_FIELDS;
use super::spec::{Column, From, Kind, RecordField, Unit};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use std::sync::Arc;

/// The Arrow type of a column type.
pub(super) fn arrow(kind: &Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int32 => DataType::Int32,
        Kind::Int64 => DataType::Int64,
        Kind::Uint64 => DataType::UInt64,
        Kind::Float64 => DataType::Float64,
        Kind::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
        Kind::String | Kind::Json => DataType::Utf8,
        Kind::Binary => DataType::Binary,
        Kind::Date => DataType::Date32,
        Kind::Timestamp | Kind::EpochTimestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::List(inner) => DataType::List(Arc::new(Field::new("item", arrow(inner), true))),
        Kind::Struct(fields) => DataType::Struct(struct_fields(fields)),
    }
}

pub(super) fn struct_fields(fields: &[(String, Kind)]) -> Fields {
    fields.iter().map(|(name, kind)| Field::new(name, arrow(kind), true)).collect()
}

/// A column's field. Always nullable: what may not be null was judged by the decoder.
pub(super) fn field(column: &Column) -> Field {
    Field::new(&column.name, arrow(&column.kind), true)
}

/// `_headers`: a list of (name, value).
pub(super) fn headers() -> Kind {
    Kind::List(Box::new(Kind::Struct(vec![("name".to_owned(), Kind::String), ("value".to_owned(), Kind::Binary)])))
}

/// What a type is called in a pipeline file.
pub(super) fn word(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "bool".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Uint64 => "uint64".to_owned(),
        Kind::Float64 => "float64".to_owned(),
        Kind::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
        Kind::String => "string".to_owned(),
        Kind::Binary => "binary".to_owned(),
        Kind::Date => "date".to_owned(),
        Kind::Timestamp => "timestamp".to_owned(),
        Kind::EpochTimestamp(Unit::Seconds) => "timestamp(s)".to_owned(),
        Kind::EpochTimestamp(Unit::Millis) => "timestamp(ms)".to_owned(),
        Kind::EpochTimestamp(Unit::Micros) => "timestamp(us)".to_owned(),
        Kind::Json => "json".to_owned(),
        Kind::List(inner) => format!("[{}]", word(inner)),
        Kind::Struct(fields) => {
            let fields = fields.iter().map(|(name, kind)| format!("{name} {}", word(kind)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// `_key _value _offset _partition _timestamp _headers`: what every record has.
pub(super) fn of_record() -> impl Iterator<Item = Column> {
    let fields = [
        (RecordField::Key, Kind::Binary),
        (RecordField::Value, Kind::Binary),
        (RecordField::Offset, Kind::Int64),
        (RecordField::Partition, Kind::Int32),
        (RecordField::Timestamp, Kind::EpochTimestamp(Unit::Millis)),
        (RecordField::Headers, headers()),
    ];
    RECORD_FIELDS.iter().zip(fields).map(|(name, (field, kind))| Column {
        name: (*name).to_owned(),
        from: From::Record(field),
        kind,
        required: false,
        coerce: false,
    })
}
