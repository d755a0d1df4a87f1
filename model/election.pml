/*
 * One cluster: its Lease, the two grants of each pod, the fence by its contract (fence.pml), the hand-over.
 *
 * TIME.  No instant is kept.  Of all that is measured the model knows one law, which A2, A3 and `policy.timing` give
 * for every lease duration (tests/model/test_timing_law.py does the sum):
 *
 *     Whoever counts a whole lease duration from an instant o on is not done before every right that counts from an
 *     instant s <= o has ended *and* its node has had the fence margin to stop.
 *
 * A right that counts from s is a clock: CUR(p), of the renewal that was confirmed last; REQ(p), of the request that
 * is under way; OLD(p), of the grant by which an actuator goes on that has not heard of the hand-over yet.  A waiting
 * pod keeps the set of the clocks that ran at o; its wait may be over, at any later moment, once all of these are
 * over.  Everything else takes any time, none to for ever: requests, answers, watches, states between workers, a
 * frozen process, a reload.  So every run of the product under A1 to A4 is a run of the model; the reverse is not
 * true, and need not be.
 *
 * VERSIONS.  Of a Lease's version only this matters: is what I know still what is there.  So a pod keeps one bit, and
 * a write takes it from all others (A1: no version is given twice).  What is stale can do one thing only: be refused;
 * a request that is sure to be refused is refused at once.  What came between two looks is told in full (the watch, or
 * `workers.catch_up`): where it is not, the product waits longer, and whoever waits longer does less.
 *
 * TWO EYES.  With LEDGER the arbiter signs as `policy.witness` says, when all rights of others that it saw are over.
 * Without, it signs whatever is its pod's: then what holds is held by the electors alone.  With RASH, too, an elector
 * takes whatever its arbiter would sign, without a wait of its own, and claims whatever was erased while it led: then
 * what holds is held by the arbiters alone.  It still asks: an arbiter's word has no clock here, and ends with the
 * elector's grant.
 *
 * COPIES.  With COPIES there is one pod, whose machine may be copied while it runs, memory and all: that is the second.
 * Both have one name, one term, the same keys, and neither knows of the other.  What one of them writes is his: the
 * other finds a renewTime in it that he did not send, and takes it for another's.  BOTH in the Lease is what each takes
 * for his own: the version that stood there when the copy was made, or whose write was under way then; and, to an
 * elector that began anew and has written nothing since, what its copy wrote into the term that it knows.  Arbiters
 * cannot tell: whatever names one of the two is theirs.  Nobody hands over, and no pod is made anew.  That both forge
 * nobody can hinder.  What is promised is how long: while a clock runs that ran when the copy was made, or when one
 * took what the other wrote for his own (`before`).
 *
 * SLOWNESS.  Who has not heard yet of a right acts as one who is slow.  Who has not heard yet that a right is gone is
 * dangerous: old_grant, old_word, old_sight.
 *
 * Above each transition stands what implements it (`impl:`), or by what the world may do it (`world:`).
 */
#ifndef PODS
#define PODS 2
#endif
#ifndef EDITS
#define EDITS 0         /* writes to the Lease by hand, or by a pod that keeps no rule */
#endif
#ifndef COPIES
#define COPIES 0        /* of the first pod's machine, in place of the second's */
#endif
#define NOBODY PODS
#define STRANGER (PODS + 1)
#define BOTH (PODS + 2)

#define OLD(p) (1 << (3 * (p)))
#define CUR(p) (2 << (3 * (p)))
#define REQ(p) (4 << (3 * (p)))
#define OF(p)  (7 << (3 * (p)))
#if PODS == 2
#define clocks byte
#else
#define clocks short
#endif

#define OBSERVER 0      /* and standby: whether it wants is the world's choice */
#define LEADER 1
#define HANDOVER 2

#define IDLE 0          /* the request under way */
#define WRITING 1       /* TAKE, CREATE or RENEW sent */
#define WRITTEN 2       /* and carried out, the answer under way */
#define RELEASING 3

