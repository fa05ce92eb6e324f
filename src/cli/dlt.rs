//! `inrush dlt list|show|replay|drop`.

use super::{Asking, Outcome, harmless};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::duration;
use crate::letters::Filter;
use crate::stream::fault::Reason;
use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// How often a replay is asked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often its progress is told where nobody looks at a terminal.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    asking: Asking,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Counts dead letters by topic, pipeline, reason, step and output.
    List {
        #[arg(value_name = "TOPIC|PIPELINE")]
        name: Option<String>,
    },
    /// Shows letters one by one: where each comes from, why it is here, what it holds.
    Show {
        /// The dead letter topic, its source, or a pipeline.
        #[arg(value_name = "TOPIC|PIPELINE")]
        topic: String,
        #[command(flatten)]
        which: Which,
        /// Of this pipeline.
        #[arg(long)]
        pipeline: Option<String>,
        /// Shows so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Feeds letters to the pipeline that failed on them, and to those of its outputs that lack them; each once.
    Replay {
        /// The pipeline; with --to-topic also a dead letter topic.
        pipeline: String,
        #[command(flatten)]
        which: Which,
        /// Tells what would come of them; nothing is written.
        #[arg(long)]
        dry_run: bool,
        /// Letters that are handled too: what they made before is made once more.
        #[arg(long)]
        again: bool,
        /// Sends them to this topic as the records that they were, and not to the pipeline: every reader of the topic gets them.
        #[arg(long, value_name = "TOPIC")]
        to_topic: Option<String>,
        /// Does not wait for the end.
        #[arg(long)]
        no_wait: bool,
        /// Ends the replay that is under way.
        #[arg(long, conflicts_with_all = ["dry_run", "again", "to_topic"])]
        stop: bool,
        /// With --stop: also where an output may hold letters that stay open, and a later replay would write twice.
        #[arg(long, requires = "stop")]
        yes: bool,
    },
    /// Deletes letters where all before them go too, and notes the others as handled.
    Drop {
        /// The dead letter topic, its source, or a pipeline.
        #[arg(value_name = "TOPIC|PIPELINE")]
        topic: String,
        #[command(flatten)]
        which: Which,
        /// Of this pipeline.
        #[arg(long)]
        pipeline: Option<String>,
        /// Tells how many; nothing is dropped.
        #[arg(long)]
        dry_run: bool,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters.
#[derive(Args)]
struct Which {
    /// Why they failed, such as `wrong-type`; `-` for letters that say none.
    #[arg(long, value_parser = PossibleValuesParser::new(reasons()), hide_possible_values = true)]
    reason: Option<String>,
    /// Where they failed; `-` for letters that do not say.
    #[arg(long, value_parser = PossibleValuesParser::new(["source", "columns", "select", "enrich", "to", "http", "-"]))]
    step: Option<String>,
    /// An output that lacks them, such as `parquet clicks`.
    #[arg(long)]
    output: Option<String>,
    /// The column that they failed on.
    #[arg(long)]
    column: Option<String>,
    /// Not older: how long ago (`1h`), RFC 3339, a day, or milliseconds since 1970. It is the record's own time.
    #[arg(long, value_name = "AGO|TIME", value_parser = moment, allow_negative_numbers = true)]
    since: Option<i64>,
    /// Older than that.
    #[arg(long, value_name = "AGO|TIME", value_parser = moment, allow_negative_numbers = true)]
    until: Option<i64>,
    /// From this offset of the dead letter topic on.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    from: Option<i64>,
    /// Up to this offset, which is left out.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    to: Option<i64>,
    /// Of this partition of the dead letter topic.
    #[arg(long)]
    partition: Option<i32>,
}

impl Which {
    fn filter(self, pipeline: Option<String>) -> Filter {
        Filter {
            reason: self.reason,
            pipeline,
            output: self.output,
            step: self.step,
            column: self.column,
            since: self.since,
            until: self.until,
            from: self.from,
            to: self.to,
            partition: self.partition,
        }
    }
}

/// Those of pipelines, and the one of the HTTP door that no pipeline has.
fn reasons() -> impl Iterator<Item = &'static str> {
    Reason::ALL.into_iter().map(Reason::as_str).chain(["no-key", "-"])
}

/// Milliseconds of 1973.
const MS_MIN: i64 = 100_000_000_000;

/// A moment in ms: so long ago, RFC 3339, a day as it begins in UTC, or ms.
pub(super) fn moment(text: &str) -> Result<i64, String> {
    moment_from(text, Clock::System.now_ms())
}

fn moment_from(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(ms) = text.parse() {
        // Offsets, seconds, years: nobody means the first years behind 1970.
        return match (1..MS_MIN).contains(&ms) {
            true => Err(format!(
                "{text} ms is {}; an offset is offset:{text} where offsets are taken, and a time has milliseconds",
                chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default().format("%Y-%m-%d")
            )),
            false => Ok(ms),
        };
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    if let Ok(day) = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis());
    }
    let wanted = "write how long ago (1h, 7d), a time (2026-01-02T03:04:05Z), a day, or milliseconds since 1970";
    duration(text).map(|ago| now_ms - ago.as_millis() as i64).map_err(|_| wanted.to_owned())
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let Asking { admin, json } = arguments.asking;
    let mut door = Door { client: Client::new(admin)? };
    match arguments.action {
        Action::List { name } => {
            let groups = door.ask("list", &json!({ "name": name }))?;
            if json {
                println!("{groups}")
            } else {
                print_groups(&groups)
            }
            Ok(Outcome::Done)
        }
        Action::Show { topic, which, pipeline, limit } => show(&mut door, &topic, &which.filter(pipeline), limit, json),
        Action::Replay { pipeline, stop: true, yes, .. } => {
            let lines = door.ask("stop", &json!({ "pipeline": pipeline, "sure": yes }))?;
            told(&lines, json)
        }
        Action::Replay { pipeline, which, dry_run, again, to_topic: Some(to), .. } => {
            send(&mut door, &pipeline, which, &to, Way { is_dry: dry_run, again, json })
        }
        Action::Replay { pipeline, which, dry_run, again, no_wait, .. } => {
            let way = Way { is_dry: dry_run, again, json };
            replay(&mut door, &pipeline, &which.filter(None), way, no_wait)
        }
        Action::Drop { topic, which, pipeline, dry_run, yes } => {
            drop_letters(&mut door, &topic, &which.filter(pipeline), Consent { is_dry: dry_run, yes }, json)
        }
    }
}

