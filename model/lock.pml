/*
 * The pool-wide lock: a Lease on each of three coordination APIs, held by who holds two.
 *
 * Time as in election.pml: no instants, one law.  CUR(c) is the clock of a contender's last confirmed renewal on a
 * member.  A right from the lock stands while a majority of a contender's clocks runs: it ends with the first without
 * which there is none.
 *
 * BOUNDS.  Between contender and member all is as early as it can be: a write is carried out and heard of when it is
 * sent, a version is seen when it is written.  Later means less.  A right counts from before its request was sent, so
 * from the commit on it is at most as long as here; who sees a version later waits longer; who acts on one that is
 * gone is refused.  Late is dangerous in two cases, which are here: a write that was carried out is not heard of
 * (write_unheard), and one arrives when its term is over (arrive_late).  What goes on between the workers of a pod
 * takes any time, as in election.pml; and so does a clock, which may run for ever as long as nobody waits for it.  A
 * restart of the arbiter changes nothing that is not written down but one thing: an attempt is given up.
 *
 * RESTORES.  A member that shows a term again which was written over is the one thing for which it matters that an
 * attempt is short (`policy.pool_lock.round_lasts`): two of them, one after the other, are over before a lease
 * duration is.  So a clock of an attempt does not end in it, and who sees a member change in an attempt of his own, or
 * while another makes one, does not take it in that attempt.  Without restores none of this is assumed.
 *
 * The cluster's own Lease is a contract (election.pml holds it): of two pods of one cluster at most one has an
 * exclusive grant.  With SIBLINGS the contenders are such pods, and each of them may lose sight of its own API server:
 * then it leads on, degraded, while the lock is its own.  Without, each leads a cluster of its own.
 *
 * The order in which members are taken is left out, and so are the pauses: any order and any pause happen here.
 *
 * Above each transition stands what implements it (`impl:`), or by what the world may do it (`world:`).
 */
#ifndef MEMBERS
#define MEMBERS 3
#endif
#ifndef CONTENDERS
#define CONTENDERS 2
#endif
#ifndef RESTORES
#define RESTORES 0      /* members that go back to a backup */
#endif
#define NOBODY CONTENDERS
#define STRANGER (CONTENDERS + 1)
#ifdef MUTANT_majority_of_one
#define MAJORITY 1
#else
#define MAJORITY (MEMBERS / 2 + 1)
#endif

#define CUR(c) (1 << (c))
#if RESTORES
#define ATTEMPT (1 << CONTENDERS)   /* in `waits`: not in this attempt */
#else
#define ATTEMPT 0
#endif
#define AT(c, m) ((c) * MEMBERS + (m))
#define PAIRS (CONTENDERS * MEMBERS)

#define IDLE 0          /* the phase: policy.pool_lock.LockPhase, and RELEASING for draining and `over` */
#define ACQUIRING 1
#define HELD 2
#define DRAINING 3
#define RELEASING 4

#define RUNS 1          /* the clock of a confirmed renewal; 0: it is over, or there is none */
#define ENDED 2         /* it has ended, and the node, told before, has not stopped yet */
#define UNHEARD 3       /* a write of which nobody heard, in an attempt */

#define FENCED 0
#define ARMED 1
#define FENCING 2

#define OFF 0
#define FORGING 1
#define STOPPING 2

#define NOT 0           /* what the elector grants */
#define EXCLUSIVE 1
#define DEGRADED 2

#define PRESENT 1       /* a Lease in the holder's present term */
#define OVER 0          /* in one that is over, and to be given back */

/* the members; one more for the backup of the first of them */
byte holder[MEMBERS + 1] = NOBODY;
bit term[MEMBERS + 1];
bit given_up[MEMBERS + 1];
byte on[MEMBERS];       /* clocks that are not over */
byte restores = RESTORES;
bit backed_up;

/* a contender and a member */
bit late[PAIRS];        /* a write of a term that is over may arrive yet */
byte clock[PAIRS];
byte waits[PAIRS];      /* clocks that ran when it saw the last change */
byte owed[PAIRS];       /* clocks that ran after a gap: no release strikes them out */

