//! Packages of PyPI, each of one version in a folder of its own below `target/tools`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    command::{announce, run},
    workspace,
};

/// A package, and the version that is known to serve.
pub struct Pinned {
    pub name: &'static str,
    pub version: &'static str,
}

impl Pinned {
    /// Its folder, which is to be on `PYTHONPATH`; what is not there yet is installed.
    pub fn install(&self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let folder = workspace::tools().join(name);
        if folder.join(self.information()).exists() {
            return Ok(folder);
        }
        announce(&format!("installing {name} {version} into target/tools"));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command.arg("--target").arg(&folder).arg(format!("{name}=={version}"));
        run(command.env("PIP_ROOT_USER_ACTION", "ignore"))?;
        Ok(folder)
    }

    /// What an installed package's folder has beside its code.
    fn information(&self) -> String {
        format!("{}-{}.dist-info", self.name.replace('-', "_"), self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_known_by_the_name_that_pip_gives_its_folder() {
        let package = Pinned { name: "virtme-ng", version: "1.42" };
        assert_eq!(package.information(), "virtme_ng-1.42.dist-info");
    }
}
