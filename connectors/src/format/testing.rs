//! What the formats' tests share: columns, decoded rows as lines of JSON, and what answers as a schema registry does.

use super::{PayloadColumn, Record, RecordDecoder};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use arrow::json::LineDelimitedWriter;
use eddyline_common::{Result, SqlType};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

pub fn column(name: &str, ty: SqlType) -> PayloadColumn {
    PayloadColumn { external_name: name.to_string(), ty, nullable: true, length: None, is_key: false }
}

pub fn keyed(column: PayloadColumn) -> PayloadColumn {
    PayloadColumn { is_key: true, ..column }
}

pub fn decoder(options: &[(&str, &str)], columns: &[PayloadColumn], keyed: bool) -> Result<Box<dyn RecordDecoder>> {
    let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    super::decoder(&options, columns.to_vec(), keyed)
}

/// Weights and rows of all that a decoder holds.
pub fn finished(decoder: &mut dyn RecordDecoder, columns: &[PayloadColumn]) -> Vec<(i64, String)> {
    let rows = decoder.rows();
    let decoded = decoder.finish().unwrap();
    let fields: Vec<Field> = columns.iter().map(|c| c.ty.field(&c.external_name, true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), decoded.columns, &options).unwrap();
    let mut out = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut out);
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let lines = String::from_utf8(out).unwrap();
    let weight = |row: usize| decoded.weights.as_ref().map_or(1, |w| w.value(row));
    lines.lines().enumerate().map(|(row, line)| (weight(row), line.to_string())).collect()
}

/// Weights and rows, or the first record's reason for being refused.
pub fn changes(options: &[(&str, &str)], columns: &[PayloadColumn], records: &[Record], keyed: bool) -> Result<Vec<(i64, String)>, String> {
    let mut decoder = decoder(options, columns, keyed).map_err(|e| e.to_string())?;
    for record in records {
        decoder.push(*record)?;
    }
    Ok(finished(&mut *decoder, columns))
}

pub fn decode(options: &[(&str, &str)], columns: &[PayloadColumn], records: &[&str]) -> Result<Vec<String>, String> {
    let records: Vec<Record> = records.iter().map(|r| Record::of(r.as_bytes())).collect();
    Ok(changes(options, columns, &records, false)?.into_iter().map(|(_, row)| row).collect())
}

pub fn lines(options: &[(&str, &str)], columns: &[PayloadColumn], records: &[&str]) -> Vec<String> {
    decode(options, columns, records).unwrap()
}

pub fn reason(options: &[(&str, &str)], columns: &[PayloadColumn], record: &str) -> String {
    decode(options, columns, &[record]).expect_err(record)
}

/// Answers each path that it knows, until it is asked to stop. It is no registry: what it says is what the test gives it.
pub struct RegistryAnswers {
    pub url: String,
    serving: JoinHandle<Vec<String>>,
}

impl RegistryAnswers {
    pub fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let mut asked = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let len = stream.read(&mut request).unwrap();
                let path = String::from_utf8_lossy(&request[..len]).split(' ').nth(1).unwrap_or("/stop").to_string();
                if path == "/stop" {
                    return asked;
                }
                let known = answers.iter().find(|(known, _)| *known == path);
                let (status, body) = known.map_or(("404 Not Found", r#"{"error_code":40403}"#), |(_, body)| ("200 OK", body.as_str()));
                write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
                asked.push(path);
            }
        });
        RegistryAnswers { url, serving }
    }

    /// The paths it was asked for; nobody answers any more.
    pub fn stop(self) -> Vec<String> {
        write!(TcpStream::connect(self.url.trim_start_matches("http://")).unwrap(), "GET /stop HTTP/1.1\r\n\r\n").unwrap();
        self.serving.join().unwrap()
    }
}
