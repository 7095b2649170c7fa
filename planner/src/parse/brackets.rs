//! Brackets in a row, in a text that is not cut into tokens yet: of a text of millions of them these take gigabytes. It does not tell comments apart, after which it may take what is in
//! quotes for what is not; so the bound is far from any that text in quotes comes to. What it lets pass, the bound on tokens sees again.

/// Fifty times what the bound on tokens takes.
const MAX_IN_A_ROW: usize = 10_000;

/// The byte of the opening bracket that is one too many.
pub fn too_many_at(sql: &str) -> Option<usize> {
    let (mut row, mut quoted) = (0_usize, None);
    for (at, byte) in sql.bytes().enumerate() {
        match (quoted, byte) {
            (Some(quote), _) if byte == quote => quoted = None,
            (None, b'\'' | b'"' | b'`') => (row, quoted) = (0, Some(byte)),
            (None, b'(' | b'[' | b'{') if row == MAX_IN_A_ROW => return Some(at),
            (None, b'(' | b'[' | b'{') => row += 1,
            (None, b' ' | b'\t' | b'\r' | b'\n') | (Some(_), _) => {}
            (None, _) => row = 0,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_a_row_are_counted() {
        let many = "( \n[".repeat(MAX_IN_A_ROW / 2);
        assert_eq!(too_many_at(&format!("SELECT 'it''s', {many}1{many}")), None);
        assert_eq!(too_many_at(&format!("SELECT '{many}{many}', \"{many}{many}\"")), None);
        assert_eq!(too_many_at(&format!("SELECT 'it''s', {many} {{")), Some("SELECT 'it''s', ".len() + many.len() + 1));
    }
}
