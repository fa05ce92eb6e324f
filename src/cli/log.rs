//! `inrush log verify|dump|repair`: looks into a data folder, and mends what a start opened read-only.

use super::Outcome;
use crate::clock::Clock;
use crate::record::{Batch, DECODED_SIZE_MAX, Offset};
use crate::server::http::record_json;
use crate::store::{Finding, Offline, OfflinePartition, PartitionReport};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often progress is shown on a terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Arguments {
    /// The data folder.
    #[arg(long, value_name = "DIR", default_value = "data", global = true)]
    data: PathBuf,
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Reads every batch of every segment; the daemon must be stopped. Exits 1 if something is damaged.
    Verify {
        /// Only this topic or partition.
        #[arg(value_name = "TOPIC[/PARTITION]")]
        select: Option<String>,
        /// Decodes all records too.
        #[arg(long)]
        deep: bool,
    },
    /// Prints the batches of a partition; the daemon may be running.
    Dump {
        #[arg(value_name = "TOPIC/PARTITION")]
        select: String,
        /// From the batch that holds this offset.
        #[arg(long, default_value_t = 0)]
        from: i64,
        /// Stops after so many batches.
        #[arg(long)]
        limit: Option<u64>,
        /// Prints the records of each batch as well, one JSON object a line.
        #[arg(long)]
        records: bool,
    },
    /// Cuts a partition that a start opened read-only behind its last good batch. What follows moves to lost+found.
    Repair {
        #[arg(value_name = "TOPIC/PARTITION")]
        select: String,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let disk = crate::disk::plain();
    let data = arguments.data.as_path();
    match arguments.action {
        Action::Verify { select, deep } => {
            verify(&Offline::open(data, disk, Clock::System)?, select.as_deref(), deep, arguments.json)
        }
        Action::Dump { select, from, limit, records } => {
            let folder = Offline::open_beside(data, disk, Clock::System)?;
            let partition = one(&folder, &select)?;
            let shown = Shown { records, json: arguments.json, limit: limit.unwrap_or(u64::MAX) };
            dump(&folder, &partition, Offset(from), shown)
        }
        Action::Repair { select } => {
            let mut folder = Offline::open(data, disk, Clock::System)?;
            let partition = one(&folder, &select)?;
            repair(&mut folder, &partition, arguments.json)
        }
    }
}

fn one(folder: &Offline, select: &str) -> Result<OfflinePartition> {
    let mut found = folder.select(Some(select))?;
    let first = found.pop().context("the topic has no partition")?;
    anyhow::ensure!(found.is_empty(), "topic {select} has {} partitions: write TOPIC/PARTITION", found.len() + 1);
    Ok(first)
}

fn verify(folder: &Offline, select: Option<&str>, is_deep: bool, is_json: bool) -> Result<Outcome> {
    let partitions = folder.select(select)?;
    let mut total = 0;
    for partition in &partitions {
        total += folder.size(partition)?;
    }
    let mut progress = Progress { done: 0, total, shown: Instant::now(), is_on: std::io::stderr().is_terminal() };
    let mut is_damaged = false;
    if !is_json {
        println!(
            "{:<40} {:>20} {:>20} {:>10} {:>12} {:>14}",
            "segment", "from offset", "to", "batches", "records", "bytes"
        );
    }
    for partition in &partitions {
        let report = folder.verify(partition, is_deep, |bytes| progress.more(bytes))?;
        is_damaged |= report.is_damaged();
        progress.clear();
        if is_json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print_report(&report);
        }
    }
    if !is_json {
        println!("{} partitions, {}", partitions.len(), if is_damaged { "DAMAGED" } else { "all good" });
    }
    Ok(if is_damaged { Outcome::Found } else { Outcome::Done })
}

fn print_report(report: &PartitionReport) {
    let name = format!("{}/{}", report.topic, report.partition);
    let tell =
        |finding: &Finding| println!("  {} {}", if finding.is_damage { "DAMAGE" } else { "note  " }, finding.text);
    for segment in &report.segments {
        println!(
            "{:<40} {:>20} {:>20} {:>10} {:>12} {:>14}",
            format!("{name}/{}", segment.base),
            segment.base.0,
            segment.next.0,
            segment.batches,
            segment.records,
            segment.bytes
        );
        segment.findings.iter().for_each(tell);
    }
    if report.segments.is_empty() {
        println!("{name:<40} no segments");
    }
    report.findings.iter().for_each(tell);
}

