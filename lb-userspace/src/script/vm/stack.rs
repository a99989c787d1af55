//! What a function of ours was called with, and what it answers.

use std::{
    ffi::{CStr, c_int},
    marker::PhantomData,
    ops::Deref,
    rc::Rc,
};

use mlua::ffi;

use super::{Anchor, Vm};

/// The stack of a call: arguments below, results above.
///
/// Arguments stay where they are until the call ends, so what is read of them may be kept as long.
#[derive(Clone, Copy)]
pub(in crate::script) struct Stack<'a> {
    state: *mut ffi::lua_State,
    arguments: c_int,
    call: PhantomData<&'a ()>,
}

/// An argument as it is, without conversions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::script) enum Argument<'a> {
    /// There are not so many.
    Missing,
    Nil,
    Boolean(bool),
    Number(f64),
    Text(&'a [u8]),
    Table,
    /// Anything else, by the name of its type.
    Other(&'static str),
}

/// An argument's text.
#[derive(Clone, Copy)]
pub(in crate::script) enum Text<'a> {
    /// A string.
    Own(&'a [u8]),
    /// A number as Lua writes it.
    Number([u8; NUMBER], u8),
}

/// Bytes that a number takes as text, at most: Lua writes 14 digits.
const NUMBER: usize = 31;

/// A table that a function of ours makes.
pub(in crate::script) struct NewTable<'s, 'a> {
    stack: &'s Stack<'a>,
    place: c_int,
}

/// Something to push: exactly one value.
pub(in crate::script) trait Push {
    /// Pushes it.
    fn push(self, stack: &Stack<'_>);
}

/// Lua's nil.
pub(in crate::script) struct Nil;

impl<'a> Stack<'a> {
    /// # Safety
    ///
    /// Lua has called us with so many arguments and no limit on memory is set; both hold for `'a`.
    pub(super) unsafe fn new(state: *mut ffi::lua_State, arguments: c_int) -> Self {
        Self { state, arguments, call: PhantomData }
    }

    /// How many arguments there are.
    pub(in crate::script) fn len(&self) -> usize {
        usize::try_from(self.arguments).unwrap_or(0)
    }

    /// Where Lua has an argument; `None` if there are not so many.
    fn place(&self, index: usize) -> Option<c_int> {
        let place = c_int::try_from(index).ok()? + 1;
        (place <= self.arguments).then_some(place)
    }

    /// An argument, counted from 0.
    pub(in crate::script) fn get(&self, index: usize) -> Argument<'a> {
        let Some(place) = self.place(index) else {
            return Argument::Missing;
        };
        // SAFETY: there is such an argument; each branch asks for what it is. Strings do not move,
        // and the argument keeps this one alive.
        unsafe {
            match ffi::lua_type(self.state, place) {
                ffi::LUA_TNIL => Argument::Nil,
                ffi::LUA_TBOOLEAN => Argument::Boolean(ffi::lua_toboolean(self.state, place) != 0),
                ffi::LUA_TNUMBER => Argument::Number(ffi::lua_tonumber(self.state, place)),
                ffi::LUA_TSTRING => Argument::Text(string(self.state, place)),
                ffi::LUA_TTABLE => Argument::Table,
                other => Argument::Other(type_name(self.state, other)),
            }
        }
    }

    /// Whether an argument is nil or not there.
    pub(in crate::script) fn is_nil(&self, index: usize) -> bool {
        self.place(index).is_none_or(|place| {
            // SAFETY: there is such an argument.
            unsafe { ffi::lua_type(self.state, place) == ffi::LUA_TNIL }
        })
    }

    /// A number, or a string that is one.
    pub(in crate::script) fn number(&self, index: usize) -> Option<f64> {
        self.place(index).and_then(|place| {
            // SAFETY: there is such an argument.
            unsafe { number(self.state, place) }
        })
    }

    /// A field of a table, if it is a number or a string that is one.
    pub(in crate::script) fn field(&self, index: usize, name: &str) -> Option<f64> {
        if self.get(index) != Argument::Table {
            return None;
        }
        let place = self.place(index)?;
        self.make_room();
        // SAFETY: it is a table, read without metamethods; the stack is left as it was.
        unsafe {
            ffi::lua_pushlstring_(self.state, name.as_ptr().cast(), name.len());
            ffi::lua_rawget_(self.state, place);
            let number = number(self.state, -1);
            ffi::lua_pop(self.state, 1);
            number
        }
    }

    /// Keeps an argument.
    pub(in crate::script) fn anchor(&self, vm: &Rc<Vm>, index: usize) -> Anchor {
        self.push_argument(index);
        // SAFETY: takes what was pushed.
        let key = unsafe { ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX) };
        Anchor { vm: Rc::clone(vm), key }
    }

    /// A result that is an argument.
    pub(in crate::script) fn push_argument(&self, index: usize) {
        let Some(place) = self.place(index) else {
            return Nil.push(self);
        };
        self.make_room();
        // SAFETY: there is room, and such an argument.
        unsafe { ffi::lua_pushvalue(self.state, place) };
    }

    /// A result that is a table, to be filled.
    pub(in crate::script) fn push_table(&self) -> NewTable<'_, 'a> {
        self.make_room();
        // SAFETY: there is room.
        let place = unsafe {
            ffi::lua_createtable(self.state, 0, 0);
            ffi::lua_gettop(self.state)
        };
        NewTable { stack: self, place }
    }

    /// Room for two values more. Lua gives twenty beside the arguments; captures may be more.
    fn make_room(&self) {
        // SAFETY: asks for a number.
        if unsafe { ffi::lua_gettop(self.state) } - self.arguments < ffi::LUA_MINSTACK - 2 {
            return;
        }
        // SAFETY: without a limit on memory it cannot fail but by its answer, which is to be no
        // only where there are thousands.
        let room = unsafe { ffi::lua_checkstack(self.state, 2) };
        assert!(room != 0, "a function of ours has far too many results");
    }
}

