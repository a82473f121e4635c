//! The mutations: each takes one rule of the policy, the worker or the shell away, and some test must notice.
//!
//! A text stands exactly once in its file. When code changes, so does its mutation here; what a rule means stays.

/// A rule taken away.
pub(crate) struct Mutation {
    /// What is wrong then.
    pub(crate) name: &'static str,
    /// From the project's folder.
    pub(crate) path: &'static str,
    /// What stands there.
    pub(crate) text: &'static str,
    /// What stands there then.
    pub(crate) by: &'static str,
}

const fn mutation(name: &'static str, path: &'static str, text: &'static str, by: &'static str) -> Mutation {
    Mutation { name, path, text, by }
}

/// All of them.
pub(crate) const MUTATIONS: &[Mutation] = &[
    mutation(
        "a step that has shown all its tokens when its actor dies is not answered",
        "actors/src/policy/deaths.rs",
        "                    self.finish_shown(request, effects);\n",
        "                    let _ = Self::finish_shown;\n",
    ),
    mutation(
        "the worker forgets no lane",
        "actors/src/embedder/worker.rs",
        "is_some_and(Lane::is_empty) {\n            self.lanes.remove(key);",
        "is_some_and(Lane::is_empty) {",
    ),
    mutation(
        "short texts wait for runs of any length of another client's prompts",
        "actors/src/embedder/pace.rs",
        "alive.fewest.map_or(f64::INFINITY, beside)",
        "alive.fewest.map_or(f64::INFINITY, |fewest| beside(fewest) + f64::MAX)",
    ),
    mutation(
        "what it takes to run at all makes the tokens of short texts dear",
        "actors/src/embedder/pace.rs",
        "if rows == 0 && tokens <= FEW {",
        "if rows == 0 && tokens < 1 {",
    ),
    mutation(
        "what somebody reads alone is told by the contexts of others",
        "actors/src/embedder/pace.rs",
        "self.token(fewest.context).known *",
        "self.token(fewest.context).counted() *",
    ),
    mutation(
        "within a flow the newest is served first",
        "actors/src/shares.rs",
        "(items.pop_first(), !items.is_empty())",
        "(items.pop_last(), !items.is_empty())",
    ),
    mutation(
        "who waits for an actor is placed in reverse",
        "actors/src/policy/jobs.rs",
        "self.waiting.first().filter(|it| self.has_room(*it)).or_else(",
        "{ let last = self.waiting.latest().next().copied(); last }.filter(|it| self.has_room(*it)).or_else(",
    ),
    mutation(
        "a probe stays in its conversation",
        "actors/src/policy/several.rs",
        "            (Part::Probing, outcome @ Outcome::Embedded(_)) if pending.conversation.is_some() => {\n",
        "            (Part::Probing, outcome @ Outcome::Embedded(_)) if pending.conversation.is_some() => {\n                several.start = state;\n",
    ),
    mutation(
        "a piece's probe stands before the next piece",
        "actors/src/policy/several.rs",
        "            (Part::Probing, Outcome::Embedded(vector)) => {\n",
        "            (Part::Probing, Outcome::Embedded(vector)) => {\n                several.start = state;\n",
    ),
    mutation(
        "a step is answered by pages that lack the end of its input",
        "actors/src/policy/present.rs",
        "resident.kv_len + 1 == all",
        "resident.kv_len + 2 >= all",
    ),
    mutation(
        "a reset pardons nobody",
        "actors/src/policy/turns.rs",
        "                    self.blame.pardon(&Fingerprint::Conversation(name.clone()));\n",
        "",
    ),
    mutation(
        "deaths are never forgiven",
        "actors/src/policy/actors.rs",
        "now.since(death) > supervision.restarts_within",
        "now.since(death) > Duration::MAX",
    ),
    mutation(
        "loads that fail forgive earlier deaths",
        "actors/src/policy/actors.rs",
        "while served && self.deaths",
        "while (served || true) && self.deaths",
    ),
    mutation(
        "the pause before a restart does not grow",
        "actors/src/policy/config.rs",
        "let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);",
        "let factor = 1_u32.checked_shl(doublings.min(0)).unwrap_or(u32::MAX);",
    ),
    mutation(
        "a run is watched from when it was looked at",
        "actors/src/policy/watch.rs",
        "state.watch_at = Some(self.now + run_max.saturating_sub(ran).min(look_every));",
        "state.watch_at = Some(self.now + run_max);",
    ),
    mutation(
        "time in which all stood still is taken for a hang",
        "actors/src/policy/watch.rs",
        "state.late = stood_still(at, self.now);",
        "state.late = Duration::ZERO;",
    ),
    mutation(
        "each job puts off the watch",
        "actors/src/policy/actors.rs",
        "        if !self.is_busy() {\n            self.watch_at = Some(now + supervision.look_every());\n        }",
        "        self.watch_at = Some(now + supervision.look_every());",
    ),
    mutation(
        "whoever is abandoned is not interrupted",
        "actors/src/brain/crew.rs",
        "            let _ = catch_unwind(AssertUnwindSafe(|| run.interrupt()));\n",
        "            drop(run);\n",
    ),
    mutation(
        "the policy says that a permit is free at once",
        "actors/src/policy/endings.rs",
        "effects.push(Effect::Fail { request, error, committed, lingers: true });",
        "effects.push(Effect::Fail { request, error, committed, lingers: false });",
    ),
    mutation(
        "the shell frees a permit at once",
        "actors/src/brain/shell.rs",
        "if lingers && let Some(permit) = open.permit.take() {",
        "if lingers && false && let Some(permit) = open.permit.take() {",
    ),
    mutation(
        "nobody is told that a conversation was rebuilt",
        "actors/src/policy/outcomes.rs",
        "conversation.rebuilt |= done.rebuilt;",
        "conversation.rebuilt |= false;",
    ),
    mutation(
        "who dies in company is charged as if alone",
        "actors/src/policy/deaths.rs",
        "let (alone, now) = (charged.len() == 1 && running.iter().all(is_known), self.now);",
        "let (alone, now) = (!charged.is_empty() && running.iter().all(is_known), self.now);",
    ),
    mutation(
        "suspicion never lifts",
        "actors/src/policy/blame.rs",
        "record.standing = Standing::Cleared;",
        "record.standing = Standing::Suspect;",
    ),
    mutation(
        "who is condemned is served",
        "actors/src/policy/blame.rs",
        "(!left.is_zero()).then_some(left)",
        "left.is_zero().then_some(left)",
    ),
    mutation(
        "a request that is taken back lets nobody advance",
        "actors/src/policy/endings.rs",
        "                self.fail(request, error, effects);\n                self.advance_each(names, effects);",
        "                self.fail(request, error, effects);\n                drop(names);",
    ),
    mutation(
        "one run alone clears whoever is suspect",
        "actors/src/embedder/worker.rs",
        "            task.job.alone -= 1;\n",
        "            task.job.alone = 0;\n",
    ),
    mutation(
        "nobody is said to be cleared",
        "actors/src/embedder/worker.rs",
        "                (self.report)(Report::Cleared { request: task.job.request });\n",
        "",
    ),
    mutation(
        "who is suspect rides with others",
        "actors/src/embedder/worker/riding.rs",
        "_ if lane.doubted || task.job.alone > 0 => Queue::Alone,",
        "_ if lane.doubted => Queue::Alone,",
    ),
    mutation(
        "what was said on other terms is given to others when it comes to nothing",
        "actors/src/policy/sharing.rs",
        "it.withheld || state.len() > 0",
        "state.len() > 0",
    ),
    mutation(
        "what a request had read goes to the terms that it names, whatever it follows",
        "actors/src/policy/sharing.rs",
        "it.withheld || state.len() > 0 && it.sharing != *sharing",
        "it.withheld",
    ),
    mutation(
        "the pause before a trial does not grow",
        "actors/src/policy/config.rs",
        "let factor = 1_u32.checked_shl(trials).unwrap_or(u32::MAX);",
        "let factor = 1_u32.checked_shl(trials.min(0)).unwrap_or(u32::MAX);",
    ),
    mutation(
        "threads that hang are never too many",
        "actors/src/policy/actors.rs",
        "if crowded || self.deaths.len() > supervision.restarts_max {",
        "if crowded && false || self.deaths.len() > supervision.restarts_max {",
    ),
    mutation(
        "deaths that something asked is charged with count against the actor",
        "actors/src/policy/actors.rs",
        "        if !charged {\n",
        "        if !charged || true {\n",
    ),
    mutation(
        "the actor that died of a job is given it again",
        "actors/src/policy/placement.rs",
        "(is(killed), actor.load()",
        "(!is(killed), actor.load()",
    ),
    mutation(
        "what was done for a caller who was told otherwise is taken over",
        "actors/src/policy/outcomes.rs",
        "                if outcome.is_ok() {\n                    self.went_astray(name);",
        "                if outcome.is_ok() {\n                    self.commit(pending.commits(), &commit);",
    ),
    mutation(
        "the jobs that came first are moved",
        "actors/src/policy/placement.rs",
        "state.jobs.iter().rev().filter(stays)",
        "state.jobs.iter().filter(stays)",
    ),
    mutation(
        "nobody is moved to an actor that has nothing to do",
        "actors/src/policy/mod.rs",
        "        self.even_out(effects);\n",
        "",
    ),
    mutation(
        "who reads is charged by tokens, whatever they cost",
        "actors/src/embedder/worker/riding.rs",
        "token.charge(row)",
        "row as u64",
    ),
    mutation(
        "whoever rides is charged nothing",
        "actors/src/embedder/worker/riding.rs",
        "self.shares(queue).charge(&party, &flow, charge);",
        "self.shares(queue).charge(&party, &flow, charge * 0);",
    ),
    mutation(
        "the pulse names nobody when a job begins or ends",
        "actors/src/embedder/worker.rs",
        "            requests.push(request);\n",
        "            let _ = request;\n",
    ),
    mutation(
        "an error is charged to the first of a run",
        "actors/src/embedder/worker/ending.rs",
        "error.row.and_then(|row| riders.get(row))",
        "error.row.and_then(|_| riders.first())",
    ),
    mutation(
        "an interrupted run is charged to its only row",
        "actors/src/embedder/worker/ending.rs",
        "(EngineErrorKind::Interrupted, _, _) => Ok(()),",
        "(EngineErrorKind::Interrupted, _, _) if riders.len() > 1 => Ok(()),",
    ),
    mutation(
        "a slot that went astray stays",
        "actors/src/policy/outcomes.rs",
        "            self.give_dirty_back(name, effects);\n",
        "            let _ = Self::give_dirty_back;\n",
    ),
    mutation(
        "a look at a pulse ends an actor that is stopping",
        "actors/src/policy/watch.rs",
        "if !state.is_busy() || state.life != Life::Ready {",
        "if !state.is_busy() {",
    ),
    mutation(
        "who gives a slot back is not watched",
        "actors/src/policy/jobs.rs",
        "        self.actors[actor.0].release(request, self.now, &self.config.supervision);\n",
        "",
    ),
    mutation(
        "what was done of a request outlives its rows",
        "actors/src/policy/keeping.rs",
        "(pending.carried, pending.base) = (None, None);",
        "pending.base = None;",
    ),
    mutation(
        "whoever hangs when the brain stops leaves its conversation behind",
        "actors/src/policy/shutdown.rs",
        "            self.take_back(jobs, &BTreeSet::new(), &BTreeSet::new(), effects);\n",
        "            jobs.into_iter().for_each(|job| drop(self.remove(job)));\n            let _ = BTreeSet::<()>::new();\n",
    ),
    mutation(
        "what was asked for meanwhile has left all the same",
        "actors/src/policy/memory.rs",
        "        self.stay(name, effects);\n",
        "",
    ),
    mutation(
        "who rests longest stays, and who was used last leaves",
        "actors/src/policy/memory.rs",
        "Some(self.all.get(self.resident.first()?)?.0.clone())",
        "Some(self.all.get(self.resident.last()?)?.0.clone())",
    ),
    mutation(
        "what a job may come to take is never free again",
        "actors/src/policy/memory.rs",
        "self.reserved -= std::mem::take(&mut pending.reserved);",
        "pending.reserved = 0;",
    ),
    mutation(
        "jobs do not wait for memory",
        "actors/src/policy/memory.rs",
        "self.reserved == 0 || self.reserved.saturating_add(needed) <= limit",
        "needed <= limit",
    ),
    mutation(
        "a file that could not be read is waited for",
        "actors/src/policy/keeping.rs",
        "        self.forget_kept(name, effects);\n        self.advance(name, effects);\n",
        "        self.forget_kept(name, effects);\n",
    ),
    mutation(
        "files of what is closed stay",
        "actors/src/policy/turns.rs",
        "        self.forget_kept(name, effects);\n        self.give_slot_back",
        "        self.give_slot_back",
    ),
    mutation(
        "tokens of those who left are not bounded",
        "actors/src/policy/memory.rs",
        "while self.resting.gone_bytes > self.config.memory.history_bytes",
        "while self.resting.gone_bytes > usize::MAX",
    ),
    mutation(
        "what went back to its last slide is read again as if it had not",
        "actors/src/job.rs",
        "(is_whole && leads_here).then",
        "(is_whole && (leads_here || true)).then",
    ),
    mutation(
        "a context that slides on its way is carried along",
        "actors/src/embedder/worker.rs",
        "lane.begun && (self.info.pages.is_none() || lane.replays())",
        "lane.begun && self.info.pages.is_none()",
    ),
    mutation(
        "what was imported is given to others",
        "actors/src/policy/moves.rs",
        "(conversation.sharing, conversation.withheld) = (Sharing::Nobody, true);",
        "",
    ),
    mutation(
        "what a commit pins leaves like the rest",
        "actors/src/job.rs",
        "        history.pinned += self.pinned;\n",
        "",
    ),
    mutation(
        "a score behind a full window is told by what has stayed of it",
        "actors/src/embedder/lane.rs",
        "task.rest() > 0 && !task.scores_first();",
        "task.rest() > 0;",
    ),
    mutation(
        "a stream that goes on begins its grammar anew",
        "actors/src/policy/requests.rs",
        "Some(_) => self.shown.sampled.iter().map(|sampled| sampled.token).collect(),",
        "Some(_) => Vec::new(),",
    ),
    mutation(
        "what a grammar forces is pinned as the input is",
        "actors/src/embedder/task.rs",
        "self.job.pins && self.read < self.input().len()",
        "self.job.pins",
    ),
    mutation(
        "a window slides for what is forced before that is its turn",
        "actors/src/embedder/worker.rs",
        "lane.make_way(&mut *self.engine, false)",
        "lane.make_way(&mut *self.engine, true)",
    ),
];
