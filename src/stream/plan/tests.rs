//! Plans of files, and what they make of rows.

use super::super::fault::Reason;
use super::super::load;
use super::super::parse::parse;
use super::*;
use arrow::array::AsArray;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use std::path::Path;

const COLUMNS: &str =
    "[columns]\nuserId = \"string\"\nurl = \"string\"\nn = \"int64\"\nts = \"timestamp\"\nunused = \"string\"\n";

fn plan(sql: &str) -> Result<Plan, Vec<String>> {
    let text = format!("from = \"topic:t\"\nto = {{ parquet = \"t\" }}\n{sql}\n{COLUMNS}");
    let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|m| panic!("{m:#?}"));
    Plan::of(&spec).map_err(|wrong| wrong.mistakes.iter().map(ToString::to_string).collect())
}

/// Of a file in the long form.
fn plan_of_steps(steps: &str) -> Result<Plan, Vec<String>> {
    let text = format!("from = \"topic:t\"\n{COLUMNS}\n{steps}\n[[route]]\nto = {{ parquet = \"t\" }}\n");
    let spec = parse(Path::new("p.toml"), &text).unwrap_or_else(|m| panic!("{m:#?}"));
    Plan::of(&spec).map_err(|wrong| wrong.mistakes.iter().map(ToString::to_string).collect())
}

fn rows(plan: &Plan, users: Vec<Option<&str>>, n: Vec<Option<i64>>) -> Rows {
    let arrays = plan.input().fields().iter().map(|field| match field.name().as_str() {
        "userId" => Arc::new(StringArray::from(users.clone())) as ArrayRef,
        "n" => Arc::new(Int64Array::from(n.clone())) as ArrayRef,
        other => panic!("{other} is read"),
    });
    let batch = RecordBatch::try_new(plan.input().clone(), arrays.collect()).unwrap();
    Rows { sources: (0..batch.num_rows() as u32).collect(), batch }
}

/// What comes out of the only route.
fn only(done: &Transformed) -> &Rows {
    &done.routes[0]
}

#[test]
fn names_keep_their_case_and_only_what_is_used_is_read() {
    let plan = plan("where = \"n > 1\"\nselect = \"userId as user_id, n * 2 as twice\"").unwrap();
    let names: Vec<&str> = plan.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["userId", "n"]);
    let done =
        plan.run(rows(&plan, vec![Some("a"), Some("b"), None, Some("d")], vec![Some(1), Some(2), Some(3), None]));
    assert_eq!(only(&done).sources, [1, 2]);
    assert_eq!((done.filtered.of(Sieve::False), done.filtered.of(Sieve::Null)), (1, 1));
    assert_eq!(only(&done).batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[4, 6]);
}

#[test]
fn a_row_that_fails_is_told_and_the_others_go_through() {
    let plan = plan("select = \"userId, 10 / n as part\"").unwrap();
    let n: Vec<Option<i64>> = (0..500).map(|at| Some(if at == 77 || at == 300 { 0 } else { 2 })).collect();
    let done = plan.run(rows(&plan, vec![Some("u"); 500], n));
    let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
    assert_eq!((failed, only(&done).len()), (vec![77, 300], 498));
    assert!(!only(&done).sources.contains(&77) && only(&done).sources.contains(&78));
    assert!(done.faults.iter().all(|(_, fault)| fault.reason == Reason::Expression));
}

#[test]
fn a_column_may_be_named_like_a_keyword() {
    let text = "from = \"topic:t\"\nwhere = \"user <> 'x' and current_date is null\"\nselect = \"user, upper(user) as other\"\nto = { parquet = \"t\" }\n[columns]\nuser = \"string\"\ncurrent_date = \"string\"\n";
    let plan = Plan::of(&parse(Path::new("p.toml"), text).unwrap()).unwrap();
    let names: Vec<&str> = plan.output().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!((names, plan.columns().len()), (vec!["user", "other"], 2));
}

#[test]
fn mistakes_point_into_the_sql() {
    let wrong = |sql: &str| plan(sql).err().unwrap_or_else(|| panic!("{sql} was taken")).remove(0);
    let typo = wrong("select = \"userId, urll as x\"");
    assert!(typo.starts_with("p.toml:3:19: select: ") && typo.contains("urll"), "{typo}");
    let syntax = wrong("where = \"n > > 1\"");
    assert!(syntax.starts_with("p.toml:3:1") && syntax.contains("where"), "{syntax}");
    assert!(wrong("select = \"now() as t\"").contains("_timestamp"));
    assert!(wrong("select = \"count(n) as c\"").contains("one record at a time"));
    assert!(wrong("select = \"sum(n) over () as c\"").contains("one record at a time"));
    assert!(wrong("where = \"n\"").contains("true or false"));
    assert!(wrong("where = \"n in (select 1 from t)\"").contains("one record"));
    assert!(wrong("select = \"n + 1\"").contains("as NAME"));
    assert!(wrong("select = \"n as a, url as a\"").contains("two columns"));
}

