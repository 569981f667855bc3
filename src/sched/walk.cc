#include "sched/walk.h"

#include <algorithm>
#include <bit>
#include <tuple>

#include "base/result.h"

namespace loam::sched {
namespace {

constexpr std::uint64_t kNoMore = ~std::uint64_t{0};
constexpr int kPassedOverInARow = 8;  // then whole lines are passed over

// Heaps of the standard library have the largest in front.
constexpr auto kLater = [](const auto& a, const auto& b) {
  return std::tie(b.key, b.number) < std::tie(a.key, a.number);
};

}  // namespace

Walk::Walk(const State& state, Time now)
    : state_(state),
      moment_(state.fair_share.moment(now)),
      level_(state.waiting.levels().begin()),
      group_at_(state.fair_share.accounts(), -1),
      extra_association_(state.fair_share.associations(), 0),
      extra_account_(state.fair_share.accounts(), 0) {}

void Walk::restrict_to(const std::vector<ClassId>& classes) {
  restricted_ = true;
  narrow_to(classes);
  groups_.clear();
  level_ = classes.empty() ? state_.waiting.levels().end() : state_.waiting.levels().begin();
}

void Walk::narrow_to(const std::vector<ClassId>& classes) {
  classes_.assign(state_.waiting.classes() / 64 + 1, 0);
  for (const ClassId id : classes) classes_[id / 64] |= std::uint64_t{1} << (id % 64);
}

bool Walk::open_level() {
  if (level_ == state_.waiting.levels().end()) return false;
  const FairShare& fair = state_.fair_share;
  for (const auto& [association, lines] : level_->second) {
    const FairShare::Index account = fair.account_of(association);
    if (group_at_[account] < 0) {
      group_at_[account] = static_cast<std::int64_t>(groups_.size());
      groups_.push_back(
          {fair.account_key(account, moment_, extra_account_[account]), 0, account, {}});
    }
    Member member{
        .key = fair.association_key(association, moment_, extra_association_[association]),
        .association = association,
        .lines = &lines,
        .by_line = restricted_,
        .at = lines.arrivals.begin(),
        .heads = {}};
    if (!restricted_) member.number = member.at->number;
    groups_[static_cast<std::size_t>(group_at_[account])].members.push_back(std::move(member));
  }
  for (Group& group : groups_) {
    group_at_[group.account] = -1;
    std::make_heap(group.members.begin(), group.members.end(), kLater);
    group.number = group.members.front().number;
  }
  std::make_heap(groups_.begin(), groups_.end(), kLater);
  ++level_;
  return true;
}

void Walk::open_lines(Member& member, const Skip& skip, std::uint64_t behind) {
  const Lines& lines = *member.lines;
  member.by_line = true;
  member.lines = nullptr;
  member.version = version_;
  const auto open = [&](ClassId id, const Line& line) {
    std::uint64_t from = behind;
    if (restricted_ && line.tested_epoch == state_.epoch)
      from = std::max(from, line.tested_through);
    const auto at = from == 0 ? line.claims.begin() : line.claims.upper_bound({from, ~Slot{0}});
    ++lines_opened_;
    if (at != line.claims.end()) member.heads.push_back({id, *at, &line, at});
  };
  if (!restricted_) {
    for (const auto& [id, line] : lines.by_class)
      if (!skip(member.association, id)) open(id, line);
    return;
  }
  const bool tested = lines.tested_epoch == state_.epoch;
  for (std::size_t word = 0; word < lines.occupied.size() && word < classes_.size(); ++word) {
    std::uint64_t bits = lines.occupied[word] & classes_[word];
    if (tested && word < lines.tested.size()) bits &= ~lines.tested[word];
    for (; bits != 0; bits &= bits - 1) {
      const auto id =
          static_cast<ClassId>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
      if (!skip(member.association, id)) open(id, lines.by_class.at(id));
    }
  }
}

void Walk::find_next(Member& member, const Skip& skip) {
  if (!member.by_line) find_next_in_row(member, skip);
  if (member.by_line) find_next_by_line(member, skip);
}

void Walk::find_next_in_row(Member& member, const Skip& skip) {
  member.number = kNoMore;
  if (member.row_ended) return;
  for (; member.at != member.lines->arrivals.end(); ++member.at) {
    if (!skip(member.association, state_.entries[member.at->slot].place.class_id)) {
      member.number = member.at->number;
      return;
    }
    if (++member.passed_over >= kPassedOverInARow)
      return open_lines(member, skip, member.at->number);
  }
  member.row_ended = true;
}

void Walk::find_next_by_line(Member& member, const Skip& skip) {
  if (member.lines != nullptr) open_lines(member, skip, 0);
  if (member.version != version_) {
    member.version = version_;
    std::erase_if(member.heads,
                  [&](const Head& head) { return skip(member.association, head.class_id); });
  }
  member.number = kNoMore;
  for (const Head& head : member.heads)
    member.number = std::min(member.number, head.arrival.number);
}

// What the front member is owed, or its next claim, may have changed.
void Walk::settle() {
  const FairShare& fair = state_.fair_share;
  auto& members = groups_.front().members;
  std::pop_heap(members.begin(), members.end(), kLater);
  Member& member = members.back();
  if (member.number == kNoMore) {
    members.pop_back();
  } else {
    member.key =
        fair.association_key(member.association, moment_, extra_association_[member.association]);
    std::push_heap(members.begin(), members.end(), kLater);
  }
  std::pop_heap(groups_.begin(), groups_.end(), kLater);
  Group& group = groups_.back();
  if (group.members.empty()) return groups_.pop_back();
  group.number = group.members.front().number;
  group.key = fair.account_key(group.account, moment_, extra_account_[group.account]);
  std::push_heap(groups_.begin(), groups_.end(), kLater);
}

bool Walk::next(const Skip& skip, Candidate& candidate) {
  for (;;) {
    if (groups_.empty()) {
      if (!open_level()) return false;
      continue;
    }
    Member& member = groups_.front().members.front();
    const Wide key = member.key;
    const std::uint64_t number = member.number;
    find_next(member, skip);
    const bool owed_as_before =
        key == state_.fair_share.association_key(member.association, moment_,
                                                 extra_association_[member.association]);
    // Without its next claim, or having been given something, it may no longer be the first.
    if (member.number != number || !owed_as_before || member.number == kNoMore) {
      settle();
      continue;
    }
    candidate.association = member.association;
    last_by_line_ = member.by_line;
    // Moved on before the caller acts: a granted claim leaves its line, and an empty line goes.
    if (!member.by_line) {
      candidate.slot = member.at->slot;
      last_at_ = member.at++;
      member.row_ended = member.at == member.lines->arrivals.end();
      return true;
    }
    const auto head = std::find_if(member.heads.begin(), member.heads.end(), [&](const Head& one) {
      return one.arrival.number == member.number;
    });
    candidate.slot = head->arrival.slot;
    last_head_ = *head;
    if (++head->at == head->line->claims.end()) {
      *head = std::move(member.heads.back());
      member.heads.pop_back();
    } else {
      head->arrival = *head->at;
    }
    return true;
  }
}

void Walk::charge(std::int64_t rate) {
  const FairShare::Index association = groups_.front().members.front().association;
  extra_association_[association] += rate;
  extra_account_[state_.fair_share.account_of(association)] += rate;
}

void Walk::again() {
  Member& member = groups_.front().members.front();
  if (!last_by_line_) {
    member.at = last_at_;
    member.row_ended = false;
    return;
  }
  for (Head& head : member.heads)
    if (head.class_id == last_head_.class_id) {
      head = last_head_;
      return;
    }
  member.heads.push_back(last_head_);
}

}  // namespace loam::sched
