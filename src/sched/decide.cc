#include "sched/decide.h"

#include <algorithm>

#include "sched/holding.h"
#include "sched/place.h"
#include "sched/plan.h"
#include "sched/preempt.h"
#include "sched/quota.h"
#include "sched/walk.h"

namespace loam::sched {
namespace {

// What one decision does at most; where there is more to do, the caller is asked to call again.
// Bounds the time of a decision, whatever waits.
constexpr std::size_t kGrantsMax = 16;
constexpr std::size_t kLooksMax = 400;  // at claims and lines behind the reservations
constexpr std::size_t kLooksMin = 50;   // however many lines were opened on the way

class Decision {
 public:
  Decision(State& state, Time now, Actions& actions)
      : state_(state), now_(now), actions_(actions), plan_(state, now), walk_(state, now) {}

  // `newcomer`: the others behind the front have been looked at, and nothing has changed for them.
  void run(std::optional<Slot> newcomer) {
    front();
    if (promised_all() && state_.policy.backfill && !granted_all())
      newcomer ? try_one(*newcomer) : backfill();
    if (granted_all()) cut_short();
    state_.reservations = plan_.reservations();
  }

 private:
  bool promised_all() const { return plan_.promises() >= state_.policy.reservations; }
  bool granted_all() const { return grants_ >= kGrantsMax; }
  void cut_short() {
    state_.cut_short = true;
    actions_.push_back({.kind = Action::Kind::wake_at, .time = now_});
  }

  // In order, until as many as get one have a reservation.
  void front() {
    const Walk::Skip skip = [&](FairShare::Index association, ClassId id) {
      return plan_.passed_over(association, id, false);
    };
    Walk::Candidate candidate;
    while (!promised_all() && !granted_all() && walk_.next(skip, candidate)) {
      const Entry& entry = state_.entries[candidate.slot];
      if (!plan_.possible(entry) || !allowed(entry)) continue;
      if (plan_.fits_now(entry)) {
        grant(candidate.slot);
        if (entry.queued) walk_.again();
        continue;
      }
      preempt(entry);
      walk_.charge(plan_.promise(candidate.slot));
      somebody_waits_blindly_ = somebody_waits_blindly_ || plan_.last_is_blind();
      if (!state_.policy.backfill) break;
    }
  }

  // Of the others, who can start without delaying those.
  void backfill() {
    walk_.restrict_to(plan_.startable());
    const Walk::Skip skip = [&](FairShare::Index association, ClassId id) {
      return plan_.passed_over(association, id, true);
    };
    Walk::Candidate candidate;
    const std::size_t opened_before = walk_.lines_opened();
    for (std::size_t looks = 0; !granted_all() && walk_.next(skip, candidate); ++looks) {
      if (looks >= kLooksMin && looks + walk_.lines_opened() - opened_before > kLooksMax)
        return cut_short();
      const Entry& entry = state_.entries[candidate.slot];
      if (allowed(entry) && plan_.fits_now(entry)) {
        grant(candidate.slot);
        if (entry.queued) walk_.again();
        walk_.narrow_to(plan_.startable());
      } else {
        state_.waiting.mark_tested(entry.place, state_.epoch);
      }
    }
  }

  void try_one(Slot slot) {
    while (!granted_all() && state_.entries[slot].queued && allowed(state_.entries[slot]) &&
           plan_.fits_now(state_.entries[slot]))
      grant(slot);
  }

  bool allowed(const Entry& entry) const {
    return quota_leaves(state_, entry.place.association, entry.need, entry.pieces);
  }

  void grant(Slot slot) {
    const Entry& entry = state_.entries[slot];
    Vector taken = plan_.take_now(entry);
    Placed placed = place(state_, entry.claim, entry.need, taken);
    const TaskId task = entry.pending.first();
    actions_.push_back({.kind = Action::Kind::grant,
                        .claim = entry.claim.id,
                        .task = task,
                        .placement = placed.placement});
    start_task(state_, slot,
               {.task = task,
                .taken = std::move(taken),
                .placement = std::move(placed.placement),
                .parts = std::move(placed.parts),
                .started = now_},
               now_);
    walk_.tighten();
    ++grants_;
  }