#[test]
fn times_come_out_as_microseconds_and_what_does_not_fit_is_a_fault() {
    let plan = plan("select = \"to_timestamp(n) as t\"").unwrap();
    let done = plan.run(rows(&plan, vec![], vec![Some(1_700_000_000), Some(2)]));
    let kind = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!((only(&done).batch.column(0).data_type(), only(&done).len()), (&kind, 2));
    let far = [Some(i64::MAX), Some(1), Some(253_402_300_800), Some(253_402_300_799)];
    let done = plan.run(rows(&plan, vec![], far.to_vec()));
    let told: Vec<_> = done.faults.iter().map(|(at, fault)| (*at, fault.reason)).collect();
    assert_eq!(told, [(0, Reason::Expression), (2, Reason::TimeOutOfRange)]);
    // What reckons in nanoseconds knows no year 9999.
    let ends = |sql: &str| {
        let plan = self::plan(&format!("select = \"n, {sql} as t\"")).unwrap_or_else(|m| panic!("{sql}: {m:#?}"));
        let done = plan.run(rows(&plan, vec![], vec![Some(253_402_214_400), Some(1)]));
        (done.faults.iter().map(|(at, fault)| (*at, fault.reason)).collect::<Vec<_>>(), only(&done).len())
    };
    for sql in [
        "date_trunc('day', epoch_to_timestamp(n))",
        "to_char(epoch_to_timestamp(n), '%Y')",
        "date_bin(interval '1 hour', epoch_to_timestamp(n))",
    ] {
        assert_eq!(ends(sql), (vec![(0, Reason::Expression)], 1), "{sql}");
    }
    for sql in [
        "date_trunc('day', nullif(epoch_to_timestamp(n), timestamp '9999-12-31'))",
        "epoch_to_timestamp(n) + interval '1 hour'",
        "extract(year from epoch_to_timestamp(n))",
        "cast(epoch_to_timestamp(n) as date) > timestamp '2024-01-01'",
        "coalesce(epoch_to_timestamp(n), timestamp '2024-01-01')",
        "epoch_to_timestamp(n) - timestamp '2024-01-01'",
    ] {
        assert_eq!(ends(sql), (vec![], 2), "{sql}");
    }
}

#[test]
fn a_time_on_a_zones_clock_is_the_same_moment_and_a_text_is_what_that_clock_showed() {
    let at = 1_767_323_045;
    let hour = |sql: &str| {
        let text = format!(
            "select = \"cast(date_part('hour', {sql}) as bigint) as h, cast(cast({sql} as timestamp) as bigint) - {at}000000 as n\""
        );
        let plan = plan(&text).unwrap_or_else(|m| panic!("{sql}: {m:#?}"));
        let done = plan.run(rows(&plan, vec![Some("2026-01-02T03:04:05")], vec![Some(at)]));
        let batch = &only(&done).batch;
        let value = |column: usize| batch.column(column).as_primitive::<arrow::datatypes::Int64Type>().value(0);
        (value(0), value(1) / 3_600_000_000)
    };
    for moment in [
        "to_timestamp(n)",
        "to_timestamp_millis(n * 1000)",
        "to_timestamp(userId)",
        "from_unixtime(n)",
        "epoch_to_timestamp(n)",
        "coalesce(to_timestamp(n), epoch_to_timestamp(n))",
        "cast(epoch_to_timestamp(n) as timestamp)",
    ] {
        assert_eq!(hour(&format!("{moment} at time zone 'Europe/Berlin'")), (4, 0), "{moment}");
    }
    for local in [
        "cast(userId as timestamp)",
        "to_timestamp(userId, '%Y-%m-%dT%H:%M:%S')",
        "nullif(cast(userId as timestamp), timestamp '0001-01-01')",
        "coalesce(cast(userId as timestamp), timestamp '2024-01-01')",
        "(cast(userId as timestamp) + interval '0 hours')",
    ] {
        assert_eq!(hour(&format!("{local} at time zone 'Europe/Berlin'")), (3, -1), "{local}");
    }
    let moment = "nullif(to_timestamp(n), timestamp '9999-12-31') at time zone 'Europe/Berlin'";
    assert_eq!(hour(moment), (4, 0));
    let twice = plan("select = \"cast(userId as timestamp) at time zone 'Europe/Berlin' as t\"").unwrap();
    let done = twice.run(rows(&twice, vec![Some("2026-10-25T02:30:00"), Some("2026-10-25T03:30:00")], vec![]));
    assert!(done.faults.len() == 1 && done.faults[0].1.message.contains("summer time"), "{:?}", done.faults);
}

