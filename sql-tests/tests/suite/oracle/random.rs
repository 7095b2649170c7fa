//! Cases that nobody thought of: queries made by chance from a grammar of what views can hold, over relations that change and that only
//! grow. Expressions cannot fail, and where an order matters it is one of all columns, so the batch result is the only one.
//!
//! - `wide`: what the wider of the two grammars has besides; `schemas`: tables and columns by chance; `windows`: windows over event time, of random sizes

mod schemas;
mod wide;
mod windows;

use super::case::{Case, Scenario};
use super::catalog::OracleCatalog;
use super::tables::{Domain, Kind, TableSpec};
use super::windowed;
use eddyline_common::SqlState;
use eddyline_planner::RULES;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const QUERIES: usize = 14;
/// Queries inside one another.
const DEPTH: usize = 2;

/// `p` with a key, `q` without, `r` only ever added to.
fn tables() -> Vec<TableSpec> {
    let columns = |first: Option<(&'static str, Domain)>| {
        let values = [("k", Domain::Int), ("g", Domain::Text), ("i", Domain::BigInt), ("s", Domain::SmallInt), ("b", Domain::Boolean)];
        first.into_iter().chain(values).collect()
    };
    vec![
        TableSpec { name: "p", kind: Kind::Keyed, columns: columns(Some(("id", Domain::Id))), watermark: None },
        TableSpec { name: "q", kind: Kind::Keyless, columns: columns(None), watermark: None },
        TableSpec { name: "r", kind: Kind::AppendOnly, columns: columns(None), watermark: None },
    ]
}

/// What queries know of them.
fn relations() -> Relations {
    let columns = [("k", Type::Int), ("g", Type::Text), ("i", Type::Int), ("s", Type::Int), ("b", Type::Bool)];
    let columns: Columns = columns.map(|(name, ty)| (name.to_string(), ty)).to_vec();
    ["p", "q", "r"].map(|name| (name, columns.clone())).to_vec()
}

/// Rules that came after seeds were kept: what a seed says of the others must not change.
const LATER_RULES: [&str; 2] = ["enable_join_reordering", "enable_two_phase_aggregation"];

/// The rules of the optimiser that a seed does without: none for some, any for the others of a mode. Of windows those that decide which rows are late stay on.
pub fn rules_off(grammar: Grammar, seed: u64) -> Vec<&'static str> {
    if grammar == Grammar::Windows {
        return super::rules_off(seed);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let first = RULES.into_iter().filter(|rule| !LATER_RULES.contains(rule));
    first.chain(LATER_RULES).filter(|_| seed / 4 % 2 == 1 && random.random_bool(0.5)).collect()
}

/// What queries are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// The first one, kept as it is: the seeds that it failed with are known.
    Plain,
    Wide,
    Schemas,
    Windows,
}

impl Grammar {
    pub fn name(self) -> &'static str {
        match self {
            Grammar::Plain => "random",
            Grammar::Wide => "wide",
            Grammar::Schemas => "schemas",
            Grammar::Windows => "random_windows",
        }
    }
}

/// The scenario of a seed.
pub fn scenario(grammar: Grammar, seed: u64) -> Scenario {
    let is_windowed = grammar == Grammar::Windows;
    let mut random = StdRng::seed_from_u64(seed);
    let (tables, relations) = match grammar {
        Grammar::Windows => (windowed::tables(), Relations::new()),
        Grammar::Schemas => schemas::tables(&mut random),
        Grammar::Plain | Grammar::Wide => (tables(), relations()),
    };
    let mut catalog = OracleCatalog::without(rules_off(grammar, seed));
    for table in &tables {
        catalog.create(&table.create_sql(false)).unwrap_or_else(|e| panic!("{e:?}"));
    }
    let (wide, typed) = (matches!(grammar, Grammar::Wide | Grammar::Schemas), grammar == Grammar::Schemas);
    let mut queries = Queries { random, names: 0, relations, wide, typed };
    let mut cases = Vec::new();
    let mut tries = 0;
    while cases.len() < QUERIES {
        tries += 1;
        assert!(tries < 20 * QUERIES, "nearly every query is refused");
        let name = format!("random_{tries}");
        let case = if is_windowed { queries.windowed(name) } else { Case::new(name, queries.query(DEPTH).0).postgres() };
        match catalog.create(&case.create_sql()) {
            Ok(_) => cases.push(case),
            Err(error) if error.state == SqlState::FEATURE_NOT_SUPPORTED => {}
            Err(error) => panic!("{}: {error:?}", case.sql),
        }
    }
    let (epochs, backfills) = if is_windowed { (12, 0.0) } else { (8, 0.3) };
    Scenario { name: grammar.name(), tables, cases, epochs, changes: 8, checkpoints: 0.3, kills: 0.2, backfills }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Int,
    Text,
    Bool,
    Numeric,
    Double,
    Date,
    Timestamp,
    TimestampTz,
    Ints,
}

