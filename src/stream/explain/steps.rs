//! A step in words: what it does, its SQL as it runs, what it remembers and what leaves it.

use super::super::plan::Leaving;
use super::super::spec::{Enrich, Frame, Keyed, Memory, Missing, Named, Step, TableFrom, Window};
use super::super::sql::{Scope, Selected};
use super::super::step::SAMPLE_WHOLE;
use super::text::size;
use super::{FieldTold, Show};
use crate::config::Mistake;
use datafusion_expr::Expr;
use datafusion_sql::unparser::Unparser;
use datafusion_sql::unparser::dialect::CustomDialectBuilder;
use std::time::Duration;

#[derive(Clone, Debug, serde::Serialize)]
pub struct StepTold {
    /// From 1, as `pipeline tap --after` takes it.
    pub number: usize,
    /// The key of its table, such as `where`.
    pub kind: String,
    pub does: String,
    /// Its SQL behind type coercion and simplification, one text an expression.
    pub sql: Vec<String>,
    pub remembers: Option<StateTold>,
    pub leaves: Vec<FieldTold>,
}

/// What a step remembers.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StateTold {
    pub key: Vec<String>,
    /// In words.
    pub for_how_long: String,
    pub time_ms: u64,
    /// Bytes of one partition of the source.
    pub size_max: u64,
    /// What happens beyond them, in words.
    pub when_full: &'static str,
}

/// All steps of the file; `leaving` has what stands before the first one, and behind each.
pub(super) fn all(show: &Show<'_>, leaving: &[Leaving]) -> Result<Vec<StepTold>, Vec<Mistake>> {
    let mut told = Vec::with_capacity(show.spec.steps.len());
    let mut wrong = Vec::new();
    for (at, (step, around)) in show.spec.steps.iter().zip(leaving.windows(2)).enumerate() {
        let scope = Scope::new(&around[0].fields);
        match words(show, step, &scope) {
            Ok(Words { kind, does, sql, remembers }) => {
                let leaves = show.fields(&around[1]);
                told.push(StepTold { number: at + 1, kind: kind.to_owned(), does, sql, remembers, leaves });
            }
            Err(mistakes) => wrong.extend(mistakes),
        }
    }
    if wrong.is_empty() { Ok(told) } else { Err(wrong) }
}

struct Words {
    kind: &'static str,
    does: String,
    sql: Vec<String>,
    remembers: Option<StateTold>,
}

/// Every kind of step, in words.
fn words(show: &Show<'_>, step: &Step, scope: &Scope) -> Result<Words, Vec<Mistake>> {
    let plain = |kind, does: String| Words { kind, does, sql: Vec::new(), remembers: None };
    Ok(match step {
        Step::Where(sql) => {
            let filter = show.planner.filter(scope, sql)?;
            Words { sql: vec![shown(&filter)], ..plain("where", "keeps the rows of which this is true".to_owned()) }
        }
        Step::Select(sql) => {
            let selected = show.planner.select(scope, sql)?;
            Words { sql: shown_all(&selected), ..plain("select", "makes these columns, and keeps no other".to_owned()) }
        }
        Step::Sql(sql) => {
            let (filter, selected) = show.planner.query(scope, sql)?;
            let filter = filter.map(|filter| format!("where {}", shown(&filter)));
            let sql = shown_all(&selected).into_iter().chain(filter).collect();
            Words { sql, ..plain("sql", "makes these columns of the rows that its where keeps".to_owned()) }
        }
        Step::Unnest(unnest) => {
            let (list, name) = (&unnest.list.name, unnest.name.as_ref().unwrap_or(&unnest.list.name));
            let empty = match unnest.keep_empty {
                true => "; a row without elements stays, with null",
                false => "; a row without elements is left out (filtered: empty)",
            };
            plain("unnest", format!("makes a row for each element of {list}, which is called {name}{empty}"))
        }
        Step::Sample(sample) => {
            let percent = f64::from(sample.share) / SAMPLE_WHOLE as f64 * 100.0;
            let how = match sample.key.as_slice() {
                [] => "of the records, by their place in the log: the same ones whenever they are read".to_owned(),
                key => format!("of the rows, by {}: rows that are alike there stay or go together", names(key)),
            };
            plain("sample", format!("keeps {percent}% {how}"))
        }
        Step::Keyed(keyed) => self::keyed(show, keyed, scope)?,
        Step::Window(window) => self::window(window),
        Step::Enrich(step) => plain("enrich", enrich(step)),
    })
}

