//! Keys and values of tables: any bytes, a few of them in place.

use std::{fmt, ops::Deref, sync::Arc};

/// So many bytes need no memory of their own: an IPv4 address with its port takes 21 as text.
const IN_PLACE: usize = 22;

/// Bytes that do not change. Cheap to clone; a lookup that finds short ones has waited for them
/// already when it has their entry.
#[derive(Clone)]
pub struct Bytes(Place);

#[derive(Clone)]
enum Place {
    Here(u8, [u8; IN_PLACE]),
    Elsewhere(Arc<[u8]>),
}

// As much as `Arc` takes with a word for which of them it is.
const _: () = assert!(size_of::<Bytes>() == 24);

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        let mut here = [0; IN_PLACE];
        Self(match (here.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(bytes);
                Place::Here(length, here)
            }
            _ => Place::Elsewhere(bytes.into()),
        })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Here(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Place::Elsewhere(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_bytes_are_in_place_and_more_are_shared() {
        for length in 0..2 * IN_PLACE {
            let bytes = Bytes::from(&*vec![0xff; length]);
            assert_eq!(*bytes, *vec![0xff; length]);
            assert_eq!(matches!(bytes.0, Place::Here(..)), length <= IN_PLACE);
        }
        let [ip, port] = ["255.255.255.255", "65535"];
        assert!(ip.len() + 1 + port.len() <= IN_PLACE);
    }

    proptest! {
        #[test]
        fn they_are_what_they_were_made_of_and_ordered_like_it(
            one in prop::collection::vec(0..3u8, 0..30),
            other in prop::collection::vec(0..3u8, 0..30),
        ) {
            let [a, b] = [&one, &other].map(|bytes| Bytes::from(&**bytes));
            prop_assert_eq!(&*a.clone(), &*one);
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            prop_assert_eq!(format!("{a:?}"), format!("{one:?}"));
        }
    }
}
