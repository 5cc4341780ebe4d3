//! When may another's Lease be taken? Pure: the record's content is compared, its wall-clock times are never
//! read as times.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;

/// What was last seen in the Lease, and since when.
#[derive(Default)]
pub struct Observed {
    record: Option<(LeaseSpec, Instant)>,
}

impl Observed {
    /// Any change of the record, even backwards in time, means that its holder lives.
    pub fn see(&mut self, spec: Option<&LeaseSpec>, now: Instant) {
        let spec = spec.cloned().unwrap_or_default();
        match &self.record {
            Some((seen, _)) if *seen == spec => {}
            _ => self.record = Some((spec, now)),
        }
    }

    /// Nobody holds it, or its holder was silent for the duration that it promised itself.
    pub fn is_free(&self, now: Instant) -> bool {
        let Some((spec, since)) = &self.record else { return true };
        if spec.holder_identity.as_deref().unwrap_or_default().is_empty() {
            return true;
        }
        let duration = Duration::from_secs(
            u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default(),
        );
        now.duration_since(*since) >= duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    fn held(renewed: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some("other".into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_neither_shortens_nor_prolongs_a_lease() {
        let start = Instant::now();
        for hours in [-1000, -1, 0, 1, 1000] {
            let mut observed = Observed::default();
            let spec = held(Timestamp::now() + SignedDuration::from_hours(hours));
            observed.see(Some(&spec), start);
            observed.see(Some(&spec), start + Duration::from_secs(14));
            assert!(!observed.is_free(start + Duration::from_secs(14)), "{hours} h");
            assert!(observed.is_free(start + Duration::from_secs(15)), "{hours} h");
        }
    }

    #[test]
    fn every_renewal_counts_from_when_it_was_seen_even_if_its_time_goes_back() {
        let start = Instant::now();
        let mut observed = Observed::default();
        observed.see(Some(&held(Timestamp::now())), start);
        observed.see(
            Some(&held(Timestamp::now() - SignedDuration::from_hours(5))),
            start + Duration::from_secs(10),
        );
        assert!(!observed.is_free(start + Duration::from_secs(24)));
        assert!(observed.is_free(start + Duration::from_secs(25)));
    }

    #[test]
    fn a_released_lease_and_one_that_never_was_are_free_at_once() {
        let now = Instant::now();
        let mut observed = Observed::default();
        assert!(observed.is_free(now));
        observed.see(Some(&held(Timestamp::now())), now);
        assert!(!observed.is_free(now));
        observed.see(Some(&LeaseSpec { holder_identity: Some(String::new()), ..LeaseSpec::default() }), now);
        assert!(observed.is_free(now));
    }
}
