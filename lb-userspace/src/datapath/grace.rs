//! Waiting until every run of a packet program that is under way is over.

use std::time::Duration;

/// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Returns after a grace period of the kernel's RCU that began after the call.
///
/// `membarrier(2)` with `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu()`, and a packet program runs
/// inside an RCU read-side section. Kernels with `nohz_full` cores refuse the command; there a
/// second is waited, a thousand times longer than a packet's run may take.
pub fn wait() {
    // SAFETY: the command takes no pointers and changes nothing.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done != 0 {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_grace_period_ends() {
        super::wait();
    }
}