/* a contender */
byte phase[CONTENDERS];
bit lapsed[CONTENDERS]; /* others may have held the lock since its right ended */
bit old_word[CONTENDERS];   /* the actuator has not heard yet that the grant was withdrawn */
byte actuator[CONTENDERS];
byte node[CONTENDERS];
byte elector[CONTENDERS];
bit away[CONTENDERS];   /* its own API server does not answer */

bit calm;
byte k, j, n;     /* of the helpers; 0 between two steps */

#ifdef LIVENESS
#define sees(c) (!away[c])
#define blind(c) away[c]
#else
#define sees(c) 1       /* it may be so or so at any moment */
#define blind(c) 1
#endif
#define ours(c, m) (holder[m] == c && term[m] == PRESENT)
#define left_behind(c, m) (holder[m] == c && term[m] == OVER)
#define runs(c, m) (clock[AT(c, m)] == RUNS)
#define stands(c, m) (clock[AT(c, m)] != 0)
#if RESTORES
#define may_end(c) (phase[c] != ACQUIRING)
#else
#define may_end(c) 1
#endif
#if MEMBERS == 3
#define running(c) (runs(c, 0) + runs(c, 1) + runs(c, 2))
#define standing(c) (stands(c, 0) + stands(c, 1) + stands(c, 2))
#define kept(c) (ours(c, 0) + ours(c, 1) + ours(c, 2))
#endif
#ifdef MUTANT_right_of_the_best_member
#define right(c) (running(c) >= (phase[c] == HELD -> 1 : MAJORITY))
#else
#define right(c) (running(c) >= MAJORITY)
#endif
#define grants(c) ((phase[c] == HELD && right(c)) || old_word[c])

#ifdef MUTANT_takes_without_waiting
#define takeable(c, m) 1
#else
#define takeable(c, m) (owed[AT(c, m)] == 0 && (given_up[m] || waits[AT(c, m)] == 0))
#endif
#define free_to_take(c, m) (!ours(c, m) && !left_behind(c, m) && takeable(c, m))
#define may_succeed(c) (free_to_take(c, 0) + free_to_take(c, 1) + free_to_take(c, 2) >= MAJORITY)
#define hopeless(c) (running(c) + free_to_take(c, 0) + free_to_take(c, 1) + free_to_take(c, 2) < MAJORITY)
#define contends(c) (phase[c] == ACQUIRING || (phase[c] == HELD && right(c)))
#define may_write(c, m) ((contends(c) && free_to_take(c, m)) || may_renew(c, m))
#define may_renew(c, m) (ours(c, m) && phase[c] != RELEASING && alive(c))

#ifdef MUTANT_lapsed_term_revived
#define alive(c) 1
#else
#define alive(c) (!lapsed[c])
#endif
#ifdef MUTANT_released_before_the_fence
#define proven(c) 1
#elif defined(MUTANT_withdrawal_not_heard)
#define proven(c) (actuator[c] == FENCED)
#else
#define proven(c) (actuator[c] == FENCED && !old_word[c])
#endif
#ifdef MUTANT_degraded_without_the_lock
#define exclusive(c) 1
#else
#define exclusive(c) grants(c)
#endif

/* ---- helpers: no transitions of their own ---- */

/* Members are alike, so of the states that differ in their order alone one is kept: the one in which they are sorted by
 * all that there is of each.  (The one that goes back to a backup is the first.)
 */
#define of_pair(x) (late[x] + 2 * (clock[x] + 4 * (waits[x] + 8 * owed[x])))
#define of_pairs(m) (of_pair(AT(0, m)) + 256 * of_pair(AT(1, m)))
#define rank(m) (holder[m] + 4 * (term[m] + 2 * (given_up[m] + 2 * (on[m] + 4 * of_pairs(m)))))
#define first_is_another (restores > 0 || backed_up)

inline exchange(one, other) {
    k = one; one = other; other = k; k = 0
}

inline in_order(a, b) {
    if
    :: rank(a) > rank(b) ->
        exchange(holder[a], holder[b]); exchange(term[a], term[b]); exchange(given_up[a], given_up[b]);
        exchange(on[a], on[b]);
        j = 0;
        do
        :: j < CONTENDERS ->
            exchange(late[AT(j, a)], late[AT(j, b)]); exchange(clock[AT(j, a)], clock[AT(j, b)]);
            exchange(waits[AT(j, a)], waits[AT(j, b)]); exchange(owed[AT(j, a)], owed[AT(j, b)]);
            j++
        :: else -> break
        od; j = 0
    :: else
    fi
}

