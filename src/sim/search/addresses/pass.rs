//! One pass of a manager over the pool: what it gathers, what it reads live, what it writes and in which order, and how it hears of it.

use super::*;

impl Addresses {
    pub(super) fn observed(&self, contents: &Contents, gathered: &Gathered) -> Option<(IPPool, Observed)> {
        let pool: IPPool = contents.typed(gathered.cached[POOL]?)?;
        let mut claims: Vec<Claim> = Vec::new();
        claims.extend(
            gathered.cached[CLAIMS[0]]
                .and_then(|seen| contents.typed::<IPClaim>(seen))
                .map(|claim| Claim::from(&claim)),
        );
        let other = gathered.cached[CLAIMS[1]].and_then(|seen| contents.typed::<IPAddressClaim>(seen));
        claims.extend(other.map(|claim| capi_claim(&claim, None)));
        let mut observed = Observed { pool: Pool::from(&pool), claims, now: self.now, ..Observed::default() };
        for objects in [&gathered.cached, &gathered.found] {
            for i in 0..2 {
                let seen = objects[ADDRESSES[0][i]].and_then(|seen| contents.typed::<IPAddress>(seen));
                observed.addresses.extend(seen.map(|address| AddressObject::from(&address)));
            }
            for i in 0..2 {
                let seen =
                    objects[ADDRESSES[1][i]].and_then(|seen| contents.typed::<capm3_api::foreign::IPAddress>(seen));
                observed.addresses.extend(seen.map(|address| AddressObject::from(&address)));
            }
        }
        for (kind, by_name) in gathered.claims.iter().enumerate() {
            for (name, confirm) in by_name.iter().enumerate() {
                let uid = match confirm {
                    Confirm::Unasked => continue,
                    Confirm::Gone => None,
                    Confirm::Uid(uid) => Some(uid_text(self.names()[name], *uid)),
                };
                observed.confirmed.claims.insert(ClaimKey::new(KINDS[kind], self.names()[name]), uid);
            }
        }
        Some((pool, observed))
    }

    pub(super) fn wants(&self, gathered: &Gathered) -> Rc<Vec<Want>> {
        let mut memory = self.memory.borrow_mut();
        let Memory { contents, wants, .. } = &mut *memory;
        let known = wants.entry(gathered.cached).or_insert_with(|| {
            let Some((_, observed)) = self.observed(contents, gathered) else { return Rc::default() };
            let needs = needs(&observed);
            let kind = |kind: Kind| usize::from(kind == Kind::ClusterApi);
            let claims = needs.claims.iter().filter_map(|claim| {
                let name = self.names().iter().position(|name| *name == claim.name)?;
                Some(Want::Claim(kind(claim.kind), name))
            });
            let addresses = needs.addresses.iter().filter_map(|(of, name)| slot_of(kind(*of), name).map(Want::Address));
            Rc::new(claims.chain(addresses).collect())
        });
        known.clone()
    }

    pub(super) fn program(&self, gathered: &Gathered) -> Option<Rc<Program>> {
        let mut memory = self.memory.borrow_mut();
        if let Some(known) = memory.programs.get(gathered) {
            return Some(known.clone());
        }
        let program = Rc::new(self.planned(&memory.contents, gathered)?);
        memory.programs.insert(*gathered, program.clone());
        Some(program)
    }

    pub(super) fn planned(&self, contents: &Contents, gathered: &Gathered) -> Option<Program> {
        let (pool, observed) = self.observed(contents, gathered)?;
        let plan = decide(&observed);
        let mut operations = Vec::new();
        let mut group = 0;
        let mut add = |group, what| operations.push(Operation { group, what });
        add(group, What::Metadata);
        let freed = |object: &AddressObject| [What::Unfinalize(object.clone()), What::Remove(object.clone())];
        for orphan in &plan.orphans {
            group += 1;
            freed(orphan).into_iter().for_each(|what| add(group, what));
        }
        for release in &plan.releases {
            group += 1;
            release.addresses.iter().flat_map(freed).for_each(|what| add(group, what));
            add(group, What::Release(usize::from(release.claim.kind == Kind::ClusterApi)));
        }
        group += 1;
        add(group, What::Reserve);
        for serve in &plan.served {
            group += 1;
            let kind = usize::from(serve.claim.kind == Kind::ClusterApi);
            if let Some(finalizers) = &serve.finalizers {
                add(group, What::Finalizer(kind, finalizers.clone()));
            }
            let (create, answer) = self.texts(contents, gathered, &pool, serve, kind)?;
            if let Some((slot, object)) = create {
                add(group, What::Create(slot, object));
            }
            if let Some(status) = answer {
                add(group, What::Answer(kind, status));
            }
        }
        Some(Program { plan, pool, operations })
    }

