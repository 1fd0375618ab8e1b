//! One pass of a manager: what it looks at, what it asks and writes, and what it makes of answers and of silence.

use super::*;

impl Hosts {
    /// What the pass sees now: caches, and what was read past them.
    pub(super) fn look(&self, manager: &Manager, pass: &mut Pass) -> Look {
        let cached = &manager.cached;
        if let Some(own) = newer(cached[usize::from(pass.slot)], pass.live_own) {
            pass.own = own;
        }
        let named = self.named_host(pass.own);
        let mut look = Look {
            slot: pass.slot,
            pick: pass.pick,
            own: pass.own,
            own_is_live: pass.own_is_live,
            hosts_are_live: pass.hosts_are_live,
            hosts: [None; 2],
            held: [false; 2],
            listed: [false; 2],
            sought: [false; 2],
        };
        for i in 0..2 {
            let known = cached[2 + i];
            look.hosts[i] = match pass.live_hosts[i] {
                Live::Unread => known,
                Live::Gone => None,
                Live::There(live) => newer(known, Some(live)),
            };
            let holds =
                |host: Option<Seen>| host.is_some_and(|host| self.facts(host.content).consumer == Some(pass.slot));
            let looked_for = holds(known) || named == Some(i) || pass.live_hosts[i] != Live::Unread;
            look.held[i] = looked_for && holds(look.hosts[i]);
            look.listed[i] = known.is_some() && look.hosts[i].is_some();
        }
        if let Some(other) = cached[usize::from(1 - pass.slot)]
            && let Some(sought) = self.named_host(other)
        {
            look.sought[sought] = true;
        }
        look
    }

    /// The pass goes on until its next request, or to its end.
    pub(super) fn think(&self, manager: &mut Manager) {
        let Some(mut pass) = manager.pass.take() else { return };
        let look = self.look(manager, &mut pass);
        let thought = {
            let mut memory = self.memory.borrow_mut();
            match memory.thoughts.get(&look) {
                Some(thought) => *thought,
                None => {
                    let thought = self.decide(&mut memory, &look);
                    memory.thoughts.insert(look, thought);
                    thought
                }
            }
        };
        pass.io = match thought {
            Thought::Rest => return,
            Thought::Read(reading) => Io::Read(reading),
            Thought::Write(request) => Io::Sent(request),
        };
        manager.pass = Some(pass);
    }

    pub(super) fn decide(&self, memory: &mut Memory, look: &Look) -> Thought {
        let own = memory.machine(look.own);
        let hosts = look.hosts.map(|host| host.map(|seen| memory.host(seen)));
        let picked = |which: [bool; 2]| -> Vec<&BareMetalHost> {
            hosts.iter().zip(which).filter(|(_, wanted)| *wanted).filter_map(|(host, _)| host.as_deref()).collect()
        };
        let sought: BTreeSet<String> =
            HOSTS.iter().zip(look.sought).filter(|(_, sought)| *sought).map(|(name, _)| (*name).to_owned()).collect();
        let named = machine::host_name(&own).ok().flatten();
        let mut answers =
            Answers { machine_is_live: look.own_is_live, hosts_are_live: look.hosts_are_live, ..Answers::default() };
        let mut asked = false;
        for _ in 0..THOUGHTS {
            let decision = machine::decide(&Observed {
                now: self.around.now,
                machine: &own,
                owner: Owner::Machine(&self.around.owners[usize::from(look.slot)]),
                cluster: Some(&self.around.cluster),
                infrastructure: Some(&self.around.infrastructure),
                machine_set: None,
                host: hosts.iter().flatten().find(|host| host.metadata.name.as_deref() == named).map(Rc::as_ref),
                held: picked(look.held),
                claim: None,
                data: None,
                fast_track: false,
                pick: usize::from(look.pick),
                candidates: asked.then(|| Candidates { hosts: picked(look.listed), sought: &sought }),
                answers: &answers,
            });
            match decision.step {
                Decided::Rest(_) => {
                    return self.status(memory, look, &own, &decision.report, Deed::Status).unwrap_or(Thought::Rest);
                }
                Decided::Do(action) => return self.request(memory, look, action),
                Decided::Ask(Question::MachineLive) => {
                    let told = own.metadata.deletion_timestamp.is_some();
                    let told = told.then(|| self.status(memory, look, &own, &decision.report, Deed::Tell)).flatten();
                    return told.unwrap_or(Thought::Read(Reading::Own));
                }
                Decided::Ask(Question::HostsLive) => return Thought::Read(Reading::AllHosts),
                Decided::Ask(Question::Candidates) => asked = true,
                Decided::Ask(Question::Nodes) => answers.nodes = Some(Nodes::Connecting),
                Decided::Ask(_) => return Thought::Rest, // about what there is none of
            }
        }
        Thought::Rest
    }

