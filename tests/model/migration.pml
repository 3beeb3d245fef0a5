/* The commit protocol of a migration, for spin: two agents that crash and restart, their two QEMUs, a
   network that is cut, a disk that fails, a controller that asks and tells. docs/state_machine.md.

   An agent is a set of atomic steps over its variables, and each write to disk, message and command to
   QEMU is a step of its own: so a crash, a freeze of any length or anybody else's step may come between
   any two. What a step does is named after the code that does it.

   MUTANT builds one mistake in. model_test.py checks that spin finds each. */

#define CRASHES 2 /* of each agent */
#ifndef MUTANT
#define MUTANT 0
#endif

mtype = { source, destination };
mtype = { Preparing, Copying, Switching, Committed, Receiving, Ready, Completed, Ended };
mtype = { kNothing, kDelegated, kCommitted, kAborted, kResumed, kReleased, /* LedgerStep */
          kReceiving, kReady, kOwned, kDropped };
mtype = { gone, running, stopped, incoming, received }; /* a QEMU's guest */
mtype = { commit, abort };

/* Steps within a phase. */
mtype = { Begin, WriteAborted, KillMover, Resume, WriteResumed, /* rolling back */
          Tell, AwaitResumed, WriteReleased,                    /* source, committed */
          StartQemu, SendReady, AwaitDecision, Continue, WriteOwned, SendResumed,
          QuitIncoming, WriteDropped, Rest };

/* What is durable. */
mtype s_ledger = kNothing;
mtype d_ledger = kNothing;
mtype s_vm = running;
mtype d_vm = gone;

/* What an agent forgets. */
bool s_alive = true;
bool d_alive = true;
mtype s_phase = Preparing;
mtype d_phase = Preparing;
mtype s_at = Begin;
mtype d_at = Begin;

/* The movers and everything between them; a migration has one life of it. */
bool linked = true;
bool ready_arrived = false;
bool resumed_arrived = false;
mtype message = 0; /* to the destination: commit or abort */

/* The source's QEMU. */
bool migrating = false;  /* was told to */
bool switching = false;  /* was told to go on after pre-switchover */
bool handed_over = false; /* it is `completed`: it never resumes by itself */

/* What the controller has passed on. */
bool s_told = false;
mtype d_told = 0;

byte s_crashes = 0;
byte d_crashes = 0;
bool disk_failed = false; /* the one time */

inline Take(side, phase, next) {
  assert(false
#define TRANSITION(who, from, to) || (side == who && phase == from && next == to)
#include "../../src/migration/transitions.inc"
  );
  phase = next
}

inline RollBack() { s_at = KillMover }

/* ---- The source's agent: source.cc ---- */