/// The admin door, asked for letters.
struct Door {
    client: Client,
}

impl Door {
    fn ask(&mut self, what: &str, question: &Value) -> Result<Value> {
        let answer = self.client.call(
            Method::POST,
            &format!("/api/dead-letters/{what}"),
            "application/json",
            question.to_string(),
        )?;
        let value: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("the daemon answered {} with something that is not JSON", answer.status))?;
        match value.get("error").and_then(Value::as_str) {
            Some(error) => bail!("{error}"),
            None => Ok(value),
        }
    }

    /// The board's line of that name.
    fn status(&mut self, name: &str) -> Result<Option<Value>> {
        let board = self.client.json(Method::GET, "/api/pipelines", None)?;
        Ok(board.as_array().into_iter().flatten().find(|line| line["name"] == name).cloned())
    }
}

/// How letters are replayed or sent.
struct Way {
    is_dry: bool,
    again: bool,
    json: bool,
}

struct Consent {
    is_dry: bool,
    yes: bool,
}

fn show(door: &mut Door, topic: &str, filter: &Filter, limit: usize, json: bool) -> Result<Outcome> {
    let (mut left, mut place) = (limit, Value::Null);
    let mut shown = 0;
    while left > 0 {
        let page = door.ask("show", &json!({ "topic": topic, "filter": filter, "limit": left, "place": place }))?;
        for letter in page["letters"].as_array().into_iter().flatten() {
            if json {
                println!("{letter}")
            } else {
                print_letter(letter)
            }
            (left, shown) = (left - 1, shown + 1);
        }
        place = page["next"].clone();
        if place.is_null() {
            break;
        }
    }
    if !json && shown == 0 {
        println!("no letter is chosen; inrush dlt list shows what there is");
    }
    if !json && left == 0 && !place.is_null() {
        println!("… and perhaps more: --limit N, or --partition {} --from {}", place["partition"], place["offset"]);
    }
    Ok(Outcome::Done)
}

