//! `inrush functions [NAME]`: what a pipeline's SQL has beside SQL's own functions.

use super::Outcome;
use crate::config::nearest;
use crate::stream::functions::{self, Function, SUBJECTS};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

#[derive(Args)]
pub(super) struct Arguments {
    /// One function, with its examples; all of them if left out.
    name: Option<String>,
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let Some(name) = &arguments.name else {
        match arguments.json {
            true => println!("{}", Value::from_iter(SUBJECTS.iter().flat_map(described))),
            false => SUBJECTS.iter().for_each(print_subject),
        }
        return Ok(Outcome::Done);
    };
    let mut all = SUBJECTS.iter().flat_map(|(subject, functions)| functions.iter().map(move |one| (*subject, one)));
    match all.find(|(_, function)| function.name == name.to_ascii_lowercase()) {
        Some((subject, function)) if arguments.json => println!("{}", description(subject, function)),
        Some((_, function)) => print_function(function),
        None => {
            let known: Vec<&str> = functions::list().map(|function| function.name).collect();
            let meant = nearest(name, &known)
                .map_or("`inrush functions` lists all".to_owned(), |meant| format!("did you mean {meant}?"));
            eprintln!("inrush: there is no function {name} beside SQL's own; {meant}");
            return Ok(Outcome::Wrong);
        }
    }
    Ok(Outcome::Done)
}

fn described<'a>((subject, functions): &'a (&'a str, &'a [Function])) -> impl Iterator<Item = Value> {
    functions.iter().map(|function| description(subject, function))
}

fn description(subject: &str, function: &Function) -> Value {
    let examples = function.examples.iter().map(|(sql, gives)| json!({ "sql": sql, "gives": gives }));
    json!({
        "name": function.name,
        "subject": subject,
        "signature": function.signature(),
        "meaning": function.meaning,
        "examples": Value::from_iter(examples),
    })
}

fn print_subject((subject, functions): &(&str, &[Function])) {
    println!("{subject}");
    for function in *functions {
        println!("  {}{}\n      {}", function.name, function.signature(), function.meaning);
    }
    println!();
}

fn print_function(function: &Function) {
    println!("{}{}\n  {}\n", function.name, function.signature(), function.meaning);
    for (sql, gives) in function.examples {
        println!("  {sql}\n      {}", if gives.is_empty() { "(an empty text)" } else { gives });
    }
}