#define SIGNING 0       /* the arbiter */
#define GIVING_UP 1
#define GIVEN_AWAY 2

#define FENCED 0        /* the actuator */
#define ARMED 1
#define FENCING 2       /* or dead: it does nothing then but begin so, later */

#define OFF 0           /* the node */
#define FORGING 1
#define STOPPING 2      /* told to stop, and forging yet for all we know */

/* the Lease */
byte holder = NOBODY;
bit given_up;           /* released in due form, with the key of its term */
byte seal = NOBODY;     /* whose stands in it, kept while it names nobody: who is named has put in his own */
byte edits = EDITS;

/* clocks */
clocks on;                /* those that are not over */
bit lag[PODS];          /* CUR(p) has ended; its node, told in time, has not stopped yet */

/* the elector */
byte role[PODS];
byte request[PODS];
bit current[PODS];      /* what it knows of the Lease is what is there */
bit displaced[PODS];    /* what it saw last was written over or erased since, unreleased */
bit unseen[PODS];       /* so was a term of which it had not seen the last */
#ifdef MUTANT_wait_not_begun_anew
bit seen[PODS];
#endif
clocks waits[PODS];       /* clocks that ran when it saw the last change */
clocks owed[PODS];        /* those of terms that were displaced; a term's own release strikes them out */
bit late_write[PODS];   /* timed out, and may arrive yet */
bit late_release[PODS];
bit release_sent[PODS]; /* by who leads, since its last confirmed write: another term may have followed */
bit old_grant[PODS];    /* the actuator has not heard yet that the elector grants no more */

/* the arbiter, the actuator, the node */
byte arbiter[PODS];
bit old_sight[PODS];    /* it has not seen yet that the Lease is not ours any more */
#ifdef LEDGER
clocks ledger[PODS];    /* clocks that ran when a version of another's was written */
bit stolen[PODS];       /* the term in the Lease is ours, and began before these were over */
#endif
bit old_word[PODS];     /* the actuator has not heard yet that the arbiter grants no more */
byte actuator[PODS];
byte node[PODS];

#if COPIES
byte copies = COPIES;
bit copied;             /* the second pod is a copy of the first */
bit shared;             /* what the first has under way was sent before that: it will be both's */
bit late_shared;        /* such a one, for whose answer nobody waits any more */
bit held[PODS];         /* its notes name the term in the Lease, and it has seen no renewal there but its own */
bit blind[PODS] = 1;    /* its elector has written nothing since it began: it cannot tell whose a renewal is */
clocks before;          /* while one of these runs two may forge */
#endif

bit calm;               /* the faults have ended, for good */
byte k, k2;             /* of the helpers; 0 between two steps */

#if COPIES
#define ours(p) (holder == p || holder == BOTH)
#define names(p) (ours(p) || (copied && holder < PODS))
#define awake(p) (p == 0 || copies == 0)   /* the second machine is nothing but the place of the copy */
#define may_be_reborn 0
#define hands_over 0
#define at_most_one (before || node[0] == OFF || node[1] == OFF)
#else
#define ours(p) (holder == p)
#define names(p) ours(p)     /* to its arbiter */
#define awake(p) 1
#define may_be_reborn 1
#define hands_over 1
#endif
#define orphaned (holder == NOBODY && !given_up)
#define right(p) ((on & CUR(p)) && !lag[p])
#define grants(p) ((role[p] == LEADER && right(p)) || old_grant[p])
#ifdef LEDGER
#ifdef MUTANT_stolen_term_signed
#define clear(p) 1
#define honest(p) 1
#else
#define clear(p) (ledger[p] == 0)
#define honest(p) (!stolen[p])
#endif
#else
#define clear(p) 1
#define honest(p) 1
#endif
#define signs(p) (arbiter[p] == SIGNING && (names(p) || old_sight[p]) && honest(p))
#define countersigns(p) (signs(p) || old_word[p])
/* Without an edit nothing is orphaned that was ever held, and what is never asked costs no states. */
#if EDITS == 0 || defined(RASH) || defined(MUTANT_regains_after_a_release)
#define followed(p) 0
#else
#define followed(p) (release_sent[p] && seal != p)
#endif
#define regains(p) (role[p] != OBSERVER && orphaned && right(p) && !followed(p))
#define lets_go(p) (role[p] == HANDOVER || (role[p] == OBSERVER && current[p] && ours(p)))

