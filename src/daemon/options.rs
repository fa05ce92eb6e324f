//! [`Options`]: what the daemon is told, by the config file or by its caller.

use super::Error;
use crate::config::{Document, Mistake, Mistakes, Section};
use crate::disk::{DirectIo, EngineChoice};
use crate::group;
use crate::server::http::{Proxies, WriteKeys};
use crate::store;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A key file is not larger.
const KEY_FILE_SIZE_MAX: u64 = 64 << 10;
/// The least that keeps the largest request and a few others in flight.
const INGEST_BYTES_MIN: usize = 16 << 20;

/// How the daemon is set up; [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    pub data: PathBuf,
    /// Where Parquet folders are made.
    pub out: PathBuf,
    /// The folder of pipeline files; it need not exist.
    pub pipelines: PathBuf,
    pub http: SocketAddr,
    pub kafka: SocketAddr,
    /// What Kafka clients are told to come to; `None`: where they came to.
    pub advertise: Option<(String, u16)>,
    pub admin: SocketAddr,
    /// A listener on another address than loopback needs write keys, or this.
    pub insecure: bool,
    pub engine: EngineChoice,
    pub direct_io: DirectIo,
    pub ingest_bytes: usize,
    pub tail_cache_bytes: usize,
    pub low_disk_bytes: Option<u64>,
    pub cors_origins: Vec<String>,
    pub host_names: Vec<String>,
    pub write_keys: WriteKeys,
    /// Whose `X-Forwarded-For` is believed; their connections are not counted by address.
    pub trusted_proxies: Proxies,
    pub stop_deadline: Duration,
    /// How consumer groups are kept.
    pub groups: group::Options,
}

impl Options {
    /// The defaults on loopback, with data in `data` and output beside it.
    pub fn new(data: PathBuf) -> Options {
        Options {
            out: data.join("out"),
            data,
            pipelines: PathBuf::from("pipelines"),
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            kafka: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertise: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 9600)),
            insecure: false,
            engine: EngineChoice::Auto,
            direct_io: DirectIo::Auto,
            ingest_bytes: 64 << 20,
            tail_cache_bytes: 64 << 20,
            low_disk_bytes: None,
            cors_origins: Vec::new(),
            host_names: Vec::new(),
            write_keys: WriteKeys::default(),
            trusted_proxies: Proxies::default(),
            stop_deadline: Duration::from_secs(30),
            groups: group::Options::default(),
        }
    }
    /// The options of a config file; all mistakes at once. Key files that it names are read.
    ///
    /// # Errors
    /// Each mistake with file, line, column and field.
    pub fn read(file: &Path, text: &str) -> Result<Options, Vec<Mistake>> {
        let mistakes = Mistakes::new(file, text);
        let Some(document) = Document::parse(&mistakes) else { return Err(mistakes.into_inner()) };
        let options = options(&document.root(&mistakes));
        if mistakes.is_empty() { Ok(options) } else { Err(mistakes.into_inner()) }
    }

    /// Refuses listeners that the network reaches and anybody may write through, unless that is written down.
    ///
    /// # Errors
    /// [`Error::Open`], naming the door.
    pub fn check_exposure(&self) -> Result<(), Error> {
        let has_keys = !self.write_keys.is_empty();
        // Write keys are HTTP's; the others have no keys in this version.
        let inside = "let it listen on 127.0.0.1";
        for (door, address, is_guarded, way_out) in [
            ("HTTP", self.http, has_keys, "set write-keys"),
            ("Kafka", self.kafka, false, inside),
            ("admin", self.admin, false, inside),
        ] {
            if !address.ip().is_loopback() && !is_guarded && !self.insecure {
                return Err(Error::Open { door, address, way_out });
            }
        }
        Ok(())
    }

    /// The most that requests in flight, answers to consumers, consumer groups, the tail cache, a round of the writer and the keys of a compaction hold together;
    /// pipelines come on top, each with the batch it reads, its rows and its open files.
    pub fn memory_max(&self) -> usize {
        let doors = self.ingest_bytes + super::KAFKA_ANSWERS_BYTES + self.groups.size_max;
        let log = self.tail_cache_bytes + store::ROUND_TOTAL_MAX + store::COMPACTION_KEY_BYTES_MAX;
        doors + log
    }
}