#[test]
fn what_a_function_panics_at_is_a_dead_letter_and_no_end() {
    for (sql, n) in [
        (r#"arrow_cast(to_timestamp(n), 'Timestamp(Microsecond, Some(\"America/New_York\"))')"#, 8_210_266_876_799),
        (r#"arrow_cast(to_timestamp(n), 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))')"#, -8_334_601_228_800),
    ] {
        for text in
            [format!("select = \"{sql} as t\""), format!("select = \"n\"\nwhere = \"cast({sql} as varchar) <> ''\"")]
        {
            let plan = plan(&text).unwrap_or_else(|m| panic!("{text}: {m:#?}"));
            let done = plan.run(rows(&plan, vec![], vec![Some(1), Some(n), Some(2)]));
            let told: Vec<_> = done.faults.iter().map(|(at, fault)| (*at, fault.reason)).collect();
            assert!(matches!(told[..], [(1, Reason::Expression | Reason::TimeOutOfRange)]), "{text}: {told:?}");
            assert_eq!(only(&done).len(), 2, "{text}");
        }
    }
    let year = "select = \"date_part('year', date_trunc('day', userId)) as y\"";
    let plan = plan(year).unwrap();
    let done = plan.run(rows(&plan, vec![Some("1677-09-21T12:00:00Z"), Some("9999-12-31")], vec![]));
    assert_eq!(done.faults.len(), 0, "{:?}", done.faults);
    let years = arrow::compute::cast(only(&done).batch.column(0), &DataType::Int64).unwrap();
    assert_eq!(years.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec(), [1677, 9999]);
}

#[test]
fn what_is_between_two_times_is_as_long_as_an_interval_says() {
    let hours = [1, 23, 24, 25, 1_000, -25];
    let passed = |filter: &str| {
        let plan = plan(&format!("select = \"n\"\nwhere = \"{filter}\"")).map_err(|mistakes| mistakes[0].clone())?;
        let done = plan.run(rows(&plan, vec![], hours.map(|n| Some(n * 3_600)).to_vec()));
        assert_eq!(done.faults.len(), 0, "{filter}: {:?}", done.faults);
        let column = only(&done).batch.column(0).clone();
        Ok::<_, String>(
            column.as_primitive::<arrow::datatypes::Int64Type>().values().iter().map(|n| n / 3_600).collect::<Vec<_>>(),
        )
    };
    let (t, u) = ("epoch_to_timestamp(n)", "timestamp '1970-01-01'");
    for (filter, whole) in [
        (format!("{t} - {u} > interval '1 day'"), vec![25, 1_000]),
        (format!("interval '1 day' >= {t} - {u}"), vec![1, 23, 24, -25]),
        (format!("{t} - {u} = interval '24 hours'"), vec![24]),
        (format!("{t} - {u} between interval '0 seconds' and interval '1 day 1 hour'"), vec![1, 23, 24, 25]),
    ] {
        assert_eq!(passed(&filter).unwrap(), whole, "{filter}");
    }
    assert!(passed(&format!("{t} - {u} > interval '1 month'")).unwrap_err().contains("write days"));
    // As long as it says wherever it stands beside it.
    for (filter, whole) in [
        (format!("{t} - {u} > interval '23 hours' + interval '1 hour'"), vec![25, 1_000]),
        (format!("{t} - {u} in (interval '1 day', interval '1 hour')"), vec![1, 24]),
        (format!("coalesce({t} - {u}, interval '0 seconds') > interval '1 day'"), vec![25, 1_000]),
        (format!("greatest({t} - {u}, interval '1 day') > interval '24 hours'"), vec![25, 1_000]),
        (format!("case when n > 0 then {t} - {u} else interval '2 days' end > interval '1 day'"), vec![25, 1_000, -25]),
    ] {
        assert_eq!(passed(&filter).unwrap(), whole, "{filter}");
    }
    // A date is the moment of its midnight, by every operator and on every clock.
    let zoned = format!("({t} at time zone 'Europe/Berlin')");
    let day = "date '1970-01-02'";
    for filter in [
        format!("{zoned} >= {day}"),
        format!("{zoned} - {day} >= interval '0 seconds'"),
        format!("{zoned} between {day} and date '9999-12-31'"),
        format!("{t} between {day} and date '9999-12-31'"),
        format!("coalesce({t}, {day}) >= {day}"),
    ] {
        assert_eq!(passed(&filter).unwrap(), [24, 25, 1_000], "{filter}");
    }
}

#[test]
fn what_is_between_two_times_is_in_microseconds_however_they_are_written() {
    let at = 1_700_000_000;
    let made = |sql: &str| {
        let plan = plan(&format!("select = \"case when n > 0 then {sql} end as t\""))
            .unwrap_or_else(|m| panic!("{sql}: {m:#?}"));
        let done = plan.run(rows(&plan, vec![], vec![Some(at)]));
        let column = only(&done).batch.column(0).clone();
        column.as_primitive_opt::<arrow::datatypes::Int64Type>().map_or(i64::MIN, |values| values.value(0))
    };
    let of_day = (at - 1_699_920_000) * 1_000_000;
    for other in [
        "timestamp '2023-11-14'",
        "to_timestamp(1699920000)",
        "to_timestamp('2023-11-14')",
        "cast('2023-11-14' as timestamp)",
        "epoch_to_timestamp(1699920000)",
    ] {
        assert_eq!(made(&format!("cast(to_timestamp(n) - {other} as bigint)")), of_day, "{other}");
        assert_eq!(made(&format!("cast({other} as bigint)")), 1_699_920_000_000_000, "{other}");
    }
    // Whatever unit a function has by itself.
    for (time, micros) in [
        ("from_unixtime(n) + interval '500 milliseconds'", at * 1_000_000 + 500_000),
        ("to_timestamp_millis(n * 1000) + interval '900 microseconds'", at * 1_000_000 + 900),
        ("to_timestamp_seconds(n)", at * 1_000_000),
        ("date_bin(interval '1 day', epoch_to_timestamp(n))", 1_699_920_000_000_000),
    ] {
        assert_eq!(made(&format!("cast({time} as bigint)")), micros, "{time}");
        assert_eq!(made(&format!("cast({time} - to_timestamp(n) as bigint)")), micros - at * 1_000_000, "{time}");
    }
    assert_eq!(made("cast(to_timestamp(n) - cast(epoch_to_timestamp(n) as date) as bigint)"), of_day);
    // Everybody's "no end".
    assert_eq!(made("cast(coalesce(to_timestamp(n), timestamp '9999-12-31') as bigint)"), at * 1_000_000);
    assert_eq!(made("cast(timestamp '9999-12-31' as bigint)"), 253_402_214_400_000_000);
    let seconds = |sql: &str| {
        let plan = plan(&format!("select = \"{sql} as t\"")).unwrap_or_else(|m| panic!("{sql}: {m:#?}"));
        let done = plan.run(rows(&plan, vec![], vec![Some(1), Some(2_153_606_400)]));
        let column = only(&done).batch.column(0).clone();
        column.as_primitive::<arrow::datatypes::Float64Type>().values().to_vec()
    };
    for sql in [
        "extract(epoch from (to_timestamp(n) - timestamp '1969-12-31T23:59:58.800'))",
        "date_part('EPOCH', to_timestamp(n) - timestamp '1969-12-31T23:59:58.8')",
    ] {
        assert_eq!(seconds(sql), [2.2, 2_153_606_401.2], "{sql}");
    }
    let wrong = plan("select = \"extract(hour from (to_timestamp(n) - timestamp '2024-01-01')) as h\"").err().unwrap();
    assert!(wrong[0].contains("extract(epoch from "), "{wrong:?}");
    let wrong = plan("select = \"to_timestamp(n / 1000.0) as t\"").err().unwrap();
    assert!(wrong[0].contains("epoch_to_timestamp("), "{wrong:?}");
}

#[test]
fn what_has_another_name_elsewhere_is_told_by_its_name_here() {
    let wrong =
        |sql: &str| plan(&format!("select = \"{sql} as t\"")).err().unwrap_or_else(|| panic!("{sql}")).remove(0);
    for name in [
        "if",
        "date",
        "strftime",
        "year",
        "datediff",
        "isnull",
        "mod",
        "sign",
        "len",
        "explode",
        "json_extract",
        "parse_json",
    ] {
        let told = wrong(&format!("{name}(url)"));
        assert!(told.contains("here it is"), "{told}");
    }
    assert!(wrong("url rlike 'a'").contains("regexp_like"));
    assert!(wrong("url->>'a'").contains("json_get"));
    assert!(wrong("url['a']").contains("json_get"));
    for right in [
        "to_char(ts, '%Y-%m-%d')",
        "extract(year from ts)",
        "cast(ts as date)",
        "signum(n)",
        "length(url)",
        "json_get(url, '/a')",
        "to_timestamp(url, '%Y')",
        "n % 2",
        "date_trunc('day', nullif(ts, timestamp '9999-12-31'))",
    ] {
        assert!(plan(&format!("select = \"{right} as t\"")).is_ok(), "{right}");
    }
}

#[test]
fn words_that_no_time_can_be_cut_or_written_by_are_refused() {
    for sql in ["date_trunc('days', ts)", "date_part('foo', ts)", "to_char(ts, 'YYYY-MM-DD')", "to_char(ts, '%Q')"] {
        let wrong = plan(&format!("select = \"{sql} as t\"")).err().unwrap_or_else(|| panic!("{sql}"));
        assert!(wrong[0].contains("says nothing of a time; "), "{sql}: {wrong:?}");
    }
    for sql in [
        "date_trunc('DAY', ts)",
        "date_part('dow', ts)",
        "to_char(ts, '%d.%m.%Y')",
        "to_char(ts, url)",
        "extract(epoch from ts)",
        "date_trunc(url, ts)",
        "to_char(cast(ts as date), '%Y')",
    ] {
        assert!(plan(&format!("select = \"{sql} as t\"")).is_ok(), "{sql}");
    }
}

#[test]
fn constants_that_do_not_fit_are_refused() {
    for sql in [
        "9223372036854775807 + 1",
        "n + (9223372036854775807 * 2)",
        "-9223372036854775807 - 2",
        "cast(2147483647 as int) + cast(1 as int)",
    ] {
        let wrong = plan(&format!("select = \"{sql} as t\"")).err().unwrap();
        assert!(wrong[0].contains("does not fit Int"), "{sql}: {wrong:?}");
    }
    assert!(plan("select = \"n + 2 * 3 - 9223372036854775807 as t\"").is_ok());
}

#[test]
fn fields_of_structs_and_lists_are_sql() {
    let text = "from = \"topic:t\"\nto = { parquet = \"t\" }\nselect = \"page.url as a, page['url'] as b, zones[1] as c, array_has(zones, 'x') as d, substr(page.url, 1, 5) as e\"\n[columns]\nzones = [\"string\"]\npage = { type = { url = \"string\" } }\n";
    let spec = parse(Path::new("p.toml"), text).unwrap_or_else(|m| panic!("{m:#?}"));
    let plan = Plan::of(&spec).unwrap_or_else(|m| panic!("{m:#?}"));
    let record = crate::record::Record {
        offset: crate::record::Offset(0),
        timestamp: 0,
        key: None,
        value: Some(bytes::Bytes::from_static(b"{\"page\":{\"url\":\"https://x\"},\"zones\":[\"x\",\"y\"]}")),
        headers: vec![],
    };
    let decoder = super::super::rows::Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone());
    let decoded = decoder.decode(0, &[record]);
    let done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
    let text = |at: usize| only(&done).batch.column(at).as_string::<i32>().value(0).to_owned();
    assert_eq!([text(0), text(1), text(2), text(4)], ["https://x", "https://x", "x", "https"]);
    assert!(only(&done).batch.column(3).as_boolean().value(0));
}

/// What a file of the long form makes of values, as JSON by route, and how many rows are no output.
fn made(steps_and_routes: &str, values: &[&str]) -> Result<(Vec<Vec<serde_json::Value>>, Filtered), String> {
    let text = format!(
        "from = \"topic:t\"\n[columns]\nid = \"int64\"\ntags = [\"string\"]\nboxes = {{ type = [{{ x = \"int64\" }}] }}\n{steps_and_routes}"
    );
    let text = match text.contains("[[route]]") {
        true => text,
        false => format!("{text}[[route]]\nto = {{ topic = \"out\" }}\n"),
    };
    let first = |mistakes: Vec<Mistake>| mistakes[0].to_string();
    let spec = parse(Path::new("p.toml"), &text).map_err(first)?;
    let plan = Plan::of(&spec).map_err(|wrong| first(wrong.mistakes))?;
    let record = |(at, value): (usize, &&str)| crate::record::Record {
        offset: crate::record::Offset(at as i64),
        timestamp: 0,
        key: None,
        value: Some(bytes::Bytes::from(value.to_string())),
        headers: vec![],
    };
    let records: Vec<_> = values.iter().enumerate().map(record).collect();
    let decoder = super::super::rows::Decoder::new(&spec.format, plan.columns().to_vec(), plan.input().clone());
    let decoded = decoder.decode(0, &records);
    let done = plan.run(Rows { batch: decoded.rows, sources: decoded.sources });
    let json = |rows: &Rows| {
        let mut writer = arrow::json::writer::ArrayWriter::new(Vec::new());
        writer.write(&rows.batch).and_then(|()| writer.finish()).unwrap();
        let text = writer.into_inner();
        if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text).unwrap() }
    };
    Ok((done.routes.iter().map(json).collect(), done.filtered))
}