inline sort() {
    in_order(1, 2);
    if
    :: !first_is_another -> in_order(0, 1); in_order(1, 2)
    :: else
    fi
}

inline over(m, set) {
    on[m] = on[m] & ~(set);
    k = 0;
    do
    :: k < CONTENDERS ->
        waits[AT(k, m)] = waits[AT(k, m)] & ~(set); owed[AT(k, m)] = owed[AT(k, m)] & ~(set); k++
    :: else -> break
    od; k = 0
}

/* A new version stands on a member, and all see it; what is under way to it names an old one. */
inline version(m) {
    j = 0;
    do
    :: j < CONTENDERS ->
        waits[AT(j, m)] = (on[m] & ~CUR(j)) | (phase[j] == ACQUIRING -> ATTEMPT : 0);
        late[AT(j, m)] = 0;
        j++
    :: else -> break
    od; j = 0
}

inline commit(c, m, which) {
    version(m);
    holder[m] = c; term[m] = which; given_up[m] = 0
}

/* Whatever could have been sent by now may be under way when the term is over. */
inline note_late(c, m) {
#ifdef NO_LATE
    skip
#else
    late[AT(c, m)] = late[AT(c, m)] || may_write(c, m)
#endif
}

/* The term is over: wherever it stands it is to be given back. */
inline spend(c) {
    n = 0;
    do
    :: n < MEMBERS ->
        note_late(c, n);
        over(n, CUR(c)); clock[AT(c, n)] = 0;
        waits[AT(c, n)] = waits[AT(c, n)] & ~ATTEMPT;
        n++
    :: else -> break
    od; n = 0;
    do
    :: n <= MEMBERS ->
        if
        :: holder[n] == c -> term[n] = OVER
        :: else
        fi;
        n++
    :: else -> break
    od; n = 0;
    phase[c] = IDLE; lapsed[c] = 0
}

/* ---- one contender and one member ---- */

/* TAKE, CREATE or RENEW.
 * impl: policy.pool_lock.PoolLock.next, policy.pool_lock.PoolLock.takeable_at, policy.pool_lock.PoolLock._may_take,
 * policy.pool_lock.PoolLock.wrote, policy.pool_lock.PoolLock._earn */
inline write(c, m) {
    on[m] = on[m] | CUR(c); clock[AT(c, m)] = RUNS;
    commit(c, m, PRESENT);
    waits[AT(c, m)] = 0; owed[AT(c, m)] = 0
}

/* It is carried out, and its answer lost: the member must be read, and gives no right.
 * impl: policy.pool_lock.PoolLock.failed, workers.pool_lock.PoolLockKeeper._failed, policy.pool_lock.round_lasts */
inline write_unheard(c, m) {
#if RESTORES
    if
    :: clock[AT(c, m)] == 0 -> clock[AT(c, m)] = UNHEARD; on[m] = on[m] | CUR(c)
    :: else
    fi;
#endif
    commit(c, m, PRESENT);
    waits[AT(c, m)] = 0; owed[AT(c, m)] = 0
}

#ifdef MUTANT_lost_answer_is_a_yes
/* impl: policy.pool_lock.PoolLock.failed */
inline write_in_vain(c, m) {
    on[m] = on[m] | CUR(c); clock[AT(c, m)] = RUNS
}
#endif

#ifdef MUTANT_counted_from_the_answer
/* impl: policy.pool_lock.PoolLock.wrote */
inline hear_late(c, m) {
    on[m] = on[m] | CUR(c); clock[AT(c, m)] = RUNS
}
#endif

/* Where its answer is lost it is sent again, so it is as good as late.
 * impl: policy.pool_lock.PoolLock.next, policy.pool_lock.PoolLock.left_behind, policy.pool_lock.PoolLock.released */
inline release(c, m) {
    assert(node[c] == OFF || left_behind(c, m));   /* released only after fenced */
    version(m);
    holder[m] = NOBODY; given_up[m] = 1
}

/* ---- one contender ---- */

