//! Whether a state still comes to its goal when nothing goes wrong any more, and whether that goal is right.

use super::*;

impl Addresses {
    pub(super) fn calm(&self, state: &State, alone: Option<usize>) -> Result<(), String> {
        let mut state = state.clone();
        if let Some(at) = alone {
            state.managers[1 - at] = Manager { alive: false, cached: [None; SLOTS], pass: None };
        }
        state.deletes = 0;
        state.returns = 0;
        state.crashes = 0;
        state.losses = 0;
        let mut way = Vec::new();
        loop {
            state.renumber();
            let print = Fingerprint::of(&state);
            if self.memory.borrow().well.contains_key(&print) {
                break;
            }
            let before = state.clone();
            way.push(print);
            for at in 0..2 {
                if state.managers[at].alive {
                    self.drain(&mut state, at);
                    state.managers[at].cached = state.stored;
                    self.begin(&mut state, at);
                    self.drain(&mut state, at);
                }
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
                Some(Io::Answered(_, answer)) => self.hear(state, at, Some(answer)),
            }
        }
    }

    /// What must be true when nothing happens any more.
    pub(super) fn at_rest(&self, state: &State) -> Result<(), String> {
        let memory = self.memory.borrow();
        let value = |seen: Seen| memory.contents.value(seen.content);
        let mut held = 0;
        for (kind, slots) in ADDRESSES.iter().enumerate() {
            for address in slots.iter().filter_map(|slot| state.stored[*slot]) {
                held += 1;
                let claim = state.stored[CLAIMS[kind]];
                if !claim.is_some_and(|claim| belongs(value(address), self.names()[kind], claim.uid)) {
                    return Err(format!("{} is held for a claim that is gone", value(address)["spec"]["address"]));
                }
            }
        }
        let pool = state.stored[POOL].map(value).cloned().unwrap_or_default();
        let entries = pool["status"]["indexes"].as_object().map_or(0, serde_json::Map::len);
        if entries != held {
            return Err(format!("the pool counts {entries} addresses, there are {held}"));
        }
        for claim in CLAIMS.into_iter().filter_map(|slot| state.stored[slot]) {
            let kept_back = usize::from(self.setting.kept && state.stored[CLAIMS[1]].is_none());
            match answered(value(claim)) {
                _ if memory.contents.is_deleting(claim.content) => return Err("a deleted claim never goes".to_owned()),
                None if held + kept_back < self.setting.addresses => {
                    return Err(format!(
                        "a claim has no address, though {held} of {} are held",
                        self.setting.addresses
                    ));
                }
                None | Some(_) => {}
            }
        }
        Ok(())
    }
}