fn json(text: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn steps_go_one_after_the_other_and_rows_to_every_route_that_takes_them() {
    let values = [
        "{\"id\":1,\"tags\":[\"a\",\"b\"]}",
        "{\"id\":2,\"tags\":[]}",
        "{\"id\":3}",
        "{\"id\":4,\"tags\":[\"c\",null]}",
    ];
    let steps = "[[step]]\nunnest = { list = \"tags\", as = \"tag\" }\n[[step]]\nsql = \"select id * 10 as id, upper(tag) as tag from rows where tag <> 'b'\"\n";
    let routes = "[[route]]\nwhere = \"id = 10\"\nto = { topic = \"a\" }\n[[route]]\nwhere = \"id > 1000\"\nto = { topic = \"b\" }\n[[route]]\notherwise = true\nto = { topic = \"c\" }\n[[route]]\nto = { topic = \"all\" }\n";
    let (rows, filtered) = made(&format!("{steps}{routes}"), &values).unwrap();
    let (first, last) = ("{\"id\":10,\"tag\":\"A\"}", "{\"id\":40,\"tag\":\"C\"}");
    assert_eq!(
        rows,
        [json(&format!("[{first}]")), vec![], json(&format!("[{last}]")), json(&format!("[{first},{last}]"))]
    );
    let counts = [Sieve::Empty, Sieve::False, Sieve::Null, Sieve::NoRoute].map(|reason| filtered.of(reason));
    assert_eq!(counts, [2, 1, 1, 0]);
    let kept = "[[step]]\nunnest = { list = \"tags\", keep-empty = true }\n[[step]]\nselect = \"id, tags\"\n";
    assert_eq!(made(kept, &values[1..3]).unwrap().0[0], json("[{\"id\":2},{\"id\":3}]"));
    let fields = "[[step]]\nunnest = \"boxes\"\n[[step]]\nselect = \"boxes.x as x\"\n";
    assert_eq!(made(fields, &["{\"boxes\":[{\"x\":5},{\"x\":6}]}"]).unwrap().0[0], json("[{\"x\":5},{\"x\":6}]"));
}

#[test]
fn a_sample_goes_by_its_key_and_is_the_same_when_it_is_read_again() {
    let values: Vec<String> = (0..1_000).map(|n| format!("{{\"id\":{},\"tags\":[]}}", n % 100)).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let keyed = "[[step]]\nsample = { share = \"30%\", key = \"id\" }\n[[step]]\nselect = \"id\"\n";
    let (rows, filtered) = made(keyed, &values).unwrap();
    assert!(
        rows[0].len() > 150 && rows[0].len() < 450 && rows[0].len() % 10 == 0,
        "all of an id or none: {}",
        rows[0].len()
    );
    assert_eq!(rows[0].len() as u32 + filtered.of(Sieve::Sample), 1_000);
    let each = "[[step]]\nsample = \"30%\"\n[[step]]\nselect = \"id\"\n";
    let (rows, _) = made(each, &values).unwrap();
    assert!((230..370).contains(&rows[0].len()), "{}", rows[0].len());
    assert_eq!(made(each, &values).unwrap().0, rows);
}

#[test]
fn steps_that_cannot_be_meant_say_what_to_write() {
    let wrong = |step: &str| made(&format!("[[step]]\n{step}\n"), &[]).unwrap_err();
    assert!(wrong("unnest = \"id\"").contains("needs a list"));
    assert!(wrong("unnest = \"tagz\"").contains("did you mean tags?"));
    assert!(wrong("unnest = { list = \"tags\", as = \"id\" }").contains("call the element otherwise"));
    assert!(wrong("sample = \"200%\"").contains("10%"));
    assert!(wrong("select = \"id\"\n[[step]]\nsample = \"10%\"").contains("needs a key"));
    assert!(wrong("sql = \"select id from rows group by id\"").contains("window"));
    assert!(wrong("sql = \"select distinct id from rows\"").contains("dedupe"));
    assert!(wrong("sql = \"select id from rows limit 5\"").contains("LIMIT"));
    assert!(wrong("sql = \"select id from other\"").contains("FROM rows"));
    assert!(wrong("sql = \"select id from rows r join rows s on true\"").contains("no joins"));
    assert!(wrong("sql = \"select idd from rows\"").starts_with("p.toml:7:"));
    assert!(wrong("where = \"true\"\nselect = \"id\"").contains("does one thing"));
    assert!(wrong("wear = \"true\"").contains("this key is not known"));
}

#[test]
fn own_functions_and_sql_functions_are_known() {
    let plan = plan("where = \"not is_bot(userId)\"\nselect = \"upper(userId) as u, url_host(userId) as h\"").unwrap();
    let done = plan.run(rows(&plan, vec![Some("https://a.example/x"), Some("Googlebot/2.1"), None], vec![]));
    assert_eq!(only(&done).sources, vec![0, 2]);
    assert_eq!(only(&done).batch.column(1).as_string::<i32>().value(0), "a.example");
}

#[test]
fn a_chain_that_is_deeper_than_the_stack_is_a_mistake_with_its_place() {
    let chain = |count: usize| vec!["n + 1 > 2"; count].join(" and ");
    let wrong = plan(&format!("where = \"{}\"", chain(20_000))).err().unwrap();
    assert!(wrong[0].starts_with("p.toml:3:") && wrong[0].contains("300 levels deep"), "{wrong:?}");
    // As where pipelines are planned; its rows are made and let go on threads as they are.
    let text = format!("select = \"userId, {} as all_of\"", chain(280));
    let thread = crate::work::planning_thread("deep".to_owned()).spawn(move || plan(&text).unwrap()).unwrap();
    let plan = thread.join().unwrap();
    let done = plan.run(rows(&plan, vec![Some("a"), Some("b")], vec![Some(1), Some(2)]));
    let answers = only(&done).batch.column(1).as_boolean().clone();
    assert_eq!((answers.value(0), answers.value(1)), (false, true));
}

#[test]
fn behind_a_star_stands_what_it_leaves_out_makes_anew_or_names_otherwise() {
    for (sql, wanted) in [
        ("* except (url, ts, unused)", vec!["userId", "n"]),
        ("* exclude url", vec!["userId", "n", "ts", "unused"]),
        ("* exclude (url, unused), n + 1 as m", vec!["userId", "n", "ts", "m"]),
        ("* except (url, ts, unused) rename (n as m)", vec!["userId", "m"]),
    ] {
        let plan = plan(&format!("select = \"{sql}\"")).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
        let names: Vec<&str> = plan.output().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, wanted, "{sql}");
    }
    for text in [
        "select = \"* except (url, ts, unused) replace (n * 2 as n)\"",
        "sql = \"select * exclude (url, ts, unused) replace (n * 2 as n) from rows\"",
    ] {
        let made = plan_of_steps(&format!("[[step]]\n{text}")).unwrap();
        let done = made.run(rows(&made, vec![Some("a")], vec![Some(4)]));
        assert_eq!(only(&done).batch.num_columns(), 2, "{text}");
        assert_eq!(only(&done).batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().values(), &[8], "{text}");
    }
    let wrong =
        |sql: &str| plan(&format!("select = \"{sql}\"")).err().unwrap_or_else(|| panic!("{sql} was taken")).remove(0);
    assert!(wrong("* except (urll)").contains("did you mean url?"));
    assert!(wrong("* ilike 'u%'").contains("and nothing else"));
    assert!(wrong("* rename (n as userId)").contains("two columns are named userId"));
}