/* impl: policy.pool_lock.PoolLock._while_idle, policy.pool_lock.PoolLock.available_at */
inline begin_term(c) {
#if RESTORES
    n = 0;
    do
    :: n < MEMBERS ->
        if
        :: phase[1 - c] == ACQUIRING && waits[AT(c, n)] -> waits[AT(c, n)] = waits[AT(c, n)] | ATTEMPT
        :: else
        fi;
        n++
    :: else -> break
    od; n = 0;
#endif
    phase[c] = ACQUIRING
}

/* impl: policy.pool_lock.PoolLock._while_acquiring, policy.pool_lock.PoolLock.majority */
inline hold(c) {
    n = 0;
    do
    :: n < MEMBERS -> waits[AT(c, n)] = waits[AT(c, n)] & ~ATTEMPT; n++
    :: else -> break
    od; n = 0;
    phase[c] = HELD
}

/* impl: policy.pool_lock.PoolLock._while_acquiring, policy.pool_lock.PoolLock._spend,
 * policy.pool_lock.PoolLock.__init__, workers.pool_lock.PoolLockKeeper.__init__, policy.pool_lock.PoolLock.kept */
inline give_term_up(c) {
    spend(c)
}

/* impl: policy.pool_lock.PoolLock._while_held */
inline drain(c) {
    old_word[c] = right(c);
    phase[c] = DRAINING
}

/* impl: policy.pool_lock.PoolLock._while_draining */
inline hold_on(c) {
    phase[c] = HELD; old_word[c] = 0
}

/* impl: policy.pool_lock.PoolLock._while_draining, workers.coordination.Coordination._wish */
inline begin_release(c) {
    n = 0;
    do
    :: n < MEMBERS -> note_late(c, n); n++
    :: else -> break
    od; n = 0;
    phase[c] = RELEASING
}

/* impl: policy.pool_lock.PoolLock._spend */
inline end_release(c) {
    spend(c)
}

/* The Leases stay, and are waited for by everybody.
 * impl: policy.pool_lock.PoolLock._nothing_stands */
inline let_run_out(c) {
    spend(c);
    n = 0;
    do
    :: n <= MEMBERS ->
        if
        :: holder[n] == c -> holder[n] = STRANGER
        :: else
        fi;
        n++
    :: else -> break
    od; n = 0
}

/* ---- the actuator ---- */

/* impl: workers.actuator.Actuator._arbiter_says, policy.pool_lock.PoolLock.grant */
inline hear_withdrawal(c) {
    old_word[c] = 0
}

/* impl: policy.grants.right_to_forge, policy.fencing.FenceMachine.step */
inline arm(c) {
    j = 0;
    do
    :: j < CONTENDERS -> assert(j == c || node[j] == OFF); j++   /* at most one forges */
    :: else -> break
    od; j = 0;
    actuator[c] = ARMED; node[c] = FORGING
}

/* impl: policy.fencing.FenceMachine.step, policy.timing.soft_deadline */
inline fence(c) {
    actuator[c] = FENCING; node[c] = STOPPING
}

/* impl: policy.fencing.FenceMachine.step */
inline confirm(c) {
    actuator[c] = FENCED
}

/* ---- the elector (SIBLINGS) ---- */

/* impl: policy.election.Election.wrote */
inline lead(c) {
    elector[c] = EXCLUSIVE
}

/* impl: policy.election.Election.degraded, policy.election.Election.published_grant */
inline degrade(c) {
    elector[c] = DEGRADED
}

/* impl: policy.election.Election.next, policy.election.Election.saw, workers.coordination.Coordination._leading */
inline cease_to_lead(c) {
    elector[c] = NOT
}

/* world: the pod's own API server does not answer, or does again */
inline lose_sight(c) {
    away[c] = 1
}

/* world: as above */
inline see_again(c) {
    away[c] = 0
}

/* ---- the world ---- */

/* world: A1, a write is carried out if the version that it names is there; impl: kube.leases.LeaseClient.replace */
inline arrive_late(c, m) {
    commit(c, m, OVER);
    waits[AT(c, m)] = 0
}

/* world: A4, any process dies at any moment, and its node is told (fence.pml)
 * impl: kernel.deathpipe.DeathSignal.aim */
