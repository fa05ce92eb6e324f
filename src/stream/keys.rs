//! Every key of a pipeline file with what it takes and means: one table, out of which editors get their JSON Schema. A test holds it
//! against what the parser knows, so a new key is written here too.

/// A key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) meaning: &'static str,
}

/// What a key takes.
pub(super) enum Takes {
    Text,
    Flag,
    Whole,
    /// `500ms`, `5m`, …
    Duration,
    /// `64KiB`, `128MiB`, …
    Size,
    Texts,
    /// One name or several.
    Names,
    /// Only these.
    Words(&'static [&'static str]),
    /// A column's type.
    Type,
    /// A table with these keys.
    Table(&'static Table),
    /// Tables, one after the other.
    Tables(&'static Table),
    /// A table with names of the user's own.
    Map(&'static Takes),
    /// As [`Takes::Map`], with these keys beside them.
    MapWith(&'static Takes, &'static [Key]),
    Any(&'static [Takes]),
}

/// What a table may hold.
pub(super) struct Table {
    pub(super) keys: &'static [Key],
    pub(super) needs: &'static [&'static str],
    /// It has exactly one of its keys.
    pub(super) is_choice: bool,
}

const fn key(name: &'static str, takes: Takes, meaning: &'static str) -> Key {
    Key { name, takes, meaning }
}

const fn table(keys: &'static [Key], needs: &'static [&'static str]) -> Table {
    Table { keys, needs, is_choice: false }
}

use Takes::{Any, Duration, Flag, Map, MapWith, Names, Size, Tables, Text, Texts, Type, Whole, Words};

pub(super) static FILE: Table = table(
    &[
        key("from", Text, "what is read: \"topic:NAME\""),
        key(
            "format",
            Any(&[Words(&["json", "ndjson", "raw"]), Takes::Table(&FORMAT)]),
            "what a record's value is; JSON if it is left out",
        ),
        key("where", Text, "SQL that is true of the rows to keep"),
        key("select", Text, "columns and SQL over them: \"ts, upper(a) as b\"; all columns if it is left out"),
        key("to", OUTPUT, "where rows go"),
        key("on-error", Takes::Table(&ON_ERROR), "what becomes of records that fail"),
        key("columns", MapWith(&COLUMN, COLUMNS), "what is read of each record"),
        key("step", Tables(&STEP), "the long form: what is done to rows, in order"),
        key("route", Tables(&ROUTE), "the long form: which rows go to which output"),
        key("test", Tables(&TEST), "a record and what becomes of it; inrush pipeline test runs them"),
    ],
    &["from"],
);

pub(super) static FORMAT: Table = Table {
    keys: &[
        key("csv", Takes::Table(&CSV), "lines of CSV"),
        key("avro", Takes::Table(&AVRO), "one Avro datum"),
        key("protobuf", Takes::Table(&PROTOBUF), "one Protobuf message"),
    ],
    needs: &[],
    is_choice: true,
};

pub(super) static CSV: Table = table(
    &[
        key("header", Flag, "the first line of each record names the columns"),
        key("delimiter", Text, "one ASCII character; a comma if it is left out"),
        key("columns", Texts, "names of the columns, where no line has them"),
    ],
    &[],
);

const FRAMING: Key = key("framing", Words(&["confluent"]), "Confluent's 5 bytes stand before each value");
const REGISTRY: Key = key("registry", Text, "a schema registry: \"http://HOST:PORT\"");

pub(super) static AVRO: Table = table(&[key("schema", Text, "a file with the schema"), REGISTRY, FRAMING], &[]);

pub(super) static PROTOBUF: Table = table(
    &[
        key("descriptor", Text, "a file that protoc --descriptor_set_out wrote"),
        key("message", Text, "the message: \"package.Message\""),
        REGISTRY,
        FRAMING,
    ],
    &[],
);

/// Keys of `[columns]` that are no column.
const COLUMNS: &[Key] = &[key(
    "from-schema",
    Text,
    "a JSON Schema file whose properties become columns; columns that stand here go before",
)];

const COLUMN: Takes = Any(&[Type, Takes::Table(&LONG_COLUMN)]);

pub(super) static LONG_COLUMN: Table = table(
    &[
        key("path", Text, "JSON pointer into the value: \"/page/url\""),
        key("header", Text, "a header of the record, in place of a path"),
        key("type", Type, "its type"),
        key("required", Flag, "a record without it is a dead letter"),
        key("coerce", Flag, "numbers and times in texts are read too"),
    ],
    &["type"],
);

pub(super) const OUTPUT: Takes = Any(&[Takes::Table(&PARQUET), Takes::Table(&TOPIC)]);

pub(super) static PARQUET: Table = table(
    &[
        key("parquet", Text, "a folder below the daemon's output folder"),
        key("partition", Text, "folders by time: \"dt=%Y-%m-%d/hour=%H\""),
        key("time", Text, "the column that partitions are made from, or _timestamp"),
        key("roll", Text, "when a file is finished: \"5m or 128MiB\""),
        key("compression-level", Whole, "of zstd, 1 to 22"),
        key("adopt", Text, "takes over a folder of the pipeline of this name"),
    ],
    &["parquet"],
);

pub(super) static TOPIC: Table = table(
    &[key("topic", Text, "a topic here; rows are JSON"), key("key", Text, "the column that becomes the record's key")],
    &["topic"],
);

pub(super) static ON_ERROR: Table = table(
    &[
        key("then", Text, "the topic of the dead letters: \"topic:NAME\"; SOURCE-dlt if it is left out"),
        key("retry", Any(&[Whole, Takes::Table(&RETRY)]), "more attempts after the first"),
        key("backoff", Duration, "between two attempts"),
        key("breaker", Text, "stops the pipeline: \"90% of 10000\", or \"off\""),
    ],
    &[],
);

pub(super) static RETRY: Table = table(
    &[
        key("times", Whole, "more attempts after the first"),
        key("of", Words(&["refused", "all"]), "what is tried again"),
    ],
    &[],
);

pub(super) static STEP: Table = Table {
    keys: &[
        key("where", Text, "SQL that is true of the rows to keep"),
        key("select", Text, "columns and SQL over them"),
        key("sql", Text, "both: \"select … from rows where …\""),
        key("unnest", Any(&[Text, Takes::Table(&UNNEST)]), "a row for each element of a list"),
        key("sample", Any(&[Text, Takes::Table(&SAMPLE)]), "keeps a share of the rows: \"10%\""),
        key("enrich", Takes::Table(&ENRICH), "adds columns of a table: a CSV or Parquet file, or a compacted topic"),
        key("dedupe", Takes::Table(&DEDUPE), "keeps the first row of a key"),
        key("debounce", Takes::Table(&DEBOUNCE), "lets a row of a key pass, then none for a while"),
        key("sessionize", Takes::Table(&SESSIONIZE), "tells each row the session that it is of"),
        key("last", Takes::Table(&LAST), "lets the last row of a key go on"),
    ],
    needs: &[],
    is_choice: true,
};

const STATE_SIZE_MAX: Key =
    key("state-size-max", Size, "memory of the step for one partition; 64MiB if it is left out");
const BY: Key = key("key", Names, "columns that make the key");

pub(super) static UNNEST: Table = table(
    &[
        key("list", Text, "the list"),
        key("as", Text, "what an element is called"),
        key("keep-empty", Flag, "a row without elements stays, with null"),
    ],
    &["list"],
);

pub(super) static SAMPLE: Table = table(
    &[key("share", Text, "\"10%\""), key("key", Names, "rows that are alike in these stay or go together")],
    &["share"],
);

pub(super) static ENRICH: Table = table(
    &[
        key("from", Text, "the table: \"users.csv\", \"products.parquet\" or \"topic:users\""),
        key("key", Names, "its columns that make the key, or, of a topic of several, the fields of its records' keys"),
        key("on", Names, "columns of the rows, one for each of the key's; as the key's if it is left out"),
        key("columns", Texts, "what rows get: [\"country\", \"plan as user_plan\"]; all if it is left out"),
        key("types", Map(&Type), "types of the table's columns"),
        key("missing", Words(&["null", "drop", "dead"]), "what becomes of rows that the table does not have"),
        key("delimiter", Text, "of a CSV file, where it is no comma"),
        key("table-size-max", Size, "memory of the table; 256MiB if it is left out"),
    ],
    &["from"],
);

pub(super) static DEDUPE: Table =
    table(&[BY, key("ttl", Duration, "for how long a key is known"), STATE_SIZE_MAX], &["key", "ttl"]);

pub(super) static DEBOUNCE: Table =
    table(&[BY, key("cool-down", Duration, "for how long none passes"), STATE_SIZE_MAX], &["key", "cool-down"]);

pub(super) static SESSIONIZE: Table =
    table(&[BY, key("gap", Duration, "without a row for so long a session ends"), STATE_SIZE_MAX], &["key", "gap"]);

pub(super) static LAST: Table = table(
    &[
        BY,
        key("until", Text, "SQL that is true of the last row"),
        key("ttl", Duration, "without a row for so long the last one goes on"),
        STATE_SIZE_MAX,
    ],
    &["key", "ttl"],
);

pub(super) static ROUTE: Table = table(
    &[
        key("where", Text, "SQL that is true of the rows that it takes; all if it is left out"),
        key("otherwise", Flag, "takes what no where took"),
        key("to", OUTPUT, "where they go"),
    ],
    &["to"],
);

pub(super) static TEST: Table = table(
    &[
        key("given", Any(&[Takes::Table(&GIVEN), Tables(&GIVEN)]), "a record, or several"),
        key("tables", Map(&Tables(&GIVEN)), "records of topics that enrich looks up in"),
        key("quiet", Duration, "for so long no record comes after the last one"),
        key("expect", Text, "'{…}', '[{…}, {…}]' or \"filtered\""),
        key("expect-error", Text, "the reason of the dead letter"),
        key("outputs", Texts, "the outputs that take any of the rows: [\"topic people\"]"),
    ],
    &["given"],
);

pub(super) static GIVEN: Table = table(
    &[
        key("key", Text, "the record's key"),
        key("value", Text, "its value"),
        key("value-base64", Text, "its value, where it is no text"),
        key("headers", Map(&Text), "its headers"),
        key("timestamp", Whole, "ms since 1970"),
        key("offset", Whole, "0 if it is left out"),
        key("partition", Whole, "0 if it is left out"),
    ],
    &[],
);
