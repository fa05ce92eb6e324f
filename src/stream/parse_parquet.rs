//! `to = { parquet = … }`: a folder or a bucket, how files are laid out in it, and when they roll.

use super::parse_step::named;
use super::sink::bucket::{self, Address};
use super::sink::source::SourceColumn;
use super::spec::{Named, ParquetOutput, SortKey};
use crate::config::{Section, Value, duration, nearest, size};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use toml_edit::Item;

/// What a file rolls at unless it says otherwise.
const ROLL_AGE: Duration = Duration::from_secs(300);
const ROLL_BYTES: u64 = 128 << 20;
/// Columns to sort by, and with a bloom filter.
const SORT_MAX: usize = 8;
const BLOOM_MAX: usize = 16;
/// Keys that only a bucket has.
const OF_STORES: [&str; 4] = ["endpoint", "region", "path-style", "credentials"];

/// Reads `to`; its mistakes are noted.
pub(super) fn read(to: &Section<'_>, kind: &'static str) -> Option<ParquetOutput> {
    let place = to.string(kind).and_then(|place| place_of(to, kind, &place.value));
    let partition = to.string("partition").map(|pattern| pattern.value);
    let time = to.string("time").map(|time| time.value);
    if let Some(pattern) = &partition {
        let is_bad =
            chrono::format::StrftimeItems::new(pattern).any(|item| matches!(item, chrono::format::Item::Error));
        let is_hidden = |part: &str| part.starts_with(['.', '_']);
        if is_bad || pattern.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            to.wrong("partition", format!("\"{pattern}\" is not a pattern like dt=%Y-%m-%d/hour=%H"));
        } else if pattern.split('/').any(is_hidden) {
            to.wrong("partition", "many readers pass over folders whose names begin with _ or .: name them otherwise");
        } else if pattern.contains('{') {
            to.wrong(
                "partition",
                "folders are made of a time, dt=%Y-%m-%d; for a folder by a column's value take a [[route]] for each, or sort by the column",
            );
        } else if time.is_none() {
            to.wrong("partition", "say which column the partition is made from: time = \"ts\" (or \"_timestamp\")");
        }
    }
    let roll = to.read("roll", roll).map_or((ROLL_AGE, ROLL_BYTES), |roll| roll.value);
    let compression_level = to.integer("compression-level").map_or(1, |level| level.value);
    if !(1..=22).contains(&compression_level) {
        to.wrong("compression-level", "zstd has levels 1 to 22");
    }
    // Of lines there is no order and no filter.
    let (sort, bloom) = match kind {
        "parquet" => (sort(to), list(to, "bloom", BLOOM_MAX)),
        _ => (Vec::new(), Vec::new()),
    };
    let (source, source_at) = source_columns(to);
    let adopt = to.string("adopt").map(|name| name.value);
    let (store, folder) = place?;
    Some(ParquetOutput {
        store,
        folder,
        partition,
        time,
        roll_age: roll.0,
        roll_bytes: roll.1,
        compression_level: compression_level as i32,
        sort,
        bloom,
        source,
        source_at,
        adopt,
        lines: None,
    })
}

/// A bucket with the folder in it, or a folder below `--out`.
fn place_of(to: &Section<'_>, kind: &'static str, text: &str) -> Option<(Option<Address>, PathBuf)> {
    let (endpoint, region) = (to.string("endpoint"), to.string("region"));
    let (path_style, credentials) = (to.boolean("path-style"), to.string("credentials"));
    match text.split_once("://") {
        Some(("s3", rest)) => {
            let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
            let is_bucket = (3..=63).contains(&bucket.len())
                && bucket
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
            if !is_bucket {
                to.wrong(kind, format!("\"{bucket}\" is no name of a bucket; write s3://BUCKET/FOLDER"));
            }
            let folder = clean(folder).filter(|_| is_bucket);
            if is_bucket && folder.is_none() {
                let problem = "names no folder in the bucket; write s3://BUCKET/FOLDER, without .., * and ?";
                to.wrong(kind, format!("\"{text}\" {problem}"));
            }
            if let Some(endpoint) = &endpoint
                && !["http://", "https://"]
                    .iter()
                    .any(|scheme| endpoint.value.len() > scheme.len() && endpoint.value.starts_with(scheme))
            {
                to.wrong(
                    "endpoint",
                    format!("\"{}\" is no endpoint; write https://HOST or http://HOST:PORT", endpoint.value),
                );
            }
            let address = Address {
                bucket: bucket.to_owned(),
                endpoint: endpoint.map(|endpoint| endpoint.value),
                region: region.map(|region| region.value),
                path_style: path_style.map(|is_path_style| is_path_style.value),
                credentials: credentials.map(|name| name.value),
                pipeline: to.mistakes().file.to_owned(),
            };
            if address.credentials.is_some()
                && let Some(reason) = bucket::lacks(&address)
            {
                to.wrong("credentials", reason);
            }
            Some((Some(address), folder?))
        }
        Some((scheme, _)) if scheme != "file" => {
            let others = "in this build are a folder below --out (parquet = \"clicks\") and s3://BUCKET/FOLDER; stores of gs:// and az:// that speak S3 are reached by s3:// with endpoint";
            to.wrong(kind, format!("{scheme}:// is not in this build; {others}"));
            None
        }
        _ => {
            for key in OF_STORES.iter().filter(|key| to.has(key)) {
                to.wrong(key, "only a bucket has it: parquet = \"s3://BUCKET/FOLDER\"");
            }
            match clean(text) {
                Some(folder) => Some((None, folder)),
                None => {
                    to.wrong(
                        kind,
                        format!("\"{text}\" must be a folder below the output folder (--out), without .. and without a leading /, or s3://BUCKET/FOLDER"),
                    );
                    None
                }
            }
        }
    }
}

