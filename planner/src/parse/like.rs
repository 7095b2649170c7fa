//! The grammar of CREATE TABLE ... LIKE: what of another table's definition is taken, in Flink's words; and of PostgreSQL's LIKE among the columns.

use super::ast::{LikeAst, LikePart, Merge};
use super::words::Words;
use datafusion::sql::sqlparser::tokenizer::Token;
use eddyline_common::{Result, SqlError};
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
    Ok(LikeAst { name, columns_only: false, all, parts })
}

/// `name [EXCLUDING part ...]`, after LIKE among the columns: names, types and NOT NULL are taken.
pub fn columns(words: &mut Words) -> Result<LikeAst> {
    let name = words.name()?;
    while words.eat("excluding") {
        words.ident()?;
    }
    if words.is("including") {
        let error = SqlError::unsupported("INCLUDING is not supported for LIKE among the columns");
        return Err(words.text.at(error.with_hint("CREATE TABLE name LIKE other takes keys, defaults and options too."), words.location()));
    }
    Ok(LikeAst { name, columns_only: true, all: Merge::Excluding, parts: BTreeMap::new() })
}

fn merge(words: &mut Words) -> Result<Merge> {
    for (word, merge) in [("including", Merge::Including), ("excluding", Merge::Excluding), ("overwriting", Merge::Overwriting)] {
        if words.eat(word) {
            return Ok(merge);
        }
    }
    words.unexpected("INCLUDING, EXCLUDING, OVERWRITING or a closing parenthesis")
}
