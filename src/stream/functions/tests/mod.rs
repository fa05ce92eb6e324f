//! What holds of all functions: every Arrow form of an argument, NULL, arguments that they cannot read, the examples, the page.

pub(in crate::stream) mod mmdb;

use super::call::Takes;
use super::*;
use crate::stream::load;
use arrow::array::{
    Array, ArrayRef, BinaryArray, Int64Array, ListBuilder, PrimitiveBuilder, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

const ODD: [&str; 12] =
    ["", "?", "%", "https://", "//[", "a=%zz&b", "{", "😀", "::ffff:1.2.3.4", "..", "?utm_source=%", "[[0,0],[1,1]"];

/// Arrow's forms of one kind of argument.
fn forms(kind: Takes) -> Vec<DataType> {
    let list = |item: DataType| Arc::new(Field::new("item", item, true));
    match kind {
        Takes::Text => vec![DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View],
        Takes::Bytes => vec![DataType::Binary, DataType::LargeBinary, DataType::BinaryView],
        Takes::Number => vec![DataType::Int32, DataType::UInt64, DataType::Float64, DataType::Decimal128(20, 3)],
        Takes::Box => vec![
            DataType::List(list(DataType::Int64)),
            DataType::LargeList(list(DataType::Int32)),
            DataType::List(list(DataType::Float64)),
        ],
        Takes::Time => vec![
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ],
    }
}

/// One row for each of `ODD`, and a NULL.
fn odd(kind: Takes) -> ArrayRef {
    let numbers = (0..ODD.len() as i64).map(Some).chain([None]);
    match kind {
        Takes::Text => Arc::new(StringArray::from_iter(ODD.iter().map(Some).chain([None]))),
        Takes::Bytes => Arc::new(BinaryArray::from_iter(ODD.iter().map(|text| Some(text.as_bytes())).chain([None]))),
        Takes::Number => Arc::new(Int64Array::from_iter(numbers)),
        Takes::Box => {
            let mut lists = ListBuilder::new(PrimitiveBuilder::<Int64Type>::new());
            for size in 0..ODD.len() as i64 {
                (0..size).for_each(|number| lists.values().append_option((number != 7).then_some(number)));
                lists.append(true);
            }
            lists.append(false);
            Arc::new(lists.finish())
        }
        Takes::Time => Arc::new(TimestampMicrosecondArray::from_iter(numbers.map(|n| n.map(|n| n * 1_000_000)))),
    }
}

fn call(function: &ScalarUDF, arguments: Vec<ColumnarValue>) -> Result<ArrayRef> {
    let kinds: Vec<DataType> = arguments.iter().map(ColumnarValue::data_type).collect();
    let rows = arguments.iter().map(|one| if let ColumnarValue::Array(array) = one { array.len() } else { 1 }).max();
    let rows = rows.unwrap_or(0);
    let fields: Vec<_> = kinds.iter().map(|kind| Arc::new(Field::new("x", kind.clone(), true))).collect();
    let scalars = vec![None; fields.len()];
    let return_field =
        function.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars })?;
    let wanted = return_field.data_type().clone();
    let given = ScalarFunctionArgs {
        args: arguments,
        arg_fields: fields,
        number_rows: rows,
        return_field,
        config_options: Arc::default(),
    };
    let answer = function.invoke_with_args(given)?.into_array(rows)?;
    assert_eq!((answer.data_type(), answer.len()), (&wanted, rows), "{}", function.name());
    Ok(answer)
}

fn arrays(arrays: &[ArrayRef]) -> Vec<ColumnarValue> {
    arrays.iter().cloned().map(ColumnarValue::Array).collect()
}

fn answers_null(function: &Function) -> bool {
    function.name == "is_bot"
}

#[test]
fn every_function_takes_every_form_of_its_input_and_null_gives_null() {
    for function in list() {
        let udf = function.udf();
        let mut answers = Vec::new();
        for form in 0..4 {
            let form = |kind: Takes| forms(kind)[form % forms(kind).len()].clone();
            let of_form = |(_, kind): &(&str, Takes)| cast(&odd(*kind), &form(*kind)).unwrap();
            let input: Vec<ArrayRef> = function.takes.iter().map(of_form).collect();
            let answer = call(&udf, arrays(&input)).unwrap_or_else(|error| panic!("{}: {error}", function.name));
            assert_eq!(answer.is_null(ODD.len()), !answers_null(function), "{} of NULL among others", function.name);
            let nulls: Vec<ArrayRef> = function.takes.iter().map(|(_, kind)| new_null_array(&form(*kind), 2)).collect();
            let nulls = call(&udf, arrays(&nulls)).unwrap();
            assert_eq!(nulls.null_count() == 2, !answers_null(function), "{} of NULL", function.name);
            // A constant beside a column gives what a column of equal values gives.
            for row in 0..=ODD.len() {
                let mixed = input.iter().enumerate().map(|(at, array)| match at {
                    0 => ColumnarValue::Array(array.slice(row, 1)),
                    _ => ColumnarValue::Scalar(datafusion_common::ScalarValue::try_from_array(array, row).unwrap()),
                });
                let one = call(&udf, mixed.collect()).unwrap();
                assert_eq!(one.as_ref(), answer.slice(row, 1).as_ref(), "{} in row {row}", function.name);
            }
            answers.push(answer);
        }
        assert!(answers.windows(2).all(|pair| pair[0].as_ref() == pair[1].as_ref()), "{} differs", function.name);
        let untyped = vec![new_null_array(&DataType::Null, 2); function.takes.len()];
        let untyped = call(&udf, arrays(&untyped)).unwrap();
        assert_eq!(untyped.null_count() == 2, !answers_null(function), "{} of an untyped NULL", function.name);
        let none: Vec<ArrayRef> = function.takes.iter().map(|(_, kind)| new_null_array(&forms(*kind)[0], 0)).collect();
        assert_eq!(call(&udf, arrays(&none)).unwrap().len(), 0, "{} of no rows", function.name);
    }
}