    pub(super) fn status(
        &self,
        memory: &mut Memory,
        look: &Look,
        own: &Metal3Machine,
        report: &Report,
        deed: Deed,
    ) -> Option<Thought> {
        let after = report.status(own, self.around.now);
        let difference = merge_diff(&own.status.clone().unwrap_or_default(), &after).ok().flatten()?;
        let change = memory.contents.change(json!({"status": difference}));
        let fence = Fence::unchanged(look.own);
        Some(Thought::Write(Request { slot: look.slot, deed, change, fence }))
    }

    pub(super) fn request(&self, memory: &mut Memory, look: &Look, action: Action) -> Thought {
        let deed = |purpose: Purpose| match purpose {
            Purpose::Intend => Some(Deed::Intend),
            Purpose::Claim { .. } => Some(Deed::Claim),
            Purpose::Provision => Some(Deed::Provision),
            Purpose::Clear => Some(Deed::Clear),
            Purpose::Fence => Some(Deed::Fence),
            Purpose::Release { .. } => Some(Deed::Release),
            Purpose::Forget => Some(Deed::Forget),
            Purpose::BlockMove
            | Purpose::HoldMove
            | Purpose::PauseHost
            | Purpose::UnblockMove
            | Purpose::UnpauseHost
            | Purpose::Identify => None,
        };
        let (slot, purpose, fence, patch) = match action {
            Action::Machine { purpose, patch } => (look.slot, purpose, Fence::unchanged(look.own), patch),
            Action::Host { purpose, name, version, patch } => {
                let Some(at) = HOSTS.iter().position(|host| *host == name) else { return Thought::Rest };
                let fence = Fence::read(version.resource_version.as_deref(), version.uid.as_deref());
                (2 + at as u8, purpose, fence, patch)
            }
            Action::LabelCredentials { .. }
            | Action::UnlabelCredentials { .. }
            | Action::CreateClaim(_)
            | Action::DropClaim { .. }
            | Action::DeleteClaim { .. }
            | Action::NameNode { .. } => return Thought::Rest, // of what there is none
        };
        let Some(deed) = deed(purpose) else { return Thought::Rest };
        let blind = self.setting.flaw == Some(Flaw::Unconditional) && deed == Deed::Claim;
        let fence = if blind { Fence::default() } else { fence };
        let change = memory.contents.change(patch);
        Thought::Write(Request { slot, deed, change, fence })
    }

    pub(super) fn begin(&self, state: &mut State, at: usize, slot: usize, pick: u8) {
        let manager = &mut state.managers[at];
        let Some(own) = manager.cached[slot] else { return };
        manager.pass = Some(Pass {
            slot: slot as u8,
            pick,
            own,
            live_own: None,
            live_hosts: [Live::Unread; 2],
            own_is_live: false,
            hosts_are_live: false,
            races: 0,
            io: Io::Read(Reading::Own),
        });
        self.think(manager);
    }

