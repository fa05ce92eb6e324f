//! Every decoder that takes bytes from outside, as a function of bytes that must not panic, hang or take memory without bound.
//!
//! `fuzz/` runs each for hours; `cargo test` runs each over the committed corpus and a few thousand mutations of it. Where two decoders read
//! the same bytes, or bytes are known to be right, a target also says what must come out. Nothing of the daemon uses this room.

mod bodies;
mod doors;
mod folder;
mod messages;
mod pipelines;
mod records;
#[cfg(test)]
mod tests;

/// One decoder; its name is that of its file in `fuzz/fuzz_targets/` and of its folder in `fuzz/corpus/`.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics if the decoder does what it must not.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "record_batch", run: records::batch },
    Target { name: "record_codec", run: records::codec },
    Target { name: "kafka_message", run: messages::message },
    Target { name: "kafka_frame", run: doors::kafka },
    Target { name: "http_request", run: doors::http },
    Target { name: "http_body", run: bodies::body },
    Target { name: "http_multipart", run: bodies::multipart },
    Target { name: "json_columns", run: pipelines::json },
    Target { name: "formats", run: pipelines::formats },
    Target { name: "pipeline_file", run: pipelines::file },
    Target { name: "sql", run: pipelines::sql },
    Target { name: "functions", run: pipelines::functions },
    Target { name: "config_file", run: pipelines::config },
    Target { name: "pipeline_checkpoint", run: pipelines::checkpoint },
    Target { name: "data_folder", run: folder::damaged },
];

/// Runs a target by name.
///
/// # Panics
/// If there is no such target, or if it does what it must not.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("fuzz targets are named in the table");
    (target.run)(bytes);
}

/// The first byte, and the rest.
fn split(bytes: &[u8]) -> Option<(usize, &[u8])> {
    bytes.split_first().map(|(first, rest)| (usize::from(*first), rest))
}
