//! Namespaces, processes and packets for the tests.
