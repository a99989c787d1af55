//! Small blocks that Lua has released, kept for it to take again: what most runs make is a few short
//! strings, and the system's allocator took longer over them than Lua.

use std::{
    alloc,
    cell::Cell,
    ptr::{NonNull, null_mut},
};

use super::heap::layout;

/// Bytes of the smallest and the largest block that are kept. A string of 39 characters takes 64.
const SMALLEST: usize = size_of::<Link>();
const LARGEST: usize = 64;

/// Bytes that are kept, at most.
const MOST: usize = 256 << 10;

/// What a block that is kept begins with: the next of its size.
type Link = *mut u8;

/// Blocks by their size to the byte, so that each is released as what it was taken as.
#[derive(Debug)]
pub(super) struct Spare {
    first: [Cell<Link>; LARGEST + 1],
    bytes: Cell<usize>,
}

impl Spare {
    pub(super) fn none() -> Self {
        Self { first: [const { Cell::new(null_mut()) }; _], bytes: Cell::new(0) }
    }

    /// A block of this size, if one is kept.
    pub(super) fn take(&self, size: usize) -> Option<NonNull<u8>> {
        let first = self.first.get(size)?;
        let block = NonNull::new(first.get())?;
        // SAFETY: a block that is kept is ours, and begins with its link (see `keep`).
        first.set(unsafe { block.cast::<Link>().read() });
        self.bytes.set(self.bytes.get() - size);
        Some(block)
    }

    /// Keeps a block; false if there is no room for it.
    ///
    /// # Safety
    ///
    /// The block is of this size, was taken with its [`layout`], and is nobody's any more.
    pub(super) unsafe fn keep(&self, block: NonNull<u8>, size: usize) -> bool {
        let bytes = self.bytes.get() + size;
        let Some(first) = self.first.get(size).filter(|_| size >= SMALLEST && bytes <= MOST) else {
            return false;
        };
        // SAFETY: a link fits into it.
        unsafe { block.cast::<Link>().write(first.get()) };
        first.set(block.as_ptr());
        self.bytes.set(bytes);
        true
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        for size in SMALLEST..=LARGEST {
            let Ok(layout) = layout(size) else { continue };
            while let Some(block) = self.take(size) {
                // SAFETY: taken with this layout, and nobody has it.
                unsafe { alloc::dealloc(block.as_ptr(), layout) };
            }
        }
    }
}

// A link may stand where a block begins.
const _: () = assert!(align_of::<Link>() <= mlua::ffi::SYS_MIN_ALIGN);

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use super::*;

    fn block(size: usize) -> NonNull<u8> {
        // SAFETY: the size is not zero.
        let block = unsafe { alloc::alloc(layout(size).unwrap()) };
        NonNull::new(block).unwrap()
    }

    /// Whether it was kept; if not it is released.
    fn keep(spare: &Spare, block: NonNull<u8>, size: usize) -> bool {
        // SAFETY: taken with this size, by the test or by `block`, and not used any more.
        unsafe {
            let kept = spare.keep(block, size);
            if !kept {
                alloc::dealloc(block.as_ptr(), layout(size).unwrap());
            }
            kept
        }
    }

    #[test]
    fn a_block_comes_back_as_the_size_that_it_was() {
        let spare = Spare::none();
        let blocks = [24, 24, 25].map(|size| (size, block(size)));
        assert!(blocks.iter().all(|(size, block)| keep(&spare, *block, *size)));
        assert_eq!([8, 23, 26, 64, 65].map(|size| spare.take(size)), [None; 5]);
        let [first, second, other] = blocks.map(|(_, block)| Some(block));
        assert_eq!([25, 25].map(|size| spare.take(size)), [other, None]);
        assert_eq!([24, 24, 24].map(|size| spare.take(size)), [second, first, None]);
        assert_eq!(spare.bytes.get(), 0);
        blocks.iter().for_each(|(size, block)| _ = keep(&spare, *block, *size));
    }

    #[test]
    fn large_blocks_and_tiny_ones_are_not_kept_nor_more_than_a_bound() {
        let spare = Spare::none();
        for size in [1, SMALLEST - 1, LARGEST + 1, 1 << 20] {
            assert!(!keep(&spare, block(size), size), "{size}");
        }
        for size in [SMALLEST, LARGEST] {
            assert!(keep(&spare, block(size), size), "{size}");
        }
        let before = spare.bytes.get() / LARGEST;
        let kept = from_fn(|| keep(&spare, block(LARGEST), LARGEST).then_some(())).count();
        assert!(spare.bytes.get() <= MOST && before + kept == MOST / LARGEST - 1);
    }
}
