//! Whether a state still comes to its goal when nothing goes wrong any more, and whether that goal is right.

use super::*;

impl Hosts {
    /// Both managers, or the one of this number, do all they can, and nothing goes wrong: the state in the end.
    pub(super) fn calm(&self, state: &State, alone: Option<usize>) -> Result<(), String> {
        let mut state = state.clone();
        if let Some(at) = alone {
            state.managers[1 - at] = DEAD;
        }
        state.deletes = 0;
        state.returns = 0;
        state.crashes = 0;
        state.losses = 0;
        let mut way = Vec::new();
        for _ in 0..ROUNDS {
            state.renumber();
            let print = Fingerprint::of(&state);
            if self.memory.borrow().well.contains_key(&print) {
                break;
            }
            let before = state.clone();
            way.push(print);
            for at in 0..2 {
                if !state.managers[at].alive {
                    continue;
                }
                self.drain(&mut state, at);
                for slot in 0..2 {
                    state.managers[at].cached = state.stored;
                    self.begin(&mut state, at, slot, 0);
                    self.drain(&mut state, at);
                }
            }
            for i in 0..2 {
                self.operate(&mut state, i);
            }
            state.renumber();
            if state == before {
                self.at_rest(&state)?;
                break;
            }
            if way.len() == ROUNDS {
                return Err("the managers never come to rest".to_owned());
            }
        }
        self.memory.borrow_mut().well.extend(way.into_iter().map(|print| (print, ())));
        Ok(())
    }

    pub(super) fn drain(&self, state: &mut State, at: usize) {
        for _ in 0..4 * ROUNDS {
            match state.managers[at].pass.as_ref().map(|pass| pass.io) {
                None => return,
                Some(Io::Read(_)) => self.read(state, at),
                Some(Io::Sent(_)) => self.arrive(state, at),
                Some(Io::Answered(..)) => self.answer(state, at),
            }
        }
    }

    /// What must be true when nothing happens any more.
    pub(super) fn at_rest(&self, state: &State) -> Result<(), String> {
        let mut free = 0;
        for (i, name) in HOSTS.into_iter().enumerate() {
            let Some(host) = self.host_facts(&state.stored, i) else { continue };
            match host.consumer {
                None if host.image => return Err(format!("{name} belongs to nobody and keeps its image")),
                None => free += 1,
                Some(machine) => match state.stored.get(usize::from(machine)).copied().flatten() {
                    Some(_) if !host.image => return Err(format!("{name} is claimed and never gets its image")),
                    Some(_) => {}
                    None => {
                        return Err(format!(
                            "{name} stays claimed for {}, which is gone",
                            MACHINES[usize::from(machine.min(1))]
                        ));
                    }
                },
            }
        }
        for (slot, name) in MACHINES.into_iter().enumerate() {
            let Some(machine) = state.stored[slot] else { continue };
            if self.is_deleting(machine) {
                return Err(format!("{name} never goes"));
            }
            let held = (0..2).filter(|i| self.consumer(&state.stored, *i) == Some(slot as u8)).count();
            if held != 1 && !(held == 0 && free == 0) {
                return Err(format!("{name} holds {held} hosts while {free} are free"));
            }
        }
        Ok(())
    }
}
