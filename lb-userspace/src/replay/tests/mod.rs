mod inspected;
mod packets;
mod reading;
mod shots;
mod story;

use std::{io::Write as _, path::Path, sync::Arc};

use tempfile::NamedTempFile;

use super::*;

pub(crate) use story::{CONFIG as STORY, SCRIPTS, similar, story};

/// A configuration with scripts of these names.
pub(crate) fn config(text: &str, scripts: &[(&str, &str)]) -> Arc<Config> {
    let read = |path: &Path| {
        let script = scripts.iter().find(|(name, _)| path.ends_with(name));
        script.map(|(_, content)| (*content).to_owned()).ok_or(io::ErrorKind::NotFound.into())
    };
    let config = Config::parse(Path::new("lb.toml"), text, read);
    Arc::new(config.unwrap_or_else(|problems| panic!("{problems}")))
}

/// A file with these bytes.
fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Replays a capture with these bytes.
pub(crate) fn replayed(config: &Arc<Config>, bytes: &[u8]) -> Result<Replayed, String> {
    let file = file(bytes);
    let name = file.path().display().to_string();
    let replayed = replay(Arc::clone(config), file.path(), None);
    replayed.map_err(|error| error.to_string().replace(&name, "file"))
}
