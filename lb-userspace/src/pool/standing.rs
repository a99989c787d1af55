//! What is held of a server, in one byte: every decision reads it.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::config::DisableType;

/// What monitors and operators hold of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing(u8);

/// What an operator has ordered, whatever the configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// It takes new flows.
    Enable,
    /// It does not.
    Disable(DisableType),
}

/// Whose new flows a server takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Everyone's.
    All,
    /// Those of clients whom persistence leads there.
    Persistent,
    /// Nobody's.
    None,
}

impl Standing {
    /// Its monitors hold it to be down.
    pub(super) const DOWN: u8 = 1;
    /// An operator has enabled it.
    const ENABLED: u8 = 2;
    /// An operator has disabled it.
    const DISABLED: u8 = 4;
    /// With [`Self::DISABLED`]: but for persistent clients.
    const PERSISTENT: u8 = 8;
    /// Its flows are to end.
    pub(super) const GONE: u8 = 16;
    /// It takes its whole share only after a while.
    pub(super) const RISING: u8 = 32;
    /// Flows have failed at it.
    pub(super) const FAILING: u8 = 64;

    const ORDERS: u8 = Self::ENABLED | Self::DISABLED | Self::PERSISTENT;

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Whether its monitors hold it to be down.
    pub fn is_down(self) -> bool {
        self.has(Self::DOWN)
    }

    /// Whether its flows are to end.
    pub fn is_gone(self) -> bool {
        self.has(Self::GONE)
    }

    /// Whether it is to take its whole share only after a while.
    pub fn is_rising(self) -> bool {
        self.has(Self::RISING)
    }

    /// Whether flows have failed at it lately.
    pub fn is_failing(self) -> bool {
        self.has(Self::FAILING)
    }

    /// What an operator has ordered.
    pub fn order(self) -> Option<Order> {
        if self.has(Self::ENABLED) {
            return Some(Order::Enable);
        }
        let disable_type = match self.has(Self::PERSISTENT) {
            true => DisableType::AllowPersistent,
            false => DisableType::DisallowNew,
        };
        self.has(Self::DISABLED).then_some(Order::Disable(disable_type))
    }

    /// Whose flows it takes, if the configuration says this of it.
    pub fn takes(self, enabled: bool, disable_type: DisableType) -> Takes {
        let order = match enabled {
            true => Order::Enable,
            false => Order::Disable(disable_type),
        };
        match self.order().unwrap_or(order) {
            // Who came to one whose flows end would be sent away again at once.
            _ if self.is_down() || self.is_gone() => Takes::None,
            Order::Enable => Takes::All,
            Order::Disable(DisableType::AllowPersistent) => Takes::Persistent,
            Order::Disable(DisableType::DisallowNew) => Takes::None,
        }
    }
}

/// The same, as it is shared.
#[derive(Debug, Default)]
pub(super) struct SharedStanding(AtomicU8);

impl SharedStanding {
    pub fn load(&self) -> Standing {
        Standing(self.0.load(Relaxed))
    }

    /// Sets or clears one bit; true if that changed it.
    pub fn set(&self, bit: u8, value: bool) -> bool {
        let before = match value {
            true => self.0.fetch_or(bit, Relaxed),
            false => self.0.fetch_and(!bit, Relaxed),
        };
        (before & bit != 0) != value
    }

    pub fn set_order(&self, order: Option<Order>) {
        let bits = match order {
            None => 0,
            Some(Order::Enable) => Standing::ENABLED,
            Some(Order::Disable(DisableType::DisallowNew)) => Standing::DISABLED,
            Some(Order::Disable(DisableType::AllowPersistent)) => {
                Standing::DISABLED | Standing::PERSISTENT
            }
        };
        // The closure always gives a value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |old| Some(old & !Standing::ORDERS | bits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_come_before_operators_and_those_before_the_configuration() {
        use DisableType::{AllowPersistent, DisallowNew};
        let cases = [
            (None, true, DisallowNew, Takes::All),
            (None, false, DisallowNew, Takes::None),
            (None, false, AllowPersistent, Takes::Persistent),
            (Some(Order::Enable), false, DisallowNew, Takes::All),
            (Some(Order::Disable(DisallowNew)), true, AllowPersistent, Takes::None),
            (Some(Order::Disable(AllowPersistent)), true, DisallowNew, Takes::Persistent),
        ];
        for (order, enabled, disable_type, takes) in cases {
            let shared = SharedStanding::default();
            shared.set_order(Some(Order::Disable(AllowPersistent)));
            shared.set_order(order);
            assert_eq!(shared.load().order(), order);
            assert_eq!(shared.load().takes(enabled, disable_type), takes, "{order:?}");
            assert!(shared.set(Standing::DOWN, true) && !shared.set(Standing::DOWN, true));
            assert_eq!(shared.load().takes(enabled, disable_type), Takes::None, "{order:?}");
            assert!(shared.set(Standing::DOWN, false) && shared.set(Standing::GONE, true));
            assert_eq!(shared.load().takes(enabled, disable_type), Takes::None, "{order:?}");
            assert!(shared.set(Standing::GONE, false));
            assert_eq!(shared.load().takes(enabled, disable_type), takes, "{order:?}");
            assert_eq!(shared.load().order(), order);
        }
    }
}
