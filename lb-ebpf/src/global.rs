//! Numbers that user space sets before it loads a program.

/// Reads one.
#[inline(always)]
pub fn global(value: &'static u32) -> u32 {
    // SAFETY: an initialised static. Volatile, for the benchmark overrides what the compiler sees.
    unsafe { core::ptr::read_volatile(value) }
}
