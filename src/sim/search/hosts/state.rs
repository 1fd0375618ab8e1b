//! States that differ in nothing but numbers are one.

use super::*;

impl State {
    /// Every version that somebody knows, with the object it is of.
    pub(super) fn versions(&mut self, visit: &mut impl FnMut(usize, &mut u8)) {
        fn one(slot: usize, seen: &mut Option<Seen>, visit: &mut impl FnMut(usize, &mut u8)) {
            if let Some(seen) = seen {
                visit(slot, &mut seen.version);
            }
        }
        (0..).zip(&mut self.stored).for_each(|(slot, seen)| one(slot, seen, visit));
        for manager in &mut self.managers {
            (0..).zip(&mut manager.cached).for_each(|(slot, seen)| one(slot, seen, visit));
            let Some(pass) = &mut manager.pass else { continue };
            let slot = usize::from(pass.slot);
            visit(slot, &mut pass.own.version);
            one(slot, &mut pass.live_own, visit);
            for (i, live) in (0..).zip(&mut pass.live_hosts) {
                if let Live::There(seen) = live {
                    visit(2 + i, &mut seen.version);
                }
            }
            if let Io::Sent(request) | Io::Answered(request, _) = &mut pass.io {
                request.fence.version.iter_mut().for_each(|version| visit(usize::from(request.slot), version));
            }
            if let Io::Answered(request, Answer::Done(seen)) = &mut pass.io {
                visit(usize::from(request.slot), &mut seen.version);
            }
        }
    }

    pub(super) fn ranks(&self) -> [Ranks; SLOTS] {
        let mut ranks: [Ranks; SLOTS] = Default::default();
        self.clone().versions(&mut |slot, version| ranks[slot].note(*version));
        ranks
    }

    pub(super) fn next_version(&self, slot: usize) -> u8 {
        self.ranks()[slot].next()
    }

    /// Only deleted machines come back, so that a uid is one more than the last that anybody knows.
    pub(super) fn next_uid(&self, slot: usize) -> u8 {
        let known = self.managers.iter().flat_map(|manager| {
            let pass = manager.pass.as_ref().filter(|pass| usize::from(pass.slot) == slot);
            [manager.cached[slot].map(|seen| seen.uid), pass.map(|pass| pass.own.uid)]
        });
        let held = self.meant.iter().copied();
        known.chain(held).flatten().max().map_or(0, |last| last.saturating_add(1))
    }

    pub(super) fn renumber(&mut self) {
        let ranks = self.ranks();
        self.versions(&mut |slot, version| *version = ranks[slot].of(*version));
    }

    /// Versions by rank, managers in order. True: the managers have changed places.
    pub(super) fn canonical(mut self) -> (Self, bool) {
        self.renumber();
        let swapped = self.managers[1] < self.managers[0];
        if swapped {
            self.managers.swap(0, 1);
        }
        (self, swapped)
    }
}
