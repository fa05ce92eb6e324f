//! What a file says of a Kafka cluster elsewhere: `to = { kafka = "orders", servers = "k1:9092,k2:9092", … }`.

use super::secrets;
use super::spec::{Elsewhere, KafkaOutput, Output};
use super::web::Trust;
use crate::config::Section;
use crate::kafka::{Mechanism, Sasl, Settings, Tls};
use crate::record::{Codec, TopicName};
use std::path::Path;

/// Servers that one file names.
const SERVERS_MAX: usize = 32;
const GROUP_SIZE_MAX: usize = 255;

pub(super) fn output(to: &Section<'_>) -> Option<KafkaOutput> {
    let topic = topic(to);
    let cluster = cluster(to);
    let key = to.string("key").map(|key| key.value);
    let codec = to.read("compression", codec).map_or(Codec::Zstd, |codec| codec.value);
    Some(KafkaOutput { topic: topic?, key, codec, cluster: cluster? })
}

/// `from = { kafka = … }`; both parts are there if it is right.
pub(super) struct From {
    pub(super) topic: Option<TopicName>,
    pub(super) elsewhere: Option<Elsewhere>,
}

impl From {
    /// Whether an output writes into the topic, as far as names of servers tell.
    pub(super) fn is_written_by(&self, output: &Output) -> bool {
        let (Output::Kafka(out), Some(elsewhere)) = (output, &self.elsewhere) else { return false };
        let is_same = |server: &String| out.cluster.servers.contains(server);
        self.topic.as_ref() == Some(&out.topic) && elsewhere.cluster.servers.iter().any(is_same)
    }
}

/// What `from` says, if it is no topic of this log.
pub(super) fn source(root: &Section<'_>) -> Option<From> {
    if !root.has("from") || root.item("from").is_some_and(|from| from.is_str()) {
        return None;
    }
    let from = root.table("from")?;
    if !from.has("kafka") {
        from.wrong("kafka", "say which topic: from = { kafka = \"orders\", servers = \"kafka-1:9092\" }");
    }
    let (topic, cluster) = (topic(&from), cluster(&from));
    let group = from.read("group", |group| match group.len() {
        1..=GROUP_SIZE_MAX => Ok(group.to_owned()),
        _ => Err(format!("a group's name has 1 to {GROUP_SIZE_MAX} bytes")),
    });
    from.finish();
    let elsewhere = cluster.map(|cluster| Elsewhere { cluster, group: group.map(|group| group.value) });
    Some(From { topic, elsewhere })
}

/// The topic that `kafka` names.
pub(super) fn topic(section: &Section<'_>) -> Option<TopicName> {
    section.read("kafka", |name| TopicName::new(name).map_err(|error| error.to_string())).map(|name| name.value)
}

/// `servers`, `tls`, `sasl`.
pub(super) fn cluster(section: &Section<'_>) -> Option<Settings> {
    if !section.has("servers") {
        section.wrong("servers", "say where the cluster is: servers = \"kafka-1:9092,kafka-2:9092\"");
    }
    let servers = section.read("servers", servers);
    let tls = tls(section);
    let sasl = section.has("sasl").then(|| section.table("sasl").and_then(|sasl| login(&sasl)));
    Some(Settings { servers: servers?.value, tls, sasl: sasl.unwrap_or_default() })
}

/// `tls = true`, or `tls = { ca = "FILE" }`: a PEM file, from the pipeline file's folder on.
fn tls(section: &Section<'_>) -> Option<Tls> {
    if !section.has("tls") {
        return None;
    }
    let is_table = section.item("tls").is_some_and(|tls| tls.is_table_like());
    let (name, trust) = match is_table {
        false => match section.boolean("tls")?.value {
            true => ("machine".to_owned(), Ok(Trust::Machine)),
            false => return None,
        },
        true => {
            let table = section.table("tls")?;
            let ca = table.string("ca");
            if ca.is_none() && !table.has("ca") {
                table.wrong("ca", "say which certificates are believed: tls = { ca = \"kafka-ca.pem\" }, or tls = true for the machine's own");
            }
            table.finish();
            let folder = section.mistakes().file.parent().unwrap_or(Path::new("."));
            let path = folder.join(ca?.value);
            (path.display().to_string(), Trust::of_file(&path))
        }
    };
    match trust.and_then(|trust| trust.config()) {
        Ok(config) => Some(Tls { name, config }),
        Err(reason) => {
            section.wrong("tls", reason);
            None
        }
    }
}