#ifdef MUTANT_named_by_hand_is_ours
#define ours_as_known(p) (ours(p) || holder == STRANGER)
#else
#define ours_as_known(p) ours(p)
#endif
#define free (holder == NOBODY && given_up)
#if defined(RASH) || defined(MUTANT_takes_without_waiting)
#define may_take(p) 1
#elif defined(MUTANT_expired_term_never_taken)
#define may_take(p) (owed[p] == 0 && free)
#elif defined(MUTANT_displaced_term_forgotten)
#define may_take(p) (free || waits[p] == 0)
#else
#define may_take(p) (owed[p] == 0 && (free || waits[p] == 0))
#endif
#define may_renew(p) ((ours_as_known(p) || regains(p)) && arbiter[p] != GIVEN_AWAY)
#ifdef MUTANT_release_before_the_fence
#define may_release(p) lets_go(p)
#else
#define may_release(p) (role[p] != LEADER && arbiter[p] == GIVEN_AWAY)
#endif
#ifdef MUTANT_key_given_before_it_is_heard
#define heard(p) 1
#else
#define heard(p) (!old_word[p])
#endif
#ifdef MUTANT_one_key
#define second_key(p) 1
#else
#define second_key(p) countersigns(p)
#endif
#ifdef MUTANT_fenced_without_proof
#define proven(p) 1
#else
#define proven(p) (node[p] == OFF)
#endif

/* ---- helpers: no transitions of their own ---- */

inline over(set) {
    on = on & ~(set);
    k = 0;
    do
    :: k < PODS -> waits[k] = waits[k] & ~(set); owed[k] = owed[k] & ~(set);
#ifdef LEDGER
        ledger[k] = ledger[k] & ~(set);
#endif
        k++
    :: else -> break
    od; k = 0
#if COPIES
    ; before = before & ~(set); assert(at_most_one)
#endif
}

/* The clock of the request becomes that of the right: for whoever waits for it, too. */
inline shift(p, set) {
    set = (set & ~(CUR(p) | REQ(p))) | ((set & REQ(p)) >> 1)
}

/* ... and what was the right's is that of a grant which was not heard to be gone. */
inline keep_old(p, set) {
    set = (set & ~OLD(p)) | ((set & CUR(p)) >> 1)
}

inline forget_request(p) {
    request[p] = IDLE; over(REQ(p))
}

/* What this pod has under way names the version that was. */
inline forget_own(p) {
    if
    :: request[p] == WRITING || request[p] == RELEASING -> forget_request(p)
    :: else
    fi
}

/* The Lease is not p's any more: its arbiter grants nothing once it sees that, and has another half of the seal. */
inline not_ours(p) {
    old_sight[p] = old_sight[p] || signs(p);
#ifdef LEDGER
    stolen[p] = 0;
#endif
    arbiter[p] = SIGNING
}

