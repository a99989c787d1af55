//! Values that stay in a state: scripts, modules, and what all runs have in common.

use std::{
    ffi::{c_int, c_void},
    rc::Rc,
};

use mlua::{Function, IntoLua, Result, Table, ffi};

use super::{Vm, entry};

/// A value of a state that stays.
#[derive(Debug)]
pub(in crate::script) struct Anchor {
    pub(super) vm: Rc<Vm>,
    pub(super) key: c_int,
}

/// A compiled chunk.
#[derive(Debug)]
pub(in crate::script) struct Chunk {
    pub(in crate::script) function: Anchor,
    /// What tells the function from others.
    pub(super) address: *const c_void,
    /// Whether it may do more with its globals than read what each run has: then it needs its own.
    pub(in crate::script) touches_globals: bool,
}

/// What all runs have in common.
#[derive(Debug)]
pub(in crate::script) struct Ground {
    /// Where on the state's stack the function is that catches what a script raises.
    pub(super) handler: c_int,
    /// The metatable of globals.
    pub(super) globals: Anchor,
    /// The globals of chunks that cannot touch them: what all others see through the metatable of
    /// theirs, and functions by their full names.
    pub(in crate::script) untouched: Anchor,
    /// The string `_G`.
    pub(super) name: Anchor,
}

impl Vm {
    /// Keeps a value.
    pub(in crate::script) fn anchor(self: &Rc<Self>, value: impl IntoLua) -> Result<Anchor> {
        let mut key = ffi::LUA_NOREF;
        // SAFETY: the closure takes the one value and owns nothing.
        unsafe {
            self.lua.exec_raw::<()>(value, |state| {
                key = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            })?;
        }
        Ok(Anchor { vm: Rc::clone(self), key })
    }

    /// Keeps a chunk.
    pub(in crate::script) fn chunk(
        self: &Rc<Self>,
        function: Function,
        touches_globals: bool,
    ) -> Result<Chunk> {
        let address = function.to_pointer();
        Ok(Chunk { function: self.anchor(function)?, address, touches_globals })
    }

    /// What runs need, of the metatable of their globals and of those that chunks share.
    pub(in crate::script) fn ground(
        self: &Rc<Self>,
        globals: Table,
        untouched: Table,
    ) -> Result<Ground> {
        let state = self.state();
        // SAFETY: no limit is set. The function stays at the bottom of the stack, below all that
        // anybody pushes and pops.
        let handler = unsafe {
            ffi::lua_checkstack(state, 1);
            ffi::lua_pushcclosure(state, entry::handler, 0);
            ffi::lua_gettop(state)
        };
        Ok(Ground {
            handler,
            globals: self.anchor(globals)?,
            untouched: self.anchor(untouched)?,
            name: self.anchor("_G")?,
        })
    }

    /// Gives a chunk its globals.
    pub(in crate::script) fn set_globals(&self, chunk: &Chunk, globals: &Anchor) {
        let state = self.state();
        // SAFETY: a function and a table of this state; the stack is left as it was. Called where no
        // limit is set.
        unsafe {
            ffi::lua_checkstack(state, 2);
            chunk.function.push(state);
            globals.push(state);
            ffi::lua_setfenv(state, -2);
            ffi::lua_pop(state, 1);
        }
    }

    /// Lets a chunk share a script's globals, or leaves it without any.
    pub(in crate::script) fn share_globals(&self, script: Option<&Chunk>, chunk: &Chunk) {
        let state = self.state();
        // SAFETY: both are functions of this state; the stack is left as it was. Called where no
        // limit is set.
        unsafe {
            ffi::lua_checkstack(state, 3);
            chunk.function.push(state);
            match script {
                Some(script) => {
                    script.function.push(state);
                    ffi::lua_getfenv(state, -1);
                    ffi::lua_remove(state, -2);
                }
                None => ffi::lua_pushvalue(state, ffi::LUA_GLOBALSINDEX),
            }
            if ffi::lua_istable(state, -1) != 0 {
                ffi::lua_setfenv(state, -2);
            } else {
                ffi::lua_pop(state, 1);
            }
            ffi::lua_pop(state, 1);
        }
    }
}

impl Anchor {
    /// # Safety
    ///
    /// `state` is this anchor's, and has room on its stack.
    pub(super) unsafe fn push(&self, state: *mut ffi::lua_State) {
        debug_assert_eq!(state, self.vm.state());
        // SAFETY: reads a field of the registry.
        unsafe { ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.key) };
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        // SAFETY: the key is this anchor's own. Sets fields of the registry, which may take memory:
        // anchors are let go outside of runs or by functions of ours, where no limit is set.
        unsafe { ffi::luaL_unref(self.vm.state(), ffi::LUA_REGISTRYINDEX, self.key) };
    }
}