/// A folder below `--out`; its mistake is noted.
pub(super) fn folder_here(section: &Section<'_>, key: &str, text: &str) -> Option<PathBuf> {
    let folder = clean(text);
    if folder.is_none() {
        section.wrong(
            key,
            format!("\"{text}\" must be a folder below the output folder (--out), without .. and without a leading /"),
        );
    }
    folder
}

/// A path that stays below where it begins.
fn clean(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let is_clean = !text.is_empty()
        && !text.contains("://")
        && path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    Some(path).filter(|path| is_clean && !path.as_os_str().is_empty())
}

/// `["ts", "user_id desc"]`, or the same in one text with commas. A name may have blanks.
fn sort(to: &Section<'_>) -> Vec<SortKey> {
    let columns = list(to, "sort", SORT_MAX);
    let key = |mut column: Named| {
        let (name, order) = match column.name.trim().rsplit_once(char::is_whitespace) {
            Some((name, order)) if ["asc", "desc"].contains(&order.to_ascii_lowercase().as_str()) => (name, order),
            _ => (column.name.trim(), "asc"),
        };
        let is_descending = order.eq_ignore_ascii_case("desc");
        column.name = name.trim_end().to_owned();
        SortKey { column, is_descending }
    };
    columns.into_iter().map(key).collect()
}

/// Columns as a list or as one text with commas between them.
fn list(to: &Section<'_>, key: &'static str, most: usize) -> Vec<Named> {
    if !to.has(key) {
        return Vec::new();
    }
    let place = to.item(key).and_then(Item::span);
    let names: Vec<String> = match to.item(key).is_some_and(Item::is_str) {
        true => to.string(key).map(|text| text.value.split(',').map(|name| name.trim().to_owned()).collect()),
        false => to.strings(key),
    }
    .unwrap_or_default();
    if names.iter().any(|name| name.trim().is_empty()) || names.is_empty() {
        to.wrong(key, "name at least one column, and no empty one");
    }
    if names.len() > most {
        to.wrong(key, format!("{} columns; at most {most}", names.len()));
    }
    let names = names.into_iter().filter(|name| !name.trim().is_empty());
    names.map(|value| named(to, key, Value { value, place: place.clone() })).collect()
}

/// `true`, or some of the three by name.
fn source_columns(to: &Section<'_>) -> (Vec<SourceColumn>, Option<Named>) {
    const KEY: &str = "source-columns";
    if !to.has(KEY) {
        return (Vec::new(), None);
    }
    if to.item(KEY).is_some_and(Item::is_bool) {
        let is_wanted = to.boolean(KEY).is_some_and(|wanted| wanted.value);
        let place = to.item(KEY).and_then(Item::span);
        let at = named(to, KEY, Value { value: String::new(), place });
        return (if is_wanted { SourceColumn::ALL.to_vec() } else { Vec::new() }, Some(at));
    }
    let names = list(to, KEY, SourceColumn::ALL.len());
    let known = SourceColumn::ALL.map(SourceColumn::name);
    let mut found = Vec::new();
    for name in &names {
        match SourceColumn::ALL.into_iter().find(|column| column.name() == name.name) {
            Some(column) if found.contains(&column) => {
                to.wrong(KEY, format!("{} stands twice", name.name));
            }
            Some(column) => found.push(column),
            None => {
                let meant = nearest(&name.name, &known).map_or(String::new(), |name| format!("; did you mean {name}?"));
                to.wrong(KEY, format!("\"{}\" is none of {}{meant}", name.name, known.join(", ")));
            }
        }
    }
    (found, names.into_iter().next())
}