/* A new version is to stand in the Lease; `by`: NOBODY for an edit.  `ends`: a term goes without a release. */
inline version(by, ends, begins) {
    k2 = 0;
#if COPIES
    shared = 0; late_shared = 0;
#endif
    do
    :: k2 < PODS ->
        late_write[k2] = 0; late_release[k2] = 0;
        if
        :: k2 == by
        :: else ->
            if
            :: ends && !ours(k2) && current[k2] -> displaced[k2] = 1
            :: ends && !ours(k2) && !current[k2] -> unseen[k2] = 1
            :: else
            fi;
            current[k2] = 0;
#ifdef MUTANT_wait_not_begun_anew
            seen[k2] = seen[k2] && !(begins);
#else
            if
            :: !displaced[k2] -> waits[k2] = 0   /* counts anew when it is seen */
            :: else
            fi;
#endif
            if
            :: request[k2] == WRITING || request[k2] == RELEASING -> forget_request(k2)
            :: else
            fi;
            if
            :: ours(k2) -> not_ours(k2)
            :: else
            fi
        fi;
        k2++
    :: else -> break
    od; k2 = 0
}

inline commit_write(p) {
    version(p, !ours(p) && holder != NOBODY, !ours(p));
    if
    :: !ours(p) ->
        arbiter[p] = SIGNING; old_sight[p] = 0;   /* a new term has a new half of the seal */
#ifdef LEDGER
        stolen[p] = !clear(p)
#endif
#if COPIES
        held[0] = 0; held[1] = 0
#endif
    :: else
    fi;
#ifdef LEDGER
    k = 0;
    do
    :: k < PODS && k != p -> ledger[k] = ledger[k] | (on & (OF(p) | OF(k))); k++
    :: k == p -> k++
    :: k >= PODS -> break
    od; k = 0;
#endif
    holder = p; given_up = 0; seal = NOBODY
#if COPIES
    ; held[p] = 1
#endif
}

#if COPIES
/* It was sent before the copy was made: each finds his own renewTime in it. */
inline commit_of_both() {
    if
    :: !ours(0) -> arbiter[1] = SIGNING; old_sight[1] = 0
    :: else
    fi;
    commit_write(0);
    holder = BOTH; held[1] = 1
}

inline twice(set) {
    set = (set & OF(0)) | ((set & OF(0)) << 3)
}
#endif

inline commit_release(p) {
    assert(node[p] == OFF);   /* released only after fenced */
    version(p, 0, 0);
    not_ours(p);
    holder = NOBODY; given_up = 1; seal = p;
    k = 0;
    do   /* its key strikes out what was owed to this term */
    :: k < PODS -> owed[k] = owed[k] & ~(OF(p) | OF(k));
#ifdef LEDGER
        ledger[k] = ledger[k] & ~(OF(p) | OF(k));
#endif
#if COPIES
        owed[k] = (copied -> 0 : owed[k]);   /* one key opens the terms of both */
#endif
        k++
    :: else -> break
    od; k = 0
#if COPIES
    ; held[0] = 0; held[1] = 0
#endif
}

inline lose(p) {
    old_grant[p] = old_grant[p] || (role[p] == LEADER && right(p));
    role[p] = OBSERVER; release_sent[p] = 0   /* who leads next has had a write confirmed */
}

/* ---- the elector ---- */

/* impl: policy.election.Election.saw, policy.lease.observe, policy.election.Election.released,
 * policy.lease.Renewals.is_foreign */
inline see(p) {
#ifndef MUTANT_gap_not_noticed
    if
    :: displaced[p] -> owed[p] = owed[p] | waits[p]
    :: else
    fi;
    if
    :: unseen[p] -> owed[p] = owed[p] | on
    :: else
    fi;
#endif
#ifdef MUTANT_wait_not_begun_anew
    if
    :: !seen[p] -> waits[p] = on; seen[p] = 1
    :: else
    fi;
#else
    waits[p] = on;
#endif
    current[p] = 1; displaced[p] = 0; unseen[p] = 0;
#if COPIES
    if
    :: copied && holder == 1 - p && held[p] && blind[p] -> holder = BOTH; before = before | on
#ifdef MUTANT_copies_renewals_are_ours
    :: copied && holder == 1 - p && held[p] && !blind[p] -> holder = BOTH
#else
    :: copied && holder == 1 - p && held[p] && !blind[p] -> held[p] = 0
#endif
    :: else
    fi;
#endif
    if
    :: role[p] != OBSERVER && !ours(p) && !regains(p) -> lose(p)
    :: else
    fi;
    if
    :: ours(p) -> waits[p] = 0; owed[p] = 0
    :: else
    fi
}

