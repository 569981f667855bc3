// What becomes of the machine from now on, as far as limits tell: what runs until its limit, and
// what has been promised to those in front of the queue.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sched/profile.h"
#include "sched/state.h"

namespace loam::sched {

class Plan {
 public:
  Plan(const State& state, Time now);
  // After what runs has another end: the promises are made anew, in their order.
  void renew();

  std::optional<Time> earliest(const Entry& entry) const;
  bool fits_now(const Entry& entry) const;
  // Whether the machine could run it at all, with the devices that are in service.
  bool possible(const Entry& entry) const { return fits(entry.need, state_.usable); }
  // Whether the floor of a class says that none of its claims can run: the user's quota stands
  // against it, or devices are out of service. `now`: nor start now.
  bool passed_over(FairShare::Index association, ClassId id, bool now);
  // The classes whose floor could start now.
  std::vector<ClassId> startable() const;

  // What it takes from now until its limit, chosen so that nobody ahead loses what was promised.
  Vector take_now(const Entry& entry);
  // Promises it the earliest start, or, where nobody can tell one, keeps what it waits for from
  // those behind, but for claims short enough. What that will cost its user, as a rate.
  std::int64_t promise(Slot slot);
  std::size_t promises() const { return promises_.size(); }
  bool last_is_blind() const { return !promises_.back().start; }
  std::vector<Reservation> reservations() const;
  const Profile& profile() const { return profile_; }

 private:
  void begin();
  Vector take(const Entry& entry, Time start);
  Vector withhold(const Entry& entry);

  enum class Verdict : std::uint8_t { unknown, passed_over, worth_a_look };
  struct ClassVerdict {
    Verdict possible = Verdict::unknown;
    Verdict now = Verdict::unknown;
    std::uint64_t version = 0;
  };
  struct Promise {
    Slot slot = 0;
    std::optional<Time> start;
  };
  const State& state_;
  Time now_;
  Profile profile_;
  std::uint64_t version_ = 1;  // of what is free, as verdicts saw it
  std::vector<ClassVerdict> verdicts_;
  std::vector<Promise> promises_;
};

}  // namespace loam::sched