/// What a dump shows.
struct Shown {
    records: bool,
    json: bool,
    limit: u64,
}

fn dump(folder: &Offline, partition: &OfflinePartition, from: Offset, shown: Shown) -> Result<Outcome> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut count, mut failed) = (0, None);
    let ended = folder.dump(partition, from, |batch, base, position| {
        if count == shown.limit {
            return false;
        }
        count += 1;
        failed = print_batch(&mut out, batch, base, position, &shown).err();
        failed.is_none()
    })?;
    out.flush()?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if let Some(reason) = ended {
        eprintln!("inrush: the chain of batches ends here, or a round is being written: {reason}");
    }
    Ok(Outcome::Done)
}

fn print_batch(out: &mut impl Write, batch: &Batch, base: Offset, position: u64, shown: &Shown) -> std::io::Result<()> {
    let header = batch.header();
    if shown.json {
        writeln!(out, "{}", batch_json(batch, base, position))?;
    } else {
        let producer = header.producer.map_or(String::new(), |producer| {
            format!(" producer {} epoch {} sequence {}", producer.id, producer.epoch, producer.base_sequence)
        });
        // Its place is the base timestamp's.
        let horizon = header.delete_horizon().map_or("", |_| " tombstones go at its first time");
        writeln!(
            out,
            "{base}:{position} offsets {} to {} count {} bytes {} {} epoch {} time {} to {}{producer}{horizon}",
            header.base_offset,
            header.last_offset(),
            header.count,
            header.size,
            header.codec,
            header.leader_epoch,
            header.base_timestamp,
            header.max_timestamp
        )?;
    }
    if !shown.records {
        return Ok(());
    }
    match batch.records(DECODED_SIZE_MAX) {
        Ok(records) => records.iter().try_for_each(|record| writeln!(out, "{}", record_json(record))),
        Err(error) => writeln!(out, "{}", json!({ "undecodable": error.to_string() })),
    }
}

fn batch_json(batch: &Batch, base: Offset, position: u64) -> Value {
    let header = batch.header();
    let producer = header.producer;
    json!({
        "segment": base.0,
        "position": position,
        "base_offset": header.base_offset.0,
        "last_offset": header.last_offset().0,
        "count": header.count,
        "bytes": header.size,
        "codec": header.codec.to_string(),
        "leader_epoch": header.leader_epoch,
        "base_timestamp": header.base_timestamp,
        "delete_horizon": header.delete_horizon(),
        "max_timestamp": header.max_timestamp,
        "producer_id": producer.map(|producer| producer.id),
        "producer_epoch": producer.map(|producer| producer.epoch),
        "base_sequence": producer.map(|producer| producer.base_sequence),
        "crc": format!("{:08x}", header.crc),
    })
}

fn repair(folder: &mut Offline, partition: &OfflinePartition, is_json: bool) -> Result<Outcome> {
    let name = format!("{}/{}", partition.topic, partition.id);
    let repaired = folder.repair(partition)?;
    if is_json {
        println!("{}", json!({ "partition": name, "repaired": repaired }));
        return Ok(Outcome::Done);
    }
    let Some(repaired) = repaired else {
        println!("{name}: a start opens it as it is, there is nothing to repair");
        return Ok(Outcome::Done);
    };
    println!("{name}: {}", repaired.reason);
    match repaired.known_end {
        Some(end) => println!("LOST: offsets {} to {end}, which had been answered", repaired.end),
        None => println!("LOST: whatever had been stored from offset {} on", repaired.end),
    }
    println!("the log ends at offset {} now; new events begin there", repaired.end);
    println!("{} bytes are kept in lost+found, {} segments of them whole", repaired.kept_bytes, repaired.moved.len());
    println!(
        "a pipeline that had read further stops at its checkpoint: see inrush pipeline status, then inrush pipeline reset"
    );
    Ok(Outcome::Done)
}

/// A line on the terminal that says how far a long work is.
struct Progress {
    done: u64,
    total: u64,
    shown: Instant,
    is_on: bool,
}

impl Progress {
    fn more(&mut self, bytes: u64) {
        self.done += bytes;
        if self.is_on && self.shown.elapsed() >= PROGRESS_INTERVAL {
            self.shown = Instant::now();
            eprint!("\r{} of {} MiB read ", self.done >> 20, self.total >> 20);
        }
    }

    fn clear(&self) {
        if self.is_on {
            eprint!("\r{:40}\r", "");
        }
    }
}
