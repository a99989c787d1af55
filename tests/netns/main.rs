//! Real clients and servers in network namespaces.
