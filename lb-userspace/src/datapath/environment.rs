//! Whether this machine can run the program at all.

use std::path::Path;

use rustix::{fs::statfs, process::geteuid, system::uname};

use super::DatapathError;

/// Where BPF objects are pinned.
pub(super) const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
const LEAST_KERNEL: (u32, u32) = (6, 1);

/// Fails with what is missing and how to get it.
pub fn check() -> Result<(), DatapathError> {
    if !geteuid().is_root() {
        return Err(DatapathError::NotRoot);
    }
    let release = uname().release().to_string_lossy().into_owned();
    if version(&release).is_some_and(|version| version < LEAST_KERNEL) {
        return Err(DatapathError::KernelTooOld { found: release, least: "6.1" });
    }
    let is_bpffs = statfs(Path::new(BPFFS)).is_ok_and(|fs| fs.f_type == BPFFS_MAGIC);
    if is_bpffs { Ok(()) } else { Err(DatapathError::NoBpffs(BPFFS)) }
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_distributions_write_them() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("custom"), None);
    }
}
