/*
 * Souk's two-phase commit as a model for spin: one transaction, three participants, two coordinators on one register.
 * `make model` checks it. What the protocol promises is told in shared/twopc/doc.go; this file says the same in a form
 * in which every schedule of messages and crashes can be tried.
 *
 * Where a step of the model is in the code (services/coordinator, and shared/twopc/participant.go):
 *
 *   Coordinator: begins, replays ....... driver.go Begin, board, fly, replay
 *   Coordinator: commits, aborts ....... machine.go voted, abort, decided; driver.go settle; register.go decide
 *   insert ............................. register.go decide, insert, fence: who writes the row first
 *   learn .............................. machine.go decided; driver.go perform, tell: the caller, then the branches
 *   late_commit ........................ machine.go registerLost, or a coordinator that died while its statement ran
 *   Participant: asked, late_prepare ... participant.go Prepare, vote, refuse, repeated
 *   Participant: row or told_... ....... participant.go Finish, carryOut; the sender is learn, or recovery on any
 *                                        coordinator (recovery.go Recover), or the answer to an inquiry
 *   Participant: asks .................. participant.go Inquire; recovery.go Resolve; register.go fence
 *   Others: void ....................... recovery.go Abort, asked for by a participant that holds a branch
 *
 * Messages. Nothing is a channel. A message under way is a bit; it can be delivered at any later time, in any order, and
 * may stay for another delivery. Lost is: never sent, never come, or answered when nobody waits any more. So loss,
 * repetition and reordering have no bound, and a process that is down is one that is slow.
 *
 * Time. There is none. Any deadline may be over or not whenever somebody looks: a commit may come too late for the
 * register, a question too early (then it is answered "pending", which changes nothing, and is left out). That is more
 * than can happen, and less unreal than it seems: two coordinators count the deadline of one gid from different
 * moments, and a statement that read the clock in time becomes visible later.
 *
 * Disk. What is not forced may be gone after a crash: a participant loses an outcome that it has carried out (the branch
 * is prepared again) and a tombstone (it is unknown again), the register a lazy abort. Votes, decisions to commit and
 * fences stay. Each participant, each coordinator and the register crash once. A coordinator may then be asked for the
 * same gid again; that it was asked twice without a crash looks just the same.
 *
 * Recovery. The mark of completion and the lease are left out: they say who tells the branches and when it may stop. A
 * branch in doubt can ask for as long as it is in doubt, so what ends well without the mark ends well with it.
 *
 * Properties. ATOMIC, ALL_YES, ANSWERS_TRUE, NEVER_ALONE, DECIDED_ONCE, NO_HEURISTIC in every state, AT_THE_END where
 * nothing can happen any more, and `ends`: that state is always reached, without any assumption of fairness, because
 * crashes are used up at last and no other step undoes one.
 *
 * Broken on purpose, to show that the check can fail. Only ATOMIC is looked at then:
 *   -DNO_REGISTER  a coordinator that has every yes commits without the first-writer-wins insert
 *   -DNO_FENCE     an unknown gid past its deadline is answered "aborted", and nothing is written
 *
 * What else it has shown when it was changed by hand. A commit, a no, or an abort for a lost vote that is not forced:
 * each breaks NEVER_ALONE. A commit before every yes: breaks DECIDED_ONCE. A branch that never asks: breaks AT_THE_END.
 * No tombstone: breaks nothing. A prepare that comes after its abort would hold something until the branch asks, so
 * the tombstone is there to save that time, and whatever is to notice its absence must look for such a branch.
 *
 * Not covered: transactions of one branch (its participant decides, nobody else is in doubt); a gid used for two
 * different transactions; more than one transaction at a time, and so batches, leases and group commit; that an action
 * gives back what it held; retention; an operator's forced resolution; a disk that loses what was forced. That an insert
 * is atomic, and waits for an uncommitted row of the same gid, is PostgreSQL's promise and taken from it.
 */

#define N       3
#define ALL     7 /* a set of participants is a byte with a bit for each */
#define bit(p)  (1 << (p))