    pub(super) fn read(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let Some(mut pass) = manager.pass.take() else { return };
        let Io::Read(reading) = pass.io else { return };
        match reading {
            Reading::Own => match state.stored[usize::from(pass.slot)].filter(|own| own.uid == pass.own.uid) {
                Some(own) => {
                    pass.live_own = Some(own);
                    pass.own_is_live = true;
                }
                None => return, // gone: what the watch shows next decides
            },
            Reading::AllHosts => {
                for i in 0..2 {
                    let held = state.stored[2 + i].filter(|host| self.facts(host.content).consumer == Some(pass.slot));
                    if let Some(host) = held {
                        pass.live_hosts[i] = Live::There(host);
                    }
                }
                pass.hosts_are_live = true;
            }
            Reading::Host(i) => {
                pass.live_hosts[usize::from(i)] = state.stored[2 + usize::from(i)].map_or(Live::Gone, Live::There);
                pass.io = Io::Read(Reading::Own); // the intent may have changed hands as well
                manager.pass = Some(pass);
                return;
            }
        }
        manager.pass = Some(pass);
        self.think(manager);
    }

    pub(super) fn arrive(&self, state: &mut State, at: usize) {
        let Some(Io::Sent(request)) = state.managers[at].pass.as_ref().map(|pass| pass.io) else { return };
        let next = state.next_version(usize::from(request.slot));
        let stored = &mut state.stored[usize::from(request.slot)];
        let answer = self.memory.borrow_mut().contents.patch(stored, request.change, request.fence, next);
        if request.deed == Deed::Claim && matches!(answer, Answer::Done(_)) {
            let own = state.managers[at].pass.as_ref().map(|pass| pass.own.uid);
            state.meant[usize::from(request.slot) - 2] = own;
        }
        if let Some(pass) = &mut state.managers[at].pass {
            pass.io = Io::Answered(request, answer);
        }
        self.let_nobody_own(state);
    }

    /// What a host was meant for is forgotten with its consumer.
    pub(super) fn let_nobody_own(&self, state: &mut State) {
        for i in 0..2 {
            if self.host_facts(&state.stored, i).is_none_or(|host| host.consumer.is_none()) {
                state.meant[i] = None;
            }
        }
    }

    pub(super) fn answer(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let Some(mut pass) = manager.pass.take() else { return };
        let Io::Answered(request, answer) = pass.io else { return };
        let slot = usize::from(request.slot);
        let done = match answer {
            Answer::Done(seen) => {
                manager.cached[slot] = newer(manager.cached[slot], Some(seen));
                true
            }
            Answer::Gone => {
                manager.cached[slot] = None;
                true
            }
            Answer::Conflict | Answer::NotFound | Answer::AlreadyExists => false,
        };
        match request.deed {
            Deed::Status => return,
            Deed::Tell if !done => {
                pass.io = Io::Read(Reading::Own);
                manager.pass = Some(pass);
                return;
            }
            Deed::Forget if done => return,
            Deed::Tell | Deed::Intend | Deed::Forget if done => {
                pass.live_own = None;
                pass.own_is_live = true;
            }
            _ if done => {
                pass.live_hosts[slot - 2] = Live::Unread;
                if request.deed == Deed::Release && self.named_host(pass.own) == Some(slot - 2) {
                    pass.hosts_are_live = true;
                }
            }
            _ if pass.races < RACES => {
                pass.races += 1;
                pass.io = look_again(request);
                manager.pass = Some(pass);
                return;
            }
            _ => return,
        }
        manager.pass = Some(pass);
        self.think(manager);
    }

    /// Nobody knows whether the write happened.
    pub(super) fn silence(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let Some(mut pass) = manager.pass.take() else { return };
        let (Io::Sent(request) | Io::Answered(request, _)) = pass.io else { return };
        pass.io = match request.deed {
            Deed::Status => return,
            Deed::Tell => Io::Read(Reading::Own),
            _ if pass.races < RACES => look_again(request),
            _ => return,
        };
        pass.races += if request.deed == Deed::Tell { 0 } else { RACES };
        manager.pass = Some(pass);
    }
}