proctype SourceAgent() {
  do
  /* Preparing: streams proved, then the ledger, then QEMU. */
  :: atomic { s_alive && s_phase == Preparing && s_at == Begin && linked && d_alive && d_phase == Receiving ->
       s_ledger = kDelegated; Take(source, s_phase, Copying) }
  :: atomic { s_alive && s_phase == Preparing && s_at == Begin -> RollBack() }
  :: atomic { s_alive && s_phase == Copying && s_at == Begin && !migrating && linked -> migrating = true }
  :: atomic { s_alive && s_phase == Copying && s_at == Begin && s_vm == stopped ->
       switching = true; Take(source, s_phase, Switching) }
  :: atomic { s_alive && s_phase == Copying && s_at == Begin -> RollBack() }
  /* Switching: everything was handed over, and the destination says so. */
  :: atomic { s_alive && s_phase == Switching && s_at == Begin && (handed_over || MUTANT == 1) && (ready_arrived || MUTANT == 2) ->
       if
       :: s_ledger = kCommitted; Take(source, s_phase, Committed); s_at = Tell
       :: !disk_failed -> disk_failed = true; RollBack()
       :: !disk_failed -> disk_failed = true; s_ledger = kCommitted; /* DATA_LOSS */
          if
          :: MUTANT != 3 -> s_at = WriteAborted
          :: MUTANT == 3 -> RollBack()
          fi
       fi }
  :: atomic { s_alive && s_phase == Switching && s_at == Begin -> RollBack() } /* time, cancel, trouble */
  /* RollBack: only a commit in doubt waits for the disk */
  :: atomic { s_alive && s_at == WriteAborted -> s_ledger = kAborted; s_at = KillMover }
  :: atomic { s_alive && s_at == KillMover ->
       if
       :: linked && message == 0 -> message = abort
       :: true
       fi;
       if
       :: MUTANT != 11
       :: MUTANT == 11 -> s_ledger = kResumed
       fi;
       linked = false; s_at = Resume }
  :: atomic { s_alive && s_at == Resume ->
       if
       :: s_vm != gone -> s_vm = running
       :: else
       fi;
       s_at = WriteResumed }
  :: atomic { s_alive && s_at == WriteResumed ->
       if
       :: s_ledger = kResumed
       :: !disk_failed -> disk_failed = true
       fi;
       Take(source, s_phase, Ended); s_at = Rest }
  /* Committed */
  :: atomic { s_alive && s_phase == Committed && s_at == Tell ->
       if
       :: linked && message == 0 -> message = commit
       :: else
       fi;
       s_at = AwaitResumed }
  :: atomic { s_alive && s_phase == Committed && s_at == AwaitResumed && (resumed_arrived || s_told) ->
       assert(d_ledger == kOwned); /* the VM is in the books there */
       s_vm = gone; s_at = WriteReleased }
  :: atomic { s_alive && s_phase == Committed && s_at == WriteReleased ->
       s_ledger = kReleased; Take(source, s_phase, Completed); s_at = Rest }
  /* LiveMigration::RecoverSource, in a new process */
  :: atomic { !s_alive ->
       s_alive = true;
       if
       :: s_ledger == kNothing -> s_phase = Ended; s_at = Rest /* it never stopped the guest */
       :: s_ledger == kDelegated || (s_ledger == kAborted && MUTANT != 8) ||
          (s_ledger == kCommitted && MUTANT == 4) -> s_phase = Copying; RollBack()
       :: s_ledger == kCommitted && MUTANT != 4 -> s_phase = Committed; s_at = Tell
       :: s_ledger == kResumed || (s_ledger == kAborted && MUTANT == 8) -> s_phase = Ended; s_at = Rest
       :: s_ledger == kReleased -> s_phase = Completed; s_at = Rest
       fi }
  od
}

/* ---- The destination's agent: destination.cc ---- */

