//! Programs of `scripts/` that serve a store or a schema registry. It knows nothing of either.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// A script's program that serves: it says its port, and obeys `stop` and `start` until its input ends, which it does with the
/// test's process at the latest.
pub struct Program {
    dir: TempDir,
    process: Child,
    /// `None` when it shall end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub port: u16,
}

impl Program {
    /// `SCRIPT run DIR`. Fails with what it complains of: a tool that is missing, or no network on the first run.
    pub fn start(script: &str) -> Result<Program, String> {
        Program::launch(script).map_err(|e| e.to_string())
    }

    fn launch(script: &str) -> std::io::Result<Program> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(script));
        let complaints = File::create(dir.path().join("complaints"))?;
        command
            .env_remove("HADOOP_USER_NAME")
            .arg("run")
            .arg(dir.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints);
        let mut process = command.spawn()?;
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().ok_or_else(|| std::io::Error::other("no pipe"))?);
        let mut program = Program { dir, process, commands, answers, port: 0 };
        let complaints = || std::io::Error::other(std::fs::read_to_string(program.dir.path().join("complaints")).unwrap_or_default());
        let mut port = String::new();
        program.answers.read_line(&mut port)?;
        program.port = port.trim().parse().map_err(|_| complaints())?;
        Ok(program)
    }

    pub fn obey(&mut self, command: &str) {
        writeln!(self.commands.as_mut().expect("it runs"), "{command}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        assert_eq!(answer.trim(), command, "it was done");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.commands = None;
        // Whatever its end was like.
        let _ended = self.process.wait();
    }
}
