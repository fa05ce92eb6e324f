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
        key(
            "from",
            Any(&[Text, Takes::Table(&SOURCE)]),
            "what is read: \"topic:NAME\", or a topic of a Kafka cluster elsewhere",
        ),
        key(
            "format",
            Any(&[Words(&["json", "ndjson", "raw"]), Takes::Table(&FORMAT)]),
            "what a record's value is; JSON if it is left out",
        ),
        key("where", Text, "SQL that is true of the rows to keep"),
        key("select", Text, "columns and SQL over them: \"ts, upper(a) as b\"; all columns if it is left out"),
        key("to", OUTPUT, "where rows go"),
        key("on-error", Takes::Table(&ON_ERROR), "what becomes of records that fail"),
        key(
            "cpu",
            Text,
            "CPU time that it takes at most: \"50%\" of one core, \"200%\" for two; no limit if it is left out",
        ),
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

const SERVERS: Key = key("servers", Text, "some of the brokers: \"kafka-1:9092,kafka-2:9092\"");
const TRUST: Takes = Any(&[Flag, Takes::Table(&CERTIFICATES)]);
const TLS: Key = key("tls", TRUST, "true, or { ca = \"FILE\" }: whose certificates are believed");
const SASL: Key = key("sasl", Takes::Table(&LOGIN), "who logs in");

pub(super) static SOURCE: Table = table(
    &[
        key("kafka", Text, "a topic of a cluster elsewhere"),
        SERVERS,
        TLS,
        SASL,
        key("group", Text, "the consumer group whose members share the partitions; all partitions if it is left out"),
    ],
    &["kafka", "servers"],
);

pub(super) static CERTIFICATES: Table = table(&[key("ca", Text, "a PEM file")], &["ca"]);

pub(super) static LOGIN: Table = table(
    &[
        key("mechanism", Words(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), "how"),
        key("username", Text, "who"),
        key("password", Text, "\"secret('NAME')\" or \"${NAME}\""),
    ],
    &["mechanism", "username", "password"],
);

const FRAMING: Key = key("framing", Words(&["confluent"]), "Confluent's 5 bytes stand before each value");
const REGISTRY: Key = key("registry", Text, "a schema registry: \"http://HOST:PORT\"");
const USER: Key = key("user", Text, "who asks the registry");
const PASSWORD: Key = key("password", Text, "its password: \"{secret:NAME}\"");
const CA: Key = key("ca", Text, "a PEM file with the certificates to believe, and no others");

pub(super) static AVRO: Table =
    table(&[key("schema", Text, "a file with the schema"), REGISTRY, USER, PASSWORD, CA, FRAMING], &[]);

