//! The grammar of CREATE TABLE ... LIKE: what of another table's definition is taken, in Flink's words.

use super::ast::{LikeAst, LikePart, Merge};
use super::words::Words;
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::Result;
use std::collections::BTreeMap;

const PARTS: [(&str, LikePart); 6] = [
    ("constraints", LikePart::Constraints),
    ("generated", LikePart::Generated),
    ("metadata", LikePart::Metadata),
    ("options", LikePart::Options),
    ("partitions", LikePart::Partitions),
    ("watermarks", LikePart::Watermarks),
];

/// `name [({INCLUDING | EXCLUDING | OVERWRITING} part ...)]`, after LIKE.
pub fn like(words: &mut Words) -> Result<LikeAst> {
    let name = words.name()?;
    let mut all = Merge::Including;
    let mut parts = BTreeMap::from([(LikePart::Options, Merge::Overwriting)]);
    if words.eat_token(&Token::LParen) {
        let mut said = BTreeMap::new();
        while !words.eat_token(&Token::RParen) {
            let merge = merge(words)?;
            if words.eat("all") {
                all = merge;
                parts.clear();
            } else if let Some((_, part)) = PARTS.iter().find(|(word, _)| words.eat(word)) {
                said.insert(*part, merge);
            } else {
                return words.unexpected("ALL, CONSTRAINTS, GENERATED, METADATA, OPTIONS, PARTITIONS or WATERMARKS");
            }
        }
        parts.extend(said);
    }
    Ok(LikeAst { name, all, parts })
}

fn merge(words: &mut Words) -> Result<Merge> {
    for (word, merge) in [("including", Merge::Including), ("excluding", Merge::Excluding), ("overwriting", Merge::Overwriting)] {
        if words.eat(word) {
            return Ok(merge);
        }
    }
    words.unexpected("INCLUDING, EXCLUDING, OVERWRITING or a closing parenthesis")
}
