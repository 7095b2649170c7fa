//! The relational cases and those with joins in PostgreSQL, over the same rows: a private cluster in a temporary directory, and the views'
//! content compared with what the same query text gives there.

use super::case::Scenario;
use super::compare::{Cell, cell, near_rows};
use super::process::Mode;
use super::random::{self, Grammar};
use super::rows::Row;
use super::run::Run;
use super::tables::Table;
use super::{joined, relational};
use arrow::array::{Array, ListArray, RecordBatch};
use datafusion::common::ScalarValue;
use eddyline_executor::StateBackend;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const MISSING: &str = "PostgreSQL is needed for this test: install Debian's package postgresql (scripts/setup.sh test does)";
/// What PostgreSQL spells and refuses differs a little from version to version; it is this one that we follow.
const PREFERRED_VERSION: f64 = 15.0;
const EPOCHS: usize = 6;

#[test]
fn relational_cases_agree_with_postgresql() {
    agrees(relational::scenario);
}

#[test]
fn joins_agree_with_postgresql() {
    agrees(joined::scenario);
}

#[test]
fn random_queries_agree_with_postgresql() {
    agree(|seed| random::scenario(if seed / 4 % 2 == 0 { Grammar::Wide } else { Grammar::Plain }, seed), 6);
}

#[test]
fn random_schemas_agree_with_postgresql() {
    agree(|seed| random::scenario(Grammar::Schemas, seed), 3);
}

fn agrees(scenario: fn() -> Scenario) {
    agree(|_| scenario(), 2);
}

