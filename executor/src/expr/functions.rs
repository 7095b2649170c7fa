//! Scalar functions by name, as plans call them.

use datafusion::logical_expr::ScalarUDF;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

static FUNCTIONS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let all = datafusion::functions::all_default_functions().into_iter().chain(datafusion::functions_nested::all_default_nested_functions());
    all.flat_map(|f| {
        let names: Vec<String> = std::iter::once(f.name().to_string()).chain(f.aliases().iter().cloned()).collect();
        names.into_iter().map(move |name| (name, f.clone()))
    })
    .collect()
});

pub(crate) fn scalar(name: &str) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.get(name).cloned()
}