pub(super) static PROTOBUF: Table = table(
    &[
        key("descriptor", Text, "a file that protoc --descriptor_set_out wrote"),
        key("message", Text, "the message: \"package.Message\""),
        REGISTRY,
        USER,
        PASSWORD,
        CA,
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

pub(super) const OUTPUT: Takes = Any(&[
    Takes::Table(&PARQUET),
    Takes::Table(&FILES),
    Takes::Table(&TOPIC),
    Takes::Table(&KAFKA),
    Takes::Table(&HTTP),
    Takes::Table(&STDOUT),
]);

const STORE: Key = key("store", Takes::Table(&STORED), "a column's bytes become files named by their content");
const PARTITION: Key = key("partition", Text, "folders by time: \"dt=%Y-%m-%d/hour=%H\"");
const TIME: Key = key("time", Text, "the column that partitions are made from, or _timestamp");
const ROLL: Key = key("roll", Text, "when a file is finished: \"5m or 128MiB\"");
const LEVEL: Key = key("compression-level", Whole, "of zstd, 1 to 22");
const ADOPT: Key = key("adopt", Text, "takes over a folder of the pipeline of this name");
const ENDPOINT: Key = key("endpoint", Text, "of a bucket, where it is not Amazon's: \"https://HOST\"");
const REGION: Key = key("region", Text, "of a bucket");
const PATH_STYLE: Key = key("path-style", Flag, "the bucket's name stands in the path, not in the host");
const CREDENTIALS: Key = key("credentials", Text, "the secret with a bucket's keys; else AWS_*, or a role");
const SOME_OR_ALL: Takes = Any(&[Flag, Names]);
const SOURCE_COLUMNS: Key = key("source-columns", SOME_OR_ALL, "adds _partition, _offset, _timestamp, or some of them");

pub(super) static PARQUET: Table = table(
    &[
        key("parquet", Text, "a folder below the daemon's output folder, or s3://BUCKET/FOLDER"),
        PARTITION,
        TIME,
        ROLL,
        LEVEL,
        key("sort", Names, "columns that rows are sorted by within each row group: \"ts desc\""),
        key("bloom", Names, "columns with a bloom filter"),
        SOURCE_COLUMNS,
        ADOPT,
        ENDPOINT,
        REGION,
        PATH_STYLE,
        CREDENTIALS,
        STORE,
    ],
    &["parquet"],
);

pub(super) static FILES: Table = table(
    &[
        key("files", Text, "a folder of JSON lines below the daemon's output folder, or s3://BUCKET/FOLDER"),
        key("format", Words(&["ndjson"]), "a JSON object a line; there is no other"),
        key("compression", Words(&["zstd", "gzip", "none"]), "zstd if it is left out"),
        PARTITION,
        TIME,
        ROLL,
        LEVEL,
        SOURCE_COLUMNS,
        ADOPT,
        ENDPOINT,
        REGION,
        PATH_STYLE,
        CREDENTIALS,
        STORE,
    ],
    &["files"],
);

const ROW_KEY: Key = key("key", Text, "the column that becomes the record's key");

pub(super) static TOPIC: Table =
    table(&[key("topic", Text, "a topic here; rows are JSON"), ROW_KEY, STORE], &["topic"]);

pub(super) static KAFKA: Table = table(
    &[
        key("kafka", Text, "a topic of a Kafka cluster elsewhere; rows are JSON"),
        SERVERS,
        ROW_KEY,
        key("compression", Words(&["zstd", "lz4", "none"]), "zstd if it is left out"),
        TLS,
        SASL,
        STORE,
    ],
    &["kafka", "servers"],
);

pub(super) static HTTP: Table = table(
    &[
        key("http", Text, "a web address that rows are posted to"),
        key("batch", Text, "rows and bytes of one request: \"500 or 1MiB\""),
        key("linger", Duration, "so long a row waits for others"),
        key("body", Words(&["json", "ndjson"]), "one array, or an object a line"),
        key("compression", Words(&["none", "gzip"]), "of the body"),
        key("headers", Map(&Text), "names and values; {secret:NAME} is a secret's text"),
        key("sign", Text, "the secret whose key signs"),
        key("timeout", Duration, "from the connection to the answer"),
        key("in-flight", Whole, "requests at a time, of all source partitions together"),
        CA,
        STORE,
    ],
    &["http"],
);

pub(super) static STDOUT: Table =
    table(&[key("stdout", Flag, "true: the process's standard output, a JSON object a line"), STORE], &["stdout"]);

pub(super) static STORED: Table = table(
    &[
        key("column", Text, "the column of bytes"),
        key("folder", Text, "where the files are, below the daemon's output folder"),
        key("as", Text, "what the column of paths is called; as the column if it is left out"),
    ],
    &["column", "folder"],
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
        key("window", Takes::Table(&WINDOW), "one row for those of a stretch of time and a key"),
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

pub(super) static WINDOW: Table = table(
    &[
        key("tumbling", Duration, "windows of this length, one after the other"),
        key("hopping", Takes::Table(&HOPPING), "windows that overlap"),
        key("session", Duration, "rows of a key between which no longer gap lies"),
        key("time", Text, "the column that says when a row was; _timestamp if it is left out"),
        BY,
        key("late", Duration, "so long a window waits for rows that come late"),
        key("late-to", Takes::Table(&LATE_TO), "the topic of rows that are in no window"),
        key("select", Text, "aggregates: \"count(*) as views, avg(ms) as mean\""),
        STATE_SIZE_MAX,
    ],
    &["select"],
);

pub(super) static HOPPING: Table = table(
    &[key("size", Duration, "how long each is"), key("every", Duration, "from one's begin to the next one's")],
    &["size", "every"],
);

pub(super) static LATE_TO: Table = table(&[key("topic", Text, "a topic here"), ROW_KEY], &["topic"]);

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