fn keyed(show: &Show<'_>, keyed: &Keyed, scope: &Scope) -> Result<Words, Vec<Mistake>> {
    let (key, time) = (names(&keyed.key), time(keyed.time));
    let (kind, does, sql, how_long) = match &keyed.what {
        Memory::Dedupe => (
            "dedupe",
            format!("keeps the first row of each {key}, and leaves out others for {time} (filtered: duplicate)"),
            None,
            format!("{time} behind the row that passed"),
        ),
        Memory::Debounce => (
            "debounce",
            format!("lets a row of each {key} pass, then none for {time} (filtered: cool-down)"),
            None,
            format!("{time} behind the row that passed"),
        ),
        Memory::Sessionize => (
            "sessionize",
            format!(
                "says of each row which session of its {key} it is of, and the how-manieth there; a session ends when nothing came for {time}"
            ),
            None,
            format!("until nothing of it came for {time}"),
        ),
        Memory::Last { until } => {
            let until = until.as_ref().map(|sql| show.planner.filter(scope, sql)).transpose();
            let until = until?.map(|until| shown(&until));
            let end = until.as_ref().map_or(String::new(), |_| "its until is true, or when ".to_owned());
            (
                "last",
                format!(
                    "of each {key} the last row goes on, when {end}none came for {time}; the others are left out (filtered: replaced)"
                ),
                until.map(|until| format!("until {until}")),
                format!("until it has gone on, {time} behind the last row at the latest"),
            )
        }
    };
    let key = keyed.key.iter().map(|named| named.name.clone()).collect();
    let time_ms = keyed.time.as_millis().min(u128::from(u64::MAX)) as u64;
    let remembers = Some(StateTold {
        key,
        for_how_long: how_long,
        time_ms,
        size_max: keyed.size_max,
        when_full: "the next to leave leave early",
    });
    Ok(Words { kind, does, sql: sql.into_iter().collect(), remembers })
}

fn enrich(step: &Enrich) -> String {
    let from = match &step.from {
        TableFrom::Csv { file, .. } => format!("the CSV file {}", file.display()),
        TableFrom::Parquet(file) => format!("the Parquet file {}", file.display()),
        TableFrom::Topic(topic) => format!("topic {topic}, whose last record of each key counts"),
    };
    let columns = match &step.columns {
        None => "all its other columns".to_owned(),
        Some(columns) => columns.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let missing = match step.missing {
        Missing::Null => "stays, with null",
        Missing::Drop => "is left out (filtered: no-match)",
        Missing::Dead => "is a dead letter",
    };
    let (on, key, memory) = (names(&step.on), names(&step.key), size(step.size_max));
    format!(
        "gives each row {columns} of {from}, where {key} is its {on}; a row without such an entry {missing}. The table may take {memory} and is read again when it changes"
    )
}

fn window(window: &Window) -> Words {
    let (frame, open) = match window.frame {
        Frame::Hopping { size, every } if size == every => (format!("each {}", time(size)), size),
        Frame::Hopping { size, every } => (format!("{} from every {} on", time(size), time(every)), size),
        Frame::Session { gap } => (format!("each session, which ends when nothing came for {}", time(gap)), gap),
    };
    let of = match window.key.as_slice() {
        [] => String::new(),
        key => format!(" and {}", names(key)),
    };
    let clock = window.time.as_ref().map_or("the record's timestamp", |named| named.name.as_str());
    let late = match &window.late_to {
        Some(route) => format!("go to {}", route.to),
        None => "are left out (filtered: late)".to_owned(),
    };
    let does = format!(
        "makes one row of those of {frame}{of}, by {clock}, once all partitions of the topic are {} past its end; rows that come later {late}",
        time(window.late)
    );
    let remembers = StateTold {
        key: window.key.iter().map(|named| named.name.clone()).collect(),
        for_how_long: format!("until its window closes, {} behind its end", time(window.late)),
        time_ms: (open + window.late).as_millis().min(u128::from(u64::MAX)) as u64,
        size_max: window.size_max,
        when_full: "rows that would need more are left out (filtered: full)",
    };
    Words { kind: "window", does, sql: vec![window.select.text.clone()], remembers: Some(remembers) }
}

/// An expression as SQL, with the casts that types ask for.
pub(super) fn shown(expr: &Expr) -> String {
    let dialect = CustomDialectBuilder::new().build();
    match Unparser::new(&dialect).with_pretty(true).expr_to_sql(expr) {
        Ok(sql) => sql.to_string(),
        Err(_) => expr.human_display().to_string(),
    }
}

fn shown_all(selected: &Selected) -> Vec<String> {
    let one = |(name, expr): &(String, Expr)| {
        let text = shown(expr);
        if text == *name { text } else { format!("{text} as {name}") }
    };
    selected.iter().map(one).collect()
}

fn names(key: &[Named]) -> String {
    key.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(" and ")
}

/// A time in the largest unit that says it whole.
pub(super) fn time(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];
    match units.into_iter().find(|(_, size)| ms >= *size && ms.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{} {unit}", ms / size),
        None => format!("{ms} ms"),
    }
}
