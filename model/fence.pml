/*
 * The fence of one pod, step by step: actuator, kernel, node.  It holds the contract by which election.pml and
 * lock.pml know it: a node forges only between an arming and what ends it; when the right's end passes, the node has
 * been told that it finds no keys; `fenced` is said only of a node that does not forge.
 *
 * The right is one clock, as there: it runs, has ended, and the margin is over.  The world may give it anew whenever
 * it likes.  The actuator carries an action out and may die, or be frozen for any time, before the next; the kernel
 * acts at once (A4).  A node that takes SIGHUP reads the files in its own time, yet within the margin (A3), or is
 * killed.  One that starts is offered the files without a right.
 *
 * Above each transition stands what implements it (`impl:`), or by what the world may do it (`world:`).
 */
#define OVER 0          /* the right */
#define RUNS 1
#define ENDED 2         /* the margin is running */

#define FENCED 0        /* the actuator */
#define AIMS 1          /* the arming, action by action */
#define SETS_DEATH 2
#define EXPOSES 3
#define TELLS 4
#define ARMED 5
#define WITHDRAWS 6     /* the fencing, likewise */
#define TELLS_OFF 7
#define CLEARS_DEATH 8
#define FENCING 9
#define DEAD 10

#define OFF 0           /* the node */
#define FORGING 1
#define GONE 2
#define STARTING 3      /* it reads the files once, whatever it does afterwards, and does not forge by that */

byte right;
bit told_in_time;       /* a signal was pending when the right ended: the node takes it before the margin is over */
byte actuator;
bit visible;            /* the target paths exist */
bit aimed;              /* the actuator's death signals the node */
bit death;              /* the kernel kills the actuator when the right ends */
byte node;
bit pending;            /* SIGHUP */

#ifdef MUTANT_exposed_before_the_timer
#define AFTER_AIM EXPOSES
#else
#define AFTER_AIM SETS_DEATH
#endif

/* ---- helpers: no transitions of their own ---- */

inline check() {
    assert(!(node == FORGING && right == OVER))   /* nobody forges beyond his right and the margin */
}

/* ---- the actuator, action by action ---- */

/* impl: policy.grants.right_to_forge, policy.fencing.FenceMachine._arm */
inline begin_arming() {
    actuator = AIMS
}

/* impl: policy.fencing.Aim, kernel.deathpipe.DeathSignal.aim */
inline aim() {
#ifndef MUTANT_not_aimed
    aimed = 1;
#endif
    actuator = AFTER_AIM
}

/* A deadline that has passed kills at once.
 * impl: policy.fencing.SetDeath, kernel.deadline.DeathTimer.arm */
inline set_death() {
    death = 1;
    if
    :: right != RUNS -> die()
    :: else -> actuator = EXPOSES
    fi
}

/* impl: policy.fencing.Expose, workers.credentials.Credentials.expose */
inline expose() {
    visible = 1;
    actuator = TELLS
}

/* impl: policy.fencing.Hup, workers.actuator.Actuator._hup */
inline tell() {
    pending = node != GONE && node != STARTING;
#ifdef MUTANT_exposed_before_the_timer
    death = right == RUNS;
#endif
    actuator = ARMED
}

/* The right is renewed before its end, and the timer with it.
 * impl: policy.fencing.FenceMachine._while_armed, policy.timing.grant_deadline */
inline renew() {
    skip   /* the clock runs on: when it ends is open */
}

/* impl: policy.fencing.FenceMachine._fence, policy.timing.soft_deadline */
inline begin_fencing() {
    actuator = WITHDRAWS
}

/* impl: policy.fencing.Withdraw, workers.credentials.Credentials.withdraw */
inline withdraw() {
#ifndef MUTANT_keys_left
    visible = 0;
#endif
    actuator = TELLS_OFF
}

/* impl: policy.fencing.Hup, workers.actuator.Actuator._hup */
inline tell_off() {
    pending = node != GONE && node != STARTING;
    actuator = CLEARS_DEATH
}

/* impl: policy.fencing.ClearDeath, kernel.deadline.DeathTimer.disarm */
inline clear_death() {
    death = 0;
    actuator = FENCING
}

/* The signal was taken, and a sample that was asked for after that says so; or the process has ended.  Whoever has sent
 * none yet believes what the node says.
 * impl: policy.fencing.FenceMachine._proof, policy.fencing.FenceMachine._node_ended */
inline confirm() {
    assert(node != FORGING);   /* `fenced` is said only of a node that does not forge */
    aimed = 0;
    actuator = FENCED
}

