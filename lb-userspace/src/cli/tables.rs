//! `lb tables`.

use anyhow::Result;

use super::{client, columns::Columns, target::Target};
use crate::control::api::TableView;

/// Prints the entries of all tables.
pub fn show(target: &Target, json: bool) -> Result<()> {
    let tables: Vec<TableView> = client::get(&target.socket()?, "/v1/tables")?;
    if json {
        println!("{}", serde_json::to_string_pretty(&tables)?);
        return Ok(());
    }
    let mut columns = Columns::new(["VIRTUAL SERVICE", "TABLE", "KEY", "VALUE", "EXPIRES IN"]);
    for table in &tables {
        for entry in &table.entries {
            columns.push([
                table.virtual_service.clone(),
                if table.table.is_empty() { "(default)" } else { &table.table }.to_owned(),
                entry.key.clone(),
                entry.value.as_str().map_or_else(|| entry.value.to_string(), str::to_owned),
                format!("{} s", entry.remaining_seconds),
            ]);
        }
    }
    print!("{columns}");
    Ok(())
}
