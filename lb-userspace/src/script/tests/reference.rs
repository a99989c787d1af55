//! docs/datascript.md says what the functions are.

use std::{env, fs, path::Path};

use super::*;
use crate::script::{
    api::functions::{Function, functions},
    reference,
};

const BEGIN: &str = "<!-- functions: printed by lb-userspace/src/script/reference.rs -->\n";
const END: &str = "<!-- end of functions -->\n";
const REWRITE: &str = "LB_WRITE_REFERENCE";

#[test]
fn the_users_reference_is_the_one_that_the_functions_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/datascript.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the beginning is marked");
    let (written, after) = rest.split_once(END).expect("the end is marked");
    let printed = reference();
    if env::var_os(REWRITE).is_some() {
        fs::write(&path, [before, BEGIN, &printed, END, after].concat()).unwrap();
    } else {
        let help = format!("set {REWRITE}=1 and run this test again to rewrite docs/datascript.md");
        assert!(written == printed, "docs/datascript.md is not what the functions say: {help}");
    }
}

#[test]
fn every_function_that_scripts_see_is_explained() {
    let text = reference();
    for function in functions() {
        let is_inner = function.name.starts_with("host.");
        assert_eq!(text.contains(&format!("### `{}`", function.signature())), !is_inner);
        assert!(is_inner || function.about.ends_with('.'), "{}", function.name);
        assert!(function.fails.is_empty() || function.fails.ends_with('.'), "{}", function.name);
    }
}

#[test]
fn signatures_show_what_may_be_left_out() {
    let signatures: Vec<_> = functions().map(Function::signature).collect();
    for signature in [
        "avi.l4.read([bytes])",
        "avi.vs.log(...)",
        "avi.vs.name()",
        "avi.vs.persist(key [, lifetime [, pool]])",
        "avi.vs.table_insert([table,] key, value [, lifetime])",
        "avi.vs.table_remove([table,] key)",
        "avi.pool.get_server_status(pool, server, port)",
        "avi.poolgroup.select(pool_group)",
    ] {
        assert!(signatures.iter().any(|it| it == signature), "{signature}: {signatures:?}");
    }
}

#[test]
fn the_examples_compile_and_run() {
    for function in functions().filter(|function| !function.example.is_empty()) {
        let source = function.example.replace("\"overflow\"", "\"api\"");
        let mut bench = Bench::new(&[&source]);
        let failure = bench.run().failure;
        assert_eq!(failure, None, "{}", function.name);
    }
}