/* No proof: it is told again, then killed, before the margin is over (`policy.timing.CONFIRM_HURRY_KILL`).
 * impl: policy.fencing.FenceMachine._insist, policy.fencing.Kill */
inline kill_node() {
    node = GONE; pending = 0; told_in_time = 0
}

/* The node starts: it is offered the files, to read once, and they are taken back when it has.
 * impl: policy.fencing.FenceMachine._bootstrap */
inline offer() {
    visible = 1
}

/* impl: policy.fencing.FenceMachine._take_back, policy.fencing.FenceMachine._serves_nobody */
inline take_back() {
    visible = 0
}

/* A new life knows nothing: it fences, and tells the node where it cannot see that it is off.
 * impl: policy.fencing.FenceMachine._node_appeared, workers.actuator.Actuator.__init__ */
inline start_again() {
    actuator = TELLS_OFF
}

/* ---- the world ---- */

/* Working directory first, then the signal: whoever gets it finds no files.
 * world: A4, it dies of whatever; impl: kernel.cwdstage.Stage.withdraw, kernel.deathpipe.DeathSignal */
inline die() {
#ifndef MUTANT_signal_before_the_keys_vanish
    visible = 0;
#endif
    death = 0;
    pending = pending || (aimed && node != GONE && node != STARTING);
    aimed = 0;
    actuator = DEAD
}

#ifdef MUTANT_signal_before_the_keys_vanish
/* world: A4 */
inline vanish() {
    visible = 0
}
#endif

/* world: A4, the kernel counts on CLOCK_BOOTTIME; impl: kernel.deadline.DeathTimer.arm */
inline end_right() {
    right = ENDED;
    if
    :: death -> die()
    :: else
    fi;
    told_in_time = pending
}

/* world: A3, within the margin a signal that was pending is taken */
inline margin_over() {
    right = OVER
}

/* world: an API server confirms a renewal; impl: policy.grants.right_to_forge */
inline give_right() {
    right = RUNS; told_in_time = 0
}

/* world: A3, the node takes the signal and does what the files say */
inline reload() {
    pending = 0; told_in_time = 0;
    node = (visible -> FORGING : OFF)
}

/* world: the node's process ends */
inline node_ends() {
    node = GONE; pending = 0; told_in_time = 0
}

/* world: another one is started, as a non-producing one */
inline node_starts() {
    node = STARTING
}

/* world: it is up */
inline node_up() {
    node = OFF
}

#ifdef MUTANT_confirmed_without_proof
#define off 1
#else
#define off (!pending && node != FORGING)
#endif
#define serves (node == GONE || node == STARTING)

proctype Actuator() {
    do
    :: d_step { actuator == FENCED && right == RUNS && node == OFF -> begin_arming(); check() }
    :: d_step { actuator == AIMS -> aim(); check() }
    :: d_step { actuator == SETS_DEATH -> set_death(); check() }
    :: d_step { actuator == EXPOSES -> expose(); check() }
    :: d_step { actuator == TELLS -> tell(); check() }
    :: d_step { actuator == ARMED && right == RUNS -> renew(); check() }
    :: d_step { actuator == ARMED -> begin_fencing(); check() }
    :: d_step { actuator == WITHDRAWS -> withdraw(); check() }
    :: d_step { actuator == TELLS_OFF && node != STARTING -> tell_off(); check() }
    :: d_step { actuator == CLEARS_DEATH -> clear_death(); check() }
    :: d_step { actuator == FENCING && off -> confirm(); check() }
    :: d_step { actuator == TELLS_OFF && node != FORGING -> confirm(); check() }
    :: d_step { actuator == FENCING && (node == FORGING || pending) -> kill_node(); check() }
    :: d_step { actuator == FENCED && serves && !visible -> offer(); check() }
    :: d_step { actuator == FENCED && visible -> take_back(); check() }
    :: d_step { actuator == DEAD && !visible -> start_again(); check() }
    :: d_step { actuator != DEAD -> die(); check() }
    od
}

proctype World() {
    do
    :: d_step { right != RUNS -> give_right(); check() }
    :: d_step { right == RUNS -> end_right(); check() }
    :: d_step { right == ENDED && !told_in_time -> margin_over(); check() }
    :: d_step { pending -> reload(); check() }
    :: d_step { node != GONE -> node_ends(); check() }
    :: d_step { node == GONE -> node_starts(); check() }
    :: d_step { node == STARTING -> node_up(); check() }
#ifdef MUTANT_signal_before_the_keys_vanish
    :: d_step { actuator == DEAD && visible -> vanish(); check() }
#endif
    od
}

init {
    atomic { node = GONE; run Actuator(); run World() }
}
