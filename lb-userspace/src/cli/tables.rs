//! `lb tables`.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::{client, columns::Columns, query::query, target::Target};
use crate::control::tables::{EntryView, NewEntry, NewValue, Place, TableFilter, TableView};

const ENTRY: &str = "/v1/tables/entry";

/// How bytes are written.
const NOTATION: &str = r"Keys, values and table names may be any bytes. Bytes that are no text are written \xNN, in two
hexadecimal digits, and a backslash is written \\; in a shell, put such words in single quotes.";

/// What to do with tables; without a word, list them.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = NOTATION)]
pub struct Tables {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Action {
    /// List entries, in the order of their keys
    #[command(after_help = NOTATION)]
    List(List),
    /// Show an entry, without making its lifetime longer
    #[command(after_help = NOTATION)]
    Get(Get),
    /// Store an entry: unlike a script's insert, this replaces the value that is there
    #[command(after_help = NOTATION)]
    Put(Put),
    /// Take an entry out
    #[command(after_help = NOTATION)]
    Delete(Delete),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    filter: TableFilter,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Get {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    entry: Entry,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Put {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    entry: Entry,
    /// The value, a string unless --number is given
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// Seconds until the entry expires
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    lifetime: u32,
    /// Store a number: to a script, "7" and 7 are different values
    #[arg(long)]
    number: bool,
}

#[derive(Args)]
struct Delete {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    entry: Entry,
}

/// Which entry.
#[derive(Args)]
struct Entry {
    /// The virtual service that the table belongs to
    #[arg(value_name = "VIRTUAL_SERVICE")]
    service: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The table's name; without it, the default table
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    table: String,
}

impl Entry {
    fn path(&self) -> Result<String> {
        let Self { service, key, table } = self;
        let (virtual_service, table, key) = (service.clone(), table.clone(), key.clone());
        Ok(format!("{ENTRY}{}", query(&Place { virtual_service, table, key })?))
    }
}

/// Does what was asked.
pub fn run(tables: Tables) -> Result<()> {
    match tables.action.unwrap_or(Action::List(tables.list)) {
        Action::List(list) => list.run(),
        Action::Get(get) => get.run(),
        Action::Put(put) => put.run(),
        Action::Delete(delete) => delete.run(),
    }
}

impl List {
    fn run(self) -> Result<()> {
        let path = format!("/v1/tables{}", query(&self.filter)?);
        let tables: Vec<TableView> = client::get(&self.target.socket()?, &path)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&tables)?);
        } else {
            print!("{}", columns(&tables));
        }
        Ok(())
    }
}

impl Get {
    fn run(self) -> Result<()> {
        let entry: EntryView = client::get(&self.target.socket()?, &self.entry.path()?)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&entry)?);
        } else {
            let Entry { service: virtual_service, table, .. } = self.entry;
            let entries = vec![entry];
            print!(
                "{}",
                columns(&[TableView { virtual_service, table, refused_inserts: 0, entries }])
            );
        }
        Ok(())
    }
}

impl Put {
    fn run(self) -> Result<()> {
        let value = if self.number { number(&self.value)? } else { NewValue::Text(self.value) };
        let entry = NewEntry { value, lifetime: self.lifetime };
        let body = serde_json::to_string(&entry)?;
        ask(&self.target.socket()?, Method::PUT, &self.entry.path()?, Some(body))?;
        println!("stored for {} s", self.lifetime);
        Ok(())
    }
}

fn number(text: &str) -> Result<NewValue> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.with_context(|| format!("--number: {text:?} is not a number"))?;
    Ok(NewValue::Number(number))
}

impl Delete {
    fn run(self) -> Result<()> {
        ask(&self.target.socket()?, Method::DELETE, &self.entry.path()?, None)?;
        println!("deleted");
        Ok(())
    }
}

fn ask(socket: &Path, method: Method, path: &str, body: Option<String>) -> Result<()> {
    client::request(socket, method, path, body)?.success().map(drop)
}

fn columns(tables: &[TableView]) -> Columns {
    let headings = ["VIRTUAL SERVICE", "TABLE", "KEY", "TYPE", "VALUE", "EXPIRES IN"];
    let mut columns = Columns::new(headings);
    for table in tables {
        for entry in &table.entries {
            let (kind, value) = shown(&entry.value);
            columns.push([
                table.virtual_service.clone(),
                if table.table.is_empty() { "(default)" } else { &table.table }.to_owned(),
                entry.key.clone(),
                kind.to_owned(),
                value,
                format!("{} s", entry.remaining_seconds),
            ]);
        }
    }
    columns
}

/// A value's type and text.
fn shown(value: &Value) -> (&'static str, String) {
    match value {
        Value::String(text) => ("string", text.clone()),
        Value::Null => ("number", "not finite".to_owned()),
        other => ("number", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_must_be_one() {
        assert_eq!(number("-1.5e3").unwrap(), NewValue::Number(-1500.0));
        for text in ["", "seven", "inf", "NaN", "1e999", "0x10"] {
            let message = number(text).unwrap_err().to_string();
            assert!(message.contains("is not a number"), "{message}");
        }
    }

    #[test]
    fn strings_and_numbers_look_different() {
        let entry = |key: &str, value: Value| EntryView {
            key: key.to_owned(),
            value,
            remaining_seconds: 7,
        };
        let table = TableView {
            virtual_service: "web".to_owned(),
            table: String::new(),
            refused_inserts: 0,
            entries: vec![entry("a", "7".into()), entry("b", 7.into()), entry("c", Value::Null)],
        };
        let text = columns(&[table]).to_string();
        let lines: Vec<Vec<_>> = text
            .lines()
            .skip(1)
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["web", "(default)", "a", "string", "7", "7 s"]);
        assert_eq!(lines[1], ["web", "(default)", "b", "number", "7", "7 s"]);
        assert_eq!(lines[2], ["web", "(default)", "c", "number", "not finite", "7 s"]);
    }
}