/// `5m`, `128MiB`, or both: `5m or 128MiB`.
fn roll(text: &str) -> Result<(Duration, u64), String> {
    let mut found = (None, None);
    for part in text.split(" or ") {
        match (duration(part.trim()), size(part.trim())) {
            (Ok(age), _) if found.0.is_none() => found.0 = Some(age),
            (_, Ok(bytes)) if found.1.is_none() => found.1 = Some(bytes),
            _ => return Err(format!("\"{text}\" is not a roll; write an age, a size, or both: \"5m or 128MiB\"")),
        }
    }
    let (age, bytes) = (found.0.unwrap_or(ROLL_AGE), found.1.unwrap_or(ROLL_BYTES));
    if age < Duration::from_millis(100) || bytes < 64 << 10 {
        return Err("files roll at 100ms and 64KiB at the least".to_owned());
    }
    Ok((age, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::super::spec::Output;
    use super::*;

    fn text(to: &str) -> String {
        format!(
            "from = \"topic:t\"\nto = {{ {to} }}\n[columns]\na = \"string\"\nn = \"int64\"\nts = \"timestamp\"\nl = [\"string\"]\nb = \"bool\"\n"
        )
    }

    fn mistakes(to: &str) -> Vec<String> {
        let wrong = load::text(Path::new("p.toml"), &text(to)).err().unwrap_or_default();
        wrong.iter().map(ToString::to_string).collect()
    }

    fn read(to: &str) -> ParquetOutput {
        let job = load::text(Path::new("p.toml"), &text(to)).unwrap_or_else(|wrong| panic!("{to}: {wrong:#?}"));
        match &job.spec.routes[0].to {
            Output::Parquet(out) => (**out).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bucket_has_an_address_and_no_folder_above_it() {
        let out = read("parquet = \"s3://lake/raw/clicks/\", endpoint = \"http://minio:9000\", region = \"eu-west-1\"");
        let at = out.store.clone().unwrap();
        assert_eq!(
            (at.bucket.as_str(), at.endpoint.as_deref(), out.folder.as_path()),
            ("lake", Some("http://minio:9000"), Path::new("raw/clicks"))
        );
        assert_eq!(Output::Parquet(Box::new(out)).to_string(), "parquet s3://lake/raw/clicks");
        for (to, told) in [
            ("parquet = \"s3://lake\"", "names no folder"),
            ("parquet = \"s3://lake/../x\"", "names no folder"),
            ("parquet = \"s3://La_ke/x\"", "no name of a bucket"),
            ("parquet = \"gs://lake/x\"", "gs:// is not in this build"),
            ("parquet = \"/abs\"", "below the output folder"),
            ("parquet = \"x\", region = \"r\"", "only a bucket has it"),
            ("parquet = \"s3://lake/x\", endpoint = \"minio:9000\"", "is no endpoint"),
            ("parquet = \"s3://lake/x\", credentials = \"gone\"", "secrets/gone"),
            ("parquet = \"s3://lake/x\", endpont = \"http://x\"", "endpoint"),
        ] {
            let wrong = mistakes(to);
            assert!(
                wrong.len() == 1 && wrong[0].contains(told) && wrong[0].starts_with("p.toml:2:"),
                "{to}: {wrong:#?}"
            );
        }
    }

    #[test]
    fn columns_of_the_layout_are_known_and_fit() {
        let out = read("parquet = \"x\", sort = [\"ts desc\", \"a\"], bloom = [\"a\"], source-columns = true");
        let sort: Vec<(&str, bool)> =
            out.sort.iter().map(|key| (key.column.name.as_str(), key.is_descending)).collect();
        assert_eq!((sort, out.source.len()), (vec![("ts", true), ("a", false)], 3));
        assert_eq!(read("parquet = \"x\", sort = \"n, ts desc\", bloom = \"a\"").sort.len(), 2);
        assert_eq!(read("parquet = \"x\", sort = \"_offset\", source-columns = [\"_offset\"]").source.len(), 1);
        for (to, told) in [
            ("parquet = \"x\", sort = [\"tss\"]", "did you mean ts"),
            ("parquet = \"x\", sort = [\"ts  down\"]", "\"ts  down\" is no column"),
            ("parquet = \"x\", sort = \"n n DESC, ts\"", "\"n n\" is no column of the output; did you mean n?"),
            ("parquet = \"x\", sort = []", "at least one column"),
            ("parquet = \"x\", sort = \"l\"", "a list"),
            ("parquet = \"x\", bloom = [\"aa\"]", "no column of the output"),
            ("parquet = \"x\", bloom = [\"l\"]", "a list"),
            ("parquet = \"x\", bloom = [\"b\"]", "true and false"),
            ("parquet = \"x\", source-columns = [\"_ofset\"]", "did you mean _offset"),
            ("parquet = \"x\", source-columns = 1", "a list of texts"),
            ("parquet = \"x\", sort = \"_offset\"", "source-columns"),
            ("parquet = \"x\", partition = \"dt=%Y/_h=%H\", time = \"ts\"", "pass over folders"),
            ("parquet = \"x\", partition = \"camera={camera}\"", "made of a time"),
        ] {
            let wrong = mistakes(to);
            assert!(wrong.iter().any(|line| line.contains(told) && line.starts_with("p.toml:2:")), "{to}: {wrong:#?}");
        }
        let hides = text("parquet = \"x\", partition = \"day=%Y/TS=%d\", time = \"ts\"");
        let job = load::text(Path::new("p.toml"), &hides).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        assert!(job.plan.warnings().iter().any(|told| told.contains("both named TS")), "{:?}", job.plan.warnings());
        let twice = text("parquet = \"x\", source-columns = true")
            .replace("[columns]", "select = \"a, n as _offset\"\n[columns]");
        let wrong = load::text(Path::new("p.toml"), &twice).err().unwrap();
        assert!(wrong[0].to_string().contains("_offset is made by the steps already"), "{wrong:#?}");
    }
}
