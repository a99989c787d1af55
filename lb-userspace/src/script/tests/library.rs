use mlua::{Lua, MultiValue};
use proptest::prelude::*;

use super::*;

#[test]
fn additions_to_string() {
    let source = "avi.vs.log(('abc'):beginswith('ab'), ('abc'):endswith('bc'), \
                  string.contains('abc', 'b'), string.contains('abc', 'x'), ('a'):beginswith('ab'))";
    assert_eq!(log_of(source), "truetruetruefalsefalse");
}

#[test]
fn split_gives_a_list() {
    let split = |call: &str| log_of(&format!("avi.vs.log(table.concat({call}, '|'))"));
    assert_eq!(split("('a,b,,c'):split(',')"), "a|b||c");
    assert_eq!(split("string.split('a.b', '.')"), "a|b");
    assert_eq!(split("('abc'):split('--')"), "abc");
    assert_eq!(log_of("avi.vs.log(#(''):split(','))"), "1");
    assert_error("('a'):split('')", "bad argument #2 (separator)");
}

#[test]
fn gsub_takes_strings_tables_and_functions() {
    let source = "avi.vs.log(('hello world'):gsub('o', '0', 1), ('abc'):gsub('%w', '%0%0'), \
                  ('a b'):gsub('(%w) (%w)', '%2 %1'), ('$x'):gsub('%$(%w+)', {x = 7}), \
                  ('ab'):gsub('.', function(c) if c == 'a' then return 'A' end end), \
                  ('abc'):gsub('', '-'))";
    assert_eq!(log_of(source), "hell0 worldaabbccb a7Ab-a-b-c-4");
    assert_error("('a'):gsub('a', '%2')", "invalid capture index");
    assert_error(
        "('a'):gsub('a', function() return {} end)",
        "invalid replacement value (a table)",
    );
    assert_error("('a'):gsub('(', 'x')", "unfinished capture");
}

#[test]
fn gmatch_goes_through_all_matches() {
    let source = "for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do avi.vs.log(k, v) end \
                  for w in ('one two'):gmatch('%a+') do avi.vs.log(w, ';') end";
    assert_eq!(log_of(source), "a1b2one;two;");
}

#[test]
fn table_functions_take_what_they_took() {
    let source = "local t = {3, 1} table.insert(t, 2) table.insert(t, 1, 9) table.sort(t) \
                  avi.vs.log(table.concat(t, ','), table.remove(t), table.remove(t, 1), \
                  table.maxn(t), table.concat(t, '-', 1, 1))";
    assert_eq!(log_of(source), "1,2,3,9912".to_owned() + "2");
}

#[test]
fn dates_are_those_of_the_calendar() {
    let day = |seconds: &str| log_of(&format!("avi.vs.log(os.date('!%Y-%m-%d %j %w', {seconds}))"));
    assert_eq!(day("0"), "1970-01-01 001 4");
    assert_eq!(day("951782400"), "2000-02-29 060 2");
    assert_eq!(day("-1"), "1969-12-31 365 3");
    assert_eq!(day("4107542400"), "2100-03-01 060 1");
    assert_eq!(log_of("avi.vs.log(os.date('%c|%x|%p|%I|%y', 0))"), {
        "Thu Jan 01 00:00:00 1970|01/01/70|AM|12|70"
    });
    let there_and_back = "for t = -1e9, 5e9, 86399 * 997 do \
                          assert(os.time(os.date('*t', t)) == t, t) end avi.vs.log('same')";
    assert_eq!(log_of(there_and_back), "same");
    assert_error("os.date('%Y', 1e300)", "time that a calendar has");
    assert_error("os.time({year = 2000})", "field \"month\"");
}

/// What a call gives on Lua's own library, and on ours: as text, errors as "error".
fn both(call: &str) -> (String, String) {
    let text = "local function text(ok, ...) if not ok then return 'error' end local s = '' \
                for i = 1, select('#', ...) do s = s .. type((select(i, ...))) .. \
                tostring((select(i, ...))) .. ';' end return s end ";
    let call = format!("{text} local r = text(pcall(function() {call} end))");
    let lua = Lua::new();
    let theirs: MultiValue = lua.load(format!("{call} return r")).eval().unwrap();
    let theirs = theirs[0].to_string().unwrap();
    (theirs.chars().take(LOG_CHARACTERS).collect(), log_of(&format!("{call} avi.vs.log(r)")))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases(200)))]
    #[test]
    fn patterns_match_as_luas_own_do(
        text in "[ab1 ().]{0,10}",
        pattern in "(\\^)?([ab.]|%[awsdpAb1%]|\\[[ab%-]{1,3}\\]|\\[\\^a\\]|[()]|\\(\\)|%f\\[a\\]|%b\\(\\)|\\$){0,4}[*+?-]?[ab.)]{0,2}\\$?",
        replacement in "(x|%[012%]){0,2}",
        init in -4..12i32,
    ) {
        let (text, pattern) = (quoted(&text), quoted(&pattern));
        for call in [
            format!("return string.find({text}, {pattern}, {init})"),
            format!("return string.match({text}, {pattern}, {init})"),
            // A template looks at the captures that it names only, and Lua finds an unfinished one
            // no sooner; a function is given them all.
            if pattern.contains('(') {
                format!("return string.gsub({text}, {pattern}, function(...) return ... end)")
            } else {
                format!("return string.gsub({text}, {pattern}, {})", quoted(&replacement))
            },
            format!("local r = '' for a, b in string.gmatch({text}, {pattern}) do \
                     r = r .. tostring(a) .. tostring(b) .. '|' end return r"),
            format!("return string.find({text}, {pattern}, {init}, true)"),
        ] {
            let (theirs, ours) = both(&call);
            prop_assert_eq!(theirs, ours, "{}", call);
        }
    }

    #[test]
    fn no_source_makes_the_checker_or_the_runtime_panic(source in "(avi|\\.|pool|select|\\(|\\)|'|\"|\\[|\\]|=|--|\n|x|1|\\\\|ä|,| ){0,20}") {
        check::assert_syntax_agrees(&source);
    }
}

#[test]
fn a_function_of_ours_may_have_more_results_than_lua_makes_room_for() {
    let source = "local text, pattern = ('a'):rep(32), ('(a)'):rep(32) \
                  avi.vs.log(select('#', text:find(pattern)), ' ', (select(34, text:find(pattern))))";
    assert_eq!(log_of(source), "34 a");
}