inline die(c) {
    actuator[c] = FENCING;
    if
    :: node[c] == FORGING -> node[c] = STOPPING
    :: else
    fi
}

/* If that ends the right, the kernel kills who still arms.
 * world: A4; impl: kernel.deadline.DeathTimer.arm, policy.pool_lock.PoolLock.ours_until */
inline end_clock(c, m) {
    clock[AT(c, m)] = 0;
    if
    :: !right(c) ->
        old_word[c] = 0;
        lapsed[c] = phase[c] >= HELD;
        if
        :: node[c] == FORGING -> die(c)
        :: else
        fi
    :: else
    fi;
    if
    :: node[c] == STOPPING -> clock[AT(c, m)] = ENDED
    :: else -> over(m, CUR(c))
    fi
}

/* world: A2 */
inline end_unheard(c, m) {
    clock[AT(c, m)] = 0; over(m, CUR(c))
}

/* world: A3, a node that was told stops */
inline stop(c) {
    node[c] = OFF;
    n = 0;
    do
    :: n < MEMBERS ->
        if
        :: clock[AT(c, n)] == ENDED -> clock[AT(c, n)] = 0; over(n, CUR(c))
        :: else
        fi;
        n++
    :: else -> break
    od; n = 0
}

/* Another pod under the same name: what the Leases say of the one before is a stranger's to it.
 * world: A4, the pod ends, its node with it; impl: workers.pool_lock._remembered, policy.lease.observe */
inline reborn(c) {
    spend(c);
    n = 0;
    do
    :: n < MEMBERS ->
        late[AT(c, n)] = 0; waits[AT(c, n)] = on[n]; owed[AT(c, n)] = on[n];
        n++
    :: else -> break
    od; n = 0;
    do
    :: n <= MEMBERS ->
        if
        :: holder[n] == c -> holder[n] = STRANGER
        :: else
        fi;
        n++
    :: else -> break
    od; n = 0;
    old_word[c] = 0; actuator[c] = FENCED; node[c] = OFF
}

/* world: somebody makes a backup of a member */
inline back_up() {
    holder[MEMBERS] = holder[0]; term[MEMBERS] = term[0]; given_up[MEMBERS] = given_up[0];
    backed_up = 1
}

/* Its watchers' connections break: whoever looks finds a gap.
 * world: A6; impl: workers.pool_lock._older, kube.leases.went_back, policy.pool_lock.PoolLock.saw */
inline restore() {
    version(0);
    holder[0] = holder[MEMBERS]; term[0] = term[MEMBERS]; given_up[0] = given_up[MEMBERS];
#ifndef MUTANT_gap_not_noticed
    k = 0;
    do
    :: k < CONTENDERS -> owed[AT(k, 0)] = on[0] & ~CUR(k); k++
    :: else -> break
    od; k = 0;
#endif
    holder[MEMBERS] = NOBODY; term[MEMBERS] = 0; given_up[MEMBERS] = 0; backed_up = 0;
    restores--
}

/* world: the faults end */
inline become_calm() {
    calm = 1
}

/* ---- who does what.  When calm, what should be done is done, and nothing else: no run goes on for ever then, so no
 * fairness is needed.  A renewal in time changes nothing, and is left out then. ---- */

proctype Line(byte c; byte m) {
    do
    :: d_step { may_write(c, m) && !(calm && (runs(c, m) || phase[c] == DRAINING)) -> write(c, m); sort() }
    :: d_step { !calm && may_write(c, m) -> write_unheard(c, m); sort() }
#ifdef MUTANT_lost_answer_is_a_yes
    :: d_step { may_write(c, m) && !stands(c, m) -> write_in_vain(c, m); sort() }
#endif
    :: d_step { left_behind(c, m) || (ours(c, m) && phase[c] == RELEASING) -> release(c, m); sort() }
#ifdef MUTANT_counted_from_the_answer
    :: d_step { ours(c, m) && !stands(c, m) && phase[c] != RELEASING -> hear_late(c, m); sort() }
#endif
    od
}

