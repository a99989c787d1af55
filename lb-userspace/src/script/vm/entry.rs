//! Where Lua calls us. Nothing in these functions has a destructor when Lua is told of an error.

use std::{
    any::Any,
    ffi::c_int,
    panic::{AssertUnwindSafe, catch_unwind},
};

use mlua::ffi;

use super::{Stack, heap::Heap, trace};
use crate::script::{api::functions::Function, context::Context, errors::Raise};

/// A function of ours. Upvalue: the [`Function`].
pub(super) unsafe extern "C-unwind" fn function(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua with the upvalue that `Vm::function` has set; a `Function` is never
    // freed. Neither heap nor context is kept.
    unsafe {
        let Some((heap, context)) = current(state) else {
            return outside(state);
        };
        let function = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Function>();
        let arguments = ffi::lua_gettop(state);
        heap.limit.set(0);
        let stack = Stack::new(state, arguments);
        let succeeded = keep(context, || (*function).run(stack, context));
        let lent = context.meter.lent();
        heap.limit.set(lent);
        if !succeeded {
            return raise(state, context);
        }
        if heap.used.get() > lent {
            // Fails, as what the function allocated would have.
            ffi::lua_newuserdata(state, 1);
        }
        ffi::lua_gettop(state) - arguments
    }
}

/// Asks the meter whether the script may go on.
pub(super) unsafe extern "C-unwind" fn hook(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls hooks with room on the stack. Neither heap nor context is kept.
    unsafe {
        let Some((heap, context)) = current(state) else {
            return;
        };
        heap.limit.set(0);
        let succeeded = keep(context, || context.meter.tick(&context.vm));
        heap.limit.set(context.meter.lent());
        if !succeeded {
            raise(state, context);
        }
    }
}

/// Keeps the stack of an error that nobody has caught, and makes a string of it.
pub(super) unsafe extern "C-unwind" fn handler(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua with one argument. Reading the stack takes none of Lua's memory; the
    // string may, and nothing here has a destructor then.
    unsafe {
        let Some((_, context)) = current(state) else {
            return 1;
        };
        if context.stopped() {
            return 1;
        }
        keep(context, || {
            context.traceback.replace(trace::traceback(state, 1));
            Ok(())
        });
        if ffi::lua_type(state, 1) != ffi::LUA_TSTRING {
            ffi::luaL_tolstring(state, 1, std::ptr::null_mut());
        }
        1
    }
}

/// The state's memory, and the context that its functions act for; `None` outside of runs.
///
/// # Safety
///
/// Called by Lua. The references must not be kept.
unsafe fn current<'a>(state: *mut ffi::lua_State) -> Option<(&'a Heap, &'a Context)> {
    // SAFETY: while Lua runs there is a `Vm` around it.
    let heap: &'a Heap = unsafe { Heap::of(state)? };
    Some((heap, heap.context()?))
}

/// Whether `act` succeeded; what it raised, or panicked with, is kept in the context.
fn keep(context: &Context, act: impl FnOnce() -> Result<(), Raise>) -> bool {
    let raised = match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(())) => return true,
        Ok(Err(raise)) => raise,
        Err(panic) => panicked(context, panic),
    };
    context.raised.replace(raised);
    false
}

#[cold]
fn panicked(context: &Context, panic: Box<dyn Any + Send>) -> Raise {
    context.panic.replace(Some(panic));
    Raise::End
}

/// Raises what is kept in the context.
///
/// # Safety
///
/// Called where Lua has called us; no frame up to there has anything with a destructor.
unsafe fn raise(state: *mut ffi::lua_State, context: &Context) -> c_int {
    // SAFETY: the message stays in the context, untouched, until Lua has copied it.
    unsafe {
        match &*context.raised.as_ptr() {
            Raise::Error(message) => {
                ffi::lua_pushlstring_(state, message.as_ptr().cast(), message.len());
            }
            Raise::Memory => {
                // More than there may be: fails as any allocation would. The rest is for nobody.
                ffi::lua_newuserdata(state, context.meter.lent());
                ffi::lua_pushnil(state);
            }
            Raise::End => ffi::lua_pushnil(state),
        }
        ffi::lua_error(state)
    }
}

/// A function of ours that is called while nothing runs.
///
/// # Safety
///
/// As for [`raise`].
unsafe fn outside(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: there is nothing to drop.
    unsafe {
        ffi::lua_pushstring_(state, c"no script is running".as_ptr());
        ffi::lua_error(state)
    }
}
