//! Finds an endpoint's index in the list by the endpoint's place.

use super::{EndpointState, MAX_ENDPOINTS};

/// An index for each place. It finds an endpoint by its number in a few instructions, however many
/// endpoints were removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places([u8; MAX_ENDPOINTS]);

/// Marks a place without an endpoint.
const VACANT: u8 = u8::MAX;

impl Places {
    pub(super) fn of(endpoints: &[EndpointState]) -> Self {
        let mut places = [VACANT; MAX_ENDPOINTS];
        for (index, state) in (0..).zip(endpoints) {
            places[state.id.place()] = index;
        }
        Places(places)
    }

    /// The index of the endpoint at this place.
    pub(super) fn index(&self, place: usize) -> Option<usize> {
        self.0.get(place).filter(|index| **index != VACANT).map(|index| usize::from(*index))
    }
}
