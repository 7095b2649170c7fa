//! Clients that follow a relation through kills: each goes on after the last epoch that it has seen whole, or begins anew where the
//! server has nothing older.

use super::model::{Rows, number_in};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_postgres::{Client, Error, NoTls};

pub struct Follower {
    pub port: AtomicU16,
    /// With this transaction it ends; 0: not yet known.
    pub last: AtomicI64,
    /// Of those that have not come to their end: epochs seen, and what came last.
    progress: Mutex<BTreeMap<&'static str, (usize, String)>>,
}

/// A row's change, and its weight.
pub type Change = (i64, Vec<String>);

#[derive(Debug)]
pub enum Seen {
    /// An epoch that is whole.
    Epoch(i64, Vec<Change>),
    /// The connection ended.
    GoesOn,
    /// From the next epoch on, everything is told again.
    BeginsAnew,
}

#[derive(Default)]
pub struct Followed {
    pub seen: Vec<Seen>,
    content: Rows,
    /// The last epoch that was seen whole.
    whole: Option<i64>,
    /// The epoch whose changes come.
    coming: Option<(i64, Vec<Change>)>,
}

pub fn apply(content: &mut Rows, changes: &[Change]) {
    for (weight, row) in changes {
        let times = content.entry(row.clone()).or_default();
        *times += weight;
        if *times == 0 {
            content.remove(row);
        }
    }
}

impl Followed {
    fn line(&mut self, line: &str) {
        let mut cells = line.trim_end_matches('\n').split('\t').map(str::to_string);
        let mut number = || cells.next().and_then(|cell| cell.parse::<i64>().ok()).unwrap_or_else(|| panic!("a number in {line:?}"));
        let (epoch, weight) = (number(), number());
        let change = (weight, cells.collect());
        match &mut self.coming {
            Some((coming, changes)) if *coming == epoch => changes.push(change),
            _ => {
                self.end_epoch();
                self.coming = Some((epoch, vec![change]));
            }
        }
    }

    fn end_epoch(&mut self) {
        let Some((epoch, changes)) = self.coming.take() else { return };
        apply(&mut self.content, &changes);
        let gone = self.content.iter().find(|(_, times)| **times < 0);
        assert!(gone.is_none(), "a row that was not there went at epoch {epoch}, after {:?}: {gone:?}", self.whole);
        self.whole = Some(epoch);
        self.seen.push(Seen::Epoch(epoch, changes));
    }

    fn begin_anew(&mut self) {
        (self.whole, self.coming) = (None, None);
        self.content.clear();
        self.seen.push(Seen::BeginsAnew);
    }
}

impl Follower {
    pub fn new(port: u16) -> Self {
        Follower { port: AtomicU16::new(port), last: AtomicI64::new(0), progress: Mutex::default() }
    }

    pub fn progress(&self) -> BTreeMap<&'static str, (usize, String)> {
        self.progress.lock().unwrap().clone()
    }

    fn note(&self, name: &'static str, followed: &Followed, what: impl Debug) {
        self.progress.lock().unwrap().insert(name, (followed.seen.len(), format!("{what:?}")));
    }

    pub async fn follow(self: Arc<Self>, name: &'static str) -> Followed {
        let mut followed = Followed::default();
        loop {
            let ended = self.subscribed(name, &mut followed).await;
            self.note(name, &followed, &ended);
            match ended {
                Ok(true) => {
                    self.progress.lock().unwrap().remove(name);
                    return followed;
                }
                Ok(false) => followed.seen.push(Seen::GoesOn),
                Err(error) => match error.code().map(|code| code.code().to_string()).as_deref() {
                    // What changed since is not there any more.
                    Some("72000") => followed.begin_anew(),
                    None | Some("57P01" | "57P02" | "57P03") => followed.seen.push(Seen::GoesOn),
                    Some(_) => panic!("SUBSCRIBE TO {name}: {error:?}"),
                },
            }
            // Of an epoch that did not end nothing counts.
            followed.coming = None;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn connect(&self) -> Result<Client, Error> {
        let url = format!("host=127.0.0.1 port={} user=eddyline dbname=eddyline", self.port.load(Ordering::SeqCst));
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(async move {
            let _ended = connection.await;
        });
        Ok(client)
    }

    /// Whether it has come to its end; false if the connection ended before.
    async fn subscribed(&self, name: &'static str, followed: &mut Followed) -> Result<bool, Error> {
        let client = self.connect().await?;
        let after = followed.whole.map_or(String::new(), |epoch| format!(" AS OF {epoch}"));
        let lines = client.copy_out(&format!("COPY (SUBSCRIBE TO {name}{after}) TO STDOUT")).await?;
        let mut lines = std::pin::pin!(lines);
        while let Some(piece) = lines.next().await {
            let text = String::from_utf8(piece?.to_vec()).expect("COPY gives text");
            let epochs = followed.seen.len();
            for line in text.lines() {
                followed.line(line);
            }
            if epochs == followed.seen.len() {
                continue;
            }
            let (last, number) = (self.last.load(Ordering::SeqCst), number_in(name, &followed.content));
            self.note(name, followed, (followed.whole, number, last));
            if last > 0 && number.is_some_and(|number| number >= last) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
