//! Names such as `avi.vs.client_ip` in compiled code.
//!
//! Lua compiles one to as many instructions as it has parts: the global `avi` goes into a register,
//! and into the same register the field of what is there, again and again. Each step through a
//! sealed library asks its metatable. Where nobody can change what such a name stands for, one global
//! with the whole name does for all of them; the rest is jumped over, so that nothing else moves.

use super::{Constant, Instruction, Operation, Prototype};

/// Instructions that one name is compiled to.
struct Name {
    text: Vec<u8>,
    register: u32,
    length: usize,
}

impl Prototype<'_> {
    pub(super) fn resolve(&mut self, is_known: &impl Fn(&[u8]) -> bool) -> bool {
        let joins = self.joins();
        let (mut any, mut at) = (false, 0);
        while let Some(instruction) = self.code.get(at).copied() {
            let words = instruction.words();
            let name = self.name_at(at, &joins, is_known);
            any |= name.is_some_and(|name| self.replace(at, &name).is_some());
            at += words;
        }
        for function in &mut self.functions {
            any |= function.resolve(is_known);
        }
        any
    }

    /// The known function's name that begins there. Where code joins from elsewhere within it, what is in
    /// the register need not be what was read before.
    fn name_at(
        &self,
        at: usize,
        joins: &[bool],
        is_known: &impl Fn(&[u8]) -> bool,
    ) -> Option<Name> {
        let (first, rest) = self.code.get(at..)?.split_first()?;
        if first.operation() != Operation::GET_GLOBAL {
            return None;
        }
        let register = first.first();
        let mut text = self.string(first.constant())?.to_vec();
        for (length, (part, joined)) in (2..).zip(rest.iter().zip(joins.get(at + 1..)?)) {
            let same = part.first() == register && part.second() == register;
            if part.operation() != Operation::GET_TABLE || !same || *joined {
                return None;
            }
            let field = self.string(part.third_constant()?)?;
            // Else `avi["vs.ip"]`, which is nothing, would be taken for `avi.vs.ip`.
            if field.contains(&b'.') {
                return None;
            }
            text.push(b'.');
            text.extend_from_slice(field);
            if is_known(&text) {
                return Some(Name { text, register, length });
            }
        }
        None
    }

    fn string(&self, constant: usize) -> Option<&[u8]> {
        self.constants.get(constant)?.string()
    }

    /// `None` if there is no room for one more constant.
    fn replace(&mut self, at: usize, name: &Name) -> Option<()> {
        let is_it = |constant: &Constant<'_>| constant.string() == Some(&name.text);
        let place = self.constants.iter().position(is_it).unwrap_or(self.constants.len());
        let read = Instruction::get_global(name.register, place)?;
        let skip = Instruction::jump(u32::try_from(name.length - 2).ok()?);
        self.code.get_mut(at..at + 2)?.copy_from_slice(&[read, skip]);
        if place == self.constants.len() {
            self.constants.push(Constant::String(name.text.clone().into()));
        }
        Some(())
    }

    /// For each instruction, whether another than the one before leads to it.
    fn joins(&self) -> Vec<bool> {
        let mut joins = vec![false; self.code.len()];
        let mut at = 0;
        while let Some(instruction) = self.code.get(at).copied() {
            let target = instruction.skip().and_then(|skip| (at + 1).checked_add_signed(skip));
            if let Some(join) = target.and_then(|target| joins.get_mut(target)) {
                *join = true;
            }
            at += instruction.words();
        }
        joins
    }
}

impl Instruction {
    /// How far behind the next instruction it may go on instead.
    fn skip(self) -> Option<isize> {
        match self.operation() {
            Operation::JUMP | Operation::FOR_LOOP | Operation::FOR_PREPARE => Some(self.distance()),
            Operation::EQUAL
            | Operation::LESS
            | Operation::LESS_OR_EQUAL
            | Operation::TEST
            | Operation::TEST_AND_SET
            | Operation::FOR_IN_LOOP => Some(1),
            Operation::LOAD_BOOLEAN if self.third() != 0 => Some(1),
            _ => None,
        }
    }