fn replay(door: &mut Door, pipeline: &str, filter: &Filter, way: Way, no_wait: bool) -> Result<Outcome> {
    if door.status(pipeline)?.is_none()
        && let Ok(groups) = door.ask("list", &json!({ "name": pipeline }))
    {
        if topic_of(&groups, pipeline).is_some() {
            bail!(
                "no pipeline is named {pipeline} any more, so there is none to feed: put its file back, or send its letters as they are with --to-topic TOPIC"
            );
        }
        bail!(
            "no pipeline is named {pipeline}, so there is none to feed; letters of the HTTP door (step http) belong to no pipeline: see them with inrush dlt show {pipeline}, mend and send them again, or send them as they are with --to-topic TOPIC"
        );
    }
    let lines =
        door.ask("replay", &json!({ "pipeline": pipeline, "filter": filter, "again": way.again, "dry": way.is_dry }))?;
    let outcome = told(&lines, way.json)?;
    let is_begun = lines[0]["message"].as_str().is_some_and(|message| message.contains("are being replayed"));
    if no_wait || !is_begun || !matches!(outcome, Outcome::Done) {
        return Ok(outcome);
    }
    follow(door, pipeline, way.json)
}

/// Tells how far what is fed to a pipeline is, until its end.
fn follow(door: &mut Door, pipeline: &str, json: bool) -> Result<Outcome> {
    let name = format!("{pipeline}/replay");
    let is_seen = std::io::stderr().is_terminal() && !json;
    let mut told_at = std::time::Instant::now();
    loop {
        let Some(line) = door.status(&name)? else {
            eprintln!(
                "it did not come to its end: inrush dlt replay {pipeline} --stop ended it, or the daemon was started again"
            );
            return Ok(Outcome::Found);
        };
        let done = line["records_read"].as_u64().unwrap_or(0);
        let all = done + line["lag_records"].as_u64().unwrap_or(0);
        let why = line["reason"].as_str().unwrap_or_default();
        match line["state"].as_str().unwrap_or_default() {
            "stopped" | "failed" if json => println!("{line}"),
            "stopped" => println!("{why}"),
            "failed" => bail!("the replay failed: {why}"),
            state => {
                let progress = format!("{done} of {all}, {state}{}{why}", if why.is_empty() { "" } else { ": " });
                if is_seen {
                    eprint!("\r{progress}\x1b[K");
                } else if !json && told_at.elapsed() > TELL_INTERVAL {
                    told_at = std::time::Instant::now();
                    eprintln!("{progress}");
                }
                std::thread::sleep(LOOK_INTERVAL);
                continue;
            }
        }
        return Ok(if line["state"] == "stopped" { Outcome::Done } else { Outcome::Found });
    }
}

/// What `inrush pipeline backfill` asks for.
pub(super) struct Backfill {
    pub(super) pipeline: String,
    /// Times in ms.
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) to: Vec<String>,
    pub(super) yes: bool,
}

/// Feeds a pipeline a range of its source, and waits for the end.
pub(super) fn backfill(admin: String, asked: &Backfill, json: bool) -> Result<Outcome> {
    let mut door = Door { client: Client::new(admin)? };
    let question = json!({
        "pipeline": asked.pipeline, "from": asked.from, "until": asked.until, "outputs": asked.to, "sure": asked.yes,
    });
    let lines = door.ask("backfill", &question)?;
    let outcome = told(&lines, json)?;
    let is_begun = lines[0]["message"].as_str().is_some_and(|message| message.ends_with("are being fed to it"));
    if is_begun { follow(&mut door, &asked.pipeline, json) } else { Ok(outcome) }
}