  // Asks others to end where that lets this claim start soon, with what was promised to those ahead
  // of it: their promises are made anew on what the victims leave, and it must still have its own.
  void preempt(const Entry& entry) {
    const std::int64_t limit = entry.claim.time_limit_ms;
    // Where somebody ahead waits without a known start, whoever could be preempted is kept for him.
    if (!state_.policy.preemption ||
        (somebody_waits_blindly_ && !(limit > 0 && limit <= state_.policy.fill_limit_ms)))
      return;
    const Victims chosen =
        choose_victims(state_, plan_.profile(), entry, plan_.earliest(entry), now_);
    if (chosen.victims.empty()) return;
    std::vector<Time> ends_before;
    for (const std::uint32_t index : chosen.victims) {
      Holding& holding = state_.holdings[index];
      ends_before.push_back(holding.ends);
      unlist(state_, index);
      const std::int64_t grace = state_.entries[holding.entry].claim.grace_ms;
      holding.ends = std::min(holding.ends, now_ + std::max<std::int64_t>(grace, 0));
      holding.preempted = true;
      list(state_, index);
    }
    plan_.renew();
    const auto start = plan_.earliest(entry);
    const bool helps = start && *start <= chosen.soon;
    for (std::size_t i = 0; i < chosen.victims.size(); ++i) {
      Holding& holding = state_.holdings[chosen.victims[i]];
      if (helps) {
        auto& went_for = state_.entries[holding.entry].went_for;
        std::erase_if(went_for, [&](ClaimId id) { return !state_.waits(id); });
        went_for.insert(entry.claim.id);
        actions_.push_back({.kind = Action::Kind::preempt,
                            .claim = holding.claim,
                            .task = holding.task,
                            .beneficiary = entry.claim.id});
        continue;
      }
      unlist(state_, chosen.victims[i]);
      holding.ends = ends_before[i];
      holding.preempted = false;
      list(state_, chosen.victims[i]);
    }
    if (!helps) plan_.renew();
  }

  State& state_;
  Time now_;
  Actions& actions_;
  Plan plan_;
  Walk walk_;
  bool somebody_waits_blindly_ = false;
  std::size_t grants_ = 0;
};

}  // namespace

void decide(State& state, Time now, Actions& actions) {
  ++state.epoch;
  go_on(state, now, actions);
}

void go_on(State& state, Time now, Actions& actions) {
  state.decided = now;
  state.cut_short = false;
  if (state.waiting.size() == 0 || !state.paused.empty()) return state.reservations.clear();
  Decision(state, now, actions).run(std::nullopt);
}

void decide_on(State& state, Slot newcomer, Time now, Actions& actions) {
  const Entry& entry = state.entries[newcomer];
  if (!entry.queued || !state.paused.empty()) return;
  // Behind all reservations, and there is no room for it: nothing to decide.
  const bool behind =
      state.reservations.size() >= state.policy.reservations && !state.reservations.empty() &&
      state.find(state.reservations.back().claim)->claim.priority >= entry.claim.priority;
  if (behind && !fits(entry.need, state.free)) return;
  state.decided = now;
  Decision(state, now, actions).run(newcomer);
}

bool first_could_start(const State& state, Time now) {
  if (state.waiting.size() == 0 || state.cut_short || !state.paused.empty()) return false;
  // What was granted last may have moved another to the front, who must not delay the reservations.
  if (state.policy.fair_share && !state.reservations.empty()) return false;
  Plan plan(state, now);
  Walk walk(state, now);
  const Walk::Skip skip = [&](FairShare::Index association, ClassId id) {
    return plan.passed_over(association, id, false);
  };
  Walk::Candidate candidate;
  while (walk.next(skip, candidate)) {
    const Entry& entry = state.entries[candidate.slot];
    if (quota_leaves(state, candidate.association, entry.need, entry.pieces) &&
        plan.possible(entry))
      return plan.fits_now(entry);
  }
  return false;
}

Outlook look_ahead(const State& state, Time now, std::size_t depth) {
  Outlook outlook{.now = now, .order = {}, .place = {}, .complete = true};
  Plan plan(state, now);
  Walk walk(state, now);
  const Walk::Skip skip = [&](FairShare::Index association, ClassId id) {
    return plan.passed_over(association, id, false);
  };
  Walk::Candidate candidate;
  while (walk.next(skip, candidate)) {
    const Entry& entry = state.entries[candidate.slot];
    if (!quota_leaves(state, candidate.association, entry.need, entry.pieces) ||
        !plan.possible(entry))
      continue;
    if (plan.promises() == depth) {
      outlook.complete = false;
      break;
    }
    outlook.place[entry.claim.id] = plan.promises();
    walk.charge(plan.promise(candidate.slot));
  }
  outlook.order = plan.reservations();
  return outlook;
}

}  // namespace loam::sched