#[test]
fn what_is_written_and_would_not_be_done_is_a_mistake() {
    for sql in [
        "upper(url) filter (where n > 1) as u",
        "upper(distinct url) as u",
        "upper(url order by n) as u",
        "upper(url) over () as u",
        "coalesce(url) ignore nulls as u",
        "1 + length(upper(url) over (partition by n)) as u",
        "row_number() over () as u",
        "lag(n) as u",
        "distinct url",
        "unnest(url) as u",
    ] {
        let wrong = plan(&format!("select = \"{sql}\"")).err().unwrap_or_else(|| panic!("{sql} was taken")).remove(0);
        assert!(wrong.contains("step of its own") || wrong.contains("step of their own"), "{sql}: {wrong}");
    }
    for sql in [
        "select url from rows tablesample (10)",
        "select url from rows with (nolock)",
        "select url from rows as r",
        "select distinct url from rows",
    ] {
        let wrong = plan_of_steps(&format!("[[step]]\nsql = \"{sql}\""))
            .err()
            .unwrap_or_else(|| panic!("{sql} was taken"))
            .remove(0);
        assert!(wrong.contains("one record at a time"), "{sql}: {wrong}");
    }
}

#[test]
fn a_name_that_is_no_column_is_told_with_what_to_do() {
    let wrong = |sql: &str| plan(sql).err().unwrap().remove(0);
    assert!(wrong("select = \"urll as x\"").contains("there is no column urll: did you mean url?"));
    assert!(wrong("where = 'url = \"purchase\"'").contains("single quotes, 'purchase'"));
    let without = "from = \"topic:t\"\nto = { parquet = \"t\" }\nselect = \"a\"\n";
    let wrong = load::text(Path::new("p.toml"), without).map(|_| ()).unwrap_err();
    assert!(wrong[0].message.contains("[columns] declares"), "{wrong:?}");
    let typo =
        "from = \"topic:t\"\nto = { parquet = \"t\" }\nselect = \"a, b\"\n[columns]\na = \"strng\"\nb = \"int64\"\n";
    let wrong = load::text(Path::new("p.toml"), typo).map(|_| ()).unwrap_err();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}

