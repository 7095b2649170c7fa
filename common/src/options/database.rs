//! Rules between the options of a database that is looked up: an address in JDBC's form becomes options of its own, and no part of
//! it is left open. It contacts nobody.

use super::*;

const SCHEME: &str = "jdbc:postgresql:";
const DEFAULT_PORT: &str = "5432";

pub(super) fn finish(options: &mut BTreeMap<String, String>) -> Result<()> {
    if let Some(url) = options.remove(JDBC_URL) {
        for (key, value) in parts(&url)? {
            if options.insert(key.to_string(), value).is_some() {
                return Err(invalid(format!("option \"{key}\" is given twice")).with_detail(format!("It is in \"{JDBC_URL}\" too.")));
            }
        }
    }
    if !options.contains_key(HOSTNAME) {
        return Err(invalid(format!("connector \"postgres\" needs the option \"{HOSTNAME}\" or \"{JDBC_URL}\""))
            .with_hint("Write 'hostname' = 'db', 'database-name' = 'shop', or 'url' = 'jdbc:postgresql://db:5432/shop'."));
    }
    options.entry(PORT.to_string()).or_insert_with(|| DEFAULT_PORT.to_string());
    if let Some(missing) = [USERNAME, DATABASE].into_iter().find(|key| !options.contains_key(*key)) {
        return Err(invalid(format!("connector \"postgres\" needs the option \"{missing}\"")));
    }
    if options.contains_key(LOOKUP_ROWS) && !options.contains_key(LOOKUP_TTL) {
        return Err(invalid(format!("option \"{LOOKUP_ROWS}\" needs the option \"{LOOKUP_TTL}\""))
            .with_hint("Say for how long an answer may be used: 'lookup.cache.ttl' = '1 min'."));
    }
    for key in [LOOKUP_TTL, LOOKUP_TIMEOUT] {
        if duration_micros(options, key)?.is_some_and(|micros| micros <= 0) {
            return Err(invalid(format!("option \"{key}\" must be more than nothing")));
        }
    }
    Ok(())
}

/// What `jdbc:postgresql://host:port/database` says.
fn parts(url: &str) -> Result<Vec<(&'static str, String)>> {
    let refuse = |why: &str| invalid(format!("option \"{JDBC_URL}\" {why}")).with_hint("Write 'jdbc:postgresql://host:port/database'.");
    let begins = |with: &str| url.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    if begins("jdbc:") && !begins(SCHEME) {
        return Err(SqlError::unsupported("only PostgreSQL is looked up over JDBC's addresses").with_hint("Write 'jdbc:postgresql://...'."));
    }
    let rest = url.get(SCHEME.len()..).filter(|_| begins(SCHEME)).and_then(|rest| rest.strip_prefix("//"));
    let rest = rest.ok_or_else(|| refuse("is no address of a database"))?;
    if rest.contains('?') {
        return Err(refuse("has parameters").with_detail("User and password are options of their own, and connections are not encrypted."));
    }
    let (host, database) = rest.split_once('/').filter(|(_, d)| !d.is_empty()).ok_or_else(|| refuse("names no database"))?;
    if host.contains(['@', ',']) {
        return Err(refuse("must name one host, and no user"));
    }
    let mut parts = vec![(DATABASE, database.to_string())];
    // The colons of an IPv6 address are in brackets.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host, None),
    };
    if let Some(port) = port {
        let number = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| refuse("has no number for a port"))?;
        parts.push((PORT, number.to_string()));
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(refuse("names no host"));
    }
    parts.push((HOSTNAME, host.to_string()));
    Ok(parts)
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, message)
}
