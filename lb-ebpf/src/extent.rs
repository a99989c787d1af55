//! Where a packet lies in memory, as far as a program may touch it.

use core::hint::assert_unchecked;

/// From a context's `data` to its `data_end`. Both are asked for once: what has been compared with the
/// end need not be compared again.
pub struct Extent {
    start: usize,
    end: usize,
}

impl Extent {
    /// # Safety
    ///
    /// Both are the context's own. When the kernel has moved either, what there was is void, and so
    /// is what pointed into it.
    #[inline(always)]
    pub unsafe fn new(start: usize, end: usize) -> Self {
        // SAFETY: the kernel's pointer to a packet. Not known, each window would be compared with
        // the null pointer that stands for none.
        unsafe { assert_unchecked(start != 0) };
        Self { start, end }
    }

    /// Its bytes.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.end - self.start
    }

    /// `N` bytes from `OFFSET` on; `None` if there are not so many.
    #[inline(always)]
    pub fn window<const OFFSET: usize, const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let start = self.start + OFFSET;
        if start + N > self.end {
            return None;
        }
        // SAFETY: the verifier knows the packet to reach from `start` to `end`, and the window was
        // just seen to lie between. The borrow of `self` keeps other windows out, and what moves the
        // packet, for that makes a new extent.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }
}
