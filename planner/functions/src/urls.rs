//! Flink's `PARSE_URL`: the parts of a URL as `java.net.URL` tells them, which takes them as they are written.

use super::native::{Arg, Native, map_text, text, texts};
use datafusion::arrow::array::ArrayRef;
use eddyline_common::SqlError;

pub const FUNCTIONS: &[Native] = &[Native::partial("parse_url", &[Arg::Text, Arg::Text], &[Arg::Text], text, parse_url)];

/// What Java knows how to open; all else is no URL to it.
const PROTOCOLS: [&str; 6] = ["http", "https", "ftp", "file", "jar", "mailto"];

/// `PARSE_URL(url, part [, key])`: null where there is no such part, and where there is no such key in a query.
fn parse_url(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, parts) = (texts(&args[0]), texts(&args[1]));
    let keys = args.get(2).map(texts);
    map_text(args, |row, out| {
        let part = Url::new(values.value(row)).and_then(|url| url.part(parts.value(row)));
        let found = match keys {
            None => part,
            Some(keys) => {
                part.filter(|_| parts.value(row) == "QUERY").and_then(|query| value_of(&query, keys.value(row)).map(String::from))
            }
        };
        out.push_str(found.as_deref().unwrap_or_default());
        Ok(found.is_some())
    })
}

fn value_of<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key)).map(|(_, value)| value)
}

struct Url<'t> {
    protocol: &'t str,
    authority: Option<&'t str>,
    path: &'t str,
    query: Option<&'t str>,
    reference: Option<&'t str>,
}

impl<'t> Url<'t> {
    fn new(text: &'t str) -> Option<Url<'t>> {
        let (protocol, rest) = text.trim().split_once(':')?;
        if !PROTOCOLS.iter().any(|known| protocol.eq_ignore_ascii_case(known)) {
            return None;
        }
        let (rest, reference) = rest.split_once('#').map_or((rest, None), |(rest, reference)| (rest, Some(reference)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        let url = Url { protocol, authority, path, query, reference };
        url.host_and_port().1.is_none_or(|port| port.is_empty() || port.parse::<i32>().is_ok()).then_some(url)
    }

    /// A host in brackets has colons of its own.
    fn host_and_port(&self) -> (&'t str, Option<&'t str>) {
        let authority = self.authority.unwrap_or_default();
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let end = place.find(']').map_or(0, |bracket| bracket + 1);
        match place[end..].find(':') {
            Some(colon) => (&place[..end + colon], Some(&place[end + colon + 1..])),
            None => (place, None),
        }
    }

    fn part(&self, name: &str) -> Option<String> {
        Some(match name {
            "PROTOCOL" => self.protocol.to_lowercase(),
            "AUTHORITY" => self.authority?.to_string(),
            "USERINFO" => self.authority?.rsplit_once('@')?.0.to_string(),
            "HOST" => self.host_and_port().0.to_string(),
            "PATH" => self.path.to_string(),
            "QUERY" => self.query?.to_string(),
            "FILE" => match self.query {
                Some(query) => format!("{}?{query}", self.path),
                None => self.path.to_string(),
            },
            "REF" => self.reference?.to_string(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_parts_that_java_tells() {
        let part = |url: &str, name: &str| Url::new(url).and_then(|url| url.part(name));
        let url = "http://user:pass@Facebook.com:80/path1/p.php?k1=v1&k2=v2#Ref1";
        for (name, expected) in [
            ("PROTOCOL", Some("http")),
            ("AUTHORITY", Some("user:pass@Facebook.com:80")),
            ("USERINFO", Some("user:pass")),
            ("HOST", Some("Facebook.com")),
            ("PATH", Some("/path1/p.php")),
            ("QUERY", Some("k1=v1&k2=v2")),
            ("FILE", Some("/path1/p.php?k1=v1&k2=v2")),
            ("REF", Some("Ref1")),
            ("host", None),
        ] {
            assert_eq!(part(url, name).as_deref(), expected, "{name}");
        }
        assert_eq!(part("http://a", "PATH").as_deref(), Some(""));
        assert_eq!(part("http://[::1]:8/x", "HOST").as_deref(), Some("[::1]"));
        assert_eq!(part("http://a", "QUERY"), None);
        assert_eq!(part("http://a:b/", "HOST"), None);
        assert_eq!(part("no url", "HOST"), None);
        assert_eq!(part("gopher://a", "HOST"), None);
        assert_eq!(value_of("k1=v1&k2=v2", "k2"), Some("v2"));
        assert_eq!(value_of("k1=v1", "k"), None);
    }
}
