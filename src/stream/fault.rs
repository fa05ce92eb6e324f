//! Why a record could not become a row: the closed list that metrics, dead letters and `[[test]]` speak of.

use std::borrow::Cow;

/// Why a record is dead-lettered. The list is closed: it is a metric label and the header `inrush-dlt-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The batch's CRC is right and yet it cannot be decoded.
    BadBatch,
    /// The value is not a JSON object.
    NotJson,
    /// The value is not CSV as `format` says.
    NotCsv,
    /// The value is not Avro of its schema.
    NotAvro,
    /// The value is not a message of its schema.
    NotProtobuf,
    /// The schema registry has no schema of the value's id, or none that values can be read by.
    UnknownSchema,
    /// None of the declared columns is in it.
    NoColumns,
    /// A value has another type than its column.
    WrongType,
    /// A number does not fit its column.
    Overflow,
    /// A field stands twice.
    DuplicateField,
    /// A `required` column is missing or null.
    MissingRequired,
    /// A SQL expression failed on it.
    Expression,
    /// `enrich` found no row of its key, and the step wants one.
    NoMatch,
    /// A timestamp cannot be written.
    TimeOutOfRange,
    /// Larger than the output takes.
    TooLarge,
    /// The sink refused it, also when it was tried again.
    SinkRefused,
    /// Of a replay: its rows go to outputs that had them, or that the dead letter is not of.
    OtherOutput,
}

/// A message that is longer is cut: it becomes a header of the dead letter.
const MESSAGE_CHARS_MAX: usize = 500;

/// One bad record: what to put into its dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: Reason,
    /// The column or step it happened in, if one.
    pub column: Option<String>,
    /// For people: what was found, what was wanted.
    pub message: Cow<'static, str>,
}

impl Fault {
    /// A fault of a column, or of none.
    pub(super) fn of(reason: Reason, column: Option<&str>, message: impl Into<Cow<'static, str>>) -> Fault {
        Fault { reason, column: column.map(str::to_owned), message: message.into() }
    }

    /// A fault of the whole value.
    pub(super) fn of_value(reason: Reason, message: impl Into<Cow<'static, str>>) -> Fault {
        let mut message = message.into();
        // A schema's compiler and a parser may quote what they were given.
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message = format!("{}…", &message[..end]).into();
        }
        Fault { reason, column: None, message }
    }

    /// The same with the line of the value that it was found in, from 1.
    pub(super) fn at_line(self, line: u64) -> Fault {
        Fault { message: format!("line {line}: {}", self.message).into(), ..self }
    }
}

impl Reason {
    pub const ALL: [Reason; 17] = [
        Reason::BadBatch,
        Reason::NotJson,
        Reason::NotCsv,
        Reason::NotAvro,
        Reason::NotProtobuf,
        Reason::UnknownSchema,
        Reason::NoColumns,
        Reason::WrongType,
        Reason::Overflow,
        Reason::DuplicateField,
        Reason::MissingRequired,
        Reason::Expression,
        Reason::NoMatch,
        Reason::TimeOutOfRange,
        Reason::TooLarge,
        Reason::SinkRefused,
        Reason::OtherOutput,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::BadBatch => "bad-batch",
            Reason::NotJson => "not-json",
            Reason::NotCsv => "not-csv",
            Reason::NotAvro => "not-avro",
            Reason::NotProtobuf => "not-protobuf",
            Reason::UnknownSchema => "unknown-schema",
            Reason::NoColumns => "no-columns",
            Reason::WrongType => "wrong-type",
            Reason::Overflow => "overflow",
            Reason::DuplicateField => "duplicate-field",
            Reason::MissingRequired => "missing-required",
            Reason::Expression => "expression",
            Reason::NoMatch => "no-match",
            Reason::TimeOutOfRange => "time-out-of-range",
            Reason::TooLarge => "too-large",
            Reason::SinkRefused => "sink-refused",
            Reason::OtherOutput => "other-output",
        }
    }

    /// Where in the pipeline it happened (`inrush-dlt-step`).
    pub fn step(self) -> &'static str {
        match self {
            Reason::BadBatch => "source",
            Reason::NotJson
            | Reason::NotCsv
            | Reason::NotAvro
            | Reason::NotProtobuf
            | Reason::UnknownSchema
            | Reason::NoColumns
            | Reason::WrongType
            | Reason::Overflow
            | Reason::DuplicateField
            | Reason::MissingRequired => "columns",
            Reason::Expression | Reason::TimeOutOfRange => "select",
            Reason::NoMatch => "enrich",
            Reason::TooLarge | Reason::SinkRefused | Reason::OtherOutput => "to",
        }
    }

    /// The class name that Spring or Kafka users route on (`kafka_dlt-exception-fqcn`).
    pub fn exception(self) -> &'static str {
        match self {
            Reason::BadBatch => "org.apache.kafka.common.errors.CorruptRecordException",
            Reason::NotJson
            | Reason::NotCsv
            | Reason::NotAvro
            | Reason::NotProtobuf
            | Reason::UnknownSchema
            | Reason::NoColumns
            | Reason::WrongType
            | Reason::Overflow
            | Reason::DuplicateField
            | Reason::MissingRequired => "org.springframework.kafka.support.serializer.DeserializationException",
            Reason::Expression | Reason::NoMatch | Reason::TimeOutOfRange => {
                "org.springframework.kafka.support.converter.ConversionException"
            }
            Reason::TooLarge => "org.apache.kafka.common.errors.RecordTooLargeException",
            Reason::SinkRefused | Reason::OtherOutput => {
                "org.springframework.kafka.listener.ListenerExecutionFailedException"
            }
        }
    }
}