mtype:branch = { unknown, prepared, committed, aborted, tombstone, refused };
mtype:outcome = { undecided, commit, abort };
mtype:phase = { idle, preparing, over };

/* The participants' tables tx_branch, and the messages on their way to them. */
mtype:branch branch[N] = unknown;
byte crashed;      /* participants that have had their crash */
byte late_prepare; /* prepares of flights that no longer wait for the vote */
byte told_commit;  /* "it is committed", "it is aborted": from a coordinator, or as the answer to a question */
byte told_abort;

/* The register: the row of the transaction. */
mtype:outcome row = undecided;
bool on_disk, register_crashed;

/* The coordinators: the flight of the transaction in each, and the votes that it has been sent. */
mtype:phase phase[2] = idle;
byte yes[2];
bool no[2];
bool again[2];       /* it has had its crash */
bool late_commit[2]; /* its decision is on the way to the register, and nobody waits for it */

bool may_void; /* somebody is going to call the transaction off */

/* For the properties only: what a caller was told, whether a participant had to refuse a message, the end. */
bool answered_commit, answered_abort, contradicted, settled;

#define has(set, p) (((set) >> (p)) & 1)
#define holds(p)    (branch[p] == prepared || branch[p] == committed)
#define gone(p)     (branch[p] == aborted || branch[p] == tombstone || branch[p] == refused)

/* What p has and has not forced to disk, while its crash is to come. */
#define lossy(p)    ((branch[p] == committed || branch[p] == aborted || branch[p] == tombstone) && !has(crashed, p))

/* Messages that cannot matter any more are forgotten: there is less to tell apart. A prepare matters while its branch is
   unknown or can be again, an outcome while the branch is open or can be again. */
inline forget(p) {
	if
	:: branch[p] == unknown || (branch[p] == tombstone && lossy(p)) -> skip
	:: else -> late_prepare = late_prepare & ~bit(p)
	fi;
	if
	:: branch[p] == unknown || branch[p] == prepared || lossy(p) -> skip
	:: branch[p] != committed && has(told_commit, p) -> skip
	:: branch[p] == committed && has(told_abort, p) -> skip
	:: else -> told_commit = told_commit & ~bit(p); told_abort = told_abort & ~bit(p)
	fi
}

/* Sends p an outcome. One that is on disk in the register need not be remembered: p can hear of it at any time, from
   recovery, or because it asks. */
inline tell(o, p) {
	if
	:: row == o && on_disk -> skip
	:: o == commit && !(row == o && on_disk) -> told_commit = told_commit | bit(p); forget(p)
	:: o == abort && !(row == o && on_disk) -> told_abort = told_abort | bit(p); forget(p)
	fi
}

inline maybe_tell(o, p) {
	if
	:: tell(o, p)
	:: row != o || !on_disk -> skip
	fi
}

/* Tells the caller. What is on disk cannot become untrue, so it need not be remembered. */
inline answer(o) {
	if
	:: row == o && on_disk -> skip
	:: o == commit && !(row == o && on_disk) -> answered_commit = true
	:: o == abort && !(row == o && on_disk) -> answered_abort = true
	fi
}

/* A flight ends its first phase: the votes no longer matter to it, and prepares that are under way come late. */
inline stop_preparing(c) {
	yes[c] = 0; no[c] = false;
	late_prepare = ALL;
	forget(0); forget(1); forget(2)
}

/* INSERT ... ON CONFLICT DO NOTHING. Once a row is on disk, a statement that is still under way does nothing. */
inline insert(o, forced) {
	if
	:: row == undecided ->
		row = o;
		on_disk = forced || register_crashed;
		if
		:: on_disk -> late_commit[0] = false; late_commit[1] = false
		:: else
		fi
	:: else
	fi
}

/* The outcome is known: the caller hears it, then the branches, as many as the coordinator lives to tell. */
inline learn(c, o) {
	answer(o);
	maybe_tell(o, 0); maybe_tell(o, 1); maybe_tell(o, 2);
	phase[c] = over
}