fn send(door: &mut Door, name: &str, which: Which, to: &str, way: Way) -> Result<Outcome> {
    let dead = "dead letters ";
    let status = door.status(name)?;
    let outputs = status.iter().flat_map(|line| line["outputs"].as_array()).flatten().filter_map(Value::as_str);
    let (topic, pipeline) = match outputs.filter_map(|output| output.strip_prefix(dead)).next() {
        Some(topic) => (topic.to_owned(), Some(name.to_owned())),
        // Its topic may be another's than the one of its name.
        None if status.is_some() => {
            bail!(
                "pipeline {name} does not run, and does not say which topic takes its dead letters: name that topic in its place (inrush dlt list)"
            )
        }
        // One whose file is gone is known by its letters alone.
        None => match door.ask("list", &json!({ "name": name })).ok().and_then(|groups| topic_of(&groups, name)) {
            Some(topic) => (topic, Some(name.to_owned())),
            None => (name.to_owned(), None),
        },
    };
    let filter = which.filter(pipeline);
    let question = json!({ "topic": topic, "filter": filter, "to": to, "again": way.again, "dry": way.is_dry });
    let sent = door.ask("send", &question)?;
    if way.json {
        println!("{sent}");
    } else {
        let done = if way.is_dry { "would be sent" } else { "were sent" };
        let rows = match sent["of_windows"].as_u64().unwrap_or(0) {
            0 => String::new(),
            rows => format!("; {rows} rows of windows stay, which are no records"),
        };
        let stay = being_replayed(&sent);
        println!("{} letters {done} to {to}; every reader of {to} gets them{rows}{stay}", sent["letters"]);
    }
    Ok(Outcome::Done)
}

fn drop_letters(door: &mut Door, topic: &str, filter: &Filter, consent: Consent, json: bool) -> Result<Outcome> {
    let mut ask = |is_dry: bool, ends: &Value| {
        door.ask("drop", &json!({ "topic": topic, "filter": filter, "dry": is_dry, "ends": ends }))
    };
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap_or(0);
    let count = |of: &Value| number(of, "deleted") + number(of, "hidden");
    // They can be replayed with --again, and then no more.
    let and_handled = |of: &Value| match number(of, "handled") {
        0 => String::new(),
        handled => format!(" and {handled} handled ones"),
    };
    let planned = ask(true, &Value::Null)?;
    let what = format!("{} open letters{} of {topic}", count(&planned), and_handled(&planned));
    let stay = being_replayed(&planned);
    if consent.is_dry || count(&planned) + number(&planned, "handled") == 0 {
        match json {
            true => println!("{planned}"),
            false if consent.is_dry => println!("{what} would be dropped{stay}"),
            false => println!("nothing is there to drop: {what}{stay}"),
        }
        return Ok(Outcome::Done);
    }
    if !consent.yes {
        if !std::io::stdin().is_terminal() {
            bail!("{what} would be dropped{stay}; say --yes to do it");
        }
        eprint!("drop {what}? They cannot be replayed then. [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            println!("nothing was dropped");
            return Ok(Outcome::Found);
        }
    }
    // What came since was not agreed to.
    let dropped = ask(false, &planned["ends"])?;
    match json {
        true => println!("{dropped}"),
        false => println!(
            "{} open letters{} of {topic} were dropped: {} deleted from the log, {} noted as handled{}",
            count(&dropped),
            and_handled(&dropped),
            number(&dropped, "deleted") + number(&dropped, "handled"),
            dropped["hidden"],
            being_replayed(&dropped)
        ),
    }
    Ok(Outcome::Done)
}

/// The topic of the letters of this pipeline, if there are some.
fn topic_of(groups: &Value, pipeline: &str) -> Option<String> {
    let mut groups = groups.as_array().into_iter().flatten();
    groups.find(|group| group["pipeline"] == pipeline)?["topic"].as_str().map(str::to_owned)
}

/// Of letters that a replay has begun with.
fn being_replayed(answer: &Value) -> String {
    match answer["replayed"].as_u64().unwrap_or(0) {
        0 => String::new(),
        count => format!("; {count} stay, which are being replayed"),
    }
}

/// Prints what was done for each pipeline.
fn told(lines: &Value, json: bool) -> Result<Outcome> {
    if json {
        println!("{lines}");
    }
    let mut outcome = Outcome::Done;
    for line in lines.as_array().into_iter().flatten() {
        let message = line["message"].as_str().unwrap_or_default();
        match (line["ok"] == true, json) {
            (true, true) => {}
            (true, false) => println!("{message}"),
            (false, true) => outcome = Outcome::Found,
            (false, false) => bail!("{message}"),
        }
    }
    Ok(outcome)
}

