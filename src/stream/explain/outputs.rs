//! An output in words, with the settings that hold where the file says nothing.

use super::super::sink::parquet::output_memory_max;
use super::super::spec::{Compression, Output, Spec};
use super::steps::time;
use super::text::size;

/// Batches of a topic that are built at once, with their JSON.
pub(super) const BATCH_MEMORY: u64 = 2 * super::super::rows::ROWS_BYTES_MAX as u64;

#[derive(Clone, Debug, serde::Serialize)]
pub struct OutputTold {
    /// As dead letters and the checkpoint name it.
    pub name: String,
    pub settings: Vec<SettingTold>,
    /// Bytes that it may take.
    pub memory: u64,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct SettingTold {
    pub key: String,
    pub value: String,
}

/// Every kind of output, in words; `of_windows` says whether its rows are those of a window.
pub(super) fn told(output: &Output, spec: &Spec, of_windows: bool) -> OutputTold {
    let records = match of_windows {
        true => "one JSON object a row, with its window's end as timestamp and no headers".to_owned(),
        false => "one JSON object a row, with timestamp and headers of the source record".to_owned(),
    };
    let unkeyed = match of_windows {
        true => "none: rows of windows go to partition 0",
        false if matches!(output, Output::Kafka(_)) => {
            "none: 4,096 offsets of a source's partition go to one partition, the next to the next"
        }
        false => "none: a row goes to its source's partition number",
    };
    let (memory, settings) = match output {
        Output::Parquet(out) => {
            let folder = match &out.store {
                Some(bucket) => format!("{bucket}/{}", out.folder.display()),
                None => format!("OUT/{}", out.folder.display()),
            };
            let partition = match (&out.partition, &out.time) {
                (Some(partition), Some(time)) => format!("{partition} of {time}, in UTC"),
                _ => "none: all files in the folder itself".to_owned(),
            };
            let roll = format!("after {} or at {}", time(out.roll_age), size(out.roll_bytes));
            let unfinished = match &out.store {
                Some(_) => "an upload that is not completed".to_owned(),
                None => format!("under {folder}/_inrush/{}", spec.name),
            };
            let name = format!("{}-GENERATION-CUT-N.{}; while it is written {unfinished}", spec.name, out.extension());
            let compression = match out.lines {
                None => format!("zstd level {}", out.compression_level),
                Some(Compression::None) => "none".to_owned(),
                Some(Compression::Gzip) => "gzip".to_owned(),
                Some(Compression::Zstd(level)) => format!("zstd level {level}"),
            };
            let mut settings = vec![
                ("folder", folder),
                ("partition", partition),
                ("roll", roll),
                ("compression", compression),
                ("files", name),
            ];
            let names = |columns: &[&str]| Some(columns.join(", ")).filter(|names| !names.is_empty());
            let sort: Vec<String> = out.sort.iter().map(ToString::to_string).collect();
            let sort = names(&sort.iter().map(String::as_str).collect::<Vec<_>>());
            settings.extend(sort.map(|names| ("sort", format!("by {names}, within each row group"))));
            let bloom = names(&out.bloom.iter().map(|column| column.name.as_str()).collect::<Vec<_>>());
            settings.extend(bloom.map(|names| ("bloom filters", names)));
            let source = names(&out.source.iter().map(|column| column.name()).collect::<Vec<_>>());
            settings.extend(source.map(|names| ("source columns", names)));
            settings.extend(out.adopt.as_ref().map(|old| ("adopt", format!("takes the folder over from {old}"))));
            (output_memory_max(), settings)
        }
        Output::Topic(out) => {
            let key = match &out.key {
                Some(key) => format!("{key}, which also says the partition"),
                None => unkeyed.to_owned(),
            };
            let settings = vec![("records", records), ("key", key), ("cut", "once a second".to_owned())];
            (BATCH_MEMORY, settings)
        }
        Output::Http(out) => out.told(),
        Output::Stdout => {
            let settings =
                vec![("rows", "one JSON object a line on the process's standard output, at least once".to_owned())];
            (BATCH_MEMORY, settings)
        }
        Output::Kafka(out) => {
            let key = match &out.key {
                Some(key) => format!("{key}, which also says the partition"),
                None => unkeyed.to_owned(),
            };
            let login = out.cluster.sasl.as_ref().map_or("none", |_| "by SASL");
            let settings = vec![
                ("servers", out.cluster.servers.join(", ")),
                ("login", login.to_owned()),
                ("records", records),
                ("key", key),
                ("compression", format!("{:?}", out.codec).to_lowercase()),
                ("cut", "once a second".to_owned()),
            ];
            (BATCH_MEMORY, settings)
        }
    };
    let setting = |(key, value): (&str, String)| SettingTold { key: key.to_owned(), value };
    OutputTold { name: output.to_string(), settings: settings.into_iter().map(setting).collect(), memory }
}
