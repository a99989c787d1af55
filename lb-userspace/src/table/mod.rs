//! Tables that scripts keep: key → value with a lifetime, shared by all workers.
