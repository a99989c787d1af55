//! Memory that both sides touch at once: the standard atomics, and where the target has none, a
//! stand-in.
//!
//! The BPF target has only 64-bit atomics, and no ordered loads before instruction set v4. What
//! the packet program does to shared memory needs neither: it loads and stores single words, which
//! no machine tears when they are aligned, and volatile accesses stay in the program's order. On
//! x86-64 the processor keeps that order too; a port to a weaker machine must add barriers here.

#[cfg(not(any(loom, target_arch = "bpf")))]
pub use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

#[cfg(target_arch = "bpf")]
pub use bpf::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "shared memory without atomics; see the module's documentation")]
mod bpf {
    use core::{cell::UnsafeCell, sync::atomic::Ordering};

    /// Volatile accesses are kept in order by the compiler: nothing is left to do.
    #[inline(always)]
    pub fn fence(_: Ordering) {}

    macro_rules! stand_in {
        ($($name:ident: $int:ty),*) => {$(
            /// One aligned word of shared memory.
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub struct $name(UnsafeCell<$int>);

            // SAFETY: loads and stores of one aligned word are single instructions.
            unsafe impl Sync for $name {}

            impl $name {
                /// Reads the word.
                #[inline(always)]
                pub fn load(&self, _: Ordering) -> $int {
                    // SAFETY: the cell is valid and aligned; the access is one instruction.
                    unsafe { self.0.get().read_volatile() }
                }

                /// Writes the word.
                #[inline(always)]
                pub fn store(&self, value: $int, _: Ordering) {
                    // SAFETY: as above.
                    unsafe { self.0.get().write_volatile(value) }
                }
            }
        )*};
    }
    stand_in!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64);
}