/* impl: policy.election.Election.next, policy.lease.Observed.free, workers.elector.Elector._carry_out */
inline send_take(p) {
    request[p] = WRITING;
    late_write[p] = 0;   /* the later request does all that the earlier one could */
#if COPIES
    blind[p] = 0;
#endif
#ifndef MUTANT_counted_from_the_answer
    on = on | REQ(p)
#endif
}

/* impl: policy.election.Election.next, workers.elector.Elector._must_wait_for_arbiter */
inline send_renewal(p) {
    request[p] = WRITING;
    late_write[p] = 0;
#if COPIES
    blind[p] = 0;
#endif
#ifndef MUTANT_counted_from_the_answer
    on = on | REQ(p)
#endif
}

/* impl: policy.election.Election.next, policy.election.Election.begin, workers.elector.Elector._given_up_by_arbiter */
inline send_release(p) {
    request[p] = RELEASING; late_release[p] = 0;
    release_sent[p] = role[p] == HANDOVER
#if COPIES
    ; blind[p] = 0
#endif
}

/* impl: policy.election.Election.wrote, policy.timing.grant_deadline */
inline hear_written(p) {
    request[p] = IDLE; release_sent[p] = 0;
#ifdef MUTANT_counted_from_the_answer
    on = on | REQ(p);
#endif
    if
    :: role[p] == HANDOVER && old_grant[p] && right(p) && !(on & OLD(p)) ->
        k = 0;
#if COPIES
        keep_old(p, before);
#endif
        do
        :: k < PODS -> keep_old(p, waits[k]); keep_old(p, owed[k]);
#ifdef LEDGER
            keep_old(p, ledger[k]);
#endif
            k++
        :: else -> break
        od; k = 0;
        keep_old(p, on)
    :: else
    fi;
    lag[p] = 0;
    k = 0;
    do
    :: k < PODS -> shift(p, waits[k]); shift(p, owed[k]);
#ifdef LEDGER
        shift(p, ledger[k]);
#endif
        k++
    :: else -> break
    od; k = 0;
    shift(p, on);
#if COPIES
    shift(p, before); assert(at_most_one);
#endif
    waits[p] = 0; owed[p] = 0;
    if
    :: role[p] == OBSERVER -> role[p] = LEADER; old_grant[p] = 0; over(OLD(p))
    :: else
    fi
}

/* No answer came; or one so late that the right which it gives is over.
 * impl: policy.election.Election.failed, policy.election.Election.request_timeout */
inline give_request_up(p) {
#ifdef MUTANT_lost_answer_is_a_yes
    if
    :: request[p] == WRITING && role[p] != OBSERVER -> hear_written(p)
    :: else ->
#endif
#if COPIES
    if
    :: p == 0 && shared -> late_shared = request[p] == WRITING; shared = 0; forget_request(p)
    :: else
    fi;
#endif
    late_write[p] = late_write[p] || request[p] == WRITING;
    late_release[p] = late_release[p] || request[p] == RELEASING;
    forget_request(p);
    current[p] = 0
#ifdef MUTANT_lost_answer_is_a_yes
    fi
#endif
}

/* impl: policy.election.Election.stand_down, policy.election.Election.next */
inline begin_handover(p) {
    old_grant[p] = old_grant[p] || right(p);
    role[p] = HANDOVER
}

/* impl: policy.election.Election.next, policy.election.Election.right_ends */
inline lose_right(p) {
    lose(p)
}

/* impl: workers.elector.Elector.__init__, workers.elector.Elector._remember, policy.election.Election.continuing */
inline restart_elector(p) {
    give_request_up(p);
    lose(p)
#if COPIES
    ; blind[p] = 1
#endif
}

