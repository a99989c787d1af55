//! `cargo xtask plot`: curves of what `cargo xtask bench --json` has written.

mod axis;
mod chart;
mod curves;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{bench, command::announce};

/// Draws a picture of each thing that was measured at several sizes.
pub fn draw(json: &Path, folder: &Path) -> Result<()> {
    let plots = curves::of(&bench::read(json)?);
    ensure!(
        !plots.is_empty(),
        "nothing in {} was measured at three sizes or more: `cargo xtask bench scale --json FILE` \
         makes such a file",
        json.display()
    );
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for plot in plots {
        let path = folder.join(plot.file_name());
        fs::write(&path, chart::svg(&plot)?).with_context(|| path.display().to_string())?;
        announce(&format!("drew {}", path.display()));
    }
    Ok(())
}
