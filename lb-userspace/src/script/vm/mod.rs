//! The Lua state by Lua's own C interface: all unsafe code of scripts is in here.
//!
//! A run happens on every new flow, and what it does most is call functions of ours. They are bound
//! as C functions that read their arguments where Lua has them and push their results; the handles
//! of mlua, which elsewhere is how the state is made and filled, would cost ten times as much.
//!
//! Lua's errors are jumps that pass by Rust's destructors. Two rules keep that from ever mattering:
//!
//! - Code of ours runs while no limit on memory is set: [`entry`] lifts it and sets it again. Of Lua's
//!   functions it calls those that fail for want of memory only, and without a limit they do not: the
//!   allocator ends the process rather than returning nothing.
//! - An error of ours is raised by [`entry`], when nothing is left on the stack that has a
//!   destructor. Panics are kept there too, and go on when the run is over.

mod anchor;
mod entry;
mod heap;
mod spare;
mod stack;
mod trace;

use std::{
    ffi::{c_int, c_void},
    panic::resume_unwind,
    ptr::{NonNull, null_mut},
    rc::Rc,
};

use mlua::{Function, Lua, LuaOptions, Result, StdLib, ffi};

use super::{api::functions, context::Context};
pub(super) use anchor::{Anchor, Chunk, Ground};
use heap::Heap;
pub(super) use stack::{Argument, Nil, Push, Stack, Text};
pub(super) use trace::Frame;

/// A Lua state.
#[derive(Debug)]
pub(super) struct Vm {
    lua: Lua,
    state: NonNull<ffi::lua_State>,
    /// The state has its address, and gives it to functions of ours and to the hook.
    heap: Rc<Heap>,
    /// The allocator that mlua made the state with, and what it is called with.
    former: (ffi::lua_Alloc, *mut c_void),
}

/// A run that ended with an error.
#[derive(Debug)]
pub(super) struct Ended {
    /// Whether memory ran out.
    pub(super) memory: bool,
    pub(super) message: String,
    /// Lua's stack where it was raised.
    pub(super) traceback: String,
}

