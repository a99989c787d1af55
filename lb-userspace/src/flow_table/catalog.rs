//! Names behind the numbers in flow records.
//!
//! A record has no room for names, and it outlives the daemon and the configuration that it was
//! made under. So numbers are given once for the life of the pinned maps: the same service keeps
//! its number over reloads and restarts, and one that is gone still has a name in the log.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use lb_common::layout::{CATALOG, CatalogEntry};

/// What a number stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Kind {
    /// A virtual service.
    Service = 1,
    /// A pool.
    Pool = 2,
    /// A server, as `pool/address:port`.
    Server = 3,
    /// A script's path.
    Script = 4,
    /// A rule of an L4 policy, as `policy/rule`.
    Rule = 5,
    /// A network security policy.
    SecurityPolicy = 6,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Service, Self::Pool, Self::Server, Self::Script, Self::Rule, Self::SecurityPolicy];
}

/// Where the catalog is kept: the pinned map, or nowhere.
pub trait CatalogStore: Send {
    /// Keeps an entry.
    fn put(&mut self, number: u32, entry: &CatalogEntry) -> std::io::Result<()>;
}

/// For replay and tests.
impl CatalogStore for () {
    fn put(&mut self, _: u32, _: &CatalogEntry) -> std::io::Result<()> {
        Ok(())
    }
}

/// There are no numbers left.
#[derive(Debug, thiserror::Error)]
#[error(
    "this instance has known {CATALOG} services, pools, servers, scripts, rules and policies, and cannot name more: \
     `lb detach` and a new start forget the old ones"
)]
pub struct CatalogFull;

/// Numbers to names and back.
pub struct Catalog {
    names: RwLock<Vec<Option<(Kind, String)>>>,
    numbers: Mutex<Numbers>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Catalog")
    }
}

struct Numbers {
    by_name: HashMap<(Kind, String), u32>,
    store: Box<dyn CatalogStore>,
}

impl Catalog {
    /// With the entries that are already kept, by number.
    pub fn new(
        kept: impl IntoIterator<Item = (u32, CatalogEntry)>,
        store: Box<dyn CatalogStore>,
    ) -> Self {
        // Number 0 stands for nothing.
        let mut names = vec![None];
        let mut by_name = HashMap::new();
        for (number, entry) in kept {
            let Some(named) = decode(&entry) else {
                continue;
            };
            let index = number as usize;
            if names.len() <= index {
                names.resize(index + 1, None);
            }
            by_name.insert(named.clone(), number);
            names[index] = Some(named);
        }
        Self { names: RwLock::new(names), numbers: Mutex::new(Numbers { by_name, store }) }
    }

    /// The number of a name; a new one if it has none.
    pub fn number(&self, kind: Kind, name: &str) -> Result<u32, CatalogFull> {
        let mut numbers = lock(&self.numbers);
        let named = (kind, shortened(name).to_owned());
        if let Some(number) = numbers.by_name.get(&named) {
            return Ok(*number);
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(names.len()).ok().filter(|n| *n < CATALOG).ok_or(CatalogFull)?;
        numbers.store.put(number, &encode(kind, &named.1)).map_err(|_| CatalogFull)?;
        names.push(Some(named.clone()));
        numbers.by_name.insert(named, number);
        Ok(number)
    }

    /// The name behind a number.
    pub fn name(&self, number: u32) -> Option<String> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.get(number as usize)?.as_ref().map(|(_, name)| name.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest prefix that an entry can hold.
fn shortened(name: &str) -> &str {
    let most = size_of::<CatalogEntry>() - 4;
    &name[..name.floor_char_boundary(most)]
}

fn encode(kind: Kind, name: &str) -> CatalogEntry {
    let mut entry = CatalogEntry { length: 0, kind: kind as u16, name: [0; 124] };
    let bytes = &name.as_bytes()[..name.len().min(entry.name.len())];
    entry.name[..bytes.len()].copy_from_slice(bytes);
    entry.length = u16::try_from(bytes.len()).unwrap_or_default();
    entry
}

fn decode(entry: &CatalogEntry) -> Option<(Kind, String)> {
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u16 == entry.kind)?;
    let bytes = entry.name.get(..usize::from(entry.length))?;
    Some((kind, String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(u32, CatalogEntry)>>>);

    impl CatalogStore for Kept {
        fn put(&mut self, number: u32, entry: &CatalogEntry) -> std::io::Result<()> {
            lock(&self.0).push((number, *entry));
            Ok(())
        }
    }

    #[test]
    fn numbers_survive_a_restart() {
        let kept = Kept::default();
        let first = Catalog::new([], Box::new(kept.clone()));
        let dns = first.number(Kind::Service, "dns").unwrap();
        let web = first.number(Kind::Service, "web").unwrap();
        assert_ne!(dns, web);
        assert_ne!(first.number(Kind::Pool, "dns").unwrap(), dns);
        let entries = lock(&kept.0).clone();
        let second = Catalog::new(entries, Box::new(()));
        assert_eq!(second.number(Kind::Service, "web").unwrap(), web);
        assert_eq!(second.name(dns).as_deref(), Some("dns"));
        assert_eq!(second.name(0), None);
    }

    #[test]
    fn a_name_too_long_is_cut_between_characters() {
        let catalog = Catalog::new([], Box::new(()));
        let number = catalog.number(Kind::Script, &"é".repeat(100)).unwrap();
        assert_eq!(catalog.name(number), Some("é".repeat(62)));
    }
}