fn agree(scenario: impl Fn(u64) -> Scenario, usual: u64) {
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(cluster.connect());
    let mut differences = Vec::new();
    for seed in super::seeds("postgres", super::memory(1), usual) {
        let mut scenario = scenario(seed);
        scenario.cases.retain(|case| case.postgres);
        scenario.backfills = 0.0;
        let mut run = Run::start(&scenario, Mode { workers: 2, backend: StateBackend::Memory }, seed);
        (0..EPOCHS).for_each(|_| run.cut(30, false));
        run.finish();
        runtime.block_on(async {
            for table in &run.world.tables {
                client
                    .batch_execute(&load_sql(table))
                    .await
                    .unwrap_or_else(|e| panic!("PostgreSQL does not take {}: {e:?}", table.spec.name));
            }
            for case in &scenario.cases {
                let rows = match client.simple_query(&case.sql).await {
                    Ok(rows) => rows,
                    // Such as a FULL JOIN on anything but an equality.
                    Err(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => continue,
                    Err(error) => panic!("seed {seed}: PostgreSQL does not run {}: {error:?}", case.sql),
                };
                let ours = run.view_content(&case.name);
                let (theirs, ours) = (their_rows(&rows, &ours), our_rows(&ours));
                if !near_rows(theirs.clone(), ours.clone()) {
                    differences.push(format!(
                        "seed {seed}: {}\nPostgreSQL: {}\nEddyline: {}",
                        case.sql,
                        without(&theirs, &ours),
                        without(&ours, &theirs)
                    ));
                }
            }
        });
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// The rows that `others` lacks, for a message.
fn without(rows: &[Vec<Cell>], others: &[Vec<Cell>]) -> String {
    let lines = |rows: &[Vec<Cell>]| rows.iter().map(|row| format!("{row:?}")).collect::<Vec<_>>();
    let mut others = lines(others);
    let mut left = lines(rows);
    left.retain(|row| match others.iter().position(|other| other == row) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    });
    left.join("\n  ")
}

/// Makes the table anew and fills it.
fn load_sql(table: &Table) -> String {
    let name = table.spec.name;
    let mut sql = format!("DROP TABLE IF EXISTS {name}; {};", table.spec.create_sql(true));
    if !table.rows.is_empty() {
        let values: Vec<String> = table.rows.iter().map(literals).collect();
        sql += &format!("INSERT INTO {name} VALUES {};", values.join(", "));
    }
    sql
}

fn literals(row: &Row) -> String {
    let literal = |value: &ScalarValue| match text(value) {
        None => "NULL".to_string(),
        Some(text) => format!("'{}'", text.replace('\'', "''")),
    };
    format!("({})", row.iter().map(literal).collect::<Vec<_>>().join(", "))
}

fn text(value: &ScalarValue) -> Option<String> {
    match value {
        value if value.is_null() => None,
        ScalarValue::Float64(Some(number)) if number.is_infinite() => {
            Some(if *number > 0.0 { "Infinity" } else { "-Infinity" }.to_string())
        }
        ScalarValue::List(list) => Some(array_text(list)),
        value => match value.cast_to(&arrow::datatypes::DataType::Utf8).unwrap() {
            ScalarValue::Utf8(text) => text,
            other => Some(other.to_string()),
        },
    }
}

fn our_rows(rows: &RecordBatch) -> Vec<Vec<Cell>> {
    let one = |row: usize| rows.columns().iter().map(|c| ours(&ScalarValue::try_from_array(c, row).unwrap())).collect();
    (0..rows.num_rows()).map(one).collect()
}

/// Timestamps and arrays as PostgreSQL spells them.
fn ours(value: &ScalarValue) -> Cell {
    match value {
        ScalarValue::List(list) if !value.is_null() => Cell::Text(array_text(list)),
        value => match cell(value) {
            Cell::Text(text) if value.data_type().is_temporal() => Cell::Text(time_text(&text)),
            other => other,
        },
    }
}

fn time_text(text: &str) -> String {
    let text = text.replace('T', " ");
    let (text, zone) = text.strip_suffix('Z').map_or((text.as_str(), ""), |text| (text, "+00"));
    let text = if text.contains('.') { text.trim_end_matches('0') } else { text };
    format!("{text}{zone}")
}

fn array_text(list: &ListArray) -> String {
    let items = list.value(0);
    let item = |at: usize| match ScalarValue::try_from_array(&items, at).unwrap() {
        null if null.is_null() => "NULL".to_string(),
        item => item.to_string(),
    };
    format!("{{{}}}", (0..items.len()).map(item).collect::<Vec<_>>().join(","))
}

fn their_rows(messages: &[SimpleQueryMessage], ours: &RecordBatch) -> Vec<Vec<Cell>> {
    let cell = |text: Option<&str>, column: usize| match (text, ours.column(column).data_type()) {
        (None, _) => Cell::Null,
        (Some(text), ty) if ty.is_numeric() => Cell::Number(text.parse().unwrap()),
        (Some(text), arrow::datatypes::DataType::Boolean) => Cell::Text(if text == "t" { "true" } else { "false" }.to_string()),
        (Some(text), _) => Cell::Text(text.to_string()),
    };
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            assert_eq!(row.len(), ours.num_columns());
            Some((0..row.len()).map(|c| cell(row.get(c), c)).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// A cluster of our own, gone when it is dropped.
pub struct Cluster {
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    as_root: bool,
}

impl Cluster {
    pub fn start() -> Cluster {
        let programs = programs();
        // PostgreSQL refuses to run as root; Debian's package has made a user for it.
        let as_root = run_text(Command::new("id").arg("-u")).trim() == "0";
        let mut cluster = Cluster { programs, dir: PathBuf::new(), port: free_port(), as_root };
        cluster.dir = PathBuf::from(run_text(cluster.command(Path::new("mktemp")).args(["-d", "/tmp/oracle-postgres-XXXXXX"])).trim());
        let data = cluster.data();
        run_text(cluster.program("initdb").arg("-D").arg(&data).args([
            "-U",
            "oracle",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--lc-ctype=C.UTF-8",
            "--no-sync",
        ]));
        cluster.resume();
        cluster
    }

    /// Ends it with all its connections, until `resume` brings it back where it was.
    pub fn stop(&self) {
        run_text(self.program("pg_ctl").arg("-D").arg(self.data()).args(["-m", "fast", "-w", "-t", "60", "stop"]));
    }

    pub fn resume(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c timezone=UTC -c datestyle=ISO -c extra_float_digits=3",
            self.port,
            self.dir.display()
        );
        let log = self.dir.join("log");
        run_text(
            self.program("pg_ctl").arg("-D").arg(self.data()).arg("-o").arg(options).arg("-l").arg(log).args(["-w", "-t", "60", "start"]),
        );
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn program(&self, name: &str) -> Command {
        self.command(&self.programs.join(name))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = match self.as_root {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir("/tmp");
        command
    }

    pub async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=oracle dbname=postgres", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        let version: String = client.query_one("SHOW server_version", &[]).await.unwrap().get(0);
        say(&format!("compared with PostgreSQL {version}"));
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl").arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]).stdout(Stdio::null()).status();
        let _ = self.command(Path::new("rm")).arg("-rf").arg(&self.dir).status();
    }
}

/// Debian keeps a directory for each version, named by its number. Of several the preferred one is taken, or else the newest.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered = |path: PathBuf| Some((path.file_name()?.to_str()?.parse::<f64>().ok()?, path.join("bin")));
    let found = versions.filter_map(|version| numbered(version.path())).filter(|(_, programs)| programs.join("initdb").exists());
    let place = |(number, _): &(f64, PathBuf)| (*number == PREFERRED_VERSION, *number);
    let chosen = found.max_by(|a, b| place(a).partial_cmp(&place(b)).expect("versions are numbers"));
    chosen.unwrap_or_else(|| panic!("{MISSING}")).1
}

/// Past the capturing of tests' output, which is shown of those alone that fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a program to its end and gives what it wrote. What it leaves running does not hold us up.
fn run_text(command: &mut Command) -> String {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap_or_else(|e| panic!("{MISSING}: {e}"));
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?} failed: {MISSING}");
    let mut text = String::new();
    if command.get_program() == "id" || command.get_args().any(|a| a == "mktemp") || command.get_program() == "mktemp" {
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    }
    text
}
