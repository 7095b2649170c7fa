//! A schema registry (Confluent's HTTP API): schemas by their numbers or subjects, with those they refer to; and what has been made of
//! those that records name. Knows no schema's language.

use eddyline_common::{Result as SqlResult, SqlError, SqlState, options};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// For a whole request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer.
const BYTES_MAX: u64 = 4 << 20;

/// Characters that are shown of an answer that is none.
const SHOWN_MAX: usize = 200;

/// Schemas that one imports, and those import in turn.
const IMPORTED_MAX: usize = 256;

/// What is kept of schemas: a stream names a few; what is no record of a registry may name any number.
const KEPT_MAX: usize = 1_000;

pub struct Registry {
    url: String,
    /// `Authorization`, if the options have credentials.
    authorization: Option<String>,
    agent: ureq::Agent,
}

/// A schema as it is registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// `AVRO`, `PROTOBUF` or `JSON`.
    pub kind: String,
    pub text: String,
    /// Those it refers to, and those that they do: the names it calls them by, with their texts. Each is behind what it needs.
    pub imported: Vec<(String, String)>,
}

/// What a format has made of each schema that records name, by how they name it; or why it could make nothing of it.
pub struct Kept<K, T>(HashMap<K, Result<T, String>>);

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Kept(HashMap::new())
    }
}

