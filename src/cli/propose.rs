//! `inrush pipeline new`: samples a topic of a running daemon, or a file of events, and writes a pipeline file.

use super::Outcome;
use crate::client::Client;
use crate::record::{Record, TopicName};
use crate::stream::{self, Proposal, To, Wish};
use anyhow::{Context, Result, bail};
use clap::Args;
use hyper::Method;
use serde_json::value::RawValue;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Records of one request.
const PAGE: usize = 1_000;
/// Records that are looked at, at most.
const SAMPLES_MAX: u64 = 100_000;

#[derive(Args)]
pub(super) struct Arguments {
    /// The pipeline's name; the file is NAME.toml.
    name: String,
    /// `topic:NAME` of a running daemon, or `file:EVENTS`: a line each, values or records as `inrush consume` prints them.
    #[arg(long, value_name = "SOURCE")]
    from: String,
    /// Where its rows are to go.
    #[arg(long, value_enum, default_value_t = Goal::Parquet)]
    to: Goal,
    /// How many records are looked at: of a topic half of them the oldest, half the newest.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=SAMPLES_MAX))]
    samples: u64,
    /// Where the file is written [default: NAME.toml here]; `-` prints it. Nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A JSON Schema that editors find by the file's first line: inrush pipeline schema >FILE.
    #[arg(long, value_name = "FILE")]
    schema: Option<String>,
    /// Address of the HTTP door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    Parquet,
    Topic,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<Outcome> {
    let Arguments { name, output, .. } = arguments;
    let path = output.clone().unwrap_or_else(|| format!("{name}.toml").into());
    let is_shown = path.as_os_str() == "-";
    // Before anything is read, and once more when it is written.
    if !is_shown && path.exists() {
        bail!("{} is there already, and nothing is overwritten: choose another --output", path.display());
    }
    let count = arguments.samples as usize;
    let (from, samples) = match (arguments.from.strip_prefix("topic:"), arguments.from.strip_prefix("file:")) {
        (Some(topic), _) => (TopicName::new(topic)?, of_topic(&arguments.http, topic, count)?),
        (_, Some(file)) => of_file(Path::new(file), name, count)?,
        _ => bail!("--from {}: it is topic:NAME or file:EVENTS", arguments.from),
    };
    let to = if arguments.to == Goal::Topic { To::Topic } else { To::Parquet };
    let mut proposal = stream::propose(&Wish { name: name.clone(), from, to }, &samples)
        .with_context(|| format!("cannot propose a pipeline for {}", arguments.from))?;
    if let Some(schema) = &arguments.schema {
        if schema.contains(char::is_control) {
            bail!("--schema {schema:?}: it is the name of a file");
        }
        proposal.text.insert_str(0, &format!("#:schema {schema}\n"));
    }
    if is_shown {
        // The file stands alone on standard output, unless what was found is asked for.
        if !json {
            print!("{}", proposal.text);
        }
    } else {
        let file = std::fs::File::create_new(&path);
        let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(proposal.text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match json {
        true => println!("{}", serde_json::to_string(&proposal)?),
        false => tell(&proposal, &path, is_shown),
    }
    Ok(Outcome::Done)
}

fn tell(proposal: &Proposal, path: &Path, is_shown: bool) {
    let Proposal { samples, format, headings, strangers, fields, dead, dead_reason, .. } = proposal;
    if !is_shown {
        eprintln!("wrote {}: {} columns by {samples} records ({format})", path.display(), fields.len());
    }
    if *headings > 0 {
        eprintln!("{headings} more records only say what the columns are called: they would be dead letters");
    }
    if *strangers > 0 {
        eprintln!("{strangers} records are not {format}");
    }
    if *dead > 0 {
        let reason = dead_reason.as_deref().unwrap_or_default();
        eprintln!("{dead} of the records would be dead letters; the first: {reason}");
    }
    if !is_shown {
        let shown = path.display();
        eprintln!("next:  inrush pipeline check {shown};  inrush pipeline test {shown}");
    }
}

/// Of each partition the oldest and the newest records.
fn of_topic(http: &str, topic: &str, count: usize) -> Result<Vec<Record>> {
    let mut client = Client::new(http)?;
    let described = client.json(Method::GET, &format!("/v1/topics/{topic}"), None)?;
    let partitions: Vec<(i64, i64, i64)> = described["partition_list"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| Some((one["partition"].as_i64()?, one["start"].as_i64()?, one["tail"].as_i64()?)))
        .filter(|(_, start, tail)| start < tail)
        .collect();
    if partitions.is_empty() {
        bail!("topic {topic} has no record to look at yet");
    }
    let share = count.div_ceil(partitions.len());
    let mut samples = Vec::new();
    for (partition, start, tail) in partitions {
        let half = share.div_ceil(2) as i64;
        let newest = (tail - half).max(start + half).max(start);
        let parts = if tail - start <= share as i64 {
            vec![(start, share)]
        } else {
            vec![(start, half as usize), (newest, share / 2)]
        };
        for (from, wanted) in parts {
            read(&mut client, topic, partition, from, wanted, &mut samples)?;
        }
    }
    samples.truncate(count);
    Ok(samples)
}

fn read(
    client: &mut Client,
    topic: &str,
    partition: i64,
    from: i64,
    wanted: usize,
    samples: &mut Vec<Record>,
) -> Result<()> {
    let (mut next, mut left) = (from, wanted);
    while left > 0 {
        let page = client.page(topic, partition as i32, &next.to_string(), left.min(PAGE) as u64)?;
        if page.events.is_empty() {
            return Ok(());
        }
        left = left.saturating_sub(page.events.len());
        let record = |event: &RawValue| stream::record_of(event.get().as_bytes(), 0, &crate::clock::Clock::System);
        samples.extend(page.events.iter().map(|event| record(event)));
        next = page.next;
    }
    Ok(())
}

/// The first events of a file; the topic that they are thought to be of has the file's name.
fn of_file(file: &Path, name: &str, count: usize) -> Result<(TopicName, Vec<Record>)> {
    let opened = stream::Events::open(file).with_context(|| format!("cannot open the events {}", file.display()))?;
    let mut samples = Vec::new();
    for (number, line) in opened.lines.split(b'\n').enumerate() {
        let line = line.with_context(|| format!("cannot read the events {}", file.display()))?;
        let line = line.trim_ascii();
        if !line.is_empty() {
            samples.push(stream::record_of(line, number as i64, &crate::clock::Clock::System));
        }
        if samples.len() == count {
            break;
        }
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| TopicName::new(stem).ok());
    let topic = match stem {
        Some(stem) => stem,
        None => TopicName::new(name)?,
    };
    Ok((topic, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_events_is_sampled_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("my events.ndjson");
        std::fs::write(
            &events,
            "{\"a\":1}\n\n{\"offset\":5,\"timestamp\":9,\"headers\":{},\"key\":\"k\",\"value\":{\"a\":2}}\n{\"a\":3}\n",
        )
        .unwrap();
        let (topic, samples) = of_file(&events, "p", 2).unwrap();
        assert_eq!((topic.as_str(), samples.len(), samples[1].timestamp), ("p", 2, 9));
        let arguments = || Arguments {
            name: "p".to_owned(),
            from: format!("file:{}", events.display()),
            to: Goal::Parquet,
            samples: 10,
            output: Some(folder.path().join("p.toml")),
            schema: Some("./schema.json".to_owned()),
            http: String::new(),
        };
        assert!(matches!(run(&arguments(), false).unwrap(), Outcome::Done));
        let written = std::fs::read_to_string(folder.path().join("p.toml")).unwrap();
        assert!(written.starts_with("#:schema ./schema.json\n"));
        assert!(stream::test(&folder.path().join("p.toml")).unwrap().iter().all(|tested| tested.passed));
        let Err(refused) = run(&arguments(), false) else { panic!("it was overwritten") };
        assert!(refused.to_string().contains("nothing is overwritten"), "{refused}");
        assert_eq!(std::fs::read_to_string(folder.path().join("p.toml")).unwrap(), written);
        let Err(unknown) =
            run(&Arguments { from: "clicks".to_owned(), name: "q".to_owned(), output: None, ..arguments() }, false)
        else {
            panic!("it was taken")
        };
        assert!(unknown.to_string().contains("topic:NAME"), "{unknown}");
    }
}
