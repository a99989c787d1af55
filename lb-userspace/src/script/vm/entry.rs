//! Where Lua calls us. Nothing in these functions has a destructor when Lua is told of an error.

use std::{
    any::Any,
    cell::Cell,
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
};

use mlua::ffi;

use super::{Stack, trace};
use crate::script::{api::functions::Function, context::Context, errors::Raise};

/// Of the registry's field in which the hook finds the context's address: the hook has no upvalues.
pub(super) fn slot_key() -> *const c_void {
    static KEY: u8 = 0;
    (&raw const KEY).cast()
}

/// A function of ours. Upvalues: the [`Function`], and where the context's address is.
pub(super) unsafe extern "C-unwind" fn function(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua with the upvalues that `Vm::function` has set; a `Function` is never
    // freed. `current` says why the context is there.
    unsafe {
        let Some(context) = current(ffi::lua_touserdata(state, ffi::lua_upvalueindex(2))) else {
            return outside(state);
        };
        let function = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Function>();
        let arguments = ffi::lua_gettop(state);
        context.vm.lift_limit();
        let stack = Stack::new(state, arguments);
        let succeeded = keep(context, || (*function).run(stack, context));
        let lent = context.meter.lent();
        context.vm.limit(lent);
        if !succeeded {
            return raise(state, context);
        }
        if context.vm.used_memory() > lent {
            // Fails, as what the function allocated would have.
            ffi::lua_newuserdata(state, 1);
        }
        ffi::lua_gettop(state) - arguments
    }
}

/// Asks the meter whether the script may go on.
pub(super) unsafe extern "C-unwind" fn hook(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls hooks with room on the stack; the field is set by `Vm::new`.
    unsafe {
        ffi::lua_rawgetp(state, ffi::LUA_REGISTRYINDEX, slot_key());
        let slot = ffi::lua_touserdata(state, -1);
        ffi::lua_pop(state, 1);
        let Some(context) = current(slot) else {
            return;
        };
        context.vm.lift_limit();
        let succeeded = keep(context, || context.meter.tick(&context.vm));
        context.vm.limit(context.meter.lent());
        if !succeeded {
            raise(state, context);
        }
    }
}

/// Keeps the stack of an error that nobody has caught, and makes a string of it. Upvalue: where the
/// context's address is.
pub(super) unsafe extern "C-unwind" fn handler(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua with the upvalue that `Vm::ground` has set and one argument. Reading the
    // stack takes none of Lua's memory; the string may, and nothing here has a destructor then.
    unsafe {
        let Some(context) = current(ffi::lua_touserdata(state, ffi::lua_upvalueindex(1))) else {
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

/// The context that the state's functions act for; `None` outside of runs.
///
/// # Safety
///
/// `slot` is that of a `Vm`. The reference must not be kept.
unsafe fn current<'a>(slot: *mut c_void) -> Option<&'a Context> {
    // SAFETY: the slot is there for as long as the state, and what is in it is borrowed by
    // `Vm::within` for as long as it is in it.
    unsafe { (*slot.cast::<Cell<*const Context>>()).get().as_ref() }
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