/// Columns as an expression may name them.
type Columns = Vec<(String, Type)>;
/// Tables, with the names of their columns.
type Relations = Vec<(&'static str, Columns)>;

struct Queries {
    random: StdRng,
    names: usize,
    relations: Relations,
    wide: bool,
    /// Columns are of all types.
    typed: bool,
}

impl Queries {
    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.random).expect("a choice").clone()
    }

    fn chance(&mut self, of: f64) -> bool {
        self.random.random_bool(of)
    }

    fn alias(&mut self) -> String {
        self.names += 1;
        format!("x{}", self.names)
    }

    /// A query whose columns are `c0`, `c1`, ..., and their types.
    fn query(&mut self, depth: usize) -> (String, Vec<Type>) {
        if self.wide && depth > 0 && self.chance(0.45) {
            return self.wide(depth);
        }
        match self.random.random_range(0..10) {
            0 | 1 if depth > 0 => self.set_operation(depth),
            2..=4 => self.grouped(depth),
            5 if depth > 0 => self.ranked(depth),
            _ => self.plain(depth),
        }
    }

    fn plain(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (from, columns) = self.from(depth);
        let condition = self.condition(&columns, depth);
        let distinct = if self.chance(0.2) { "DISTINCT " } else { "" };
        let count = self.random.random_range(1..=4);
        let items: Vec<(String, Type)> = (0..count).map(|_| self.item(&columns)).collect();
        (format!("SELECT {distinct}{} FROM {from}{condition}", list(&items)), items.into_iter().map(|(_, ty)| ty).collect())
    }

    fn grouped(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (from, columns) = self.from(depth);
        let condition = self.condition(&columns, depth);
        let keys: Columns = (0..self.random.random_range(0..=2)).map(|_| self.item(&columns)).collect();
        let calls: Columns = (0..self.random.random_range(1..=3)).map(|_| self.aggregate(&columns)).collect();
        let by = match keys.as_slice() {
            [] => String::new(),
            keys => format!(" GROUP BY {}", (1..=keys.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")),
        };
        let having = if !keys.is_empty() && self.chance(0.3) { " HAVING COUNT(*) > 1" } else { "" };
        let items: Columns = keys.into_iter().chain(calls).collect();
        (format!("SELECT {} FROM {from}{condition}{by}{having}", list(&items)), items.into_iter().map(|(_, ty)| ty).collect())
    }

    fn aggregate(&mut self, columns: &Columns) -> (String, Type) {
        let (value, ty) = self.item(columns);
        let filter = if self.chance(0.25) { format!(" FILTER (WHERE {})", self.comparison(columns)) } else { String::new() };
        match (self.random.random_range(0..6), ty) {
            (1.., Type::Ints) => (format!("COUNT({value}){filter}"), Type::Int),
            (_, Type::Text) if self.wide && self.chance(0.2) => (format!("STRING_AGG({value}, ',' ORDER BY {value}){filter}"), Type::Text),
            (0, _) => (format!("COUNT(*){filter}"), Type::Int),
            (1, _) => (format!("COUNT(DISTINCT {value}){filter}"), Type::Int),
            (2 | 3, Type::Int) => (format!("CAST(SUM({value}){filter} AS BIGINT)"), Type::Int),
            (2 | 3, Type::Numeric | Type::Double) => (format!("SUM({value}){filter}"), ty),
            (4, ty) if ty != Type::Bool => (format!("MIN({value}){filter}"), ty),
            (_, Type::Bool) => (format!("BOOL_OR({value}){filter}"), Type::Bool),
            (_, _) => (format!("MAX({value}){filter}"), ty),
        }
    }

    /// The first rows of each group, in an order of all columns.
    fn ranked(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (inner, types) = self.query(depth - 1);
        let alias = self.alias();
        let all: Vec<String> = (0..types.len()).map(|i| format!("{alias}.c{i}")).collect();
        let partition = if self.chance(0.7) { format!("PARTITION BY {} ", self.one_of(&all)) } else { String::new() };
        let mut order: Vec<String> = all.clone();
        let first = self.random.random_range(0..order.len());
        order.swap(0, first);
        let order: Vec<String> = order.iter().map(|c| format!("{c}{}", if self.chance(0.5) { " DESC" } else { "" })).collect();
        let function = self.one_of(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
        let most = self.random.random_range(1..=3);
        let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
        let sql = format!(
            "SELECT {} FROM (SELECT {alias}.*, {function}() OVER ({partition}ORDER BY {}) AS place FROM ({inner}) AS {alias}) AS {} WHERE place <= {most}",
            names.join(", "),
            order.join(", "),
            self.alias()
        );
        (sql, types)
    }

    fn set_operation(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (left, types) = self.query(depth - 1);
        let (from, columns) = self.from(depth - 1);
        let items: Columns = types.iter().map(|ty| (self.value(*ty, &columns), *ty)).collect();
        let right = format!("SELECT {} FROM {from}", list(&items));
        let operator = self.one_of(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"]);
        let alias = self.alias();
        // In a subquery, so that what is around it binds to nothing of it.
        (format!("SELECT * FROM ({left} {operator} {right}) AS {alias}"), types)
    }

    fn from(&mut self, depth: usize) -> (String, Columns) {
        let (left, columns) = self.relation(depth);
        if depth == 0 || self.chance(0.5) {
            return (left, columns);
        }
        let (right, others) = self.relation(depth - 1);
        let kind = self.one_of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let ty = if self.typed { self.shared(&columns, &others) } else { Type::Int };
        let (l, r) = (self.value(ty, &columns), self.value(ty, &others));
        let both: Columns = columns.into_iter().chain(others).collect();
        let residual = if self.chance(0.3) { format!(" AND {}", self.comparison(&both)) } else { String::new() };
        (format!("{left} {kind} {right} ON {l} = {r}{residual}"), both)
    }

    fn relation(&mut self, depth: usize) -> (String, Columns) {
        let alias = self.alias();
        if depth > 0 && self.chance(0.4) {
            let (inner, types) = self.query(depth - 1);
            let columns = types.into_iter().enumerate().map(|(i, ty)| (format!("{alias}.c{i}"), ty)).collect();
            return (format!("({inner}) AS {alias}"), columns);
        }
        let (table, columns) = self.relations.choose(&mut self.random).expect("a table");
        (format!("{table} AS {alias}"), columns.iter().map(|(name, ty)| (format!("{alias}.{name}"), *ty)).collect())
    }

    fn condition(&mut self, columns: &Columns, depth: usize) -> String {
        if self.chance(0.4) {
            return String::new();
        }
        let mut condition = self.comparison(columns);
        if self.chance(0.4) {
            let other = self.comparison(columns);
            condition = format!("({condition} {} {other})", self.one_of(&["AND", "OR"]));
        }
        if depth > 0 && self.chance(0.3) {
            let ty = if self.typed { self.shared(columns, columns) } else { Type::Int };
            let value = self.value(ty, columns);
            let (from, inner) = self.from(0);
            let (other, filter) = (self.value(ty, &inner), self.comparison(&inner));
            let subquery = match self.random.random_range(0..4) {
                _ if self.wide && ty == Type::Int && self.chance(0.4) => self.wide_subquery(&value, &other, &from, &filter, columns),
                0 => format!("{value} IN (SELECT {other} FROM {from} WHERE {filter})"),
                1 => format!("EXISTS (SELECT 1 FROM {from} WHERE {other} = {value} AND {filter})"),
                2 => format!("NOT EXISTS (SELECT 1 FROM {from} WHERE {other} = {value} AND {filter})"),
                _ => format!("{value} > (SELECT MIN({other}) FROM {from} WHERE {filter})"),
            };
            condition = format!("{condition} AND {subquery}");
        }
        format!(" WHERE {condition}")
    }

    fn comparison(&mut self, columns: &Columns) -> String {
        if self.typed && self.chance(0.6) {
            return self.typed_comparison(columns);
        }
        if self.wide && self.chance(0.3) {
            return self.wide_comparison(columns);
        }
        match self.random.random_range(0..6) {
            0 => format!("{} IS {}NULL", self.item(columns).0, self.one_of(&["", "NOT "])),
            1 => self.value(Type::Bool, columns),
            2 => format!("{} {} {}", self.value(Type::Text, columns), self.one_of(&["=", "<>", "<"]), self.one_of(&["'a'", "'b'", "''"])),
            3 => format!("{} IN (1, 2, {})", self.value(Type::Int, columns), self.random.random_range(-3..4)),
            _ => {
                let operator = self.one_of(&["=", "<>", "<", "<=", ">", "IS NOT DISTINCT FROM"]);
                format!("{} {operator} {}", self.value(Type::Int, columns), self.value(Type::Int, columns))
            }
        }
    }

    /// Something that may stand in a select list.
    fn item(&mut self, columns: &Columns) -> (String, Type) {
        let (_, ty) = self.one_of(columns);
        (self.value(ty, columns), ty)
    }

    fn value(&mut self, ty: Type, columns: &Columns) -> String {
        let of_type: Vec<String> = columns.iter().filter(|(_, t)| *t == ty).map(|(name, _)| name.clone()).collect();
        let constant = self.constant(ty);
        if of_type.is_empty() {
            return constant;
        }
        let column = self.one_of(&of_type);
        if self.typed && self.chance(0.25) {
            return self.typed_value(ty, &column, columns);
        }
        if self.wide && self.chance(0.2) {
            return self.wide_value(ty, &column, columns);
        }
        match (self.random.random_range(0..8), ty) {
            (0, Type::Int) => format!("({column} % 5)"),
            (1, Type::Int) => format!("COALESCE({column}, {constant})"),
            (2, Type::Int) => format!("CASE WHEN {column} > 1 THEN {column} ELSE {constant} END"),
            (0, Type::Text) => format!("UPPER({column})"),
            (1, Type::Text) => format!("COALESCE({column}, {constant})"),
            (0, Type::Bool) => format!("NOT {column}"),
            _ => column,
        }
    }

    fn constant(&mut self, ty: Type) -> String {
        match ty {
            Type::Int => self.random.random_range(-2..5).to_string(),
            Type::Text => self.one_of(&["'a'", "'Alpha'", "''"]).to_string(),
            Type::Bool => self.one_of(&["TRUE", "FALSE"]).to_string(),
            Type::Numeric => format!("CAST({}.25 AS NUMERIC(10,2))", self.random.random_range(-2..5)),
            Type::Double => format!("CAST({}.5 AS DOUBLE PRECISION)", self.random.random_range(-2..5)),
            Type::Date => format!("DATE '2024-01-0{}'", self.random.random_range(1..8)),
            Type::Timestamp => format!("TIMESTAMP '2024-01-01 00:00:{}'", self.random.random_range(10..50)),
            Type::TimestampTz => format!("TIMESTAMPTZ '2024-01-01 00:00:{}+00'", self.random.random_range(10..50)),
            Type::Ints => self.one_of(&["ARRAY[1, 2]", "ARRAY[0]"]).to_string(),
        }
    }
}

fn list(items: &Columns) -> String {
    items.iter().enumerate().map(|(i, (value, _))| format!("{value} AS c{i}")).collect::<Vec<_>>().join(", ")
}
