//! The wider grammar: OVER windows, grouping sets, DISTINCT ON, Top-N over all rows, LATERAL, common table expressions, correlated subqueries, and more functions.
//! A seed of the plain grammar makes what it always made, so seeds that once failed are kept as numbers.

use super::{Columns, Queries, Type, list};
use rand::Rng;

const FRAMES: &[&str] = &[
    "",
    " ROWS UNBOUNDED PRECEDING",
    " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
    " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
    " ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING",
    " ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING",
    " ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
    " RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
];
/// Over one integer column.
const DISTANCES: &[&str] = &[
    "RANGE BETWEEN 2 PRECEDING AND 2 FOLLOWING",
    "RANGE BETWEEN 3 PRECEDING AND CURRENT ROW",
    "RANGE BETWEEN 1 FOLLOWING AND 4 FOLLOWING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING",
    "RANGE BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING",
];

/// A query as a relation: its text, the name it goes by, its columns by that name and their types.
struct Inner {
    sql: String,
    alias: String,
    columns: Vec<String>,
    types: Vec<Type>,
}

impl Inner {
    fn items(&self) -> String {
        self.columns.iter().enumerate().map(|(i, column)| format!("{column} AS c{i}")).collect::<Vec<_>>().join(", ")
    }

    fn named(&self) -> Columns {
        self.columns.iter().cloned().zip(self.types.iter().copied()).collect()
    }

    fn from(&self) -> String {
        format!("({}) AS {}", self.sql, self.alias)
    }
}

impl Queries {
    fn inner(&mut self, depth: usize) -> Inner {
        let (sql, types) = self.query(depth - 1);
        let alias = self.alias();
        let columns = (0..types.len()).map(|i| format!("{alias}.c{i}")).collect();
        Inner { sql, alias, columns, types }
    }

    /// What the plain grammar has not, on the level of queries.
    pub(super) fn wide(&mut self, depth: usize) -> (String, Vec<Type>) {
        match self.random.random_range(0..9) {
            0 | 1 => self.over(depth),
            2 => self.over_distances(depth),
            3 => self.grouping_sets(depth),
            4 => self.distinct_on(depth),
            5 => self.limited(depth),
            // Only over tables that have integers.
            6 if !self.typed => self.lateral(depth),
            7 => self.twice(depth),
            _ => self.with_scalar(depth),
        }
    }

