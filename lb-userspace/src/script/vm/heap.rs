//! The memory of a state: how much it has, and how much it may have.

use std::{
    alloc::{self, Layout},
    cell::Cell,
    ffi::c_void,
    ptr::null_mut,
};

use mlua::ffi;

/// What a state has taken. mlua keeps the same account, but asks for it cost more than a function
/// of ours takes, and each call asks four times.
#[derive(Debug, Default)]
pub(super) struct Heap {
    pub(super) used: Cell<usize>,
    /// 0 for none.
    pub(super) limit: Cell<usize>,
}

impl Heap {
    /// Lua's allocator.
    ///
    /// # Safety
    ///
    /// `heap` is one; `block` is null, or of `old` bytes and from here or from mlua's allocator, which
    /// takes its memory in the same way.
    pub(super) unsafe extern "C" fn allocate(
        heap: *mut c_void,
        block: *mut c_void,
        old: usize,
        new: usize,
    ) -> *mut c_void {
        // SAFETY: as above.
        let heap = unsafe { &*heap.cast::<Self>() };
        let old = if block.is_null() { 0 } else { old };
        let used = (heap.used.get() - old).saturating_add(new);
        let limit = heap.limit.get();
        if new > old && limit > 0 && used > limit {
            return null_mut();
        }
        let (Ok(before), Ok(after)) = (layout(old), layout(new)) else {
            return null_mut();
        };
        heap.used.set(used);
        // SAFETY: sizes are not zero where memory is asked for, and the block has the layout that
        // it was made with.
        let moved = unsafe {
            match (old, new) {
                (0, 0) => return null_mut(),
                (_, 0) => {
                    alloc::dealloc(block.cast(), before);
                    return null_mut();
                }
                (0, _) => alloc::alloc(after),
                _ => alloc::realloc(block.cast(), before, new),
            }
        };
        if moved.is_null() {
            // Lua would take it for its limit, and raise an error where none can be borne.
            alloc::handle_alloc_error(after);
        }
        moved.cast()
    }
}

fn layout(bytes: usize) -> Result<Layout, alloc::LayoutError> {
    Layout::from_size_align(bytes, ffi::SYS_MIN_ALIGN)
}
