//! [`Explained`] as text for a terminal.

use super::{Explained, FieldTold, MemoryTold, OnErrorTold, Seen, StepTold};
use std::fmt::{self, Display, Formatter};

/// Longer lists of columns are broken into lines of this width.
const WIDTH: usize = 110;

impl Display for Explained {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  ({}, {} test{})", self.name, self.file, self.tests, if self.tests == 1 { "" } else { "s" })?;
        writeln!(f, "\nreads {}: each value is {}", self.source, self.format)?;
        for column in &self.columns {
            let flags = [(column.required, "required"), (column.coerce, "coerce")];
            let flags: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
            let line = format!("  {:<20} {:<16} {:<30} {}", column.name, column.kind, column.from, flags.join(", "));
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.unread_columns.is_empty() {
            writeln!(f, "  declared, and read by nothing: {}", self.unread_columns.join(", "))?;
        }
        if let Some(seen) = &self.seen {
            write!(f, "{seen}")?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "\n{step}"))?;
        self.routes(f)?;
        write!(f, "\n{}", self.on_error)?;
        self.memory(f)?;
        writeln!(f, "may take of CPU: {}", self.cpu)?;
        writeln!(f, "\nkeeps")?;
        self.places.iter().try_for_each(|kept| writeln!(f, "  {}: {}", kept.what, kept.place))
    }
}

impl Explained {
    fn routes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for route in &self.routes {
            writeln!(f, "\nto {}: {}", route.output.name, route.takes)?;
            for setting in &route.output.settings {
                writeln!(f, "  {:<12} {}", setting.key, setting.value)?;
            }
        }
        Ok(())
    }

    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sum = |by_partition: bool| -> u64 {
            self.memory.iter().filter(|one| one.by_partition == by_partition).map(|one| one.bytes).sum()
        };
        let by_partition = match sum(true) {
            0 => String::new(),
            bytes => format!(", and {} for each partition of the source", size(bytes)),
        };
        writeln!(f, "\nmay take {} of memory{by_partition}", size(sum(false)))?;
        self.memory.iter().try_for_each(|MemoryTold { what, bytes, by_partition }| {
            let each = if *by_partition { " a partition" } else { "" };
            writeln!(f, "  {:<10} {what}", size(*bytes) + each)
        })
    }
}

impl Display for StepTold {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "step {}, {}: {}", self.number, self.kind, self.does)?;
        self.sql.iter().try_for_each(|sql| writeln!(f, "    {sql}"))?;
        if let Some(state) = &self.remembers {
            let (key, limit) = (state.key.join(", "), size(state.size_max));
            writeln!(
                f,
                "  remembers {} {}; at most {limit} a partition, then {}",
                if state.key.is_empty() { "what it needs".to_owned() } else { format!("each {key}") },
                state.for_how_long,
                state.when_full
            )?;
        }
        write_fields(f, "  leaves", &self.leaves)
    }
}

impl Display for OnErrorTold {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "what fails goes to {}", self.then)?;
        let of = if self.of == "all" { "whatever it is" } else { "only what an output refused and may take later" };
        match self.retries {
            0 => writeln!(f, "  retry        none")?,
            times => writeln!(f, "  retry        {times} more attempts, {} ms apart: {of}", self.backoff_ms)?,
        }
        match &self.breaker {
            Some(breaker) => writeln!(f, "  breaker      stops when {breaker} records died"),
            None => writeln!(f, "  breaker      off"),
        }
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.not_looked {
            return writeln!(f, "fields seen and not read: not looked for, {why}");
        }
        match self.unread.is_empty() {
            true => writeln!(f, "fields seen and not read, in {} events: none", self.events)?,
            false => writeln!(f, "fields seen and not read, in {} events:", self.events)?,
        }
        for field in &self.unread {
            writeln!(f, "  {:<30} {:<16} in {}", field.place, field.kind, share(field.count, self.events))?;
        }
        if self.more > 0 {
            writeln!(f, "  and {} more", self.more)?;
        }
        for name in &self.missing {
            writeln!(f, "  column {name} is read and was in none of them")?;
        }
        Ok(())
    }
}

fn share(count: u64, of: u64) -> String {
    match count == of {
        true => "all of them".to_owned(),
        false => format!("{count} of {of} ({:.1}%)", count as f64 / of.max(1) as f64 * 100.0),
    }
}

/// `name type, name type, …`, in as many lines as it needs.
fn write_fields(f: &mut Formatter<'_>, head: &str, fields: &[FieldTold]) -> fmt::Result {
    let mut line = head.to_owned();
    let last = fields.len().saturating_sub(1);
    for (at, field) in fields.iter().enumerate() {
        let word = format!(" {} {}{}", field.name, field.kind, if at == last { "" } else { "," });
        if line.len() + word.len() > WIDTH && line.len() > head.len() {
            writeln!(f, "{line}")?;
            line = " ".repeat(head.len());
        }
        line += &word;
    }
    writeln!(f, "{line}")
}

/// Bytes as people say them.
pub(in crate::stream) fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) if bytes.is_multiple_of(size) => format!("{} {unit}", bytes / size),
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} bytes"),
    }
}
