//! What the errors of an object store mean: whether trying again can help, and what the user can do. Knows no store and
//! does nothing.

use crate::error::{SqlError, SqlState};
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// Whether the object is missing, and not the bucket that it would be in.
pub fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !names_no_bucket(&error.to_string())
}

/// `cannot <action> "<what>": <cause>`, with what to do about it.
pub fn store_failure(action: &str, what: &str, error: &Error) -> SqlError {
    let cause = error.to_string();
    let message = format!("cannot {action} \"{what}\": {cause}");
    let failure = |state, hint: &str| SqlError::new(state, message.clone()).with_hint(hint);
    if has(error, |e| e.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull)) {
        return failure(SqlState::DISK_FULL, "Free some space there; work resumes by itself.");
    }
    if names_no_bucket(&cause) {
        return failure(SqlState::UNDEFINED_OBJECT, "Create the bucket (or container), or correct its name in the URL.");
    }
    // Without keys the machine that the server runs on is asked who it is, at an address of its own.
    if cause.contains("169.254.") || cause.contains("metadata.google.internal") {
        return failure(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "No credentials were given, and this machine has none. Set options such as s3.access-key and s3.secret-key, gs.service-account or \
             azure.access-key, or the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_SERVICE_ACCOUNT or AZURE_STORAGE_ACCOUNT_KEY.",
        );
    }
    // A list is refused without saying so in its type.
    let is_refused = ["non-2xx status code: 403", "non-2xx status code: 401"].iter().any(|mark| cause.contains(mark));
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => refused(message),
        _ if is_refused => refused(message),
        Error::NotFound { .. } => SqlError::new(SqlState::UNDEFINED_OBJECT, message),
        _ if is_away(error, &cause) => {
            failure(SqlState::CONNECTION_FAILURE, "Check the endpoint and that the store is up. Running work tries again by itself.")
        }
        _ => SqlError::io(message),
    }
}

fn refused(message: String) -> SqlError {
    SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
        .with_hint("The store refuses these credentials: check key and secret, or the user of hdfs:// (HADOOP_USER_NAME), and that they may list, read, write \
                    and delete there.")
}

fn names_no_bucket(text: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|mark| text.contains(mark))
}

/// Nobody answered, or somebody who cannot at present.
fn is_away(error: &Error, text: &str) -> bool {
    use HttpErrorKind::*;
    let unanswered = |e: &HttpError| matches!(e.kind(), Connect | Request | Timeout | Interrupted);
    has(error, |e| e.downcast_ref::<HttpError>().is_some_and(unanswered))
        || has(error, |e| e.downcast_ref::<std::io::Error>().is_some_and(is_network))
        || text.contains("non-2xx status code: 5")
}

/// What stores without HTTP have for it.
fn is_network(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    let kinds = [
        ConnectionRefused,
        ConnectionReset,
        ConnectionAborted,
        NotConnected,
        BrokenPipe,
        TimedOut,
        UnexpectedEof,
        HostUnreachable,
        NetworkUnreachable,
        NetworkDown,
    ];
    kinds.contains(&error.kind()) || error.to_string().contains("failed to lookup address")
}

fn has(error: &Error, fits: impl Fn(&(dyn std::error::Error + 'static)) -> bool) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if fits(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let source = |text: &str| Box::new(std::io::Error::other(text.to_string()));
        let missing = |text: &str| Error::NotFound { path: "a/b".into(), source: source(text) };
        assert!(is_missing(&missing("404")) && !is_missing(&missing("<Code>NoSuchBucket</Code>")));
        let error = store_failure("list", "s3://b/a", &missing("<Code>NoSuchBucket</Code>"));
        assert_eq!(error.state, SqlState::UNDEFINED_OBJECT);
        assert!(error.message.starts_with("cannot list \"s3://b/a\"") && error.hint.is_some_and(|h| h.starts_with("Create the bucket")));
        let denied = store_failure("read", "x", &Error::PermissionDenied { path: "a".into(), source: source("403") });
        assert_eq!(denied.state, SqlState::INSUFFICIENT_PRIVILEGE);
        let list = Error::Generic { store: "S3", source: source("Server returned non-2xx status code: 403 Forbidden: ...") };
        assert_eq!(store_failure("list", "x", &list).state, SqlState::INSUFFICIENT_PRIVILEGE);
        let refused = HttpError::new(HttpErrorKind::Connect, std::io::Error::other("refused"));
        let away = store_failure("read", "x", &Error::Generic { store: "S3", source: Box::new(refused) });
        assert_eq!(away.state, SqlState::CONNECTION_FAILURE);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(store_failure("write", "x", &Error::Generic { store: "file", source: Box::new(full) }).state, SqlState::DISK_FULL);
    }
}