#[test]
fn what_a_function_cannot_read_it_says_by_name() {
    let truths: ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true]));
    for function in list() {
        let error = call(&function.udf(), arrays(&vec![truths.clone(); function.takes.len()])).unwrap_err().to_string();
        let (argument, kind) = function.takes[0];
        assert!(error.contains(&format!("{} takes {kind} as {argument}, not Boolean", function.name)), "{error}");
        let error = call(&function.udf(), arrays(&vec![truths.clone(); 9])).unwrap_err().to_string();
        assert!(error.contains(&format!("{}{} has 9 arguments here", function.name, function.signature())), "{error}");
    }
}

/// Evaluates SQL as a pipeline file in `folder` would, over one record.
fn evaluated(folder: &Path, sql: &str) -> String {
    let quoted = serde_json::Value::from(format!("{sql} as answer"));
    let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\nselect = {quoted}\n");
    let job = load::text(&folder.join("p.toml"), &text).unwrap_or_else(|mistakes| panic!("{sql}: {mistakes:#?}"));
    let columns = job.plan.input().fields().iter().map(|_| Arc::new(Int64Array::from(vec![0])) as ArrayRef).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let rows = RecordBatch::try_new_with_options(job.plan.input().clone(), columns, &options).unwrap();
    let done = job.plan.run(crate::stream::step::Rows { batch: rows, sources: vec![0] });
    assert!(done.faults.is_empty(), "{sql}: {:?}", done.faults);
    let options = FormatOptions::default().with_null("NULL");
    ArrayFormatter::try_new(done.routes[0].batch.column(0).as_ref(), &options).unwrap().value(0).to_string()
}

/// The SQL with its first argument no longer a constant: computed of a record's offset.
fn with_column(sql: &str) -> String {
    let start = sql.find('(').unwrap() + 1;
    let (mut depth, mut is_quoted) = (0, false);
    let end = sql[start..].find(|c: char| {
        match c {
            '\'' => is_quoted = !is_quoted,
            '(' | '[' if !is_quoted => depth += 1,
            ')' | ']' if !is_quoted => depth -= 1,
            _ => {}
        }
        !is_quoted && (depth < 0 || (depth == 0 && c == ','))
    });
    let end = start + end.unwrap();
    format!("{}case when _offset = 0 then {} end{}", &sql[..start], &sql[start..end], &sql[end..])
}

#[test]
fn every_example_gives_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/visitors"), "Jefe\n").unwrap();
    std::fs::write(folder.path().join("GeoLite2-City.mmdb"), mmdb::city()).unwrap();
    std::fs::write(folder.path().join("GeoLite2-ASN.mmdb"), mmdb::networks()).unwrap();
    for function in list() {
        assert!(!function.examples.is_empty(), "{} has no example", function.name);
        for (sql, wanted) in function.examples {
            assert!(sql.contains(&format!("{}(", function.name)), "{sql} is no example of {}", function.name);
            assert_eq!(evaluated(folder.path(), sql), *wanted, "{sql}");
            if !sql.starts_with("length(secret") {
                assert_eq!(evaluated(folder.path(), &with_column(sql)), *wanted, "{}", with_column(sql));
            }
        }
    }
}

#[test]
fn wrong_types_and_polygons_are_mistakes_with_their_place_in_the_file() {
    let text =
        "from = \"topic:t\"\nto = { parquet = \"t\" }\nselect = \"point_in_polygon(_offset, 1, '0,0,1') as x\"\n";
    let wrong = load::text(Path::new("p.toml"), text).err().unwrap()[0].to_string();
    assert!(wrong.contains("p.toml:3:") && wrong.contains("is no polygon"), "{wrong}");
    let text = text.replace("point_in_polygon(_offset, 1, '0,0,1')", "1 as a, url_port(_offset)");
    let wrong = load::text(Path::new("p.toml"), &text).err().unwrap()[0].to_string();
    assert!(wrong.contains("p.toml:3:19: select: url_port takes text as url, not Int64"), "{wrong}");
}