proctype Coordinator(byte c) {
end:	do
	:: atomic { phase[c] == idle ->
		if
		:: phase[c] = preparing; printf("coordinator %d: begins, perhaps what is decided, sends prepare\n", c)
		:: row != undecided -> answer(row); phase[c] = over /* a replay: it has asked first, or a branch has told it */
		:: phase[c] = over /* nobody asks this one, or the register does not answer it */
		fi }

	/* Every yes is there: the decision is written, or sent to be and not waited for. */
	:: atomic { phase[c] == preparing && yes[c] == ALL ->
		stop_preparing(c);
#ifdef NO_REGISTER
		printf("coordinator %d: has every yes, commits without the register\n", c);
		learn(c, commit)
#else
		if
		:: insert(commit, true); printf("coordinator %d: writes commit, reads %e\n", c, row); learn(c, row)
		:: row == undecided || !on_disk -> late_commit[c] = true; phase[c] = over
		fi
#endif
		}
	:: atomic { late_commit[c] ->
		late_commit[c] = false;
		insert(commit, true);
		printf("coordinator %d: its late commit arrives, the row is %e\n", c, row) }

	/* A no: it is recorded where it was said, so the abort need not be forced. */
	:: atomic { phase[c] == preparing && no[c] ->
		stop_preparing(c);
		insert(abort, false);
		printf("coordinator %d: has a no, writes abort lazily, reads %e\n", c, row);
		learn(c, row) }

	/* A vote is lost, or time is up, here or by the register's clock. */
	:: atomic { phase[c] == preparing ->
		stop_preparing(c);
		insert(abort, true);
		printf("coordinator %d: writes abort, reads %e\n", c, row);
		learn(c, row) }

	/* It crashes, or the register does not answer, and nothing was written. */
	:: atomic { phase[c] == preparing -> stop_preparing(c); phase[c] = over }

	:: atomic { phase[c] == over && !again[c] ->
		again[c] = true;
		printf("coordinator %d: has crashed, or is asked again\n", c);
		phase[c] = idle }
	od
}

inline vote(p) {
	if
	:: branch[p] = prepared; printf("participant %d: votes yes\n", p)
	:: branch[p] = refused; printf("participant %d: votes no\n", p)
	fi;
	forget(p)
}

inline reply(c, p) {
	if
	:: branch[p] == unknown -> vote(p)
	:: else
	fi;
	if
	:: holds(p) -> yes[c] = yes[c] | bit(p)
	:: else     -> no[c] = true
	fi
}

/* A prepare of c, or its repetition, would change something. */
#define asked(c, p) (phase[c] == preparing && (branch[p] == unknown || (holds(p) && !has(yes[c], p)) || (gone(p) && !no[c])))

proctype Participant(byte p) {
end:	do
	:: atomic { asked(0, p) -> reply(0, p) }
	:: atomic { asked(1, p) -> reply(1, p) }
	:: atomic { has(late_prepare, p) && branch[p] == unknown ->
		if
		:: vote(p)
		:: late_prepare = late_prepare & ~bit(p) /* it never comes */
		fi }

	/* A message, recovery, or the answer to its own question. */
	:: atomic { (has(told_commit, p) || row == commit) && branch[p] != committed ->
		if
		:: branch[p] == prepared -> branch[p] = committed; printf("participant %d: commits\n", p)
		:: else -> contradicted = true
		fi;
		if
		:: told_commit = told_commit & ~bit(p)
		:: has(told_commit, p) -> skip /* another copy is under way */
		fi;
		forget(p) }
	:: atomic { (has(told_abort, p) || row == abort) && (branch[p] == unknown || holds(p)) ->
		if
		:: branch[p] == prepared -> branch[p] = aborted; printf("participant %d: aborts\n", p)
		:: branch[p] == unknown  -> branch[p] = tombstone; printf("participant %d: writes a tombstone\n", p)
		:: else -> contradicted = true
		fi;
		if
		:: told_abort = told_abort & ~bit(p)
		:: has(told_abort, p) -> skip
		fi;
		forget(p) }
	/* The same with an outcome that the register may yet lose, and the message not. */
	:: atomic { row == abort && !on_disk && (branch[p] == unknown || branch[p] == prepared) && !has(told_abort, p) -> tell(abort, p) }

#ifdef NO_FENCE
	:: atomic { branch[p] == prepared && row == undecided && !has(told_abort, p) ->
		printf("participant %d: asks past its deadline, the answer is aborted, and nothing is written\n", p);
		tell(abort, p) }
#else
	/* The question may come long after the branch has learnt the outcome. */
	:: atomic { (holds(p) || branch[p] == aborted) && row == undecided ->
		insert(abort, true);
		printf("participant %d: asks past its deadline, abort is written\n", p) }
#endif

	:: atomic { lossy(p) -> /* crash; where nothing is lost it is no more than a delay */
		if
		:: branch[p] == tombstone -> branch[p] = unknown
		:: else -> branch[p] = prepared
		fi;
		crashed = crashed | bit(p);
		printf("participant %d: crashes, its branch is %e again\n", p, branch[p]);
		forget(p) }
	od
}

