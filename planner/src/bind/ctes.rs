//! Which common table expressions a name in FROM can mean, at the place that a visitor of a query has come to. Queries are known by where they are
//! in memory meanwhile. It knows nothing of relations.

use crate::error::fold;
use datafusion::sql::sqlparser::ast::Query;

/// The queries around the present place, the innermost last.
#[derive(Default)]
pub struct Ctes(Vec<Scope>);

struct Scope {
    /// The query is the body of its parent's expression of this number.
    body_of: Option<usize>,
    names: Vec<String>,
    /// What columns they have, as far as it is known.
    columns: Vec<Option<Vec<String>>>,
    bodies: Vec<*const Query>,
    /// An expression can name itself.
    is_recursive: bool,
    /// How many of the names can be used where the visitor is.
    visible: usize,
}

impl Ctes {
    /// `columns` are those of the query's own expressions.
    pub fn enter(&mut self, query: &Query, columns: Vec<Option<Vec<String>>>) {
        let body_of = self.0.last_mut().and_then(|parent| {
            let at = parent.bodies.iter().position(|body| std::ptr::eq(*body, query))?;
            parent.visible = at + usize::from(parent.is_recursive);
            Some(at)
        });
        let expressions = query.with.as_ref().map_or(&[][..], |with| &with.cte_tables);
        self.0.push(Scope {
            body_of,
            names: expressions.iter().map(|cte| fold(&cte.alias.name)).collect(),
            columns,
            bodies: expressions.iter().map(|cte| &*cte.query as *const Query).collect(),
            is_recursive: query.with.as_ref().is_some_and(|with| with.recursive),
            visible: 0,
        });
    }

    pub fn leave(&mut self) {
        let left = self.0.pop();
        if let (Some(parent), Some(at)) = (self.0.last_mut(), left.and_then(|scope| scope.body_of)) {
            parent.visible = at + 1;
        }
    }

    pub fn have(&self, name: &str) -> bool {
        self.0.iter().any(|scope| scope.names[..scope.visible].iter().any(|known| known == name))
    }

    /// The columns of the expression that a name in the body of the innermost query means; `None` if it means none.
    pub fn columns(&self, name: &str) -> Option<&Option<Vec<String>>> {
        self.0.iter().enumerate().rev().find_map(|(depth, scope)| {
            let visible = if depth + 1 == self.0.len() { scope.names.len() } else { scope.visible };
            let at = scope.names[..visible].iter().position(|known| known == name)?;
            scope.columns.get(at)
        })
    }
}