fn print_groups(groups: &Value) {
    let groups: Vec<&Value> = groups.as_array().into_iter().flatten().collect();
    if groups.is_empty() {
        println!("there are no dead letters");
        return;
    }
    let cells = |group: &Value| {
        let text = |key: &str| group[key].as_str().unwrap_or("-").to_owned();
        let open = group["oldest_open_seconds"].as_f64().map_or("-".to_owned(), age);
        let number = |key: &str| group[key].to_string();
        let first: Vec<String> =
            ["topic", "pipeline", "reason", "step", "output"].iter().map(|key| text(key)).collect();
        [first, vec![number("letters"), number("open"), open, text("first"), text("last")]].concat()
    };
    let head = ["topic", "pipeline", "reason", "step", "output", "letters", "open", "oldest", "first", "last"];
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(str::to_owned).to_vec()).chain(groups.into_iter().map(cells)).collect();
    let widths: Vec<usize> =
        (0..head.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let padded = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            5..=7 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// `42s`, `17m`, `5h`, `3d`.
fn age(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7200.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// Characters of a letter's value that are shown.
const VALUE_SHOWN: usize = 2_000;

fn print_letter(letter: &Value) {
    let text = |value: &Value| match value {
        Value::String(text) => harmless(text),
        Value::Null => "-".to_owned(),
        other => harmless(&other.to_string()),
    };
    let from = &letter["from"];
    let handled = if letter["handled"] == true { " (handled)" } else { "" };
    println!(
        "{}/{}  {}  {} at {}{}{handled}",
        letter["partition"],
        letter["offset"],
        text(&letter["time"]),
        match letter["reason"] == "-" && from["topic"].is_null() {
            true => "a record that no dead letter is, as far as its headers say: no reason",
            false => letter["reason"].as_str().unwrap_or("-"),
        },
        text(&letter["step"]),
        letter["column"].as_str().map_or(String::new(), |column| format!(" in {column}")),
    );
    println!("    {}", text(&letter["message"]));
    println!(
        "    from {}/{} offset {}, pipeline {}, lacked by {}",
        text(&from["topic"]),
        text(&from["partition"]),
        text(&from["offset"]),
        text(&letter["pipeline"]),
        text(&letter["output"])
    );
    for (name, value) in letter["headers"].as_object().into_iter().flatten() {
        println!("    header {}: {}", harmless(name), text(value));
    }
    if !letter["key"].is_null() {
        println!("    key {}", text(&letter["key"]));
    }
    match letter["value_base64"].as_str() {
        Some(base64) => println!("    {} bytes, base64 {}", letter["value_bytes"], head(base64)),
        None => println!("    {}", head(&text(&letter["value"]))),
    }
}

/// As much of a value as a person reads.
fn head(text: &str) -> String {
    match text.char_indices().nth(VALUE_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} … ({} bytes of it; --json shows all)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_so_long_ago_or_a_time() {
        let at = |text: &str| moment_from(text, 7_200_000);
        assert_eq!(at("1h"), Ok(3_600_000));
        assert_eq!(at("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(at("1970-01-02"), Ok(86_400_000));
        assert_eq!(at("1700000000000"), Ok(1_700_000_000_000));
        assert!(at("5").unwrap_err().contains("offset:5") && at("1700000000").unwrap_err().contains("1970-01-20"));
        for wrong in ["yesterday", "2026-13-01T00:00:00Z", "2026-13-01", ""] {
            assert!(at(wrong).unwrap_err().contains("1h"), "{wrong}");
        }
    }

    #[test]
    fn who_follows_a_replay_that_somebody_else_ends_is_told_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        let board = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").unwrap();
        });
        let mut door = Door { client: Client::new(admin).unwrap() };
        assert!(matches!(follow(&mut door, "p", false).unwrap(), Outcome::Found));
        board.join().unwrap();
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([1.0, 300.0, 7_300.0, 900_000.0].map(age), ["1s", "5m", "2h", "10d"]);
    }
}
