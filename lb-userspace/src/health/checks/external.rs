//! A program: the server is well if it prints something, as with Avi's external monitors.

use std::{net::SocketAddr, process::Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

use super::{Answer, Fault, Stage, shown};
use crate::{config::Program, health::Target};

/// What programs find others by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of its output that are kept.
const KEPT: usize = 256;

pub(super) async fn check(
    address: SocketAddr,
    target: &Target,
    program: &Program,
    stage: &Stage,
) -> Answer {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = Command::new(&program.path);
    command.args([&ip, &port]).args(&program.arguments).env_clear().env("PATH", PATH);
    command.env("IP", &ip).env("PORT", &port).env("POOL", &target.pool);
    command.env("HM_NAME", &target.monitor.name);
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.kill_on_drop(true).spawn().map_err(|error| {
        Fault::Own(format!("the balancer cannot run {}: {error}", program.path.display()))
    })?;
    stage.set("while the program ran, which was killed");
    Group(child).finish().await
}

/// A program and what it has started. Dropping it ends them all.
struct Group(Child);

impl Group {
    async fn finish(mut self) -> Answer {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (output, errors) = tokio::join!(read(stdout), read(stderr));
        let ended = self.0.wait().await;
        if !output.is_empty() {
            return Ok(format!("printed {}", shown(output.trim_ascii())));
        }
        let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        Err(Fault::Server(match errors.trim_ascii() {
            [] => format!("printed nothing ({ended})"),
            errors => format!("printed nothing ({ended}); errors: {}", shown(errors)),
        }))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Only while it is not waited for its number is certainly its own.
        let pid = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps the beginning.
async fn read(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut output) = output else { return kept };
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = output.read(&mut piece).await {
        let room = KEPT - kept.len();
        kept.extend_from_slice(&piece[..length.min(room)]);
    }
    kept
}
