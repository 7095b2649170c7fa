//! House rules over the tree: dependencies point one way, every file says what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What each part, by its folder, may depend on (ARCHITECTURE.md, "Where things live").
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let all = vec!["common", "walk", "functions", "planner", "storage", "executor", "connectors", "server"];
    BTreeMap::from([
        ("common", vec![]),
        ("planner/walk", vec![]),
        ("planner/functions", vec!["common", "walk"]),
        ("planner", vec!["common", "functions", "walk"]),
        ("storage", vec!["common"]),
        ("executor", vec!["common", "storage", "planner"]),
        ("connectors", vec!["common"]),
        ("server", vec!["common", "planner", "storage", "executor", "connectors"]),
        ("sql-tests", all.clone()),
        ("bench", all.into_iter().chain(["sql-tests"]).collect()),
    ])
}

#[test]
fn dependencies_point_one_way() {
    for (part, allowed) in allowed() {
        let manifest = std::fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
        for dependency in dependencies(&manifest.parse().unwrap()) {
            let Some(dependency) = dependency.strip_prefix("eddyline-") else { continue };
            assert!(allowed.contains(&dependency), "{part} must not depend on {dependency}");
        }
    }
}

/// What a part is built with, for any target and by whatever name it goes in the part. What only its tests need is not among it.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        match key.as_str() {
            "dependencies" | "build-dependencies" => {
                found.extend(table.iter().map(|(name, value)| value.get("package").and_then(|p| p.as_str()).unwrap_or(name).to_string()));
            }
            "target" => found.extend(table.values().filter_map(|target| target.as_table()).flat_map(dependencies)),
            _ => {}
        }
    }
    found
}

#[test]
fn no_part_is_overlooked() {
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members: Vec<&str> = manifest["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    let mut unknown = members.iter().filter(|member| !allowed().contains_key(*member));
    assert_eq!(unknown.next(), None);
}

#[test]
fn no_dependency_is_overlooked() {
    let manifest = "[dependencies]\na = \"1\"\nb = { package = \"c\" }\n[dev-dependencies]\nd = \"1\"\n[build-dependencies]\ne = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\nf = \"1\"\n";
    assert_eq!(dependencies(&manifest.parse().unwrap()), ["e", "a", "c", "f"].map(str::to_string));
}

/// The profile `dist` inherits what `release` says of single packages, so it says of each of them what counts there.
#[test]
fn what_is_given_away_is_optimised() {
    let of_tests = ["eddyline-sql-tests", "proptest", "s3s", "s3s-fs", "similar", "sqllogictest"];
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let level = |profile: &str, package: &str| manifest["profile"][profile]["package"].get(package)?.get("opt-level")?.as_integer();
    for package in manifest["profile"]["release"]["package"].as_table().unwrap().keys() {
        let is_slow = level("release", package).is_some_and(|level| level < 2);
        if is_slow && !of_tests.contains(&package.as_str()) {
            assert_eq!(level("dist", package), Some(3), "{package}");
        }
    }
}

/// The executor may see the planner's plan as data and its functions, nothing of parsing or binding.
#[test]
fn the_executor_sees_only_the_plan() {
    for file in rust_files(&root().join("executor")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let Some(rest) = line.split("eddyline_planner::").nth(1) else { continue };
            let seen = ["plan", "catalog::ErrorPolicy", "functions"].iter().any(|p| rest.starts_with(p));
            assert!(seen, "{}:{}: {line}", file.display(), number + 1);
        }
    }
}