impl<K: Eq + Hash, T> Kept<K, T> {
    pub fn has(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub fn keep(&mut self, key: K, made: Result<T, String>) {
        if self.0.len() >= KEPT_MAX {
            self.0.clear();
        }
        self.0.insert(key, made);
    }

    pub fn get(&self, key: &K) -> Result<&T, String> {
        let made = self.0.get(key).ok_or("the record's schema was not asked for")?;
        made.as_ref().map_err(String::clone)
    }
}

/// The number of its schema in a record that names one: behind a zero byte.
pub fn schema_number(payload: &[u8]) -> Result<u32, String> {
    match payload {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err("no schema of a registry is named: the record does not begin with a zero byte and a number".to_string()),
    }
}

impl Registry {
    /// The registry that the options of a source in `format` name.
    pub fn new(options: &BTreeMap<String, String>, format: &str) -> SqlResult<Registry> {
        let missing =
            || SqlError::new(SqlState::INVALID_PARAMETER, format!("format \"{format}\" needs the option \"{}\"", options::REGISTRY_URL));
        let url = options.get(options::REGISTRY_URL).ok_or_else(missing)?.trim_end_matches('/').to_string();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER,
                format!("option \"{}\" takes a URL, not \"{url}\"", options::REGISTRY_URL),
            ));
        }
        let authorization = match (options.get(options::REGISTRY_USER), options.get(options::REGISTRY_PASSWORD)) {
            (Some(user), password) => {
                Some(format!("Basic {}", base64(format!("{user}:{}", password.map_or("", String::as_str)).as_bytes())))
            }
            (None, _) => None,
        };
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Ok(Registry { url, authorization, agent: config.into() })
    }

    /// A schema by its number, or why there is none. Fails while the registry does not answer.
    pub fn schema(&self, number: u32) -> SqlResult<Result<Registered, String>> {
        self.registered(&format!("schemas/ids/{number}"))
    }

    /// The newest schema of a subject.
    pub fn newest(&self, subject: &str) -> SqlResult<Result<Registered, String>> {
        self.registered(&format!("subjects/{}/versions/latest", encoded(subject)))
    }

    fn registered(&self, path: &str) -> SqlResult<Result<Registered, String>> {
        let answer = match self.ask(path)? {
            Ok(answer) => answer,
            Err(why) => return Ok(Err(why)),
        };
        let Some(text) = answer["schema"].as_str() else { return Ok(Err("the registry's answer has no schema".to_string())) };
        let kind = answer["schemaType"].as_str().unwrap_or("AVRO").to_string();
        let mut imported = Vec::new();
        if let Err(why) = self.import(&answer, &mut imported, &mut BTreeSet::new())? {
            return Ok(Err(why));
        }
        Ok(Ok(Registered { kind, text: text.to_string(), imported }))
    }

    /// Fetches what a schema refers to, each thing once.
    fn import(&self, answer: &Value, imported: &mut Vec<(String, String)>, known: &mut BTreeSet<String>) -> SqlResult<Result<(), String>> {
        for reference in answer["references"].as_array().into_iter().flatten() {
            let (Some(name), Some(subject), Some(version)) =
                (reference["name"].as_str(), reference["subject"].as_str(), reference["version"].as_i64())
            else {
                return Ok(Err("the registry's answer refers to a schema without its name, subject or version".to_string()));
            };
            if !known.insert(name.to_string()) {
                continue;
            }
            if known.len() > IMPORTED_MAX {
                return Ok(Err("it refers to too many others".to_string()));
            }
            let other = match self.ask(&format!("subjects/{}/versions/{version}", encoded(subject)))? {
                Ok(other) => other,
                Err(why) => return Ok(Err(format!("version {version} of {subject}, which it refers to: {why}"))),
            };
            if let Err(why) = self.import(&other, imported, known)? {
                return Ok(Err(why));
            }
            let Some(text) = other["schema"].as_str() else { return Ok(Err(format!("{subject} has no schema"))) };
            imported.push((name.to_string(), text.to_string()));
        }
        Ok(Ok(()))
    }

    fn ask(&self, path: &str) -> SqlResult<Result<Value, String>> {
        let away = |why: String| {
            SqlError::new(SqlState::CONNECTION_FAILURE, format!("the schema registry at \"{}\" does not answer: {why}", self.url))
        };
        let mut request = self.agent.get(format!("{}/{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.call().map_err(|e| away(e.to_string()))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(BYTES_MAX).read_to_string().map_err(|e| away(e.to_string()))?;
        match status {
            200 => serde_json::from_str(&body).map(Ok).map_err(|e| self.says(SqlState::CONNECTION_FAILURE, &format!("no JSON: {e}"))),
            404 if is_of_registry(&body) => Ok(Err("the registry does not have it".to_string())),
            401 | 403 => {
                let hint = format!("Check the options \"{}\" and \"{}\".", options::REGISTRY_USER, options::REGISTRY_PASSWORD);
                Err(self.says(SqlState::INSUFFICIENT_PRIVILEGE, &format!("HTTP status {status}, {}", start(&body))).with_hint(hint))
            }
            _ => Err(self.says(SqlState::CONNECTION_FAILURE, &format!("HTTP status {status}, {}", start(&body)))),
        }
    }

    /// What it answers is of no use.
    fn says(&self, state: SqlState, what: &str) -> SqlError {
        SqlError::new(state, format!("the schema registry at \"{}\" answers with {what}", self.url))
    }
}

/// Whether it is the registry that lacks something. Whatever stands in its place, or is at a URL that is not its own, answers with the status alone, and
/// says nothing of any schema.
fn is_of_registry(body: &str) -> bool {
    let answer = serde_json::from_str::<Value>(body);
    answer.is_ok_and(|answer| answer["error_code"].as_i64().is_some_and(|code| (40_401..40_500).contains(&code)))
}

/// How a page begins, to be told.
fn start(body: &str) -> String {
    match body.split_whitespace().collect::<Vec<_>>().join(" ") {
        text if text.is_empty() => "without a text".to_string(),
        text => text.chars().take(SHOWN_MAX).collect(),
    }
}

/// A name as part of a URL's path.
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte as char),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (chunk[0] as u32) << 16 | (*chunk.get(1).unwrap_or(&0) as u32) << 8 | *chunk.get(2).unwrap_or(&0) as u32;
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn credentials_are_base64() {
        assert_eq!((base64(b"user:pass"), base64(b"a"), base64(b"ab")), ("dXNlcjpwYXNz".into(), "YQ==".into(), "YWI=".into()));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        (0..KEPT_MAX).for_each(|n| kept.keep(n, if n % 2 == 0 { Ok(n) } else { Err(format!("{n} is odd")) }));
        assert_eq!((kept.get(&4), kept.get(&5)), (Ok(&4), Err("5 is odd".to_string())));
        kept.keep(KEPT_MAX, Ok(0));
        assert_eq!((kept.get(&KEPT_MAX), kept.has(&4), kept.get(&4).is_err()), (Ok(&0), false, true));
    }

    #[test]
    fn answers_of_a_registry() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = [
            "200 OK\r\nContent-Length: 20\r\n\r\n{\"schema\":\"\\\"int\\\"\"}",
            "404 Not Found\r\nContent-Length: 20\r\n\r\n{\"error_code\":40403}",
            "404 Not Found\r\nContent-Length: 12\r\n\r\nno such page",
            "500 X\r\nContent-Length: 0\r\n\r\n",
            "401 Unauthorized\r\nContent-Length: 13\r\n\r\nwho  are\nyou?",
            "200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        ];
        let serving = std::thread::spawn(move || {
            answers.map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let len = stream.read(&mut request).unwrap();
                stream.write_all(format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)).as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..len]).into_owned()
            })
        });
        let options = [(options::REGISTRY_URL, url.as_str()), (options::REGISTRY_USER, "user"), (options::REGISTRY_PASSWORD, "pass")];
        let options = options.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let registry = Registry::new(&options, "avro-confluent").unwrap();
        let int = Registered { kind: "AVRO".to_string(), text: "\"int\"".to_string(), imported: vec![] };
        assert_eq!(registry.schema(7).unwrap(), Ok(int));
        assert_eq!(registry.schema(8).unwrap(), Err("the registry does not have it".to_string()));
        let elsewhere = registry.schema(8).unwrap_err();
        assert!(elsewhere.message.ends_with("answers with HTTP status 404, no such page"), "{elsewhere}");
        let told = registry.schema(9).unwrap_err();
        assert!(told.message.ends_with("answers with HTTP status 500, without a text"), "{told}");
        let denied = registry.schema(10).unwrap_err();
        assert!(denied.message.ends_with("answers with HTTP status 401, who are you?"), "{denied}");
        assert_eq!(denied.state, SqlState::INSUFFICIENT_PRIVILEGE);
        assert!(denied.hint.is_some_and(|hint| hint.contains(options::REGISTRY_PASSWORD)));
        assert!(registry.schema(11).unwrap_err().message.contains("answers with no JSON: "));
        let requests = serving.join().unwrap();
        assert!(
            requests[0].starts_with("GET /schemas/ids/7 ") && requests[0].to_lowercase().contains("authorization: basic dxnlcjpwyxnz"),
            "{}",
            requests[0]
        );
        assert!(Registry::new(&BTreeMap::new(), "avro-confluent").is_err());
    }
}