proctype Contender(byte c) {
    do
    :: d_step { phase[c] == IDLE && elector[c] != NOT && may_succeed(c) -> begin_term(c); sort() }
    :: d_step { phase[c] == ACQUIRING && right(c) -> hold(c); sort() }
    :: d_step { phase[c] == ACQUIRING && !right(c) && (!calm || hopeless(c)) -> give_term_up(c); sort() }
    :: d_step { phase[c] == HELD && (!calm || !right(c) || elector[c] == NOT) -> drain(c); sort() }
    :: d_step { phase[c] == DRAINING && right(c) && alive(c) && elector[c] != NOT -> hold_on(c); sort() }
    :: d_step { phase[c] == DRAINING && proven(c) -> begin_release(c); sort() }
    :: d_step { phase[c] == RELEASING && (!calm || kept(c) == 0) -> end_release(c); sort() }
    :: d_step { phase[c] == DRAINING && !standing(c) -> let_run_out(c); sort() }
    od
}

proctype Actuator(byte c) {
    do
    :: d_step { old_word[c] -> hear_withdrawal(c); sort() }
    :: d_step { actuator[c] == FENCED && elector[c] != NOT && exclusive(c) -> arm(c); sort() }
    :: d_step { actuator[c] == ARMED && (!calm || !grants(c) || elector[c] == NOT) -> fence(c); sort() }
    :: d_step { actuator[c] == FENCING && node[c] == OFF -> confirm(c); sort() }
    :: d_step { !calm && actuator[c] != FENCING -> die(c); sort() }
    od
}

/* Its own right has ended unrenewed, the lock's is gone, or it hears of another holder. */
#ifdef MUTANT_degraded_gives_up
#define must_cease(c) (blind(c) || elector[c] == DEGRADED)
#else
#define must_cease(c) ((blind(c) && !grants(c)) || (elector[c] == DEGRADED && sees(c) && elector[1 - c] == EXCLUSIVE))
#endif

#ifdef SIBLINGS
proctype Elector(byte c) {
    do
    :: d_step { elector[c] != EXCLUSIVE && sees(c) && elector[1 - c] != EXCLUSIVE -> lead(c); sort() }
    :: d_step { elector[c] == EXCLUSIVE && blind(c) && grants(c) -> degrade(c); sort() }
    :: d_step { elector[c] != NOT && (!calm || must_cease(c)) -> cease_to_lead(c); sort() }
#ifdef LIVENESS
    :: d_step { !calm && !away[c] -> lose_sight(c); sort() }
    :: d_step { !calm && away[c] -> see_again(c); sort() }
#endif
    od
}
#endif

proctype World(byte c; byte m) {
    do
    :: d_step { late[AT(c, m)] -> arrive_late(c, m); sort() }
    :: d_step { runs(c, m) && may_end(c) && !(calm && (phase[c] == HELD || phase[c] == ACQUIRING)) ->
            end_clock(c, m); sort() }
    :: d_step { clock[AT(c, m)] == UNHEARD && phase[c] != ACQUIRING -> end_unheard(c, m); sort() }
    od
}

proctype Node(byte c) {
    do
    :: d_step { node[c] == STOPPING -> stop(c); sort() }
#ifndef NO_REBIRTH
    :: d_step { !calm -> reborn(c); sort() }
#endif
    od
}

proctype Others() {
    do
    :: d_step { !calm && restores > 0 && !backed_up -> back_up(); sort() }
    :: d_step { !calm && restores > 0 && backed_up -> restore(); sort() }
#ifdef LIVENESS
    :: d_step { !calm && !(away[0] && away[1]) -> become_calm() }
#endif
    od
}

init {
    byte c, m;
    atomic {
        do
        :: c < CONTENDERS ->
            m = 0;
            do
            :: m < MEMBERS -> run Line(c, m); run World(c, m); m++
            :: else -> break
            od;
            run Contender(c); run Actuator(c); run Node(c);
#ifdef SIBLINGS
            run Elector(c);
#else
            elector[c] = EXCLUSIVE;
#endif
            c++
        :: else -> break
        od;
        c = 0; m = 0;
        run Others()
    }
}

#ifdef LIVENESS
#define forges (node[0] == FORGING || node[1] == FORGING)
#define alone (calm && away[0] && phase[0] == HELD && right(0) && elector[0] == DEGRADED)
ltl somebody_forges { [] (calm -> <> forges) }
ltl goes_on_degraded { [] (alone -> <> [] (node[0] == FORGING)) }
#endif