/// A walk of DataFusion or sqlparser is compiled anew wherever it is called; those of `eddyline-walk` are not.
#[test]
fn trees_are_walked_by_one_crate() {
    // Of children only, and over plans of execution and their expressions.
    let others = [
        "planner/src/bind/outer.rs",
        "planner/src/optimize/copies.rs",
        "planner/functions/src/casts.rs",
        "planner/functions/src/checked.rs",
        "server/src/serving/forgetting.rs",
        "server/src/serving/gathered.rs",
        "server/src/serving/guards.rs",
        "server/src/serving/interrupt.rs",
        "server/src/serving/once.rs",
        "server/src/serving/paced.rs",
        "server/src/serving/passing.rs",
        "server/src/serving/projections.rs",
        "server/src/serving/view_scan.rs",
    ];
    let mut walks =
        vec![".transform_up_with", ".transform_down_with", ".apply_with_subqueries(", ".map_expressions(", ".apply_expressions("];
    walks.extend([
        "TreeNode}",
        "TreeNode,",
        "::TreeNode;",
        "visit_expressions",
        "visit_relations",
        "Visit::visit(",
        "VisitMut::visit(",
        ".visit(&mut ",
        "SqlToRel::new(",
    ]);
    for part in ["planner/src", "planner/functions/src", "server/src"] {
        for file in rust_files(&root().join(part)) {
            if others.iter().any(|other| file.ends_with(other)) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let found = text.lines().enumerate().find(|(_, line)| walks.iter().any(|walk| line.contains(walk)));
            assert_eq!(found, None, "{}: use eddyline_walk", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<PathBuf> = rust_files(&root()).into_iter().filter(|f| !has_head(f)).collect();
    assert!(silent.is_empty(), "these files lack a //! head: {silent:#?}");
}

fn has_head(file: &Path) -> bool {
    std::fs::read_to_string(file).unwrap().starts_with("//!")
}

/// A head that lists the parts of its module lists all of them.
#[test]
fn lists_of_parts_are_complete() {
    for file in rust_files(&root()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let head = head.join("\n");
        let parts = parts(&text);
        let is_listed = |part: &&&str| head.contains(&format!("`{part}`")) || head.contains(&format!("::{part}`"));
        let missing: Vec<&&str> = parts.iter().filter(|part| !is_listed(part)).collect();
        let is_list = parts.iter().any(|part| head.contains(&format!("//! - `{part}`")));
        assert!(!is_list || missing.is_empty(), "{}: {missing:?}", file.display());
    }
}

/// The modules that a file declares, but for tests.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut before) = (Vec::new(), "");
    for line in text.lines() {
        let declared = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
        if let Some((visibility, name)) = declared
            && (visibility.is_empty() || visibility.starts_with("pub"))
            && before != "#[cfg(test)]"
        {
            parts.push(name);
        }
        before = line;
    }
    parts
}

/// The files that documents name are there, by their path, or by its end, with `src` or without; so are those that they link to.
#[test]
fn documents_name_what_there_is() {
    let paths: Vec<String> = files(&root()).iter().map(|file| format!("/{}", file.strip_prefix(root()).unwrap().display())).collect();
    let is_there = |named: &str| {
        let end = format!("/{named}");
        paths.iter().any(|path| path.ends_with(&end) || path.replace("/src/", "/").ends_with(&end))
    };
    let documents = paths.iter().filter(|path| path.starts_with("/docs/") || ["/README.md", "/ARCHITECTURE.md"].contains(&path.as_str()));
    for document in documents.map(|path| root().join(&path[1..])) {
        let text = std::fs::read_to_string(&document).unwrap();
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", document.display(), number + 1);
            for code in line.split('`').skip(1).step_by(2).filter(|code| !code.contains(' ')) {
                let is_file = code.ends_with(".rs") || code.ends_with(".sh");
                assert!(!is_file || is_there(code), "{place}: {code}");
                let is_part = line.starts_with(&format!("| `{code}` |")) && code.ends_with('/');
                assert!(!is_part || root().join(code).is_dir(), "{place}: {code}");
            }
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let is_ours = !link.is_empty() && !link.starts_with("http");
                assert!(!is_ours || document.with_file_name(link).exists(), "{place}: {link}");
            }
        }
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    files(dir).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().to_string();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found
}
