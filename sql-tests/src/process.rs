//! A server process under test.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A start that takes longer than this has failed.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub workers: usize,
    pub backend: &'static str,
    pub state_cache: &'static str,
    pub checkpoint_interval: &'static str,
    pub ring_size: &'static str,
    /// `None`: in the data directory.
    pub checkpoint_store: Option<String>,
    /// More flags.
    pub settings: &'static [&'static str],
    /// Of the process's environment.
    pub variables: Vec<(String, String)>,
    /// See `eddyline_common::failpoint`.
    pub failpoints: String,
    /// A size, for instance `48m`: the data directory is a disk of its own, which only this process sees and which goes with it.
    pub disk: Option<&'static str>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            workers: 2,
            backend: "rocksdb",
            state_cache: "64MiB",
            checkpoint_interval: "1s",
            ring_size: "64MiB",
            checkpoint_store: None,
            settings: &[],
            variables: Vec::new(),
            failpoints: String::new(),
            disk: None,
        }
    }
}

/// A start that did not come to `ready`.
pub struct NotReady {
    /// How the process ended; `None` if it took too long and was killed for that.
    pub status: Option<ExitStatus>,
    log: String,
}

impl NotReady {
    /// The start met a failpoint that kills. Any other end of it is the test's.
    pub fn assert_killed(&self) {
        assert!(self.status.is_some_and(was_killed), "a failpoint was to kill it: {self}");
    }
}

/// Whether a process ended by SIGKILL, as it does at a failpoint that kills.
pub fn was_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    status.signal() == Some(SIGKILL)
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or_else(|| format!("not in {READY_WITHIN:?}"), |status| status.to_string());
        write!(f, "not ready: {status}; log:\n{}", self.log)
    }
}

/// What a test shows that expected a start.
impl fmt::Debug for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A running server and its data directory. Dropping it kills the process and removes the directory.
pub struct Server {
    dir: TempDir,
    child: Option<Child>,
    pub options: ServerOptions,
    pub port: u16,
    pub http_port: u16,
}

/// The binary under test: `EDDYLINE_BIN`, or the one beside this program, or in the folder above a test's `deps`.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("EDDYLINE_BIN") {
        return path.into();
    }
    let program = std::env::current_exe().expect("a program has a path");
    let folder = program.parent().expect("a program lies in a folder");
    let release = if folder.ends_with("deps") { folder.parent().expect("tests lie in target/release/deps") } else { folder };
    release.join("eddyline")
}

impl Server {
    pub fn start(options: ServerOptions) -> Server {
        let mut server = Server::prepare(options);
        server.launch().expect("the server starts");
        server
    }

    /// A directory for a server that is launched later.
    pub fn prepare(options: ServerOptions) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Server { dir, child: None, options, port: 0, http_port: 0 }
    }

    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the process on the same data, and waits until it is ready.
    pub fn launch(&mut self) -> Result<(), NotReady> {
        match self.begin().recv_timeout(READY_WITHIN) {
            Ok(line) => {
                (self.port, self.http_port) = parse_ready(&line).unwrap_or_else(|| panic!("not a ready line: {line}"));
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Err(NotReady { status: Some(self.wait_for_end()), log: self.log() }),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(NotReady { status: None, log: self.log() })
            }
        }
    }

    /// Starts the process on the same data. Returns the lines that it will print.
    pub fn begin(&mut self) -> Receiver<String> {
        assert!(self.child.is_none(), "one process per data directory");
        let mut child = self.command().spawn().unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        self.child = Some(child);
        receiver
    }

    fn command(&self) -> Command {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("server.log")).expect("a log file");
        let mut command = self.program();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--workers", &self.options.workers.to_string()])
            .args(["--state-backend", self.options.backend, "--state-cache", self.options.state_cache])
            .args(["--checkpoint-interval", self.options.checkpoint_interval])
            .args(["--ring-size", self.options.ring_size])
            .args(self.options.checkpoint_store.iter().flat_map(|place| ["--checkpoint-store", place]))
            .args(self.options.settings)
            .env("EDDYLINE_FAILPOINTS", &self.options.failpoints)
            .env("RUST_LOG", "info")
            .envs(self.options.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }

    /// The binary, on a disk of its own if the options say so.
    fn program(&self) -> Command {
        let Some(size) = self.options.disk else { return Command::new(binary()) };
        let data = self.dir.path().join("data");
        std::fs::create_dir_all(&data).expect("a data directory");
        let mut command = Command::new("unshare");
        let script = r#"mount -t tmpfs -o "size=$0" tmpfs "$1" && shift && exec "$@""#;
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, size]).arg(data).arg(binary());
        command
    }

    /// The id of the running process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The most memory that the running process has had.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().expect("it runs"))).expect("a status");
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        kibibytes.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// What the server wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// What the HTTP side answers, with its headers.
    pub fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The sum of a metric's samples, as `/metrics` has them now.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.page("/metrics")?;
        let samples = text.lines().filter(|l| l.split([' ', '{']).next() == Some(name));
        samples.map(|l| l.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok())).sum()
    }

    /// SIGKILL: nothing is flushed.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a killed child ends");
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Waits for the process to end by itself (a failpoint killed it).
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        child.wait().expect("a child ends")
    }

    /// SIGTERM, and waits for the orderly end.
    pub fn stop(&mut self) -> ExitStatus {
        self.stop_by("TERM")
    }

    /// A signal that asks for an orderly end, and waits for it.
    pub fn stop_by(&mut self, signal: &str) -> ExitStatus {
        let pid = self.pid().expect("a running server").to_string();
        let done = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(done.is_ok_and(|s| s.success()), "SIG{signal} is sent");
        self.wait_for_end()
    }

    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.launch().expect("the server starts again");
    }

    /// A client whose connection runs in the background.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("a connection")
    }

    pub async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let url = format!("host=127.0.0.1 port={} user=eddyline dbname=eddyline", self.port);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(async move {
            // The connection ends with an error when the server is killed: what these tests do.
            let _ended = connection.await;
        });
        Ok(client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            #[allow(clippy::print_stderr)] // a failed test shows its server's log
            {
                eprintln!("--- server log, last lines ---\n{}", tail.join("\n"));
            }
        }
    }
}

/// `ready: postgres HOST:PORT http HOST:PORT`
fn parse_ready(line: &str) -> Option<(u16, u16)> {
    let mut words = line.strip_prefix("ready: postgres ")?.split(' ');
    let port = |address: &str| address.rsplit(':').next()?.parse().ok();
    let postgres = port(words.next()?)?;
    (words.next()? == "http").then_some(())?;
    Some((postgres, port(words.next()?)?))
}
