//! The compiled programs, carried inside this binary.

/// Bytes with the alignment that an ELF file is read with.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/lb-ebpf.o")));
static CLOCK: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/lb-ebpf-clock.o")));

/// The ELF object of `lb-ebpf`.
pub(super) fn bytes() -> &'static [u8] {
    &OBJECT.0
}

/// That of `lb-ebpf-clock`.
pub(super) fn clock() -> &'static [u8] {
    &CLOCK.0
}