fn options(root: &Section<'_>) -> Options {
    let address = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| format!("\"{text}\" is not an address like 127.0.0.1:8080"))
    };
    let engine = |text: &str| match text {
        "auto" => Ok(EngineChoice::Auto),
        "uring" => Ok(EngineChoice::Uring),
        "std" => Ok(EngineChoice::Std),
        other => Err(format!("\"{other}\" is none of auto, uring, std")),
    };
    let direct = |text: &str| match text {
        "auto" => Ok(DirectIo::Auto),
        "on" => Ok(DirectIo::On),
        "off" => Ok(DirectIo::Off),
        other => Err(format!("\"{other}\" is none of auto, on, off")),
    };
    let data = root.string("data").map_or_else(|| PathBuf::from("data"), |data| data.value.into());
    let mut options = Options::new(data);
    if let Some(out) = root.string("out") {
        options.out = out.value.into();
    }
    if let Some(pipelines) = root.string("pipelines") {
        options.pipelines = pipelines.value.into();
    }
    if let Some(http) = root.read("http", address) {
        options.http = http.value;
    }
    if let Some(kafka) = root.read("kafka", address) {
        options.kafka = kafka.value;
    }
    options.advertise = root.read("advertise", host_and_port).map(|advertise| advertise.value);
    if let Some(admin) = root.read("admin", address) {
        options.admin = admin.value;
    }
    if let Some(insecure) = root.boolean("insecure") {
        options.insecure = insecure.value;
    }
    if let Some(engine) = root.read("engine", engine) {
        options.engine = engine.value;
    }
    if let Some(direct) = root.read("direct-io", direct) {
        options.direct_io = direct.value;
    }
    if let Some(memory) = root.size("ingest-memory") {
        options.ingest_bytes = memory.value as usize;
        if options.ingest_bytes < INGEST_BYTES_MIN {
            root.wrong(
                "ingest-memory",
                format!("at least {} MiB, or large requests never fit", INGEST_BYTES_MIN >> 20),
            );
        }
    }
    if let Some(memory) = root.size("tail-cache") {
        options.tail_cache_bytes = memory.value as usize;
    }
    options.low_disk_bytes = root.size("low-disk").map(|low| low.value);
    options.cors_origins = root.strings("cors-origins").unwrap_or_default();
    options.host_names = root.strings("host-names").unwrap_or_default();
    let mut keys = root.strings("write-keys").unwrap_or_default();
    if let Some(reason) = WriteKeys::parse(&keys).err() {
        root.wrong("write-keys", reason);
        keys.clear();
    }
    if let Some(file) = root.read("write-keys-file", |path| key_file(Path::new(path))) {
        keys.extend(file.value);
    }
    // Both lists were judged above.
    options.write_keys = WriteKeys::parse(&keys).unwrap_or_default();
    match Proxies::parse(&root.strings("trusted-proxies").unwrap_or_default()) {
        Ok(proxies) => options.trusted_proxies = proxies,
        Err(reason) => root.wrong("trusted-proxies", reason),
    }
    if let Some(deadline) = root.duration("stop-deadline") {
        options.stop_deadline = deadline.value;
    }
    if let Some(wait) = root.duration("group-initial-delay") {
        options.groups.first_wait_ms = wait.value.as_millis() as i64;
    }
    if let Some(retention) = root.duration("offsets-retention") {
        options.groups.retention_ms = retention.value.as_millis() as i64;
    }
    root.finish();
    options
}

/// Hashes of the keys in a file, one key a line: as its SHA-256 in hex, or as it is. Empty lines and `#` comments are passed over.
fn key_file(path: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if std::fs::metadata(path).map_err(failed)?.len() > KEY_FILE_SIZE_MAX {
        return Err(format!("{} is larger than {} KiB; is it a key file?", path.display(), KEY_FILE_SIZE_MAX >> 10));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(|line| if is_hash(line) { line.to_lowercase() } else { hash(line) }).collect();
    if keys.is_empty() { Err(format!("{} holds no key", path.display())) } else { Ok(keys) }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// `HOST:PORT`, for addresses that are told and not bound.
///
/// # Errors
/// What such an address looks like.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(format!("\"{text}\" is not HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, Vec<Mistake>> {
        Options::read(Path::new("x.toml"), text)
    }

    #[test]
    fn the_shipped_config_is_read_and_shows_every_key() {
        let shipped = include_str!("../../deploy/inrush.toml");
        let options = read(shipped).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        assert_eq!(options.data, PathBuf::from("/var/lib/inrush"));
        let defaults = Options::new(PathBuf::from("/var/lib/inrush"));
        assert_eq!(
            (options.http, options.kafka, options.admin, options.ingest_bytes, options.tail_cache_bytes),
            (defaults.http, defaults.kafka, defaults.admin, defaults.ingest_bytes, defaults.tail_cache_bytes)
        );
        // Keys that nobody knows are listed with all that are known: each must stand in the shipped file.
        let known = read("zzzzzz = 1").unwrap_err()[0].to_string();
        let known = known.split("known: ").nth(1).unwrap_or_else(|| panic!("{known}"));
        for key in known.split(", ") {
            assert!(shipped.lines().any(|line| line.trim_start_matches("# ").starts_with(key)), "{key} is not shown");
        }
    }

    #[test]
    fn mistakes_come_together_with_their_places() {
        let found = read("htpp = 1\nengine = \"fast\"\ntail-cache = \"much\"\ningest-memory = \"1MiB\"\n").unwrap_err();
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].to_string().starts_with("x.toml:1:1: htpp: ") && found[0].to_string().contains("\"http\""));
        assert!(found[3].to_string().starts_with("x.toml:4:17: ingest-memory: at least 16 MiB"), "{found:#?}");
    }

    #[test]
    fn keys_come_from_a_file_and_only_their_hashes_stay() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let known = hash("second");
        std::fs::write(file.path(), format!("# keys\nfirst\n\n{known}\n")).unwrap();
        let options = read(&format!("write-keys-file = \"{}\"", file.path().display())).unwrap();
        assert!(!options.write_keys.is_empty());
        assert_eq!(key_file(file.path()).unwrap(), [hash("first"), known]);
        let missing = read("write-keys-file = \"/nowhere/keys\"").unwrap_err();
        assert!(missing[0].to_string().contains("cannot read /nowhere/keys"), "{missing:#?}");
    }

    #[test]
    fn an_open_door_needs_keys_or_a_written_word() {
        let open = |text: &str| read(text).unwrap().check_exposure().is_err();
        assert!(open("http = \"0.0.0.0:8080\""));
        assert!(!open("http = \"0.0.0.0:8080\"\ninsecure = true"));
        let keys = format!("http = \"0.0.0.0:8080\"\nwrite-keys = [\"{}\"]", hash("k"));
        assert!(!open(&keys));
        assert!(open(&format!("{keys}\nkafka = \"0.0.0.0:9092\"")));
    }
}