fn servers(text: &str) -> Result<Vec<String>, String> {
    let servers: Vec<String> = text.split(',').map(|server| server.trim().to_owned()).collect();
    let is_place = |server: &&String| {
        let parts = server.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    if let Some(wrong) = servers.iter().find(|server| !is_place(server)) {
        return Err(format!("\"{wrong}\" is not HOST:PORT; write \"kafka-1:9092,kafka-2:9092\""));
    }
    if servers.len() > SERVERS_MAX {
        return Err(format!("{} servers; name at most {SERVERS_MAX}, they tell of the others", servers.len()));
    }
    Ok(servers)
}

fn codec(text: &str) -> Result<Codec, String> {
    let known = [Codec::None, Codec::Lz4, Codec::Zstd];
    let found = known.into_iter().find(|codec| codec.to_string() == text);
    found.ok_or_else(|| format!("\"{text}\" is not a codec here; one of none, lz4, zstd"))
}

fn login(section: &Section<'_>) -> Option<Sasl> {
    let names = Mechanism::ALL.map(Mechanism::name).join(", ");
    let mechanism = section.read("mechanism", |text| {
        let found = Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == text);
        found.ok_or_else(|| format!("\"{text}\" is not a mechanism here; one of {names}"))
    });
    let username = section.read("username", |text| read_secret(text, section));
    let password = section.read("password", |text| read_secret(text, section));
    for key in ["mechanism", "username", "password"] {
        if !section.has(key) {
            section.wrong(key, format!("a login has mechanism ({names}), username and password"));
        }
    }
    section.finish();
    Some(Sasl { mechanism: mechanism?.value, username: username?.value, password: password?.value })
}

/// The text, or what the file of `secret('NAME')` holds.
fn read_secret(text: &str, section: &Section<'_>) -> Result<String, String> {
    let name = text.strip_prefix("secret('").and_then(|rest| rest.strip_suffix("')"));
    match name {
        Some(name) => secrets::read(name, section.mistakes().file).map_err(|error| error.to_string()),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::spec::Output;
    use super::*;
    use std::path::Path;

    fn text(to: &str) -> String {
        format!("from = \"topic:c\"\nto = {{ {to} }}\n[columns]\na = \"string\"\n")
    }

    #[test]
    fn an_output_elsewhere_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/kafka"), "pencil\n").unwrap();
        let login = "sasl = { mechanism = \"SCRAM-SHA-512\", username = \"inrush\", password = \"secret('kafka')\" }";
        let to =
            format!("kafka = \"orders\", servers = \"k1:9092, k2:9093\", key = \"a\", compression = \"lz4\", {login}");
        let spec = parse(&folder.path().join("p.toml"), &text(&to)).unwrap();
        let Output::Kafka(out) = &spec.routes[0].to else { panic!("{:?}", spec.routes) };
        assert_eq!((out.topic.as_str(), out.key.as_deref(), out.codec), ("orders", Some("a"), Codec::Lz4));
        assert_eq!(out.cluster.servers, ["k1:9092", "k2:9093"]);
        let sasl = out.cluster.sasl.as_ref().unwrap();
        assert_eq!((sasl.mechanism, sasl.password.as_str()), (Mechanism::ScramSha512, "pencil"));
        // Status and logs print what a file says.
        assert!(!format!("{spec:?}").contains("pencil"));
    }

    #[test]
    fn a_topic_elsewhere_that_is_read_is_not_written() {
        let of = |servers: &str, topic: &str| {
            let from = format!("from = {{ kafka = \"o\", servers = \"{servers}\" }}\n[columns]\na = \"string\"\n");
            let to = format!("[[route]]\nto = {{ kafka = \"{topic}\", servers = \"k1:1, k2:1\" }}\n");
            parse(Path::new("p.toml"), &(from + &to)).map_err(|mistakes| mistakes[0].to_string())
        };
        assert!(of("k0:1,k2:1", "o").unwrap_err().contains("would read what it writes"));
        assert!(of("k2:1", "p").is_ok() && of("k3:1", "o").is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_at_once() {
        let mistakes = |to: &str| -> Vec<String> {
            parse(Path::new("p.toml"), &text(to)).unwrap_err().iter().map(ToString::to_string).collect()
        };
        assert!(mistakes("kafka = \"o\"")[0].contains("say where the cluster is"));
        let wrong =
            mistakes("kafka = \"o/o\", servers = \"k1\", compression = \"gzip\", sasl = { mechanism = \"GSSAPI\" }");
        assert!(wrong.len() >= 5, "{wrong:#?}");
        assert!(wrong.iter().any(|line| line.contains("HOST:PORT")), "{wrong:#?}");
        assert!(wrong.iter().any(|line| line.contains("SCRAM-SHA-256")), "{wrong:#?}");
        let typo = mistakes("kafka = \"o\", servers = \"k:1\", kye = \"a\"");
        assert!(typo[0].contains("\"key\""), "{typo:#?}");
        let secret = mistakes(
            "kafka = \"o\", servers = \"k:1\", sasl = { mechanism = \"PLAIN\", username = \"u\", password = \"secret('none')\" }",
        );
        assert!(secret[0].contains("cannot read the secret"), "{secret:#?}");
    }
}
