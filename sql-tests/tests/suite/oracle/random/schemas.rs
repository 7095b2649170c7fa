//! The grammar over tables that are made by chance too: two to four of them, with a key or without, of columns of any type, with nulls or not. What compares,
//! joins, groups and computes is chosen by the columns' types; the shapes of queries are those of the wider grammar. Sums of doubles are exact here,
//! since all of them are sixteenths.

use super::super::tables::{Domain, Kind, TableSpec};
use super::{Columns, Queries, Relations, Type};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

const NAMES: [&str; 4] = ["ta", "tb", "tc", "td"];
/// Behind the key and `k`, which every table has.
const VALUES: [&str; 6] = ["v1", "v2", "v3", "v4", "v5", "v6"];
/// The first three are for `k`: tables have a type in common.
static DOMAINS: [(Domain, Type); 16] = [
    (Domain::SmallInt, Type::Int),
    (Domain::Int, Type::Int),
    (Domain::BigInt, Type::Int),
    (Domain::Text, Type::Text),
    (Domain::Text, Type::Text),
    (Domain::Boolean, Type::Bool),
    (Domain::Numeric(9, 0), Type::Numeric),
    (Domain::Numeric(10, 2), Type::Numeric),
    (Domain::Numeric(20, 6), Type::Numeric),
    (Domain::Sixteenths, Type::Double),
    (Domain::Date, Type::Date),
    (Domain::Date, Type::Date),
    (Domain::Time, Type::Timestamp),
    (Domain::TimeTz, Type::TimestampTz),
    (Domain::Int, Type::Int),
    (Domain::Ints, Type::Ints),
];
const INTEGERS: usize = 3;

/// Tables, and what queries know of them.
pub(super) fn tables(random: &mut StdRng) -> (Vec<TableSpec>, Relations) {
    (0..random.random_range(2..=NAMES.len())).map(|number| table(random, NAMES[number])).unzip()
}

fn table(random: &mut StdRng, name: &'static str) -> (TableSpec, (&'static str, Columns)) {
    let kind = *[Kind::Keyed, Kind::Keyed, Kind::Keyless, Kind::AppendOnly].choose(random).expect("a choice");
    let mut columns = Vec::new();
    if kind == Kind::Keyed {
        columns.push(*[("id", (Domain::Id, Type::Int)), ("id", (Domain::Code, Type::Text))].choose(random).expect("a choice"));
    }
    columns.push(("k", column(random, &DOMAINS[..INTEGERS])));
    let values = random.random_range(2..=VALUES.len());
    columns.extend(VALUES[..values].iter().map(|name| (*name, column(random, &DOMAINS))));
    let known = columns.iter().map(|(name, (_, ty))| (name.to_string(), *ty)).collect();
    let columns = columns.into_iter().map(|(name, (domain, _))| (name, domain)).collect();
    (TableSpec { name, kind, columns, watermark: None }, (name, known))
}

fn column(random: &mut StdRng, of: &'static [(Domain, Type)]) -> (Domain, Type) {
    let (domain, ty) = of.choose(random).expect("a choice");
    (if random.random_bool(0.3) { Domain::Required(domain) } else { *domain }, *ty)
}

impl Type {
    fn is_ordered(self) -> bool {
        !matches!(self, Type::Bool | Type::Ints)
    }
}

impl Queries {
    /// The type of a comparison between columns of both: one that they share, if there is one with an order.
    pub(super) fn shared(&mut self, left: &Columns, right: &Columns) -> Type {
        let is_shared = |ty: &Type| ty.is_ordered() && right.iter().any(|(_, other)| other == ty);
        let shared: Vec<Type> = left.iter().map(|(_, ty)| *ty).filter(is_shared).collect();
        if shared.is_empty() { Type::Int } else { self.one_of(&shared) }
    }