/* impl: policy.election.Election.published_grant, workers.actuator.Actuator._elector_says */
inline hear_elector(p) {
    old_grant[p] = 0;
    if
    :: node[p] == OFF -> over(OLD(p))
    :: else
    fi
}

/* ---- the arbiter ---- */

/* impl: policy.witness.Witness.saw, policy.witness.Witness.looked */
inline witness(p) {
    old_word[p] = old_word[p] || signs(p);
    old_sight[p] = 0
}

/* impl: policy.witness.Witness.let_go, workers.elector.Elector._lets_go */
inline give_up(p) {
    old_word[p] = old_word[p] || signs(p);
    arbiter[p] = GIVING_UP
}

/* impl: policy.witness.Witness.let_go */
inline go_on(p) {
    arbiter[p] = SIGNING
}

/* The actuator says that it is fenced, and repeats what it heard: an old word of the kind counts for nothing.
 * impl: policy.witness.Witness.let_go, workers.arbiter.Arbiter._fenced_and_heard */
inline give_away(p) {
    arbiter[p] = GIVEN_AWAY
}

/* impl: policy.witness.Witness.grant, workers.actuator.Actuator._arbiter_says */
inline hear_arbiter(p) {
    old_word[p] = 0
}

/* ---- the actuator ---- */

/* impl: policy.grants.right_to_forge, policy.fencing.FenceMachine.step */
inline arm(p) {
    assert(grants(p) && countersigns(p));   /* two keys */
#if COPIES
    assert(before || node[1 - p] == OFF);   /* at most one forges, but for the rest of a grant after a copy */
#else
    k = 0;
    do
    :: k < PODS -> assert(k == p || node[k] == OFF); k++   /* at most one forges */
    :: else -> break
    od; k = 0;
#endif
    actuator[p] = ARMED; node[p] = FORGING
}

/* impl: policy.fencing.FenceMachine.step, policy.timing.soft_deadline */
inline fence(p) {
    actuator[p] = FENCING; node[p] = STOPPING
}

/* impl: policy.fencing.FenceMachine.step */
inline confirm(p) {
    actuator[p] = FENCED
}

/* ---- the world ---- */

/* world: A1, a write is carried out if the version that it names is there; impl: kube.leases.LeaseClient.replace */
inline arrive(p) {
    if
    :: request[p] == WRITING ->
#if COPIES
        if
        :: p == 0 && shared -> commit_of_both()
        :: else -> commit_write(p)
        fi;
#else
        commit_write(p);
#endif
        request[p] = WRITTEN; current[p] = 1; displaced[p] = 0; unseen[p] = 0
    :: request[p] == RELEASING ->   /* its answer tells what a look would */
        commit_release(p);
        request[p] = IDLE; current[p] = 0; displaced[p] = 0; unseen[p] = 0
    fi
}

/* world: A1, so is one whose sender waits no more */
inline arrive_late(p) {
    forget_own(p); commit_write(p); current[p] = 0
}

/* world: A1, as above */
inline arrive_late_release(p) {
    forget_own(p); commit_release(p); current[p] = 0
}

#if COPIES
/* world: A1, as above, of a request that was sent before the copy was made */
inline arrive_late_of_both() {
    forget_own(0); commit_of_both(); current[0] = 0
}

/* All that the first machine knows lives on in a second one as well, connections excepted.
 * world: a machine is copied while it runs, and both run on (safety.md); impl: policy.election.Election.saw */
