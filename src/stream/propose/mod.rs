//! `inrush pipeline new`: a pipeline file out of sampled records, with typed columns, what was seen of each, and a test that passes.
//!
//! Knows where samples come from as little as what becomes of the file: commands bring the one and write the other. A proposal is run
//! through the real decoder and planner before it is given away; what they do not take of it is read as JSON text.

mod csv;
mod field;
mod name;
mod record;
#[cfg(test)]
mod tests;
mod write;

pub use field::Field;

use super::load::{self, Job};
use super::rows::Decoder;
use super::spec::{From, Kind};
use crate::record::{Record, TopicName};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A proposal is mended at most so often before what fails stays as it is: each time at least one column becomes JSON text.
const MENDINGS_MAX: usize = 64;
/// Columns that a file proposes; what is seen more seldom goes to `rest`.
const COLUMNS_MAX: usize = 120;
/// Records that are tried for the test, so that one is met that becomes a row.
const TRIALS_MAX: usize = 200;

/// What to propose.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The pipeline's name.
    pub name: String,
    pub from: TopicName,
    pub to: To,
}

/// Where its rows are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Parquet,
    Topic,
}

/// What samples were found to be, and the file that says so.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Proposal {
    #[serde(skip)]
    pub text: String,
    pub samples: usize,
    /// As the file says it.
    pub format: &'static str,
    /// Samples of CSV that only say what the columns are called.
    pub headings: usize,
    /// Other samples that the format does not fit.
    pub strangers: usize,
    pub fields: Vec<Field>,
    /// Names of headers and how often each was seen.
    pub headers: BTreeMap<String, usize>,
    /// Samples that the proposed file makes dead letters, and the first one's reason.
    pub dead: usize,
    pub dead_reason: Option<String>,
}

/// Why there is no proposal.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    #[error("there is no record to look at")]
    Empty,
    #[error("\"{0}\" names no pipeline: use letters, digits, '.', '_' and '-'")]
    Name(String),
    /// A mistake of ours; the file is given all the same.
    #[error("the proposed file is not right: {0}")]
    Wrong(String),
}

/// Proposes a file for samples of a topic.
///
/// # Errors
/// [`ProposeError`].
pub fn propose(wish: &Wish, samples: &[Record]) -> Result<Proposal, ProposeError> {
    if TopicName::new(&wish.name).is_err() {
        return Err(ProposeError::Name(wish.name.clone()));
    }
    if samples.is_empty() {
        return Err(ProposeError::Empty);
    }
    let kind = record::Kind::of(samples);
    let all = samples.len();
    let samples: Vec<Record> = samples.iter().filter(|sample| !kind.is_heading(sample)).cloned().collect();
    let samples = samples.as_slice();
    let mut fields = field::of(&kind.objects(samples).iter().collect::<Vec<_>>());
    field::limit(&mut fields, COLUMNS_MAX);
    name::give(&mut fields);
    if kind.catch_all() != Kind::Json {
        fields.iter_mut().filter(|field| field.kind == Kind::Json).for_each(|field| field.kind = kind.catch_all());
    }
    let (headers, headings) = (record::headers(samples), all - samples.len());
    let is_framed = record::are_framed(samples);
    let mut draft =
        write::Draft { wish, kind, samples: samples.len(), headings, is_framed, fields, headers, test: None };
    for _ in 0..MENDINGS_MAX {
        let (dead, mended) = judge(&draft.job()?, samples, &mut draft.fields, &draft.kind);
        if !mended {
            draft.test = record::test(&draft.job()?, samples, &draft);
            return finish(draft, samples, dead);
        }
    }
    let (dead, _) = judge(&draft.job()?, samples, &mut draft.fields.clone(), &draft.kind);
    draft.test = record::test(&draft.job()?, samples, &draft);
    finish(draft, samples, dead)
}

/// How many samples become dead letters, why the first one does, and whether a column was changed so that fewer will.
fn judge(job: &Job, samples: &[Record], fields: &mut [Field], kind: &record::Kind) -> ((usize, Option<String>), bool) {
    let decoder = Decoder::new(&job.spec.format, job.plan.columns().to_vec(), job.plan.input().clone());
    let decoded = decoder.decode(0, samples);
    let mut is_mended = false;
    for (_, fault) in &decoded.faults {
        let of = fields.iter_mut().find(|field| Some(&field.column) == fault.column.as_ref());
        if let Some(field) = of
            && fault.reason != super::fault::Reason::DuplicateField
        {
            is_mended |= field.make(kind.catch_all());
        }
    }
    let reason = decoded.faults.first().map(|(_, fault)| format!("{}: {}", fault.reason.as_str(), fault.message));
    ((decoded.faults.len(), reason), is_mended)
}

fn finish(
    draft: write::Draft<'_>,
    samples: &[Record],
    (dead, dead_reason): (usize, Option<String>),
) -> Result<Proposal, ProposeError> {
    let text = draft.text();
    load::text(&draft.path(), &text).map_err(wrong)?;
    Ok(Proposal {
        text,
        samples: samples.len(),
        format: draft.kind.word(),
        headings: draft.headings,
        strangers: draft.kind.strangers(samples),
        fields: draft.fields,
        headers: draft.headers,
        dead,
        dead_reason,
    })
}

fn wrong(mistakes: Vec<crate::config::Mistake>) -> ProposeError {
    ProposeError::Wrong(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// The columns that a plan reads of fields.
fn reads_fields(job: &Job) -> bool {
    job.plan.columns().iter().any(|column| matches!(column.from, From::Path(_) | From::Rest))
}

/// As the path of a file that is not written yet.
fn path_of(name: &str) -> std::path::PathBuf {
    Path::new(&format!("{name}.toml")).to_owned()
}

/// An object of a sample.
type Object = serde_json::Map<String, Value>;
