//! What a registry is asked and how it answers: `GET /schemas/ids/ID` and `GET /subjects/SUBJECT/versions/VERSION`.

use super::http::Connection;
use hyper::StatusCode;
use serde::Deserialize;
use std::fmt::Write;

/// How a registry says that it has no schema of an id, no subject of a name, and no version of a number. Any other 404 is somebody else's:
/// of a wrong path, of a proxy.
const NOT_FOUND: [i64; 3] = [40401, 40402, 40403];

/// A schema as it was registered.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Versioned {
    #[serde(rename = "schema")]
    pub(super) text: String,
    #[serde(rename = "schemaType", default = "avro")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) references: Vec<Reference>,
}

/// A schema that another one refers to: by a name that stands in its text.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: i64,
}

fn avro() -> String {
    "AVRO".to_owned()
}

pub(super) enum Answer {
    Schema(Versioned),
    /// The registry is well and has none.
    Nothing(String),
}

/// # Errors
/// The registry is down.
pub(super) async fn by_id(connection: &mut Connection<'_>, id: u32) -> Result<Answer, String> {
    ask(connection, &format!("/schemas/ids/{id}")).await
}

/// # Errors
/// The registry is down.
pub(super) async fn by_version(connection: &mut Connection<'_>, reference: &Reference) -> Result<Answer, String> {
    let mut subject = String::new();
    for byte in reference.subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => subject.push(char::from(byte)),
            _ => drop(write!(subject, "%{byte:02X}")),
        }
    }
    ask(connection, &format!("/subjects/{subject}/versions/{}", reference.version)).await
}

async fn ask(connection: &mut Connection<'_>, path: &str) -> Result<Answer, String> {
    let (status, body) = connection.get(path).await?;
    if status == StatusCode::OK {
        let schema = serde_json::from_slice(&body);
        return schema.map(Answer::Schema).map_err(|error| format!("its answer to {path} is no schema: {error}"));
    }
    #[derive(Deserialize)]
    struct Refusal {
        error_code: i64,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) if status == StatusCode::NOT_FOUND && NOT_FOUND.contains(&refusal.error_code) => {
            Ok(Answer::Nothing(format!("the registry does not know it: {}", refusal.message)))
        }
        Ok(refusal) => Err(format!("it answered {path} with {status}: {}", refusal.message)),
        Err(_) => Err(format!("it answered {path} with {status}")),
    }
}