impl Vm {
    /// A state with Lua's own libraries.
    pub(super) fn new() -> Result<Self> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let heap = Rc::new(Heap::new(0));
        let mut made = None;
        // SAFETY: the closure owns nothing. Both allocators take memory in the same way, so each may
        // release what is the other's.
        unsafe {
            lua.exec_raw::<()>((), |state| {
                let mut account = null_mut();
                let allocator = ffi::lua_getallocf(state, &raw mut account);
                heap.used.set(lua.used_memory());
                ffi::lua_setallocf(state, heap::ALLOCATOR, Rc::as_ptr(&heap).cast_mut().cast());
                made = NonNull::new(state).zip(Some((allocator, account)));
            })?;
        }
        let (state, former) = made.ok_or(mlua::Error::StackError)?;
        Ok(Self { lua, state, heap, former })
    }

    /// For what happens outside of runs.
    pub(super) fn lua(&self) -> &Lua {
        &self.lua
    }

    fn state(&self) -> *mut ffi::lua_State {
        self.state.as_ptr()
    }

    /// Bytes that the state has.
    pub(super) fn used_memory(&self) -> usize {
        self.heap.used.get()
    }

    /// A function of ours, as Lua calls it.
    pub(super) fn function(&self, function: &'static functions::Function) -> Result<Function> {
        let function: *const functions::Function = function;
        // SAFETY: the closure pushes one value and owns nothing. What the function finds as its
        // upvalue is what `entry::function` expects there.
        unsafe {
            self.lua.exec_raw((), |state| {
                ffi::lua_pushlightuserdata(state, function.cast_mut().cast());
                ffi::lua_pushcclosure(state, entry::function, 1);
            })
        }
    }

    /// Has functions of ours act for a context while `act` goes on. They set limits when they return;
    /// none is left behind.
    pub(super) fn within<R>(&self, context: &Context, act: impl FnOnce() -> R) -> R {
        /// Also when it panics.
        struct Reset<'a>(&'a Vm, *const Context);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.lift_limit();
                self.0.heap.current.set(self.1);
            }
        }
        let _reset = Reset(self, self.heap.current.replace(context));
        act()
    }

    /// Runs a script with globals that nobody has touched, within the bounds that its meter sets.
    pub(super) fn run(
        &self,
        context: &Context,
        ground: &Ground,
        script: &Chunk,
    ) -> std::result::Result<(), Ended> {
        let ended = self.within(context, || {
            // SAFETY: no limit is set until the script runs, and it runs protected.
            unsafe { self.call(context, ground, script) }
        });
        if let Some(panic) = context.panic.take() {
            resume_unwind(panic);
        }
        ended
    }

    /// # Safety
    ///
    /// No limit on memory is set.
    unsafe fn call(
        &self,
        context: &Context,
        ground: &Ground,
        script: &Chunk,
    ) -> std::result::Result<(), Ended> {
        let state = self.state();
        // SAFETY: what is pushed has room; keys are of this state's registry and have the types
        // that `ground` and `compile` gave them. The protected call catches every error.
        unsafe {
            let base = ffi::lua_gettop(state);
            ffi::lua_checkstack(state, 6);
            script.function.push(state);
            // Those of the others were set once and for all.
            if script.touches_globals {
                ffi::lua_createtable(state, 0, 1);
                ground.name.push(state);
                ffi::lua_pushvalue(state, -2);
                ffi::lua_rawset(state, -3);
                ground.globals.push(state);
                ffi::lua_setmetatable(state, -2);
                ffi::lua_setfenv(state, -2);
            }
            self.limit(context.meter.lent());
            let status = ffi::lua_pcall(state, 0, 0, ground.handler);
            self.lift_limit();
            self.ask_after(None);
            let ended = match status {
                ffi::LUA_OK => Ok(()),
                _ => Err(Ended {
                    memory: status == ffi::LUA_ERRMEM,
                    message: String::from_utf8_lossy(&stack::bytes(state, -1)).into_owned(),
                    traceback: context.traceback.take(),
                }),
            };
            ffi::lua_settop(state, base);
            ended
        }
    }

    /// From here on, using more memory than this is an error.
    fn limit(&self, bytes: usize) {
        self.heap.limit.set(bytes);
    }

    fn lift_limit(&self) {
        self.limit(0);
    }

    /// Has the meter asked after so many instructions, counted from now, and again and again.
    pub(super) fn ask_after(&self, instructions: Option<u64>) {
        let count = instructions.map_or(0, |count| c_int::try_from(count).unwrap_or(c_int::MAX));
        let (hook, mask): (Option<ffi::lua_Hook>, _) = match count {
            0 => (None, 0),
            _ => (Some(entry::hook), ffi::LUA_MASKCOUNT),
        };
        // SAFETY: sets fields of the state, nothing else.
        unsafe { ffi::lua_sethook(self.state(), hook, mask, count) };
    }

    /// What `read` makes of the innermost frame of a function written in Lua that it makes anything
    /// of.
    pub(super) fn innermost<R>(&self, read: impl FnMut(&Frame) -> Option<R>) -> Option<R> {
        trace::innermost(self.state(), 0, read)
    }

    /// The same, of those that have called the function of ours that is running.
    pub(super) fn innermost_caller<R>(&self, read: impl FnMut(&Frame) -> Option<R>) -> Option<R> {
        trace::innermost(self.state(), 1, read)
    }

    /// The line at which a chunk's own body has called the function of ours that is running; `None`
    /// if something else has.
    pub(super) fn line_in(&self, chunk: &Chunk) -> Option<u32> {
        trace::line_of(self.state(), 1, chunk.address)
    }

    /// Lua's stack, a frame a line.
    pub(super) fn traceback(&self) -> String {
        trace::traceback(self.state(), 0)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let (allocator, account) = self.former;
        // SAFETY: mlua's own, which is to release the state, and then its account.
        unsafe { ffi::lua_setallocf(self.state(), allocator, account) };
    }
}
