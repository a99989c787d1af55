//! Debian's kernel, unpacked below `target/tools`: this machine's own boot files stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{
    command::{announce, find_program, output, run},
    workspace,
};

/// Debian's package that depends on the newest kernel. Not the cloud's, which has neither the
/// generator nor a way to see this machine's files.
const NEWEST: &str = "linux-image-amd64";

/// The kernel's image; its modules are where they belong beside it.
pub fn find() -> Result<PathBuf> {
    ensure!(cfg!(target_arch = "x86_64"), "there is a virtual machine for x86-64 only");
    let folder = workspace::tools().join("kernel");
    if let Some(image) = image(&folder) {
        return Ok(image);
    }
    ensure!(find_program("apt-get").is_some(), "this is not Debian, whose kernel it would be");
    let depends = output(Command::new("apt-cache").args(["depends", NEWEST]));
    let package = depends.as_deref().and_then(dependency);
    let package =
        package.with_context(|| format!("apt knows no {NEWEST}: run `apt-get update`"))?;
    announce(&format!("unpacking {package} into target/tools"));
    let unpacked = TempDir::with_prefix_in("kernel-", workspace::tools())?;
    unpack(package, unpacked.path())?;
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::rename(unpacked.path().join("root"), &folder)?;
    image(&folder).with_context(|| format!("{package} holds no kernel with modules"))
}

/// The image whose modules are there and listed.
fn image(folder: &Path) -> Option<PathBuf> {
    let images = fs::read_dir(folder.join("boot")).ok()?.flatten().map(|entry| entry.path());
    images.into_iter().find(|image| {
        let version = version(image);
        version.is_some_and(|version| folder.join(modules(version)).join("modules.dep").exists())
    })
}

fn version(image: &Path) -> Option<&str> {
    image.file_name()?.to_str()?.strip_prefix("vmlinuz-")
}

fn modules(version: &str) -> PathBuf {
    Path::new("lib/modules").join(version)
}

/// What `apt-cache depends` says first.
fn dependency(depends: &str) -> Option<&str> {
    depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "))
}

/// Downloads the package and unpacks it into `root` below a folder.
fn unpack(package: &str, folder: &Path) -> Result<()> {
    let mut download = Command::new("apt-get");
    // As this user, whose folder it is.
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]);
    run(download.current_dir(folder))?;
    let root = folder.join("root");
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
    let file = file.with_context(|| format!("apt-get has downloaded no {package}"))?;
    run(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&root))?;
    let depmod = find_program("depmod").context("depmod is missing: install kmod")?;
    for kernel in fs::read_dir(root.join("lib/modules"))?.flatten() {
        run(Command::new(&depmod).arg("--basedir").arg(&root).arg(kernel.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_the_package_depends_on() {
        let depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-1-amd64\n  Suggests: x\n";
        assert_eq!(dependency(depends), Some("linux-image-6.1.0-1-amd64"));
        assert_eq!(dependency("linux-image-amd64\n"), None);
    }

    #[test]
    fn an_image_counts_only_with_its_modules() {
        let folder = TempDir::new().unwrap();
        let (boot, modules) = (folder.path().join("boot"), folder.path().join(modules("6.1")));
        for made in [&boot, &modules] {
            fs::create_dir_all(made).unwrap();
        }
        for file in ["config-6.1", "vmlinuz-6.1"] {
            fs::write(boot.join(file), "").unwrap();
        }
        assert_eq!(image(folder.path()), None);
        fs::write(modules.join("modules.dep"), "").unwrap();
        assert_eq!(image(folder.path()), Some(boot.join("vmlinuz-6.1")));
    }
}
