//! Golden packets through the loaded program.
