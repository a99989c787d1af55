//! `lb replay`: a capture runs through the program's function, the engine and the scripts.
//!
//! No root and no network: a [`Simulation`] gets the capture's packets at the capture's times.
//! Packets to virtual services go in as they are. Answers go in as if the server that has been
//! chosen now had sent them. All else is counted and left out, also what was captured between the
//! balancer and its servers then: it belongs to decisions that the replay makes anew.
//!
//! Nothing comes of a capture that cannot be read to its end: the first of two passes is for that.

mod answers;
mod capture;
mod flaw;
mod flows;
mod glance;
mod handshakes;
mod interface;
mod link;
mod run;
mod summary;
mod write;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use thiserror::Error;

use crate::{
    config::Config,
    simulation::{Simulation, SimulationError},
};

pub use flaw::{BadCapture, Flaw};
pub use flows::FlowReport;
pub use summary::Summary;

use capture::{Capture, Packet};
use run::Run;
use write::Written;

/// Why there is no replay.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The capture cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Capture {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: BadCapture,
    },
    /// The configuration does not load.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A packet that must be read was not captured whole.
    #[error(
        "packet {number}: only {captured} of its {original} bytes were captured, and {reader} \
         more of it: capture again with `tcpdump -s 0`"
    )]
    Cut {
        /// Which packet.
        number: u64,
        /// Bytes that are there.
        captured: usize,
        /// Bytes that it had.
        original: usize,
        /// Who needs it.
        reader: &'static str,
    },
    /// The rewritten packets cannot be written.
    #[error("cannot write {path}: {error}", path = path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// What became of a capture.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// In the order of their first packets.
    pub flows: Vec<FlowReport>,
    /// In numbers.
    pub summary: Summary,
}

/// What the first pass finds.
struct Survey {
    packets: u64,
    first: Duration,
}

/// Runs a capture through a balancer under this configuration; `written` gets the packets that
/// leave it.
pub fn replay(
    config: Arc<Config>,
    path: &Path,
    written: Option<&Path>,
) -> Result<Replayed, ReplayError> {
    let bad = |error| ReplayError::Capture { path: path.to_owned(), error };
    let file = Capture::open(path).map_err(bad)?;
    let survey = survey(&file).map_err(bad)?;
    let flows = u32::try_from(survey.packets).unwrap_or(u32::MAX);
    let started = SystemTime::UNIX_EPOCH + survey.first;
    let simulation = Simulation::new(config, started, flows)?;
    let written = written.map(Written::new).transpose()?;
    let mut run = Run::new(simulation, survey.first, written);
    let mut capture = Capture::begin(&file).map_err(bad)?;
    let mut packet = Packet::default();
    // Not what may have been added to the file since.
    for _ in 0..survey.packets {
        if !capture.read(&mut packet).map_err(bad)? {
            break;
        }
        run.packet(&mut packet)?;
    }
    run.finish()
}

/// Reads the whole file.
fn survey(file: &File) -> Result<Survey, BadCapture> {
    let (mut capture, mut packet) = (Capture::begin(file)?, Packet::default());
    let mut survey = Survey { packets: 0, first: Duration::ZERO };
    while capture.read(&mut packet)? {
        if survey.packets == 0 {
            survey.first = packet.time;
        }
        survey.packets += 1;
    }
    Ok(survey)
}