proctype Others() {
end:	do
	:: atomic { may_void && (holds(0) || branch[0] == aborted) ->
		insert(abort, true);
		printf("void: writes abort, reads %e\n", row);
		answer(row);
		may_void = false }
	:: atomic { !register_crashed && row != undecided && !on_disk ->
		register_crashed = true;
		if
		:: row = undecided; printf("register: crashes, the lazy abort is lost\n")
		:: on_disk = true
		fi }
	od
}

#define some_committed (branch[0] == committed || branch[1] == committed || branch[2] == committed)
#define some_gone      (gone(0) || gone(1) || gone(2))
#define some_aborted   (branch[0] == aborted || branch[1] == aborted || branch[2] == aborted)
#define some_refused   (branch[0] == refused || branch[1] == refused || branch[2] == refused)
#define some_prepared  (branch[0] == prepared || branch[1] == prepared || branch[2] == prepared)
#define all_hold       (holds(0) && holds(1) && holds(2))

/* The properties. */
#define ATOMIC       (!(some_committed && some_gone))
#define ALL_YES      (!some_committed || all_hold)
#define ANSWERS_TRUE (!(answered_commit && answered_abort) && (!answered_commit || all_hold) && (!answered_abort || !some_committed))
#define NEVER_ALONE  ((!some_committed || row == commit) && (!some_aborted || row == abort || some_refused))
#define DECIDED_ONCE ((row != commit || (all_hold && !answered_abort)) && (row != abort || !answered_commit))
#define NO_HEURISTIC (!contradicted)
#define AT_THE_END   (!some_prepared && (!some_committed || (branch[0] == committed && branch[1] == committed && branch[2] == committed)))

proctype Monitor() {
	do
	:: atomic { !ATOMIC -> printf("not ATOMIC\n"); assert(ATOMIC) }
#if !defined(NO_REGISTER) && !defined(NO_FENCE)
	:: atomic { !ALL_YES -> printf("not ALL_YES\n"); assert(ALL_YES) }
	:: atomic { !ANSWERS_TRUE -> printf("not ANSWERS_TRUE\n"); assert(ANSWERS_TRUE) }
	:: atomic { !NEVER_ALONE -> printf("not NEVER_ALONE\n"); assert(NEVER_ALONE) }
	:: atomic { !DECIDED_ONCE -> printf("not DECIDED_ONCE\n"); assert(DECIDED_ONCE) }
	:: atomic { !NO_HEURISTIC -> printf("not NO_HEURISTIC\n"); assert(NO_HEURISTIC) }
#endif
	:: atomic { timeout ->
		if
		:: AT_THE_END -> skip
		:: else -> printf("not AT_THE_END\n"); assert(AT_THE_END)
		fi;
		settled = true; break }
	od
}

#ifdef LIVENESS
ltl ends { <> settled }
#endif

init {
	atomic {
		if
		:: may_void = true
		:: skip
		fi;
		run Coordinator(0); run Coordinator(1);
		run Participant(0); run Participant(1); run Participant(2);
		run Others(); run Monitor()
	}
}
