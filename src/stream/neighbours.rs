//! Pipelines that write into folders within each other: who reads the outer one would read both.

use super::load;
use super::spec::{Output, ParquetOutput, Spec};
use crate::config::Mistake;
use std::path::PathBuf;

/// Folders of both, if one of them is within the other. One and the same folder has an owner, who may be followed by another pipeline.
pub(super) fn nested<'a>(one: &'a Spec, other: &'a Spec) -> Option<(&'a ParquetOutput, &'a ParquetOutput)> {
    let pairs = folders(one).flat_map(|own| folders(other).map(move |theirs| (own, theirs)));
    pairs.into_iter().find(|(own, theirs)| own.folder != theirs.folder && shares(own, theirs))
}

/// Whether the files of both are in one folder, or in folders of which one is in the other.
pub(super) fn shares(one: &ParquetOutput, other: &ParquetOutput) -> bool {
    let is_within = one.folder.starts_with(&other.folder) || other.folder.starts_with(&one.folder);
    one.store == other.store && is_within
}

/// What is said of it.
pub(super) fn told(own: &ParquetOutput, theirs: &ParquetOutput, pipeline: &str) -> String {
    format!(
        "it writes to {}, and pipeline {pipeline} to {}: who reads one folder would read both, name another",
        own.folder.display(),
        theirs.folder.display()
    )
}

fn folders(spec: &Spec) -> impl Iterator<Item = &ParquetOutput> + Clone {
    spec.routes.iter().filter_map(|route| match &route.to {
        Output::Parquet(out) => Some(out.as_ref()),
        Output::Topic(_) | Output::Kafka(_) | Output::Http(_) | Output::Stdout => None,
    })
}

/// Of several files those that write where another one before does. Files that are wrong are passed over.
pub fn neighbours(files: &[PathBuf]) -> Vec<Mistake> {
    let jobs: Vec<load::Job> = files.iter().filter_map(|file| load::file(file).ok()).collect();
    let mut mistakes = Vec::new();
    for (at, job) in jobs.iter().enumerate() {
        let pair = |other: &load::Job| {
            let pairs = folders(&job.spec).flat_map(|own| folders(&other.spec).map(move |theirs| (own, theirs)));
            let (own, theirs) = pairs.into_iter().find(|(own, theirs)| shares(own, theirs))?;
            Some(told(own, theirs, &other.spec.name))
        };
        let message = jobs[..at].iter().filter(|other| other.spec.name != job.spec.name).find_map(pair);
        mistakes.extend(message.map(|message| Mistake {
            file: job.spec.file.clone(),
            line: 0,
            column: 0,
            field: None,
            message,
        }));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn folders_within_each_other_are_found() {
        let spec = |name: &str, to: &str| {
            let text = format!("from = \"topic:t\"\nto = {{ parquet = \"{to}\" }}\n[columns]\na = \"string\"\n");
            load::text(Path::new(name), &text).unwrap().spec
        };
        let (inner, outer) = (spec("inner.toml", "lake/x"), spec("outer.toml", "lake"));
        let (own, theirs) = nested(&inner, &outer).unwrap();
        assert_eq!(
            told(own, theirs, "outer"),
            "it writes to lake/x, and pipeline outer to lake: who reads one folder would read both, name another"
        );
        assert!(nested(&outer, &inner).is_some() && nested(&outer, &spec("same.toml", "lake")).is_none());
        assert!(nested(&inner, &spec("beside.toml", "lake/xy")).is_none());
    }

    #[test]
    fn files_that_share_a_folder_are_told_together() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = [("a", "lake"), ("b", "lake/x"), ("c", "lake"), ("d", "else")]
            .map(|(name, to)| {
                let path = folder.path().join(format!("{name}.toml"));
                let text = format!("from = \"topic:t\"\nto = {{ parquet = \"{to}\" }}\n[columns]\na = \"string\"\n");
                std::fs::write(&path, text).unwrap();
                path
            })
            .to_vec();
        let told: Vec<PathBuf> = neighbours(&files).into_iter().map(|mistake| mistake.file).collect();
        assert_eq!(told, files[1..3]);
    }
}