#[test]
fn a_record_cannot_ask_for_all_memory_there_is() {
    let huge = 1_i64 << 40;
    for sql in [
        "repeat(userId, n) as r",
        "lpad(userId, n, 'x') as r",
        "rpad('y', n) as r",
        "array_repeat(userId, n) as r",
        "list_repeat(1, n) as r",
        "array_resize([1], n, 0) as r",
        "range(n) as r",
        "generate_series(0, n) as r",
        "range(n, 0, -2) as r",
    ] {
        let plan = plan(&format!("select = \"userId, n, {sql}\"")).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
        let n = vec![Some(3), Some(huge), None];
        let done = plan.run(rows(&plan, vec![Some("a"), Some("b"), Some("c")], n));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!((failed, &only(&done).sources), (vec![1], &vec![0, 2]), "{sql}");
        assert!(done.faults[0].1.message.contains("more than 64 KiB"), "{sql}: {}", done.faults[0].1.message);
    }
    for (sql, far, why) in [
        ("generate_series(timestamp '1970-01-01', epoch_to_timestamp(n), interval '1 second')", 1 << 30, "64 KiB"),
        ("range(epoch_to_timestamp(n), timestamp '1970-01-01', interval '-1 minute')", 1 << 30, "64 KiB"),
        (
            "generate_series(date '1970-01-01', cast(epoch_to_timestamp(n) as date), interval '1 day')",
            1 << 33,
            "64 KiB",
        ),
        ("range(timestamp '1970-01-01', epoch_to_timestamp(n), interval '1 month -30 days')", 1 << 30, "64 KiB"),
        ("range(timestamp '1970-01-01', epoch_to_timestamp(n), interval '1 day')", 253_402_214_400, "1678 to 2262"),
    ] {
        let plan = plan(&format!("select = \"n, {sql} as r\"")).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
        let done = plan.run(rows(&plan, vec![], vec![Some(0), Some(far), None]));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!((failed, &only(&done).sources), (vec![1], &vec![0, 2]), "{sql}: {:?}", done.faults);
        assert!(done.faults[0].1.message.contains(why), "{sql}: {}", done.faults[0].1.message);
    }
}

