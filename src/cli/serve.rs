//! `inrush serve`: options from a file and from flags; flags win.

use super::{Outcome, start_logging};
use crate::config::{Document, Mistake, Mistakes, Section};
use crate::daemon::{self, Options};
use crate::disk::{DirectIo, EngineChoice};
use crate::server::http::{Proxies, WriteKeys};
use anyhow::{Context, Result};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Arguments {
    /// Config file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the log; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder that Parquet folders are made in [default: DATA/out].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Address of the HTTP door [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Address of the Kafka door [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDR")]
    kafka: Option<SocketAddr>,
    /// What Kafka clients are told to come to [default: where they came to].
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    advertise: Option<(String, u16)>,
    /// Address of the admin door: metrics and health [default: 127.0.0.1:9600].
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Folder of pipeline files [default: pipelines].
    #[arg(long, value_name = "DIR")]
    pipelines: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    start_logging("info");
    let mut options = Options::new(arguments.data.clone().unwrap_or_else(|| PathBuf::from("data")));
    if let Some(path) = &arguments.config {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the config file {}", path.display()))?;
        match read(path, &text) {
            Ok(read) => options = read,
            Err(mistakes) => {
                eprintln!("inrush: {} has {} mistakes:", path.display(), mistakes.len());
                mistakes.iter().for_each(|mistake| eprintln!("  {mistake}"));
                return Ok(Outcome::Wrong);
            }
        }
        if let Some(data) = arguments.data {
            options.out = data.join("out");
            options.data = data;
        }
    }
    options.out = arguments.out.unwrap_or(options.out);
    options.http = arguments.http.unwrap_or(options.http);
    options.kafka = arguments.kafka.unwrap_or(options.kafka);
    options.advertise = arguments.advertise.or(options.advertise);
    options.admin = arguments.admin.unwrap_or(options.admin);
    options.pipelines = arguments.pipelines.unwrap_or(options.pipelines);
    let running = match daemon::start(options) {
        Err(error @ daemon::Error::Open { .. }) => {
            eprintln!("inrush: {error}");
            return Ok(Outcome::Wrong);
        }
        started => started?,
    };
    running.wait()?;
    running.stop()?;
    Ok(Outcome::Done)
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    match port.parse() {
        Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(format!("\"{text}\" is not HOST:PORT")),
    }
}

/// The daemon's options out of a config file's text.
fn read(file: &Path, text: &str) -> Result<Options, Vec<Mistake>> {
    let mistakes = Mistakes::new(file, text);
    let Some(document) = Document::parse(&mistakes) else { return Err(mistakes.into_inner()) };
    let options = options(&document.root(&mistakes));
    if mistakes.is_empty() { Ok(options) } else { Err(mistakes.into_inner()) }
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
    }
    if let Some(memory) = root.size("tail-cache") {
        options.tail_cache_bytes = memory.value as usize;
    }
    options.low_disk_bytes = root.size("low-disk").map(|low| low.value);
    options.cors_origins = root.strings("cors-origins").unwrap_or_default();
    options.host_names = root.strings("host-names").unwrap_or_default();
    match WriteKeys::parse(&root.strings("write-keys").unwrap_or_default()) {
        Ok(keys) => options.write_keys = keys,
        Err(reason) => root.wrong("write-keys", reason),
    }
    match Proxies::parse(&root.strings("trusted-proxies").unwrap_or_default()) {
        Ok(proxies) => options.trusted_proxies = proxies,
        Err(reason) => root.wrong("trusted-proxies", reason),
    }
    if let Some(deadline) = root.duration("stop-deadline") {
        options.stop_deadline = deadline.value;
    }
    root.finish();
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_config_is_read_and_mistakes_come_together() {
        let shipped = include_str!("../../deploy/inrush.toml");
        let options = read(Path::new("inrush.toml"), shipped).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        assert_eq!(options.data, PathBuf::from("/var/lib/inrush"));
        let found = read(Path::new("x.toml"), "htpp = 1\nengine = \"fast\"\ntail-cache = \"much\"\n").unwrap_err();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].to_string().contains("\"http\""), "{found:#?}");
    }
}
