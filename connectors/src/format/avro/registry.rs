//! A schema registry (Confluent's HTTP API): schemas by their numbers, each asked for once.

use eddyline_common::{Result, SqlError, SqlState, options};
use std::collections::BTreeMap;
use std::time::Duration;

/// For a whole request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A schema's text.
const BYTES_MAX: u64 = 4 << 20;

pub struct Registry {
    url: String,
    /// `Authorization`, if the options have credentials.
    authorization: Option<String>,
    agent: ureq::Agent,
}

impl Registry {
    pub fn new(options: &BTreeMap<String, String>) -> Result<Registry> {
        let missing = || {
            SqlError::new(SqlState::INVALID_PARAMETER, format!("format \"avro-confluent\" needs the option \"{}\"", options::REGISTRY_URL))
        };
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

    /// The text of a schema, or why there is none. Fails while the registry does not answer.
    pub fn schema(&self, number: u32) -> Result<Result<String, String>> {
        let away = |why: String| {
            SqlError::new(SqlState::CONNECTION_FAILURE, format!("the schema registry at \"{}\" does not answer: {why}", self.url))
        };
        let mut request = self.agent.get(format!("{}/schemas/ids/{number}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.call().map_err(|e| away(e.to_string()))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(BYTES_MAX).read_to_string().map_err(|e| away(e.to_string()))?;
        match status {
            200 => {
                let answer: serde_json::Value = serde_json::from_str(&body).map_err(|e| away(e.to_string()))?;
                if let Some(kind) = answer["schemaType"].as_str().filter(|kind| *kind != "AVRO") {
                    return Ok(Err(format!("it is of type {kind}")));
                }
                Ok(answer["schema"].as_str().map(str::to_string).ok_or_else(|| "the registry's answer has no schema".to_string()))
            }
            404 => Ok(Err("the registry does not have it".to_string())),
            _ => Err(away(format!("HTTP status {status}"))),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
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
    fn answers_of_a_registry() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = [
            "200 OK\r\nContent-Length: 20\r\n\r\n{\"schema\":\"\\\"int\\\"\"}",
            "404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "500 X\r\nContent-Length: 0\r\n\r\n",
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
        let registry = Registry::new(&options).unwrap();
        assert_eq!(registry.schema(7).unwrap(), Ok("\"int\"".to_string()));
        assert_eq!(registry.schema(8).unwrap(), Err("the registry does not have it".to_string()));
        assert!(registry.schema(9).unwrap_err().message.contains("HTTP status 500"));
        let requests = serving.join().unwrap();
        assert!(
            requests[0].starts_with("GET /schemas/ids/7 ") && requests[0].to_lowercase().contains("authorization: basic dxnlcjpwyxnz"),
            "{}",
            requests[0]
        );
        assert!(Registry::new(&BTreeMap::new()).is_err());
    }
}
