//! States that differ in nothing but numbers are one.

use super::*;

impl State {
    pub(super) fn seen(&mut self, visit: &mut impl FnMut(usize, &mut Seen)) {
        fn all(objects: &mut Objects, visit: &mut impl FnMut(usize, &mut Seen)) {
            (0..).zip(objects).for_each(|(slot, seen)| seen.iter_mut().for_each(|seen| visit(slot, seen)));
        }
        all(&mut self.stored, visit);
        for manager in &mut self.managers {
            all(&mut manager.cached, visit);
            let Some(pass) = &mut manager.pass else { continue };
            all(&mut pass.gathered.cached, visit);
            all(&mut pass.gathered.found, visit);
            pass.pool.iter_mut().for_each(|pool| visit(POOL, pool));
            if let Io::Answered(request, Answer::Done(seen)) = &mut pass.io {
                visit(usize::from(request.slot), seen);
            }
        }
    }

    pub(super) fn fences(&mut self, visit: &mut impl FnMut(usize, &mut Fence)) {
        for pass in self.managers.iter_mut().filter_map(|manager| manager.pass.as_mut()) {
            if let Io::Sent(request) | Io::Answered(request, _) = &mut pass.io {
                visit(usize::from(request.slot), &mut request.fence);
            }
        }
    }

    pub(super) fn ranks(&self) -> [Ranks; SLOTS] {
        let mut ranks: [Ranks; SLOTS] = Default::default();
        let mut state = self.clone();
        state.seen(&mut |slot, seen| ranks[slot].note(seen.version));
        state.fences(&mut |slot, fence| fence.version.iter().for_each(|version| ranks[slot].note(*version)));
        ranks
    }

    /// The least number that nobody knows as the uid of an object of this slot.
    pub(super) fn free_uid(&self, of: usize) -> u8 {
        let mut known = BTreeSet::new();
        let mut state = self.clone();
        state.seen(&mut |slot, seen| {
            if slot == of {
                known.insert(seen.uid);
            }
        });
        state.fences(&mut |slot, fence| {
            if slot == of {
                known.extend(fence.uid);
            }
        });
        (0..u8::MAX).find(|uid| !known.contains(uid)).unwrap_or(u8::MAX)
    }

    pub(super) fn renumber(&mut self) {
        let ranks = self.ranks();
        self.seen(&mut |slot, seen| seen.version = ranks[slot].of(seen.version));
        self.fences(&mut |slot, fence| {
            fence.version.iter_mut().for_each(|version| *version = ranks[slot].of(*version))
        });
    }
}