impl NewTable<'_, '_> {
    /// Sets an element, counted from 1.
    pub(in crate::script) fn set_element(&self, index: usize, value: impl Push) {
        value.push(self.stack);
        let index = c_int::try_from(index).unwrap_or(c_int::MAX);
        // SAFETY: the table is at its place, the value on top. Without a limit there is memory.
        unsafe { ffi::lua_rawseti_(self.stack.state, self.place, index) };
    }

    /// Sets a field.
    pub(in crate::script) fn set_field(&self, name: &str, value: impl Push) {
        name.push(self.stack);
        value.push(self.stack);
        // SAFETY: the table is at its place, key and value on top; the key is a string.
        unsafe { ffi::lua_rawset(self.stack.state, self.place) };
    }
}

/// # Safety
///
/// There is a value at this place.
unsafe fn number(state: *mut ffi::lua_State, place: c_int) -> Option<f64> {
    // SAFETY: there is a value; it is not converted in its place.
    unsafe { (ffi::lua_isnumber(state, place) != 0).then(|| ffi::lua_tonumber(state, place)) }
}

/// # Safety
///
/// There is a string at this place, and it stays for `'a`.
unsafe fn string<'a>(state: *mut ffi::lua_State, place: c_int) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: Lua says where the string's bytes are and how many.
    unsafe {
        let bytes = ffi::lua_tolstring(state, place, &raw mut length);
        std::slice::from_raw_parts(bytes.cast(), length)
    }
}

/// A copy of what is there as a string; empty if it is none.
///
/// # Safety
///
/// There is a value at this place, and no limit on memory is set.
pub(super) unsafe fn bytes(state: *mut ffi::lua_State, place: c_int) -> Vec<u8> {
    // SAFETY: only of a string are the bytes asked for.
    unsafe {
        match ffi::lua_type(state, place) {
            ffi::LUA_TSTRING => string(state, place).to_vec(),
            _ => Vec::new(),
        }
    }
}

/// # Safety
///
/// The state is one.
unsafe fn type_name(state: *mut ffi::lua_State, kind: c_int) -> &'static str {
    // SAFETY: Lua's names of types are constants.
    unsafe { CStr::from_ptr(ffi::lua_typename(state, kind)) }.to_str().unwrap_or("value")
}

impl Text<'_> {
    /// As Lua makes a string of a number.
    pub(in crate::script) fn of_number(number: f64) -> Self {
        let mut text = [0u8; NUMBER];
        // SAFETY: no more is written than there is room, with a zero at the end; Lua's own format.
        let length =
            unsafe { libc::snprintf(text.as_mut_ptr().cast(), NUMBER, c"%.14g".as_ptr(), number) };
        Self::Number(text, u8::try_from(length).unwrap_or(0))
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Number(text, length) => text.get(..usize::from(*length)).unwrap_or_default(),
        }
    }
}

impl Push for Nil {
    fn push(self, stack: &Stack<'_>) {
        stack.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushnil(stack.state) };
    }
}

impl Push for bool {
    fn push(self, stack: &Stack<'_>) {
        stack.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushboolean(stack.state, c_int::from(self)) };
    }
}

impl Push for f64 {
    fn push(self, stack: &Stack<'_>) {
        stack.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushnumber(stack.state, self) };
    }
}

impl Push for &[u8] {
    fn push(self, stack: &Stack<'_>) {
        stack.make_room();
        // SAFETY: there is room, and Lua copies the bytes; without a limit it has memory for them.
        unsafe { ffi::lua_pushlstring_(stack.state, self.as_ptr().cast(), self.len()) };
    }
}

impl Push for &str {
    fn push(self, stack: &Stack<'_>) {
        self.as_bytes().push(stack);
    }
}

impl Push for &Anchor {
    fn push(self, stack: &Stack<'_>) {
        stack.make_room();
        // SAFETY: there is room; an anchor of another state would be a different program's.
        unsafe { self.push(stack.state) };
    }
}