    /// All columns, so that what the order leaves equal is equal.
    fn order(&mut self, columns: &[String]) -> String {
        let mut order = columns.to_vec();
        let first = self.random.random_range(0..order.len());
        order.swap(0, first);
        let directed: Vec<String> =
            order.iter().map(|c| format!("{c}{}", self.one_of(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]))).collect();
        directed.join(", ")
    }

    fn over(&mut self, depth: usize) -> (String, Vec<Type>) {
        let inner = self.inner(depth);
        let order = self.order(&inner.columns);
        let partition = if self.chance(0.7) { format!("PARTITION BY {} ", self.one_of(&inner.columns)) } else { String::new() };
        let mut types = inner.types.clone();
        let mut calls = Vec::new();
        for _ in 0..self.random.random_range(1..=2) {
            let (column, ty) = self.one_of(&inner.named());
            let frame = self.one_of(FRAMES);
            let window = |frame: &str| format!("OVER ({partition}ORDER BY {order}{frame})");
            let (call, ty) = match self.random.random_range(0..6) {
                0 => {
                    let rank = self.one_of(&["ROW_NUMBER()", "RANK()", "DENSE_RANK()", "NTILE(3)"]);
                    (format!("CAST({rank} {} AS BIGINT)", window("")), Type::Int)
                }
                1 => {
                    let function = self.one_of(&["LAG", "LEAD"]);
                    (format!("{function}({column}, {}) {}", self.random.random_range(1..=3), window("")), ty)
                }
                2 => {
                    let call = self.one_of(&["FIRST_VALUE({})", "LAST_VALUE({})", "NTH_VALUE({}, 2)"]).replace("{}", &column);
                    (format!("{call} {}", window(frame)), ty)
                }
                _ => {
                    let (call, ty) = self.framed(&column, ty);
                    let filter =
                        if self.chance(0.25) { format!(" FILTER (WHERE {})", self.comparison(&inner.named())) } else { String::new() };
                    (summed(&format!("{call}{filter} {}", window(frame)), &call), ty)
                }
            };
            calls.push(format!(", {call} AS c{}", types.len()));
            types.push(ty);
        }
        (format!("SELECT {}{} FROM {}", inner.items(), calls.concat(), inner.from()), types)
    }

    /// An aggregate that a frame can have.
    fn framed(&mut self, column: &str, ty: Type) -> (String, Type) {
        match (self.random.random_range(0..4), ty) {
            (0, _) => ("COUNT(*)".to_string(), Type::Int),
            (1, _) => (format!("COUNT({column})"), Type::Int),
            // DataFusion has no BOOL_AND and BOOL_OR over frames.
            (_, Type::Bool | Type::Ints) => (format!("COUNT({column})"), Type::Int),
            (2, Type::Int) => (format!("SUM({column})"), Type::Int),
            _ => (format!("{}({column})", self.one_of(&["MIN", "MAX"])), ty),
        }
    }

    fn over_distances(&mut self, depth: usize) -> (String, Vec<Type>) {
        let inner = self.inner(depth);
        let numbers: Vec<(String, Type)> = inner.named().into_iter().filter(|(_, ty)| *ty == Type::Int).collect();
        if numbers.is_empty() {
            return (format!("SELECT {} FROM {}", inner.items(), inner.from()), inner.types);
        }
        let (by, _) = self.one_of(&numbers);
        let direction = self.one_of(&["", " DESC"]);
        let partition = if self.chance(0.6) { format!("PARTITION BY {} ", self.one_of(&inner.columns)) } else { String::new() };
        let (column, ty) = self.one_of(&inner.named());
        let (call, ty) = self.framed(&column, ty);
        let frame = self.one_of(DISTANCES);
        let call = summed(&format!("{call} OVER ({partition}ORDER BY {by}{direction} {frame})"), &call);
        let types: Vec<Type> = inner.types.iter().copied().chain([ty]).collect();
        (format!("SELECT {}, {call} AS c{} FROM {}", inner.items(), inner.types.len(), inner.from()), types)
    }

    fn grouping_sets(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (from, columns) = self.from(depth);
        let condition = self.condition(&columns, depth);
        let at = self.random.random_range(0..columns.len());
        let (first, second) = (columns[at].clone(), columns[(at + 1) % columns.len()].clone());
        if first == second {
            return self.plain(depth);
        }
        let (a, b) = (&first.0, &second.0);
        let sets = self.one_of(&[
            "ROLLUP ({a}, {b})",
            "CUBE ({a}, {b})",
            "GROUPING SETS (({a}), ({b}), ({a}, {b}))",
            "GROUPING SETS (({a}, {b}), ())",
            "{a}, ROLLUP ({b})",
        ]);
        let sets = sets.replace("{a}", a).replace("{b}", b);
        let mut items: Columns = vec![first.clone(), second.clone(), (format!("CAST(GROUPING({a}, {b}) AS BIGINT)"), Type::Int)];
        items.extend((0..self.random.random_range(1..=2)).map(|_| self.aggregate(&columns)).collect::<Vec<_>>());
        let having = if self.chance(0.3) { " HAVING COUNT(*) > 1" } else { "" };
        (format!("SELECT {} FROM {from}{condition} GROUP BY {sets}{having}", list(&items)), items.into_iter().map(|(_, ty)| ty).collect())
    }

    fn distinct_on(&mut self, depth: usize) -> (String, Vec<Type>) {
        let inner = self.inner(depth);
        let key = self.one_of(&inner.columns);
        // DataFusion fails at a column that is there twice.
        let others: Vec<String> = inner.columns.iter().filter(|column| **column != key).cloned().collect();
        let order = if others.is_empty() { String::new() } else { format!(", {}", self.order(&others)) };
        let sql = format!("SELECT DISTINCT ON ({key}) {} FROM {} ORDER BY {key}{order}", inner.items(), inner.from());
        (format!("SELECT * FROM ({sql}) AS {}", self.alias()), inner.types)
    }

    fn limited(&mut self, depth: usize) -> (String, Vec<Type>) {
        let inner = self.inner(depth);
        let order = self.order(&inner.columns);
        let offset = if self.chance(0.3) { " OFFSET 1" } else { "" };
        let most = self.random.random_range(1..=4);
        let sql = format!("SELECT {} FROM {} ORDER BY {order} LIMIT {most}{offset}", inner.items(), inner.from());
        (format!("SELECT * FROM ({sql}) AS {}", self.alias()), inner.types)
    }

    fn lateral(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (left, columns) = self.relation(depth);
        // DataFusion, which the views are compared with, takes one name for another over a subquery, and where what is compared is computed.
        let (right, others) = self.relation(0);
        let integers: Vec<String> = others.iter().filter(|(_, ty)| *ty == Type::Int).map(|(name, _)| name.clone()).collect();
        let (outer, own) = (self.value(Type::Int, &columns), self.one_of(&integers));
        let filter = if self.chance(0.5) { format!(" AND {}", self.comparison(&others)) } else { String::new() };
        let calls: Columns = match self.chance(0.6) {
            true => (0..self.random.random_range(1..=2)).map(|_| self.aggregate(&others)).collect(),
            false => vec![self.item(&others)],
        };
        let alias = self.alias();
        let subquery = format!("LATERAL (SELECT {} FROM {right} WHERE {own} = {outer}{filter}) AS {alias}", list(&calls));
        let join = match self.random.random_range(0..3) {
            0 => format!(" CROSS JOIN {subquery}"),
            1 => format!(" LEFT JOIN {subquery} ON TRUE"),
            _ => format!(", {subquery}"),
        };
        let both: Columns =
            columns.into_iter().chain(calls.iter().enumerate().map(|(i, (_, ty))| (format!("{alias}.c{i}"), *ty))).collect();
        let mut items: Columns = (0..self.random.random_range(1..=2)).map(|_| self.item(&both)).collect();
        items.push((format!("{alias}.c0"), calls[0].1));
        (format!("SELECT {} FROM {left}{join}", list(&items)), items.into_iter().map(|(_, ty)| ty).collect())
    }

    /// A common table expression that is read twice.
    fn twice(&mut self, depth: usize) -> (String, Vec<Type>) {
        let inner = self.inner(depth);
        let (name, other) = (self.alias(), self.alias());
        let of = |alias: &str| -> Columns { inner.types.iter().enumerate().map(|(i, ty)| (format!("{alias}.c{i}"), *ty)).collect() };
        let (one, two) = (of(&inner.alias), of(&other));
        let at = self.random.random_range(0..one.len());
        let kind = self.one_of(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
        let both: Columns = one.iter().chain(&two).cloned().collect();
        let items: Columns = (0..self.random.random_range(1..=3)).map(|_| self.item(&both)).collect();
        let sql = format!(
            "WITH {name} AS ({}) SELECT {} FROM {name} AS {} {kind} {name} AS {other} ON {} = {}",
            inner.sql,
            list(&items),
            inner.alias,
            one[at].0,
            two[at].0
        );
        (format!("SELECT * FROM ({sql}) AS {}", self.alias()), items.into_iter().map(|(_, ty)| ty).collect())
    }

    /// A scalar subquery among the columns, correlated or not.
    fn with_scalar(&mut self, depth: usize) -> (String, Vec<Type>) {
        let (from, columns) = self.from(depth);
        let condition = self.condition(&columns, 0);
        let mut items: Columns = (0..self.random.random_range(1..=2)).map(|_| self.item(&columns)).collect();
        let (right, others) = self.relation(0);
        let (outer, own) = (self.value(Type::Int, &columns), self.value(Type::Int, &others));
        let (call, ty) = self.aggregate(&others);
        let correlated = if self.chance(0.7) { format!("{own} = {outer} AND ") } else { String::new() };
        let subquery = format!("(SELECT {call} FROM {right} WHERE {correlated}{})", self.comparison(&others));
        items.push((subquery, ty));
        (format!("SELECT {} FROM {from}{condition}", list(&items)), items.into_iter().map(|(_, ty)| ty).collect())
    }

    /// Subqueries in conditions that the plain grammar has not.
    pub(super) fn wide_subquery(&mut self, value: &str, other: &str, from: &str, filter: &str, columns: &Columns) -> String {
        match self.random.random_range(0..5) {
            0 => format!("{value} NOT IN (SELECT {other} FROM {from} WHERE {filter})"),
            1 => format!("{value} <= (SELECT COUNT(*) FROM {from} WHERE {other} = {} AND {filter})", self.value(Type::Int, columns)),
            2 => {
                let (operator, all) = (self.one_of(&["=", "<>", "<", "<=", ">", ">="]), self.one_of(&["ANY", "ALL"]));
                format!("{value} {operator} {all} (SELECT {other} FROM {from} WHERE {filter})")
            }
            3 => {
                let (second, not) = (self.value(Type::Int, columns), self.one_of(&["", "NOT "]));
                format!("({value}, {second}) {not}IN (SELECT {other}, {other} FROM {from} WHERE {filter})")
            }
            _ => format!("NOT EXISTS (SELECT 1 FROM {from} WHERE {filter})"),
        }
    }

    pub(super) fn wide_comparison(&mut self, columns: &Columns) -> String {
        match self.random.random_range(0..4) {
            0 => {
                let low = self.random.random_range(-3..2);
                let not = self.one_of(&["", "NOT "]);
                format!("{} {not}BETWEEN {low} AND {}", self.value(Type::Int, columns), self.value(Type::Int, columns))
            }
            1 => format!("{} LIKE {}", self.value(Type::Text, columns), self.one_of(&["'a%'", "'%b%'", "'_'"])),
            2 => {
                let ty = self.one_of(&[Type::Int, Type::Text, Type::Bool]);
                format!("({} IS DISTINCT FROM {})", self.value(ty, columns), self.value(ty, columns))
            }
            _ => format!("{} NOT IN ('a', '', 'Alpha')", self.value(Type::Text, columns)),
        }
    }

    pub(super) fn wide_value(&mut self, ty: Type, column: &str, columns: &Columns) -> String {
        match ty {
            Type::Int => match self.random.random_range(0..6) {
                0 => format!("({column} + {})", self.random.random_range(-3..4)),
                1 => format!("ABS({column})"),
                2 => format!("NULLIF({column}, {})", self.random.random_range(-1..3)),
                3 => format!("GREATEST({column}, {})", self.random.random_range(-1..3)),
                4 => format!("CAST({column} AS BIGINT)"),
                _ => format!("CHAR_LENGTH({})", self.value(Type::Text, columns)),
            },
            Type::Text => match self.random.random_range(0..4) {
                0 => format!("CAST({} AS TEXT)", self.value(Type::Int, columns)),
                1 => format!("({column} || '-' || {column})"),
                2 => format!("NULLIF({column}, 'a')"),
                _ => format!("CASE {column} WHEN 'a' THEN 'first' WHEN 'b' THEN {column} ELSE LOWER({column}) END"),
            },
            Type::Bool => match self.random.random_range(0..3) {
                0 => format!("({column} IS NOT TRUE)"),
                1 => format!("({} < {})", self.value(Type::Int, columns), self.value(Type::Int, columns)),
                _ => format!("({column} OR {} = 'a')", self.value(Type::Text, columns)),
            },
            // The wide grammar has no others.
            _ => column.to_string(),
        }
    }
}

/// A sum is a bigint in both databases.
fn summed(call: &str, function: &str) -> String {
    if function.starts_with("SUM") { format!("CAST({call} AS BIGINT)") } else { call.to_string() }
}