fn row_of(text: &str, value: &str, headers: &[(&'static str, &'static str)]) -> serde_json::Value {
    let header = |(name, value): &(&'static str, &'static str)| (name.as_bytes().into(), Some(value.as_bytes().into()));
    let record = crate::record::Record {
        offset: crate::record::Offset(0),
        timestamp: 0,
        key: None,
        value: Some(value.to_owned().into()),
        headers: headers.iter().map(header).collect(),
    };
    let trial = crate::stream::Trial::new(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    trial.run(&record).unwrap()
}

#[test]
fn an_event_of_frigate_gives_time_box_and_zone() {
    let text = r#"
        from = "topic:camera"
        to = { parquet = "camera" }
        select = """epoch_to_timestamp(start) as at, box_area(box) as area, box_overlap(box, region) as seen,
            array_has(zones, 'yard') as yard, array_has_any(zones, ['street', 'yard']) as near,
            point_in_polygon((box[1] + box[3]) / 2.0, box[4], '0,500, 1280,500, 1280,720, 0,720') as below"""
        [columns]
        start  = { path = "/after/start_time", type = "float64" }
        box    = { path = "/after/box", type = ["int64"] }
        region = { path = "/after/region", type = ["float64"] }
        zones  = { path = "/after/current_zones", type = ["string"] }
    "#;
    let event = r#"{"type":"new","after":{"start_time":1607123955.475377,"box":[424,500,536,712],"region":[264,450,667,853],"current_zones":["yard"]}}"#;
    let row = row_of(text, event, &[]);
    assert_eq!(row["at"], "2020-12-04T23:19:15.475377Z");
    assert_eq!((&row["area"], &row["seen"]), (&(112.0 * 212.0).into(), &1.0.into()));
    assert_eq!((&row["yard"], &row["near"], &row["below"]), (&true.into(), &true.into(), &true.into()));
}

#[test]
fn a_click_of_a_wrong_clock_is_put_right_by_its_three_times() {
    let text = r#"
        from = "topic:clicks"
        to = { parquet = "clicks" }
        select = "clock_corrected(created, sent, received) as ts, coalesce(referer_class(referer, url), 'direct') as came"
        [columns]
        created  = { path = "/originalTimestamp", type = "timestamp" }
        sent     = { path = "/sentAt", type = "timestamp" }
        received = { header = "received", type = "timestamp(ms)", coerce = true }
        url      = "string"
        referer  = "string"
    "#;
    let click = r#"{"originalTimestamp":"2026-01-02T04:00:00Z","sentAt":"2026-01-02T04:00:10.5Z","url":"https://shop.example/","referer":"https://www.shop.example/cart"}"#;
    let row = row_of(text, click, &[("received", "1767323045000")]);
    assert_eq!((&row["ts"], &row["came"]), (&"2026-01-02T03:03:54.500Z".into(), &"internal".into()));
    let row = row_of(text, "{}", &[("received", "1767323045000")]);
    assert_eq!((&row["ts"], &row["came"]), (&"2026-01-02T03:04:05Z".into(), &"direct".into()));
}

#[test]
fn names_are_unique_and_in_order() {
    for (subject, functions) in SUBJECTS {
        let names: Vec<&str> = functions.iter().map(|function| function.name).collect();
        assert!(names.is_sorted(), "{subject}: {names:?}");
    }
    let names: std::collections::HashSet<&str> = list().map(|function| function.name).collect();
    assert_eq!(names.len(), list().count());
}

/// A row of the table in `docs/PIPELINES.md`.
fn row(function: &Function) -> String {
    let examples: Vec<String> = function
        .examples
        .iter()
        .map(|(sql, gives)| match *gives {
            "" => format!("`{sql}` → empty"),
            gives => format!("`{sql}` → `{gives}`"),
        })
        .collect();
    format!("| `{}{}` | {} | {} |", function.name, function.signature(), function.meaning, examples.join("<br>"))
}

#[test]
fn the_documentation_lists_every_function_and_every_reason() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PIPELINES.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = |(subject, functions): &(&str, &[Function])| {
        let table: Vec<String> = functions.iter().map(row).collect();
        let heading = "| function | what it gives | examples |\n|---|---|---|";
        format!("### {subject}\n\n{heading}\n{}\n", table.join("\n"))
    };
    let lacking: Vec<String> = SUBJECTS.iter().map(section).filter(|section| !page.contains(section)).collect();
    assert!(lacking.is_empty(), "docs/PIPELINES.md lacks\n{}", lacking.join("\n"));
    for reason in crate::stream::fault::Reason::ALL {
        let line = format!("| `{}` | {} |", reason.as_str(), reason.step());
        assert!(page.contains(&line), "docs/PIPELINES.md lacks {line}");
    }
}
