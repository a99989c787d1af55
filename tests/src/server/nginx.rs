//! nginx: an HTTP server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{Namespace, Process, server::wait_listening};

/// An HTTP server. Every reply names it in `X-Server` and says in `X-Client` from which address
/// the request came; `/` answers with its name, any other path with a file of its folder.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    folder: TempDir,
}

impl Nginx {
    /// Starts one in `namespace` that calls itself `name`.
    pub fn start(namespace: &Namespace, name: &str, address: SocketAddr) -> Result<Self> {
        let folder = TempDir::with_prefix("nginx-").context("cannot make nginx's folder")?;
        let files = folder.path().join("files");
        let configuration = folder.path().join("nginx.conf");
        fs::create_dir(&files).context("cannot make nginx's folder")?;
        fs::write(&configuration, Self::configuration(name, address, &files))
            .context("cannot write nginx's configuration")?;
        let [prefix, configuration] = [folder.path(), &configuration].map(Path::to_string_lossy);
        let words = ["nginx", "-e", "stderr", "-p", &prefix, "-c", &configuration];
        let mut process = namespace.spawn(&words)?;
        wait_listening(&mut process, namespace, address)?;
        Ok(Self { process, folder })
    }

    /// Where the files are that it serves.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Its process, which is one.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// One process; everything that nginx writes stays in its folder.
    fn configuration(name: &str, address: SocketAddr, files: &Path) -> String {
        let files = files.display();
        format!(
            "daemon off; master_process off; error_log stderr; pid nginx.pid;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    add_header X-Server {name} always;
    add_header X-Client $remote_addr always;
    server {{
        listen {address};
        root {files};
        location = / {{ return 200 {name}; }}
    }}
}}
"
        )
    }
}
