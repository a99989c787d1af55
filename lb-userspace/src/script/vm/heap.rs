//! The memory of a state: how much it has, and how much it may have. Lua gives it back to whoever asks
//! for its allocator, so whom functions of ours act for is in here too.

use std::{
    alloc::{self, Layout},
    cell::Cell,
    ffi::c_void,
    ptr::{NonNull, fn_addr_eq, null, null_mut},
};

use mlua::ffi;

use super::spare::Spare;
use crate::script::context::Context;

/// What a state has taken. mlua keeps the same account, but asks for it cost more than a function
/// of ours takes, and each call asks four times.
#[derive(Debug)]
pub(super) struct Heap {
    pub(super) used: Cell<usize>,
    /// 0 for none.
    pub(super) limit: Cell<usize>,
    /// Whom functions of ours act for, while a run goes on.
    pub(super) current: Cell<*const Context>,
    spare: Spare,
}

/// [`Heap::allocate`] by one address, to be told by: a function may have one in each unit of code.
pub(super) static ALLOCATOR: ffi::lua_Alloc = Heap::allocate;

impl Heap {
    /// Of a state that has so much already.
    pub(super) fn new(used: usize) -> Self {
        let (limit, current) = (Cell::new(0), Cell::new(null()));
        Self { used: Cell::new(used), limit, current, spare: Spare::none() }
    }

    /// A state's; `None` if it has another allocator.
    ///
    /// # Safety
    ///
    /// The reference must not be kept longer than the state's `Vm`.
    pub(super) unsafe fn of<'a>(state: *mut ffi::lua_State) -> Option<&'a Self> {
        let mut heap = null_mut();
        // SAFETY: reads two fields of the state. With our allocator it has a heap, which is there for
        // as long as `Vm` leaves that allocator in place.
        unsafe {
            let allocator = ffi::lua_getallocf(state, &raw mut heap);
            fn_addr_eq(allocator, ALLOCATOR).then(|| &*heap.cast::<Self>())
        }
    }

    /// The context that the state's functions act for; `None` outside of runs.
    pub(super) fn context(&self) -> Option<&Context> {
        // SAFETY: what is in there is borrowed by `Vm::within` for as long as it is in there.
        unsafe { self.current.get().as_ref() }
    }

    /// Lua's allocator.
    ///
    /// # Safety
    ///
    /// `heap` is one; `block` is null, or of `old` bytes and from here or from mlua's allocator, which
    /// takes its memory in the same way.
    unsafe extern "C" fn allocate(
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
                    let kept =
                        NonNull::new(block.cast()).is_some_and(|it| heap.spare.keep(it, old));
                    if !kept {
                        alloc::dealloc(block.cast(), before);
                    }
                    return null_mut();
                }
                (0, _) => match heap.spare.take(new) {
                    Some(block) => block.as_ptr(),
                    None => alloc::alloc(after),
                },
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

/// Of a block of so many bytes.
pub(super) fn layout(bytes: usize) -> Result<Layout, alloc::LayoutError> {
    Layout::from_size_align(bytes, ffi::SYS_MIN_ALIGN)
}