proctype DestinationAgent() {
  do
  :: atomic { d_alive && d_phase == Preparing && d_at == Begin -> d_ledger = kReceiving; d_at = StartQemu }
  :: atomic { d_alive && d_phase == Preparing && d_at == StartQemu ->
       d_vm = incoming; Take(destination, d_phase, Receiving); d_at = Begin }
  :: atomic { d_alive && d_phase == Preparing && (d_at == Begin || d_at == StartQemu) -> d_at = QuitIncoming }
  :: atomic { d_alive && d_phase == Receiving && d_at == Begin && d_vm == received ->
       d_ledger = kReady; d_at = SendReady }
  :: atomic { d_alive && d_phase == Receiving && d_at == Begin -> d_at = QuitIncoming }
  :: atomic { d_alive && d_phase == Receiving && d_at == SendReady ->
       if
       :: linked -> ready_arrived = true
       :: true
       fi;
       Take(destination, d_phase, Ready); d_at = AwaitDecision }
  :: atomic { d_alive && d_phase == Receiving && d_at == SendReady -> d_at = QuitIncoming } /* its QEMU has ended */
  :: atomic { d_alive && d_phase == Ready && d_at == AwaitDecision && (message == commit || d_told == commit || (MUTANT == 5 && !linked)) ->
       if
       :: MUTANT != 7
       :: MUTANT == 7 -> d_ledger = kOwned
       fi;
       d_at = Continue }
  :: atomic { d_alive && d_phase == Ready && d_at == AwaitDecision && (message == abort || d_told == abort) ->
       d_at = QuitIncoming }
  :: atomic { d_alive && d_phase == Ready && d_at == Continue -> d_vm = running;
       if
       :: MUTANT != 10 || !linked
       :: MUTANT == 10 && linked -> resumed_arrived = true
       fi;
       d_at = WriteOwned }
  :: atomic { d_alive && d_phase == Ready && d_at == WriteOwned && !disk_failed -> disk_failed = true } /* and again */
  :: atomic { d_alive && d_phase == Ready && d_at == WriteOwned -> d_ledger = kOwned; d_at = SendResumed }
  :: atomic { d_alive && d_phase == Ready && d_at == SendResumed ->
       if
       :: linked -> resumed_arrived = true
       :: true
       fi;
       Take(destination, d_phase, Completed); d_at = Rest }
  /* Drop */
  :: atomic { d_alive && d_at == QuitIncoming -> linked = false; d_vm = gone; d_at = WriteDropped }
  :: atomic { d_alive && d_at == WriteDropped ->
       d_ledger = kDropped; Take(destination, d_phase, Ended); d_at = Rest }
  /* LiveMigration::RecoverDestination */
  :: atomic { !d_alive ->
       d_alive = true;
       if
       :: d_ledger == kNothing -> d_phase = Ended; d_at = Rest
       :: d_ledger == kReceiving -> d_phase = Receiving; d_at = QuitIncoming
       :: d_ledger == kReady && d_vm != running -> d_phase = Ready; d_at = AwaitDecision
       :: d_ledger == kReady && d_vm == running && MUTANT != 9 -> d_phase = Ready; d_at = Continue
       :: d_ledger == kReady && d_vm == running && MUTANT == 9 -> d_phase = Ready; d_at = QuitIncoming
       :: d_ledger == kOwned && MUTANT == 7 -> d_phase = Completed; d_at = Rest
       :: d_ledger == kOwned && MUTANT != 7 -> d_phase = Ready; d_at = Continue
       :: d_ledger == kDropped -> d_phase = Ended; d_at = Rest
       fi }
  od
}

/* ---- The source's QEMU, which nobody can ask while its agent is dead ---- */

proctype SourceQemu() {
  do
  :: atomic { migrating && !handed_over && s_vm == running && linked -> s_vm = stopped } /* pre-switchover */
  :: atomic { switching && !handed_over && s_vm == stopped && linked && d_vm == incoming -> d_vm = received }
  :: atomic { switching && !handed_over && s_vm == stopped && linked && d_vm == received -> handed_over = true }
  /* `failed`: it lets the guest go on by itself. */
  :: atomic { migrating && !handed_over && s_vm == stopped && !linked -> migrating = false; s_vm = running }
  od
}

/* ---- The controller. It keeps nothing that it could not ask again: its crash is a pause ---- */

proctype Controller() {
  do
  :: atomic { s_alive && (s_phase == Committed || (s_phase == Switching && MUTANT == 6)) && d_alive && d_told == 0 ->
       d_told = commit }
  :: atomic { s_alive && s_phase == Ended && d_alive && d_told == 0 -> d_told = abort }
  :: atomic { s_alive && s_phase == Committed && d_alive && d_phase == Completed && !s_told -> s_told = true }
  od
}

/* ---- What goes wrong ---- */

proctype Trouble() {
  do
  :: atomic { s_alive && s_crashes < CRASHES ->
       s_crashes++; s_alive = false; s_at = Rest; s_told = false; linked = false }
  :: atomic { d_alive && d_crashes < CRASHES ->
       d_crashes++; d_alive = false; d_at = Rest; d_told = 0; linked = false;
       if
       :: d_vm == incoming -> d_vm = gone /* its channels broke */
       :: true
       fi }
  :: atomic { linked -> linked = false }
  :: atomic { linked && message != 0 -> linked = false; message = 0 } /* with what was under way */
  od
}

init {
  atomic {
    run SourceAgent(); run DestinationAgent(); run SourceQemu(); run Controller(); run Trouble()
  }
}

/* Every step is taken at most a few times, so that every run ends: no fairness is assumed. */

ltl at_most_one { [] !(s_vm == running && d_vm == running) }
ltl one_finally { <> [] (s_vm == running || d_vm == running) }
