//! How deep brackets nest in a text, before it is cut into tokens: of a text that nests them by the million these take gigabytes. What is in quotes does not count; comments are not told apart,
//! so the bound is far from any that a statement comes to. What it lets pass, the bound on tokens sees again.

/// Fifty times what the bound on tokens takes.
const MAX_DEPTH: usize = 10_000;

/// The byte of the bracket that is one too many.
pub fn too_deep_at(sql: &str) -> Option<usize> {
    let (mut depth, mut quoted) = (0_usize, None);
    for (at, byte) in sql.bytes().enumerate() {
        match (quoted, byte) {
            (Some(quote), _) if byte == quote => quoted = None,
            (None, b'\'' | b'"' | b'`') => quoted = Some(byte),
            (None, b'(' | b'[' | b'{') if depth == MAX_DEPTH => return Some(at),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_that_are_open_count() {
        let many = "(".repeat(MAX_DEPTH + 1);
        assert_eq!(too_deep_at(&format!("SELECT 'it''s', {many}")), Some("SELECT 'it''s', ".len() + MAX_DEPTH));
        assert_eq!(too_deep_at(&format!("SELECT '{many}', \"{many}\", {}", "(1)".repeat(MAX_DEPTH + 1))), None);
    }
}