    pub(super) fn typed_comparison(&mut self, columns: &Columns) -> String {
        let (value, ty) = self.item(columns);
        let not = self.one_of(&["", "NOT "]);
        match self.random.random_range(0..6) {
            0 => format!("{value} IS {not}NULL"),
            1 if ty.is_ordered() => format!("{value} {not}BETWEEN {} AND {}", self.constant(ty), self.value(ty, columns)),
            2 if ty.is_ordered() => format!("{value} {not}IN ({}, {})", self.constant(ty), self.constant(ty)),
            3 if ty == Type::Ints => format!("{} = ANY({value})", self.value(Type::Int, columns)),
            _ => {
                let operators = ["=", "<>", "IS DISTINCT FROM", "<", "<=", ">", ">="];
                let operators = if ty.is_ordered() { &operators[..] } else { &operators[..3] };
                format!("({value} {} ({}))", self.one_of(operators), self.value(ty, columns))
            }
        }
    }

    /// A value of a type made of a column of it, or of one of another type.
    pub(super) fn typed_value(&mut self, ty: Type, column: &str, columns: &Columns) -> String {
        if self.chance(0.5) {
            return self.of_another(ty, column, columns);
        }
        let constant = self.constant(ty);
        match self.random.random_range(0..5) {
            0 => format!("COALESCE({column}, {constant})"),
            1 => format!("CASE WHEN {} THEN {column} ELSE {constant} END", self.value(Type::Bool, columns)),
            2 if ty.is_ordered() => format!("NULLIF({column}, {constant})"),
            3 if ty.is_ordered() => format!("GREATEST({column}, {constant})"),
            4 if ty.is_ordered() => format!("LEAST({column}, {constant})"),
            _ => column.to_string(),
        }
    }

    fn of_another(&mut self, ty: Type, column: &str, columns: &Columns) -> String {
        let form = self.random.random_range(0..2);
        match (ty, form) {
            (Type::Int, 0) => format!("CAST(EXTRACT(DAY FROM {}) AS INT)", self.value(Type::Date, columns)),
            (Type::Int, _) => match columns.iter().find(|(_, ty)| *ty == Type::Ints) {
                Some((array, _)) => format!("{array}[1]"),
                // Batch here is DataFusion's, whose casts cut off where PostgreSQL's, a view's and a server's SELECT round.
                None => format!("CAST(ROUND({}) AS BIGINT)", self.value(Type::Numeric, columns)),
            },
            // Nor does it spell times as they do.
            (Type::Text, 0) => format!("TO_CHAR({}, 'YYYY-MM-DD HH24:MI')", self.value(Type::Timestamp, columns)),
            (Type::Text, _) => format!("CAST({} AS TEXT)", self.value(Type::Date, columns)),
            (Type::Bool, 0) => format!("({} < {})", self.value(Type::Numeric, columns), self.value(Type::Numeric, columns)),
            (Type::Bool, _) => format!("({} >= {})", self.value(Type::Timestamp, columns), self.value(Type::Timestamp, columns)),
            (Type::Numeric, 0) => format!("({column} + 1)"),
            (Type::Numeric, _) => format!("CAST({} AS NUMERIC(12,2))", self.value(Type::Int, columns)),
            (Type::Double, 0) => format!("({column} * 2)"),
            (Type::Double, _) => format!("CAST({} AS DOUBLE PRECISION)", self.value(Type::Int, columns)),
            (Type::Date, 0) => format!("({column} + 1)"),
            (Type::Date, _) => format!("CAST({} AS DATE)", self.value(Type::Timestamp, columns)),
            (Type::Timestamp, 0) => format!("({column} + INTERVAL '1 day')"),
            (Type::Timestamp, _) => format!("DATE_TRUNC('minute', {column})"),
            (Type::TimestampTz, 0) => format!("({column} + INTERVAL '90 seconds')"),
            (Type::TimestampTz, _) => format!("DATE_TRUNC('hour', {column})"),
            (Type::Ints, _) => format!("ARRAY[CAST({} AS INT), 1]", self.value(Type::Int, columns)),
        }
    }
}
