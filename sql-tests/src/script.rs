//! Statements that are kept in files beside the tests. Knows nothing of what they say.

use std::path::Path;

/// The statements of a file, without comments. A quoted text of more than one line is not for such files.
pub fn statements(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    lines.join("\n").split(";\n").map(|s| s.trim().trim_end_matches(';').to_string()).filter(|s| !s.is_empty()).collect()
}
