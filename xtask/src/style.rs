//! Colours, where there is someone to see them.

use std::{
    env,
    io::{self, IsTerminal},
    sync::LazyLock,
};

/// Bold.
pub const BOLD: &str = "1";
/// Fainter than the rest.
pub const DIM: &str = "2";
/// Underlined.
pub const UNDERLINED: &str = "4";
/// For what went well.
pub const GREEN: &str = "1;32";
/// For what comes.
pub const CYAN: &str = "1;36";

/// Both outputs must be a terminal: they are mostly looked at together. See also no-color.org.
static IS_ON: LazyLock<bool> = LazyLock::new(|| {
    let is_wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    is_wanted && io::stdout().is_terminal() && io::stderr().is_terminal()
});

/// `text` in a style.
pub fn styled(style: &str, text: &str) -> String {
    match *IS_ON {
        true => format!("\x1b[{style}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}
