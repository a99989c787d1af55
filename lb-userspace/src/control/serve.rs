//! The admin socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;
use tracing::warn;

use super::api::{Api, router};

/// The socket's file; it goes when this does.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens, and serves in a task of its own. Only root may connect. A file that a daemon left
/// when it was killed is replaced: the instance's lock says that nobody listens there.
pub(super) fn listen(path: &Path, api: Api) -> io::Result<SocketFile> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if path.exists() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(api)).await {
            warn!("the admin API stopped: {error}");
        }
    });
    Ok(SocketFile(path.to_owned()))
}