    /// Words that it takes: one list of values too long for an argument has its number behind it.
    fn words(self) -> usize {
        match self.operation() {
            Operation::SET_LIST if self.third() == 0 => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use mlua::{Function, Lua, Table, chunk::ChunkMode};

    use super::super::Bytecode;

    const KNOWN: [&[u8]; 3] = [b"avi.vs.ip", b"os.time", b"lib.part"];

    /// A chunk with its names resolved, if there were any.
    fn resolved(lua: &Lua, source: &str) -> Option<Function> {
        let dumped = lua.load(source).set_name("=here").into_function().unwrap().dump(false);
        let mut code = Bytecode::read(&dumped).unwrap();
        code.resolve(|name| KNOWN.contains(&name)).then(|| {
            let chunk = lua.load(code.write()).set_mode(ChunkMode::Binary);
            chunk.into_function().unwrap()
        })
    }

    /// Globals in which the known names are found by nothing but their full names.
    fn only_full_names(lua: &Lua) -> Table {
        let globals: Table = lua
            .load(
                "return {
                    ['avi.vs.ip'] = function(...) return 'ip', ... end,
                    ['os.time'] = function() return 7 end,
                    ['lib.part'] = 'part', lib = {other = {part = 'deep'}},
                    tostring = tostring, pcall = pcall, setmetatable = setmetatable,
                }",
            )
            .eval()
            .unwrap();
        globals
    }

    fn run(lua: &Lua, source: &str) -> mlua::Result<String> {
        let function = resolved(lua, source).unwrap_or_else(|| panic!("nothing in {source}"));
        function.set_environment(only_full_names(lua)).unwrap();
        let values: mlua::MultiValue = function.call(())?;
        let shown = values.iter().map(mlua::Value::to_string).collect::<mlua::Result<Vec<_>>>()?;
        Ok(shown.join(" "))
    }

    #[test]
    fn known_names_are_read_at_once_wherever_they_stand() {
        let lua = Lua::new();
        let many = vec!["0"; 30_000].join(",");
        let long_list = format!("local t = {{{many}}} t[#t + 1] = os.time() return #t, t[#t]");
        for (source, expected) in [
            ("return avi.vs.ip()", "ip"),
            ("return avi.vs.ip(os.time(), os.time())", "ip 7 7"),
            ("local ip = avi.vs.ip return ip(1)", "ip 1"),
            ("local function f() return function() return avi.vs.ip() end end return f()()", "ip"),
            ("local s = 0 for i = 1, 3 do s = s + os.time() end return s", "21"),
            ("local t = os.time() > 6 and os.time() or lib.part return t", "7"),
            ("if os.time() == 6 then return 'no' end return lib.part", "part"),
            ("return lib.other.part, lib.part", "deep part"),
            ("local n = 0 while os.time() > n do n = n + 1 end return n", "7"),
            ("local t = {[os.time()] = avi.vs.ip} return t[7]('x')", "ip x"),
            ("local x x = not os.time() return x", "false"),
            (&long_list, "30001 7"),
        ] {
            assert_eq!(run(&lua, source).unwrap(), expected, "{source:.100}");
        }
    }

    #[test]
    fn what_is_not_one_name_stays_as_it_is() {
        let lua = Lua::new();
        for source in [
            "",
            "return avi",
            "return avi.vs, avi.vs.other",
            "return avi['v' .. 's'].ip",
            "return avi.vs:ip()",
            "return avi['vs.ip']",
            "local avi = {vs = {}} return avi.vs.ip",
            "local t = os local time = t.time return time",
            "return ('os.time'):len()",
            // Two ways lead to the second part, and what they bring is not the same.
            "local a if os then a = lib end a = a.part return a",
            "local a = lib repeat a = a.part until not a",
        ] {
            let resolved = resolved(&lua, source);
            assert!(resolved.is_none(), "{source}");
        }
    }

    #[test]
    fn lines_and_names_of_errors_stay_what_they_are() {
        let lua = Lua::new();
        let error = run(&lua, "local x = os.time()\nlocal y = nothing\nreturn y.z").unwrap_err();
        assert!(error.to_string().contains("here:3: attempt to index local 'y'"), "{error}");
        let error = run(&lua, "local f = os.time\n\nreturn f() .. other.name()").unwrap_err();
        assert!(error.to_string().contains("here:3: attempt to index global 'other'"), "{error}");
    }

    #[test]
    fn a_name_read_often_is_one_constant() {
        let lua = Lua::new();
        let source = "return os.time() + os.time() + os.time()";
        let dumped = lua.load(source).into_function().unwrap().dump(true);
        let mut code = Bytecode::read(&dumped).unwrap();
        let before = code.main.constants.len();
        assert!(code.resolve(|name| name == b"os.time"));
        assert_eq!(code.main.constants.len(), before + 1);
    }
}
