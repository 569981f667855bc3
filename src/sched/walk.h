// Waiting claims in the order in which they are due: priority; then the account, then the user,
// that holds least for its shares; then arrival. The order is found step by step: what a claim on
// the way is given or promised counts at once against its user, so a user with a thousand claims
// does not come a thousand times before the next.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "sched/state.h"

namespace loam::sched {

class Walk {
 public:
  Walk(const State& state, Time now);
  // From the front again, but only claims of these classes, and only those that have not been
  // looked at in this epoch. What was charged stays charged.
  void restrict_to(const std::vector<ClassId>& classes);
  void narrow_to(const std::vector<ClassId>& classes);  // from here on

  // Whether claims of this class and association are passed over from here on; asked again only
  // after tighten().
  using Skip = std::function<bool(FairShare::Index, ClassId)>;
  struct Candidate {
    Slot slot = 0;
    FairShare::Index association = 0;
  };
  bool next(const Skip& skip, Candidate& candidate);  // false: nobody is left
  // The last candidate's user was given (0: the books know it) or promised this rate.
  void charge(std::int64_t rate);
  // Less is free, or more held: classes that were not passed over may be now.
  void tighten() { ++version_; }
  // The last candidate has more tasks and waits still: it comes again.
  void again();
  std::size_t lines_opened() const { return lines_opened_; }

 private:
  struct Head {
    ClassId class_id = 0;
    Arrival arrival;
    const Line* line = nullptr;
    std::set<Arrival>::const_iterator at;
  };
  // Ordered by what is owed; who is owed as much goes by arrival of the next claim. Its claims come
  // in one row as they arrived; where many of them are passed over, or only some classes are asked
  // for, by lines.
  struct Member {
    Wide key = 0;
    std::uint64_t number = 0;  // of its next claim; 0: not known yet
    FairShare::Index association = 0;
    const Lines* lines = nullptr;
    bool by_line = false;
    bool row_ended = false;
    int passed_over = 0;
    std::set<Arrival>::const_iterator at;  // else
    std::uint64_t version = 0;             // when its heads were last pruned
    std::vector<Head> heads;
  };
  struct Group {
    Wide key = 0;
    std::uint64_t number = 0;
    FairShare::Index account = 0;
    std::vector<Member> members;  // a heap
  };
  bool open_level();
  void open_lines(Member& member, const Skip& skip, std::uint64_t behind);
  void find_next(Member& member, const Skip& skip);  // its number; ~0: it has no more
  void find_next_in_row(Member& member, const Skip& skip);
  void find_next_by_line(Member& member, const Skip& skip);
  void settle();

  const State& state_;
  FairShare::Moment moment_;
  bool restricted_ = false;
  ClassBits classes_;  // where restricted
  Waiting::Levels::const_iterator level_;
  std::vector<Group> groups_;           // a heap
  std::vector<std::int64_t> group_at_;  // by account: its index while a level is opened, else -1
  std::vector<std::int64_t> extra_association_, extra_account_;
  std::uint64_t version_ = 1;
  std::size_t lines_opened_ = 0;
  bool last_by_line_ = false;
  Head last_head_;
  std::set<Arrival>::const_iterator last_at_;
};

}  // namespace loam::sched
