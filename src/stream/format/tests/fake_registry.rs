//! A schema registry that a test plays: a listener with answers by path.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers by path, status first; what was asked is written down.
#[derive(Default)]
pub(in crate::stream) struct Fake {
    pub(in crate::stream) answers: Mutex<BTreeMap<String, (u16, String)>>,
    pub(in crate::stream) asked: Mutex<Vec<String>>,
}

impl Fake {
    pub(in crate::stream) fn with(answers: &[(&str, u16, String)]) -> Arc<Fake> {
        let fake = Fake::default();
        answers.iter().for_each(|(path, status, body)| fake.answer(path, *status, body));
        Arc::new(fake)
    }

    pub(in crate::stream) fn answer(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }

    /// Serves for as long as the test's process lives; gives the port.
    pub(in crate::stream) fn serve(self: &Arc<Fake>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let fake = fake.clone();
                std::thread::spawn(move || fake.converse(stream));
            }
        });
        port
    }

    fn converse(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        // A request has no body: it ends with an empty line.
        while let Some(Ok(first)) = lines.next() {
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = self.answers.lock().unwrap().get(&path).cloned();
            self.asked.lock().unwrap().push(path);
            let (status, body) = answer.unwrap_or((404, "not here".to_owned()));
            // In one piece: two wait for each other's acknowledgement, 40 ms a request.
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }
}

pub(in crate::stream) fn registered(schema: &str, kind: Option<&str>, references: serde_json::Value) -> String {
    let mut answer = serde_json::json!({ "schema": schema, "references": references });
    if let Some(kind) = kind {
        answer["schemaType"] = kind.into();
    }
    answer.to_string()
}
