//! `inrush topic list|create|describe|alter|delete`.

use super::Outcome;
use crate::client::Client;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

#[derive(Args)]
pub(super) struct Arguments {
    /// Address of the HTTP door.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", global = true)]
    http: String,
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    List,
    Create {
        name: String,
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// KEY=VALUE, as often as needed.
        #[arg(long = "config", value_name = "KEY=VALUE")]
        config: Vec<String>,
    },
    Describe {
        name: String,
    },
    Alter {
        name: String,
        /// KEY=VALUE sets, KEY= resets to the default.
        #[arg(long = "config", value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// Grows the topic.
        #[arg(long)]
        partitions: Option<i32>,
    },
    Delete {
        name: String,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let mut client = Client::new(arguments.http)?;
    let answer = match arguments.action {
        Action::List => client.json(Method::GET, "/v1/topics", None)?,
        Action::Create { name, partitions, config } => {
            let body = json!({ "name": name, "partitions": partitions, "config": pairs(&config, false)? });
            client.json(Method::POST, "/v1/topics", Some(&body))?
        }
        Action::Describe { name } => client.json(Method::GET, &format!("/v1/topics/{name}"), None)?,
        Action::Alter { name, config, partitions } => {
            let body = json!({ "config": pairs(&config, true)?, "partitions": partitions });
            client.json(Method::PATCH, &format!("/v1/topics/{name}"), Some(&body))?
        }
        Action::Delete { name } => client.json(Method::DELETE, &format!("/v1/topics/{name}"), None)?,
    };
    if arguments.json {
        println!("{answer}");
    } else {
        print(&answer);
    }
    Ok(Outcome::Done)
}

fn pairs(config: &[String], may_reset: bool) -> Result<Value> {
    let mut out = Map::new();
    for pair in config {
        let (key, value) = pair.split_once('=').with_context(|| format!("--config {pair}: write KEY=VALUE"))?;
        let value = if value.is_empty() && may_reset { Value::Null } else { value.into() };
        out.insert(key.to_owned(), value);
    }
    Ok(out.into())
}

fn print(answer: &Value) {
    match answer {
        Value::Array(topics) => {
            println!("{:<40} {:>10} {:>14} {:>14}", "topic", "partitions", "records", "bytes");
            topics.iter().for_each(print_line);
        }
        one if one.get("deleted").is_some() => println!("deleted {}", one["deleted"].as_str().unwrap_or_default()),
        one => {
            print_line(one);
            for partition in one["partition_list"].as_array().into_iter().flatten() {
                let (start, tail, bytes) = (&partition["start"], &partition["tail"], &partition["bytes"]);
                println!(
                    "  partition {:<5} records {start} to {tail}, {bytes} bytes",
                    partition["partition"].to_string()
                );
            }
            for entry in one["config"].as_array().into_iter().flatten() {
                let mark = if entry["default"] == true { ' ' } else { '*' };
                let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
                println!("  {mark} {:<30} {:<24} {}", text("name"), text("value"), text("meaning"));
            }
        }
    }
}

fn print_line(topic: &Value) {
    let name = topic["name"].as_str().unwrap_or_default();
    let number = |key: &str| topic[key].to_string();
    println!("{name:<40} {:>10} {:>14} {:>14}", number("partitions"), number("records"), number("bytes"));
}