inline copy() {
    if
    :: holder == 0 -> holder = BOTH; held[0] = 1; held[1] = 1
    :: else
    fi;
    late_shared = late_write[0]; late_write[0] = 0;
    shared = request[0] == WRITING;
    current[1] = current[0] && request[0] == IDLE;
    twice(on); twice(waits[0]); twice(owed[0]);
    waits[1] = waits[0]; owed[1] = owed[0]; displaced[1] = displaced[0]; unseen[1] = unseen[0];
    role[1] = role[0]; release_sent[1] = release_sent[0]; old_grant[1] = old_grant[0];
    arbiter[1] = arbiter[0]; old_sight[1] = old_sight[0]; old_word[1] = old_word[0];
    before = on; copied = 1; copies--; blind[1] = blind[0];
    actuator[1] = actuator[0]; node[1] = node[0]; lag[1] = lag[0];
    over(REQ(1))
}
#endif

/* world: A4, any process dies at any moment, and its node is told (fence.pml)
 * impl: kernel.deathpipe.DeathSignal.aim */
inline die(p) {
    actuator[p] = FENCING;
    if
    :: node[p] == FORGING -> node[p] = STOPPING
    :: else
    fi
}

/* world: A4, the deadline passes: the kernel kills who still arms (fence.pml); impl: kernel.deadline.DeathTimer.arm */
inline end_right(p) {
    if
    :: node[p] == FORGING -> die(p)
    :: else
    fi;
    if
    :: !(on & OLD(p)) -> old_grant[p] = 0
    :: else
    fi;
#ifdef MUTANT_margin_zero
    over(CUR(p))
#else
    if
    :: node[p] == STOPPING -> lag[p] = 1
    :: else -> over(CUR(p))
    fi
#endif
}

/* world: A4, as above, of a grant that was withdrawn unheard */
inline end_old_grant(p) {
    if
    :: node[p] == FORGING -> die(p)
    :: else
    fi;
    old_grant[p] = 0;
    if
    :: node[p] == OFF -> over(OLD(p))
    :: else
    fi
}

/* world: A3, a node that was told stops */
inline stop(p) {
    node[p] = OFF;
    if
    :: lag[p] -> lag[p] = 0; over(CUR(p))
    :: else
    fi;
    if
    :: !old_grant[p] -> over(OLD(p))
    :: else
    fi
}

/* Another pod under the same name: what the Lease says of the one before is a stranger's to it.  What the one before
 * had under way arrives before (arrive, arrive_late), or never: whom it is told to makes no difference.
 * world: A4, the pod ends, its node with it; impl: policy.lease.observe, policy.witness.Witness.looked */
inline reborn(p) {
    forget_request(p);
    if
    :: holder == p -> holder = STRANGER
    :: else
    fi;
    late_write[p] = 0; late_release[p] = 0; role[p] = OBSERVER; release_sent[p] = 0; old_grant[p] = 0;
    arbiter[p] = SIGNING; old_sight[p] = 0; old_word[p] = 0;
    actuator[p] = FENCED; node[p] = OFF; lag[p] = 0; over(OF(p));
    current[p] = 0; displaced[p] = 0; unseen[p] = 1; waits[p] = 0; owed[p] = 0
#ifdef LEDGER
    ; ledger[p] = on; stolen[p] = 0
#endif
}

/* world: I7, somebody writes himself over the holder */
inline write_over() {
    version(NOBODY, holder != NOBODY, 1);
    holder = STRANGER; given_up = 0; edits--
}

/* world: I7, and releases, with his own key */
inline strange_release() {
    version(NOBODY, 0, 0);
    holder = NOBODY; given_up = 1; seal = STRANGER
}

/* The seal stays.  It would go with a Lease that is deleted: who loses its claim by that does as after a restart.
 * world: I7, the holder is erased by hand, or a release's key, or the Lease deleted */
inline erase() {
    version(NOBODY, holder != NOBODY, 0);
    if
    :: holder != NOBODY -> seal = holder
    :: else
    fi;
    holder = NOBODY; given_up = 0; edits--
}

/* world: the faults end */
inline become_calm() {
    calm = 1
}

/* ---- who does what; one process each, for fairness.  When calm, what should be done is done, and nothing else ---- */

