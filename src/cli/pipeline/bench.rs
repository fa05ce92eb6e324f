//! `inrush pipeline bench`: how fast a file is, and what of it is slow.

use crate::cli::Outcome;
use crate::clock::Clock;
use crate::lab::generate::Generator;
use crate::record::Record;
use crate::stream::{self, BenchError, Benched, EVENTS_BYTES_MAX, Events, record_of, size_of_record};
use anyhow::{Context, Result};
use clap::Args;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// A line of a file is not longer.
const LINE_SIZE_MAX: u64 = 100 << 20;

#[derive(Args)]
pub(super) struct Arguments {
    file: PathBuf,
    /// Recorded events, as `inrush pipeline run` takes them.
    #[arg(long, value_name = "FILE", conflicts_with = "events")]
    from: Option<PathBuf>,
    /// Clicks to make instead, as `inrush gen clicks` does.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    events: u64,
}

pub(super) fn run(asked: &Arguments, json: bool) -> Result<Outcome> {
    let events = match &asked.from {
        Some(from) => recorded(from)?,
        None => clicks(asked.events),
    };
    let is_shown = !json && std::io::stderr().is_terminal();
    let progress = |round: usize| {
        if is_shown {
            eprint!("\rround {round} ");
            let _ = std::io::stderr().flush();
        }
    };
    let told = stream::bench(&asked.file, events, progress);
    if is_shown {
        eprint!("\r{:20}\r", "");
    }
    match told {
        Ok(told) if json => println!("{}", serde_json::to_string(&told)?),
        Ok(told) => print(&told),
        Err(BenchError::Mistakes(mistakes)) => {
            super::tell(&mistakes, json);
            return Ok(Outcome::Wrong);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Outcome::Done)
}

fn clicks(count: u64) -> Vec<Record> {
    let (mut clicks, now_ms) = (Generator::new(1), Clock::System.now_ms());
    let mut made = Vec::new();
    let mut size = 0;
    let mut line = Vec::new();
    for number in 0..count {
        line.clear();
        clicks.write_click(&mut line, now_ms);
        size += line.len() as u64;
        if size > EVENTS_BYTES_MAX {
            eprintln!("the first {number} events are taken: they fill the memory that there is for them");
            break;
        }
        made.push(record_of(&line, number as i64, &Clock::System));
    }
    made
}

fn recorded(from: &Path) -> Result<Vec<Record>> {
    let opened = Events::open(from).with_context(|| format!("cannot open the events {}", from.display()))?;
    let mut lines = opened.lines;
    let (mut events, mut size, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        if (&mut lines).take(LINE_SIZE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(events);
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let record = record_of(text, events.len() as i64, &Clock::System);
        size += size_of_record(&record);
        if size > EVENTS_BYTES_MAX {
            eprintln!("the first {} events are taken: they fill the memory that there is for them", events.len());
            return Ok(events);
        }
        events.push(record);
    }
}

fn print(told: &Benched) {
    let core = told.core.map_or("not bound to a core".to_owned(), |core| format!("on core {core} alone"));
    println!(
        "{}: {} events, {:.1} MB, {} rounds {core} of {}, all in memory and without the log",
        told.name,
        told.events,
        told.bytes as f64 / 1e6,
        told.rounds,
        told.cores
    );
    let (mb, events) = (told.mb_per_second, told.events_per_second);
    println!(
        "{:.0} MB/s ({:.0} to {:.0}), {:.0} events/s ({:.0} to {:.0})",
        mb.median, mb.min, mb.max, events.median, events.min, events.max
    );
    println!("{} rows, {} filtered, {} dead letters", told.rows, told.filtered, told.dead_letters);
    println!("\n{:>7} {:>10} {:>21} {:>9} {:>10}  part", "share", "ms", "min..max", "MB/s", "rows");
    for part in &told.parts {
        let range = format!("{:.2}..{:.2}", part.ms.min, part.ms.max);
        // Of what took no time there is no speed.
        let speed = if part.ms.median < 0.005 { "-".to_owned() } else { format!("{:.0}", part.mb_per_second) };
        println!(
            "{:>6.1}% {:>10.2} {:>21} {:>9} {:>10}  {}",
            part.share_percent, part.ms.median, range, speed, part.rows, part.name
        );
    }
    let rest = 100.0 - told.parts.iter().map(|part| part.share_percent).sum::<f64>();
    println!("{rest:>6.1}% {:>10} {:>21} {:>9} {:>10}  the rest", "", "", "", "");
    println!("\nslowest: {}; rounds differ by {:.0}% of the median", told.slowest, told.noise_percent);
    if told.noise_percent > 20.0 {
        println!("this machine is not quiet: figures closer than that say nothing");
    }
}
