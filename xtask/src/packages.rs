//! Debian packages: what is missing is named with its reason, then installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::command::{announce, find_program, output, run};

/// A package that something here needs.
pub struct Package {
    name: &'static str,
    /// A program, or a file's path, that shows that the package is there however it came.
    shown_by: &'static str,
    reason: &'static str,
}

const fn package(name: &'static str, shown_by: &'static str, reason: &'static str) -> Package {
    Package { name, shown_by, reason }
}

/// For compiling the packet programs where rustup has no `rust-src`.
pub const BPF_TOOLCHAIN: &[Package] = &[
    package("rustc-web", "/usr/bin/rustc", "a Rust compiler whose LLVM is the linker's"),
    package("cargo-web", "/usr/bin/cargo", "the cargo that goes with it"),
    package(
        "libstd-rust-web-dev-bpf",
        "/usr/lib/rustlib/bpfel-unknown-none/lib",
        "Rust's core library for BPF",
    ),
    package("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config", "bpf-linker is built on LLVM"),
    package("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a", "llvm-config names it"),
    package("zlib1g-dev", "/usr/include/zlib.h", "bpf-linker reads debug information"),
    package("libzstd-dev", "/usr/include/zstd.h", "bpf-linker reads debug information"),
];

/// For the tests in network namespaces and the demo.
pub const NETWORK: &[Package] = &[
    package("iproute2", "ip", "makes namespaces and links"),
    package("ethtool", "ethtool", "switches off checksum offload on links"),
    package("procps", "sysctl", "bounds a client's socket buffers"),
    package("nginx-light", "nginx", "is the HTTP servers"),
    package("dnsmasq-base", "dnsmasq", "is the DNS servers"),
    package("dnsutils", "dig", "asks the DNS servers"),
    package("curl", "curl", "asks the HTTP servers"),
    package("freeradius-utils", "radclient", "asks for access by RADIUS"),
    package("nftables", "nft", "is a server's firewall"),
    package("iperf3", "iperf3", "measures throughput"),
    package("tcpdump", "tcpdump", "sees which packets a host gets"),
    package("bpftool", "bpftool", "shows a flow in its pinned map"),
    package("python3-pip", "pip3", "installs curl-cffi, which connects as browsers do"),
];

/// For benchmarks of packets.
pub const LINKS: &[Package] = &[
    package("iproute2", "ip", "makes namespaces and links"),
    package("ethtool", "ethtool", "switches off checksum offload on links"),
    package("procps", "sysctl", "lets a kernel forward"),
    package("util-linux", "chrt", "puts threads of the kernel on a core, and first there"),
];

/// For benchmarks of connections, beside other balancers.
pub const BALANCERS: &[Package] = &[
    package("iproute2", "ip", "makes namespaces and links"),
    package("ethtool", "ethtool", "switches off checksum offload on links"),
    package("procps", "sysctl", "lets a kernel forward"),
    package("util-linux", "taskset", "puts processes on a core"),
    package("nftables", "nft", "is what the kernel itself can do"),
    package("haproxy", "haproxy", "is compared with"),
    package("nginx-light", "nginx", "is compared with"),
    package(
        "libnginx-mod-stream",
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "forwards TCP in nginx",
    ),
];

/// For benchmarks with the kernel's packet generator, beside what else the kernel has.
pub const PKTGEN: &[Package] = &[
    package("iproute2", "ip", "makes namespaces and links"),
    package("ethtool", "ethtool", "switches off checksum offload on links"),
    package("procps", "sysctl", "lets a kernel forward"),
    package("util-linux", "chrt", "puts threads of the kernel on a core, and first there"),
    package("nftables", "nft", "is compared with"),
    package("ipvsadm", "ipvsadm", "is compared with"),
    package("kmod", "depmod", "loads the generator's module"),
];

/// For a virtual machine with Debian's kernel.
pub const MACHINE: &[Package] = &[
    package("qemu-system-x86", "qemu-system-x86_64", "emulates the machine"),
    // Another package's busybox needs libraries.
    package(
        "busybox-static",
        "/var/lib/dpkg/info/busybox-static.list",
        "mounts the machine's files at its start",
    ),
    package("udev", "udevadm", "lets the machine find what it prints to"),
    package("kmod", "depmod", "lists the modules of the machine's kernel"),
    package("python3-pip", "pip3", "installs virtme-ng, which boots the machine"),
];

impl Package {
    fn is_there(&self) -> bool {
        match self.shown_by.starts_with('/') {
            true => Path::new(self.shown_by).exists(),
            false => find_program(self.shown_by).is_some(),
        }
    }
}

/// Installs those of the packages that are missing, saying why each is needed.
pub fn ensure(packages: &[Package], purpose: &str) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    announce(&format!("{purpose} needs what this machine has not:"));
    for package in &missing {
        eprintln!("      {:24} {}", package.name, package.reason);
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    if find_program("apt-get").is_none() {
        bail!("this is not Debian: install the like of these by hand: {}", names.join(" "));
    }
    if !is_root() {
        bail!("not root: run `sudo apt-get install --no-install-recommends {}`", names.join(" "));
    }
    let _no_services = NoServices::new()?;
    run(apt_get().arg("update").arg("-qq"))?;
    run(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&names))?;
    match missing.iter().find(|package| !package.is_there()) {
        None => Ok(()),
        Some(package) => bail!("{} is installed, but has no {}", package.name, package.shown_by),
    }
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While it lives, no package that is installed starts its service; when it goes, nginx, which
/// was not there before, does not start at boot either. Debian asks `policy-rc.d` for leave.
struct NoServices {
    policy: Option<PathBuf>,
    nginx_was_there: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        let nginx_was_there = find_program("nginx").is_some();
        if policy.exists() {
            return Ok(Self { policy: None, nginx_was_there });
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", policy.display()))?;
        Ok(Self { policy: Some(policy), nginx_was_there })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("remove {} by hand: {error}", policy.display());
        }
        if !self.nginx_was_there && find_program("nginx").is_some() {
            // Without systemd there is nothing to switch off.
            let _ = output(Command::new("systemctl").args(["disable", "nginx"]));
        }
    }
}