#[test]
fn lists_of_times_that_are_short_or_empty_are_made() {
    for (sql, is_list) in [
        ("generate_series(epoch_to_timestamp(n), timestamp '1970-01-01', interval '1 minute')", false),
        ("range(timestamp '1970-01-01', epoch_to_timestamp(n), nullif(interval '1 day', interval '1 day'))", false),
        ("range(date '2024-01-01', date '9999-12-31', interval '1000 years')", true),
        ("generate_series(date '2024-01-01', date '2024-01-03', interval '1 day')", true),
    ] {
        let text = format!("select = \"n, cast(array_length({sql}) as bigint) as r\"");
        let plan = plan(&text).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
        let done = plan.run(rows(&plan, vec![], vec![Some(1 << 30)]));
        assert_eq!(done.faults.len(), 0, "{sql}: {:?}", done.faults);
        let column = only(&done).batch.column(1).clone();
        let made = column.as_primitive::<arrow::datatypes::Int64Type>();
        assert_eq!(made.is_valid(0) && made.value(0) > 0, is_list, "{sql}: {made:?}");
    }
}

#[test]
fn whole_numbers_do_not_begin_again_at_the_other_end() {
    for (sql, wrong) in [("n + 1", i64::MAX), ("n * 2", i64::MAX), ("n - 2", i64::MIN + 1), ("-n", i64::MIN)] {
        let plan = plan(&format!("select = \"userId, {sql} as r\"")).unwrap();
        let done = plan.run(rows(&plan, vec![Some("a"); 2], vec![Some(wrong), Some(5)]));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!((failed, &only(&done).sources), (vec![0], &vec![1]), "{sql}");
    }
}

#[test]
fn decimals_have_no_more_digits_than_their_type() {
    let ten = "cast(n as decimal(38, 18)) * cast(1 as decimal(20, 18))";
    let sum = "cast(n as decimal(38, 36)) + cast(n as decimal(38, 36))";
    for (sql, fits, wrong) in [
        (ten.to_owned(), 99, 150),
        (format!("cast({ten} as varchar)"), 99, 150),
        (sum.to_owned(), 49, 70),
        (
            "round(cast(n as decimal(38, 0)) + cast('99999999999999999999999999999999999990' as decimal(38, 0)))"
                .to_owned(),
            9,
            10,
        ),
    ] {
        let plan = plan(&format!("select = \"userId, {sql} as r\"")).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
        let done = plan.run(rows(&plan, vec![Some("a"); 2], vec![Some(wrong), Some(fits)]));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!((failed, &only(&done).sources), (vec![0], &vec![1]), "{sql}");
        let told = &done.faults[0].1.message;
        assert!(told.contains("more digits") || told.contains("too large"), "{sql}: {told}");
    }
    let constant = plan("select = \"userId, cast(150 as decimal(38, 18)) * cast(1 as decimal(20, 18)) as r\"").err();
    assert!(constant.is_some_and(|wrong| wrong[0].contains("too large") || wrong[0].contains("more digits")));
}

#[test]
fn what_is_no_number_is_the_greatest_whoever_made_it() {
    for made in ["(n - n) / 0.0", "-(cast('NaN' as double) + n)", "n * cast('NaN' as double)"] {
        let plan = plan(&format!("select = \"{made} > 1e308 and {made} = cast('NaN' as double) as r\"")).unwrap();
        let done = plan.run(rows(&plan, vec![], vec![Some(5)]));
        assert_eq!(done.faults.len(), 0, "{made}: {:?}", done.faults);
        assert!(only(&done).batch.column(0).as_boolean().value(0), "{made}");
    }
}