proctype Elector(byte p) {
    do
    :: d_step { request[p] == IDLE && !current[p] && awake(p) -> see(p) }
    :: d_step { request[p] == IDLE && current[p] && role[p] == OBSERVER && !ours_as_known(p) && may_take(p) &&
            clear(p) ->
            send_take(p) }
    :: d_step { request[p] == IDLE && current[p] && may_renew(p) && !(calm && arbiter[p] == GIVING_UP) ->
            send_renewal(p) }
    :: d_step { request[p] == IDLE && current[p] && ours(p) && may_release(p) -> send_release(p) }
    :: d_step { request[p] == WRITTEN -> hear_written(p) }
    :: d_step { !calm && request[p] != IDLE -> give_request_up(p) }
    :: d_step { request[p] == IDLE && role[p] == LEADER && hands_over && (!calm || arbiter[p] == GIVEN_AWAY) ->
            begin_handover(p) }
    :: d_step { request[p] == IDLE && role[p] != OBSERVER && !right(p) -> lose_right(p) }
    :: d_step { !calm && awake(p) -> restart_elector(p) }
    od
}

proctype Arbiter(byte p) {
    do
    :: d_step { old_sight[p] -> witness(p) }
    :: d_step { arbiter[p] == SIGNING && names(p) && hands_over && (role[p] == HANDOVER || (!calm && lets_go(p))) ->
            give_up(p) }
    :: d_step { arbiter[p] == GIVING_UP && role[p] != HANDOVER -> go_on(p) }
    :: d_step { arbiter[p] == GIVING_UP && actuator[p] == FENCED && heard(p) -> give_away(p) }
    od
}

proctype Actuator(byte p) {
    do
    :: d_step { old_grant[p] -> hear_elector(p) }
    :: d_step { old_word[p] -> hear_arbiter(p) }
    :: d_step { actuator[p] == FENCED && grants(p) && second_key(p) -> arm(p) }
    :: d_step { actuator[p] == ARMED && (!calm || !grants(p) || !countersigns(p)) -> fence(p) }
    :: d_step { actuator[p] == FENCING && proven(p) -> confirm(p) }
    :: d_step { !calm && actuator[p] != FENCING && awake(p) -> die(p) }
    od
}

proctype World(byte p) {
    do
    :: d_step { (request[p] == WRITING || request[p] == RELEASING) && !(calm && node[p] == STOPPING) -> arrive(p) }
    :: d_step { late_write[p] -> arrive_late(p) }
    :: d_step { late_release[p] -> arrive_late_release(p) }
    :: d_step { right(p) && !(calm && role[p] == LEADER) -> end_right(p) }
    :: d_step { (on & OLD(p)) && (old_grant[p] || node[p] == FORGING) -> end_old_grant(p) }
    :: d_step { node[p] == STOPPING -> stop(p) }
    :: d_step { !calm && may_be_reborn -> reborn(p) }
    od
}

proctype Hand() {
    do
    :: d_step { !calm && edits > 0 && holder < NOBODY -> write_over() }
    :: d_step { !calm && holder == STRANGER -> strange_release() }
    :: d_step { !calm && edits > 0 && !orphaned -> erase() }
#if COPIES
    :: d_step { !calm && copies > 0 -> copy() }
    :: d_step { late_shared -> arrive_late_of_both() }
#endif
#ifdef LIVENESS
    :: d_step { !calm -> become_calm() }
#endif
    od
}

init {
    byte p;
    atomic {
        do
        :: p < PODS -> run Elector(p); run Arbiter(p); run Actuator(p); run World(p); p++
        :: else -> break
        od;
        p = 0;
        run Hand()
    }
}

#ifdef LIVENESS
#define forges (node[0] == FORGING || node[1] == FORGING)
ltl somebody_forges { [] (calm -> <> forges) }
ltl handover_completes { [] ((calm && role[0] == HANDOVER) -> <> (role[0] != HANDOVER)) }
#endif
