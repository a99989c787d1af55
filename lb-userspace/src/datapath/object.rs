//! The compiled program, carried inside this binary.

/// Bytes with the alignment that an ELF file is read with.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/lb-ebpf.o")));

/// The ELF object of `lb-ebpf`.
pub(super) fn bytes() -> &'static [u8] {
    &OBJECT.0
}