#[test]
fn a_guard_keeps_its_row_whatever_the_rows_beside_it_are() {
    for (step, wanted) in [
        ("select = \"n <> 0 and 6 / n > 1 as r\"", 5),
        ("select = \"n = 0 or 6 / n > 1 as r\"", 5),
        ("select = \"case when n <> 0 then 6 / n > 1 else false end as r\"", 5),
        ("select = \"case when n <> 0 then 6 / n else 0 end as r\"", 5),
        ("select = \"n = 0 or n = 7 or CHAIN 6 / n > 0 as r\"", 5),
        ("select = \"not (n = 0 or 6 / n > 1) or n is null as r\"", 5),
        ("select = \"coalesce(n > 1, false) or n is null or n = 0 or 6 / n > 1 as r\"", 5),
        ("where = \"n <> 0 and 6 / n > 1\"\nselect = \"userId\"", 2),
    ] {
        let step = &step.replace("CHAIN", &"n = 8 or ".repeat(100));
        let plan = plan(step).unwrap();
        let done = plan.run(rows(&plan, vec![Some("a"); 5], vec![Some(1), Some(0), Some(2), None, Some(7)]));
        assert_eq!((done.faults.len(), only(&done).sources.len()), (0, wanted), "{step}: {:?}", done.faults);
        // A bad row beside them changes nothing.
        let bad = step.replace("6 / n", "6 / (n - 2)");
        let plan = crate::stream::plan::tests::plan(&bad).unwrap();
        let done = plan.run(rows(&plan, vec![Some("a"); 5], vec![Some(1), Some(0), Some(2), None, Some(7)]));
        let failed: Vec<u32> = done.faults.iter().map(|(at, _)| *at).collect();
        let fails = !step.contains("coalesce");
        assert_eq!(failed, if fails { vec![2] } else { vec![] }, "{bad}: {:?}", done.faults);
    }
}

#[test]
fn decimals_beside_floats_keep_what_is_small_and_what_is_large() {
    let (decimal, float) = ("cast(n as decimal(38, 10))", "(cast(n as double) / 1e16)");
    for sql in [
        format!("{float} < {decimal}"),
        format!("{float} > cast(0 as decimal(10, 2))"),
        format!("{decimal} in (5.0, 7)"),
        format!("{decimal} = 5.0 and {decimal} < 5.1 and {decimal} * 1e30 > {decimal}"),
        format!("coalesce({decimal}, 0.0) = 5 and arrow_typeof(coalesce({decimal}, 0.0)) = 'Decimal128(38, 10)'"),
        "cast(n as decimal(10, 2)) < 5.125 and cast(n as decimal(10, 2)) < 1e30 and cast(n as decimal(10, 2)) > -1e30"
            .to_owned(),
        format!("greatest({decimal}, {float} * 1e20) > 49999"),
        format!("case when n > 0 then {decimal} else {float} end = 5"),
    ] {
        let plan = plan(&format!("select = \"{sql} as r\"")).unwrap_or_else(|wrong| panic!("{sql}: {wrong:?}"));
        let done = plan.run(rows(&plan, vec![], vec![Some(5)]));
        assert_eq!(done.faults.len(), 0, "{sql}: {:?}", done.faults);
        assert!(only(&done).batch.column(0).as_boolean().value(0), "{sql}");
    }
}

#[test]
fn a_constant_is_written_in_the_format_of_each_row() {
    let format = "case n when 1 then '%Y' when 2 then '%m' else '%d' end";
    let plan = plan(&format!("select = \"to_char(date '2024-01-05', {format}) as r\"")).unwrap();
    let done = plan.run(rows(&plan, vec![], vec![Some(1), Some(3), Some(2)]));
    let column = only(&done).batch.column(0).clone();
    let told: Vec<&str> = column.as_string::<i32>().iter().flatten().collect();
    assert_eq!(told, ["2024", "05", "01"]);
}

#[test]
fn words_and_zones_that_are_wrong_are_told_as_what_they_are() {
    for (sql, told) in [
        ("date_trunc('day', _timestamp at time zone 'Europe/Berln') as d", "'Europe/Berln' is no time zone"),
        ("_timestamp at time zone 'Mars' as d", "'Mars' is no time zone"),
        ("userId, end", "in double quotes, as \\\"end\\\" here"),
        ("n = 1 && n = 1 as b", "a and b"),
    ] {
        let wrong = plan(&format!("select = \"{sql}\"")).err().unwrap();
        assert!(wrong[0].starts_with("p.toml:3:") && wrong[0].contains(told), "{sql}: {wrong:?}");
    }
}

#[test]
fn a_column_of_nulls_is_one_and_an_interval_is_told() {
    let ours = plan("select = \"userId, null as later\"").unwrap();
    let done = ours.run(rows(&ours, vec![Some("a"), None], vec![]));
    assert_eq!((done.faults.len(), only(&done).batch.column(1).null_count()), (0, 2));
    let wrong = plan("select = \"userId, interval '1 day' as i\"").err().unwrap();
    assert!(wrong[0].starts_with("p.toml:3:") && wrong[0].contains("is an interval"), "{wrong:?}");
    for (sql, told) in
        [("(select 1) as x", "no subqueries"), ("n in (select 1) as x", "no subqueries"), ("$1 as x", "placeholder")]
    {
        let wrong = plan(&format!("select = \"userId, {sql}\"")).err().unwrap();
        assert!(wrong[0].starts_with("p.toml:3:") && wrong[0].contains(told), "{sql}: {wrong:?}");
    }
}

#[test]
fn a_time_that_nobody_can_write_is_a_dead_letter() {
    let select = "epoch_to_timestamp(253402300799) + make_interval as t";
    let select =
        select.replace("make_interval", "case when n > 0 then interval '1 second' else interval '0 second' end");
    let plan = plan(&format!("select = \"userId, {select}\"")).unwrap();
    let done = plan.run(rows(&plan, vec![Some("a"), Some("b")], vec![Some(1), Some(0)]));
    assert_eq!((done.faults.len(), only(&done).sources.as_slice()), (1, [1].as_slice()));
    assert_eq!(done.faults[0].1.reason, Reason::TimeOutOfRange);
}