    /// The address object to create and the status to write for a claim.
    #[expect(clippy::type_complexity, reason = "the two halves of one answer, used once")]
    pub(super) fn texts(
        &self,
        contents: &Contents,
        gathered: &Gathered,
        pool: &IPPool,
        serve: &Serve,
        kind: usize,
    ) -> Option<(Option<(usize, Value)>, Option<Value>)> {
        let seen = gathered.cached[CLAIMS[kind]]?;
        let slot = |name: &str| slot_of(kind, name);
        Some(match KINDS[kind] {
            Kind::Metal3 => {
                let claim: IPClaim = contents.typed(seen)?;
                let object = serve.create.as_ref().map(|new| new_address(&pool.metadata, &claim, new));
                let status = serve.answer.as_ref().and_then(|answer| {
                    merge_diff(&claim.status.clone().unwrap_or_default(), &claim_status(&claim, answer, self.now))
                        .ok()?
                });
                (object.and_then(|object| Some((slot(object.metadata.name.as_deref()?)?, value(&object)))), status)
            }
            Kind::ClusterApi => {
                let claim: IPAddressClaim = contents.typed(seen)?;
                let object = serve.create.as_ref().map(|new| new_capi_address(&pool.metadata, &claim, new));
                let status = serve.answer.as_ref().and_then(|answer| {
                    let now = Time(self.now);
                    merge_diff(&claim.status.clone().unwrap_or_default(), &capi_claim_status(&claim, answer, &now))
                        .ok()?
                });
                (object.and_then(|object| Some((slot(object.metadata.name.as_deref()?)?, value(&object)))), status)
            }
        })
    }

    /// The next request of the pass, or none when it is over.
    pub(super) fn go_on(&self, manager: &mut Manager) {
        let Some(mut pass) = manager.pass.take() else { return };
        let Some(program) = self.program(&pass.gathered) else { return };
        while let Some(operation) = program.operations.get(usize::from(pass.at)) {
            let skipped = pass.failed & (1 << operation.group) != 0;
            if !skipped && let Some(request) = self.request(&program, operation, &pass) {
                pass.io = Io::Sent(request);
                manager.pass = Some(pass);
                return;
            }
            pass.at += 1;
        }
    }

    pub(super) fn request(&self, program: &Program, operation: &Operation, pass: &Pass) -> Option<Request> {
        let mut memory = self.memory.borrow_mut();
        let contents = &mut memory.contents;
        let pool = pass.pool?;
        let patch = |contents: &mut Contents, slot: usize, patch: Value, fence: Fence| {
            Some(Request { slot: slot as u8, act: Act::Patch(contents.change(patch)), fence })
        };
        let of = |object: &AddressObject| {
            let kind = usize::from(object.kind == Kind::ClusterApi);
            let fence = Fence::read(object.resource_version.as_deref(), Some(object.uid.as_str()));
            Some((slot_of(kind, &object.name)?, fence))
        };
        match &operation.what {
            What::Metadata => {
                let metadata = program.plan.metadata.as_ref()?;
                let wanted = IPPool { metadata: metadata.clone(), ..program.pool.clone() };
                patch(contents, POOL, merge_diff(&program.pool, &wanted).ok()??, Fence::unchanged(pool))
            }
            What::Unfinalize(object) => {
                let (slot, fence) = of(object)?;
                patch(contents, slot, json!({"metadata": {"finalizers": object.without_our_finalizer()?}}), fence)
            }
            What::Remove(object) => {
                let (slot, fence) = of(object)?;
                Some(Request { slot: slot as u8, act: Act::Delete, fence: Fence { version: None, ..fence } })
            }
            What::Release(kind) => {
                let slot = CLAIMS[*kind];
                let claim = pass.gathered.cached[slot]?;
                patch(contents, slot, json!({"metadata": {"finalizers": null}}), Fence::unchanged(claim))
            }
            What::Reserve => {
                let now: IPPool = contents.typed(pool)?;
                let failed = self.failed_releases(program, pass);
                let reserves = program.plan.status_keeping(&failed);
                let status = pool_status(&now, reserves, program.plan.ready.as_ref(), self.now)?;
                let wanted = IPPool { status: Some(status), ..now.clone() };
                let blind = self.setting.flaw == Some(Flaw::Unconditional);
                let fence = if blind { Fence::same(pool) } else { Fence::unchanged(pool) };
                patch(contents, POOL, merge_diff(&now, &wanted).ok()??, fence)
            }
            What::Finalizer(kind, finalizers) => {
                let claim = pass.gathered.cached[CLAIMS[*kind]]?;
                patch(contents, CLAIMS[*kind], json!({"metadata": {"finalizers": finalizers}}), Fence::unchanged(claim))
            }
            What::Create(slot, object) => {
                let act = Act::Create(contents.change(object.clone()));
                Some(Request { slot: *slot as u8, act, fence: Fence::default() })
            }
            What::Answer(kind, status) => {
                let claim = pass.gathered.cached[CLAIMS[*kind]]?;
                patch(contents, CLAIMS[*kind], json!({"status": status}), Fence::same(claim))
            }
        }
    }

