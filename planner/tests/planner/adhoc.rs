use crate::support::TestCatalog;
#[test]
fn clients() {
    for entry in std::fs::read_dir("/work/shared/clients").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "sql") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let (mut ok, mut bad, mut n) = (0, 0, String::new());
        for chunk in text.split("\n-- [") {
            let sql: String = chunk
                .lines()
                .filter(|l| {
                    !l.trim_start().starts_with("--")
                        && !l.starts_with("simple query]")
                        && !l.starts_with("SSL")
                        && !l.starts_with("startup")
                        && !l.starts_with("extended")
                })
                .collect::<Vec<_>>()
                .join("\n");
            if sql.trim().is_empty() {
                continue;
            }
            match eddyline_planner::parse(&sql) {
                Ok(_) => ok += 1,
                Err(e) => {
                    bad += 1;
                    n.push_str(&format!("{e}\n   {}\n", sql.trim().chars().take(300).collect::<String>()));
                }
            }
        }
        println!("=== {path:?} ok {ok} bad {bad}\n{n}");
    }
    let c = TestCatalog::new();
    for sql in std::fs::read_to_string("/tmp/adhoc.sql").unwrap_or_default().split(";\n").filter(|s| !s.trim().is_empty()) {
        println!("--- {sql}");
        match c.plan(sql) {
            Ok(p) => println!("{}", format!("{p:?}").chars().take(400).collect::<String>()),
            Err(e) => println!("ERROR {e} @{:?}", e.position),
        }
    }
}
