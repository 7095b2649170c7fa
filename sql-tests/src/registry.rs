//! A stand-in for a schema registry: Confluent's own is in none of the package registries that the tests take programs from. It
//! answers the three requests that Eddyline makes of one, in the form of Confluent's HTTP API, with what a test has registered, under
//! the test's numbers, and checks nothing of it. So it shows what Eddyline makes of such answers; that a real registry gives them
//! `connectors/tests/registry.rs` shows, with Apicurio's. It can go away and come back.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The path that ends it.
const STOP: &str = "/stop";
/// How long a connection may say nothing; others wait behind it.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// A version of a subject.
struct Registered {
    subject: String,
    version: usize,
    number: u32,
    body: Value,
}

#[derive(Clone, Default)]
struct Schemas(Arc<Mutex<Vec<Registered>>>);

impl Schemas {
    fn add(&self, subject: &str, number: u32, body: Value) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = 1 + all.iter().filter(|r| r.subject == subject).count();
        all.push(Registered { subject: subject.to_string(), version, number, body });
    }

    fn answer(&self, path: &str) -> Option<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["schemas", "ids", number] => all.iter().find(|r| r.number.to_string() == *number).map(|r| r.body.clone()),
            ["subjects", subject, "versions", version] => {
                let mut of_subject = all.iter().filter(|r| r.subject == *subject);
                let is_wanted = |r: &&Registered| r.version.to_string() == *version;
                let found = if *version == "latest" { of_subject.next_back() } else { of_subject.find(is_wanted) }?;
                let mut body = found.body.clone();
                body["subject"] = json!(found.subject);
                body["version"] = json!(found.version);
                body["id"] = json!(found.number);
                Some(body)
            }
            _ => None,
        }
    }
}

/// Serves until it is stopped or dropped.
pub struct SchemaRegistry {
    schemas: Schemas,
    port: u16,
    serving: Option<JoinHandle<()>>,
}

impl SchemaRegistry {
    pub fn start() -> SchemaRegistry {
        let mut registry = SchemaRegistry { schemas: Schemas::default(), port: 0, serving: None };
        registry.restart();
        registry
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a version to a subject, also while nobody is answered. The body is what a producer would post: `schema`, and where they
    /// apply `schemaType` and `references`. The number is the test's, as records name it.
    pub fn register(&self, subject: &str, number: u32, body: Value) {
        self.schemas.add(subject, number, body);
    }

    pub fn stop(&mut self) {
        let Some(serving) = self.serving.take() else { return };
        let request = format!("GET {STOP} HTTP/1.1\r\n\r\n");
        let stopped = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| stream.write_all(request.as_bytes()));
        if stopped.is_ok() {
            serving.join().expect("the registry ends");
        }
    }

    /// Where it was, with what it had.
    pub fn restart(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("a port");
        self.port = listener.local_addr().expect("an address").port();
        let schemas = self.schemas.clone();
        self.serving = Some(std::thread::spawn(move || serve(&listener, &schemas)));
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(listener: &TcpListener, schemas: &Schemas) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        // Whoever asked may have been killed meanwhile.
        let Ok(path) = path_of(&stream) else { continue };
        if path == STOP {
            return;
        }
        let (status, body) = match schemas.answer(&path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", json!({"error_code": 40403, "message": "Schema not found"})),
        };
        let body = body.to_string();
        let head = "Content-Type: application/vnd.schemaregistry.v1+json\r\nConnection: close";
        let answer = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _told = stream.write_all(answer.as_bytes());
    }
}

/// Reads a request to its end: closing before that would reset the connection.
fn path_of(stream: &TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(REQUEST_WITHIN))?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    Ok(first.split(' ').nth(1).unwrap_or_default().to_string())
}