    pub(super) fn failed_releases(&self, program: &Program, pass: &Pass) -> BTreeSet<ClaimKey> {
        let releases = program.operations.iter().filter_map(|operation| match operation.what {
            What::Release(kind) if pass.failed & (1 << operation.group) != 0 => Some(kind),
            _ => None,
        });
        releases.map(|kind| ClaimKey::new(KINDS[kind], self.names()[kind])).collect()
    }

    pub(super) fn begin(&self, state: &mut State, at: usize) {
        let manager = &mut state.managers[at];
        let gathered = Gathered { cached: manager.cached, found: [None; SLOTS], claims: [[Confirm::Unasked; 2]; 2] };
        manager.pass = Some(Pass { gathered, pool: manager.cached[POOL], at: 0, failed: 0, io: Io::Read(0) });
        if self.wants(&gathered).is_empty() {
            self.go_on(manager);
        }
    }

    pub(super) fn read(&self, state: &mut State, at: usize) {
        let State { stored, managers, .. } = state;
        let Some(pass) = &mut managers[at].pass else { return };
        let Io::Read(n) = pass.io else { return };
        let wants = self.wants(&pass.gathered);
        match wants.get(usize::from(n)) {
            Some(Want::Claim(kind, name)) => {
                let found = stored[CLAIMS[*kind]].filter(|_| self.names()[*kind] == self.names()[*name]);
                pass.gathered.claims[*kind][*name] = found.map_or(Confirm::Gone, |claim| Confirm::Uid(claim.uid));
            }
            Some(Want::Address(slot)) => pass.gathered.found[*slot] = stored[*slot],
            None => {}
        }
        pass.io = Io::Read(n + 1);
        if usize::from(n) + 1 >= wants.len() {
            self.go_on(&mut managers[at]);
        }
    }

    pub(super) fn arrive(&self, state: &mut State, at: usize) {
        let Some(Io::Sent(request)) = state.managers[at].pass.as_ref().map(|pass| pass.io) else { return };
        let slot = usize::from(request.slot);
        let (next, uid) = (state.ranks()[slot].next(), state.free_uid(slot));
        let stored = &mut state.stored[slot];
        let contents = &mut self.memory.borrow_mut().contents;
        let answer = match request.act {
            Act::Patch(change) => contents.patch(stored, change, request.fence, next),
            Act::Delete => contents.delete(stored, request.fence, next),
            Act::Create(_) if stored.is_some() => Answer::AlreadyExists,
            Act::Create(object) => {
                let object = contents.what(object).clone();
                let seen = Seen { content: contents.stored(&object), version: next, uid };
                *stored = Some(seen);
                Answer::Done(seen)
            }
        };
        if let Some(pass) = &mut state.managers[at].pass {
            pass.io = Io::Answered(request, answer);
        }
    }

    /// The answer is heard; none: nobody knows what became of the request.
    pub(super) fn hear(&self, state: &mut State, at: usize, answer: Option<Answer>) {
        let State { stored, managers, .. } = state;
        let manager = &mut managers[at];
        let Some(pass) = &mut manager.pass else { return };
        let (Io::Sent(request) | Io::Answered(request, _)) = pass.io else { return };
        let Some(program) = self.program(&pass.gathered) else { return };
        let Some(operation) = program.operations.get(usize::from(pass.at)) else { return };
        let slot = usize::from(request.slot);
        let goes = matches!(operation.what, What::Unfinalize(_) | What::Remove(_) | What::Release(_));
        let done = match answer {
            Some(Answer::Done(seen)) => {
                manager.cached[slot] = newer(manager.cached[slot], Some(seen));
                if slot == POOL {
                    pass.pool = Some(seen);
                }
                true
            }
            Some(Answer::Gone) => {
                manager.cached[slot] = None;
                true
            }
            Some(Answer::NotFound) => goes,
            Some(Answer::AlreadyExists) => self.is_the_same(request, stored[slot]),
            Some(Answer::Conflict) | None => false,
        };
        if !done {
            if matches!(operation.what, What::Metadata | What::Reserve) {
                manager.pass = None;
                return;
            }
            pass.failed |= 1 << operation.group;
        }
        pass.at += 1;
        self.go_on(manager);
    }

    /// Whether what stands there is of the claim for which it was to be created.
    pub(super) fn is_the_same(&self, request: Request, stored: Option<Seen>) -> bool {
        let (Act::Create(object), Some(found)) = (request.act, stored) else { return false };
        let memory = self.memory.borrow();
        let owners = |object: &Value| object["metadata"]["ownerReferences"].clone();
        owners(memory.contents.what(object)) == owners(memory.contents.value(found.content))
    }
}
