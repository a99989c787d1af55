//! No text makes the reader or the rendering panic.

use proptest::prelude::*;

use super::*;

/// Lines of [`VALID`] and of what is near it, to put together at random.
fn lines() -> impl Strategy<Value = String> {
    let known: Vec<_> = VALID.lines().map(str::to_owned).collect();
    prop_oneof![
        8 => proptest::sample::select(known),
        1 => "[a-z_]{1,12} = (true|[0-9]{1,20}|\"[a-z0-9.é]{0,8}\"|\\[\\]|\\{\\})",
        1 => "\\[{1,2}(instance|pool|virtual_service|datascript|script)\\]{1,2}",
        1 => "\\PC{0,20}",
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_list_of_problems(text in "(?s).{0,200}") {
        renders(&text)?;
    }

    #[test]
    fn any_lines_are_a_configuration_or_a_list_of_problems(
        lines in proptest::collection::vec(lines(), 0..40),
    ) {
        renders(&lines.join("\n"))?;
    }

    #[test]
    fn a_valid_file_with_a_stretch_replaced_never_panics(
        at in any::<prop::sample::Index>(), length in 0..12usize, new in "(?s).{0,6}",
    ) {
        let mut text = VALID.to_owned();
        let start = at.index(text.len());
        text.replace_range(start..(start + length).min(text.len()), &new);
        renders(&text)?;
    }
}

fn renders(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = parse(text) {
        prop_assert!(!problems.is_empty());
        prop_assert!(problems.to_string().contains("lb.toml"));
        prop_assert!(problems.iter().all(|problem| problem.position().is_some()));
    }
    Ok(())
}
